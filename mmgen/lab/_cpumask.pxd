# A set of CPUs: mm_cpumask. Most mms run on few CPUs: those are listed; more become a bitmap.
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free

cdef enum:
    FEW = 3

cdef struct lab_mask:               # 24 bytes, all 0: empty
    uint64_t *bits                  # NULL while there are few
    uint32_t nr
    uint32_t few[FEW]

cdef inline bint mask_has(const lab_mask *mask, uint32_t cpu) noexcept nogil:
    cdef uint32_t i
    if mask.bits is not NULL:
        return mask.bits[cpu >> 6] >> (cpu & 63) & 1
    for i in range(mask.nr):
        if mask.few[i] == cpu:
            return True
    return False

# False: no memory.
cdef inline bint mask_add(lab_mask *mask, uint32_t cpu, uint32_t nr_cpus) noexcept nogil:
    cdef uint32_t i
    if mask_has(mask, cpu):
        return True
    if mask.bits is NULL:
        if mask.nr < FEW:
            mask.few[mask.nr] = cpu
            mask.nr += 1
            return True
        mask.bits = <uint64_t *>calloc((nr_cpus + 63) >> 6, 8)
        if mask.bits is NULL:
            return False
        for i in range(FEW):
            mask.bits[mask.few[i] >> 6] |= <uint64_t>1 << (mask.few[i] & 63)
    mask.bits[cpu >> 6] |= <uint64_t>1 << (cpu & 63)
    mask.nr += 1
    return True

cdef inline void mask_remove(lab_mask *mask, uint32_t cpu) noexcept nogil:
    cdef uint32_t i
    if not mask_has(mask, cpu):
        return
    mask.nr -= 1
    if mask.bits is not NULL:
        mask.bits[cpu >> 6] &= ~(<uint64_t>1 << (cpu & 63))
        return
    for i in range(mask.nr):
        if mask.few[i] == cpu:
            mask.few[i] = mask.few[mask.nr]

cdef inline void mask_clear(lab_mask *mask) noexcept nogil:
    free(mask.bits)
    mask.bits = NULL
    mask.nr = 0
