# cython: language_level=3, freethreading_compatible=True
"""mm_cpumask in virtual time: as many masks as there are mms, each a short list or a bitmap (_cpumask.pxd)."""
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

from mmgen.lab._cpumask cimport lab_mask, mask_add, mask_clear, mask_remove
from mmgen.lab._policy cimport lab_machine

cdef extern from *:
    uint32_t trailing_zeros "__builtin_ctzll"(unsigned long long) noexcept nogil


# The mask of mm, which lasts until the next call; NULL: no memory.
cdef lab_mask *mask_of(virtual *v, uint32_t mm) noexcept nogil:
    cdef uint32_t nr
    cdef lab_mask *masks
    if mm >= v.nr_masks:
        nr = mm + mm // 2 + 64
        masks = <lab_mask *>realloc(v.masks, <size_t>nr * sizeof(lab_mask))
        if masks is NULL:
            v.failed = True
            return NULL
        memset(masks + v.nr_masks, 0, <size_t>(nr - v.nr_masks) * sizeof(lab_mask))
        v.masks = masks
        v.nr_masks = nr
    return &v.masks[mm]


cdef void mask_set_cpu(lab_machine *m, uint32_t cpu, uint32_t mm) noexcept nogil:
    cdef lab_mask *mask = mask_of(<virtual *>m, mm)
    if mask is NULL or not mask_add(mask, cpu, m.nr_cpus):
        (<virtual *>m).failed = True


cdef void mask_clear_cpu(lab_machine *m, uint32_t cpu, uint32_t mm) noexcept nogil:
    if mm < (<virtual *>m).nr_masks:
        mask_remove(&(<virtual *>m).masks[mm], cpu)


cdef void mask_clear_all(lab_machine *m, uint32_t cpu) noexcept nogil:
    cdef uint32_t mm
    for mm in range((<virtual *>m).nr_masks):
        mask_remove(&(<virtual *>m).masks[mm], cpu)


cdef void mask_each(lab_machine *m, uint32_t mm, void (*each)(void *arg, uint32_t cpu) noexcept nogil, void *arg) noexcept nogil:
    cdef lab_mask *mask
    cdef uint32_t i
    cdef uint64_t bits
    if mm >= (<virtual *>m).nr_masks:
        return
    mask = &(<virtual *>m).masks[mm]
    if mask.bits is NULL:
        for i in range(mask.nr):
            each(arg, mask.few[i])
    elif mask.nr:
        for i in range((m.nr_cpus + 63) >> 6):
            bits = mask.bits[i]
            while bits:
                each(arg, (i << 6) + trailing_zeros(bits))
                bits &= bits - 1


cdef void mask_empty(lab_machine *m, uint32_t mm) noexcept nogil:
    if mm < (<virtual *>m).nr_masks:
        mask_clear(&(<virtual *>m).masks[mm])


cdef bint masks_begin(virtual *v, uint32_t nr_mms) noexcept nogil:
    v.m.mask_set = mask_set_cpu
    v.m.mask_clear = mask_clear_cpu
    v.m.mask_clear_all = mask_clear_all
    v.m.mask_each = mask_each
    v.m.mask_empty = mask_empty
    v.masks = <lab_mask *>calloc(nr_mms, sizeof(lab_mask))
    v.nr_masks = nr_mms if v.masks is not NULL else 0
    return v.masks is not NULL


cdef void masks_end(virtual *v) noexcept nogil:
    cdef uint32_t mm
    for mm in range(v.nr_masks):
        mask_clear(&v.masks[mm])
    free(v.masks)
