# cython: language_level=3, freethreading_compatible=True
"""Lazy mms shot down (MMU_LAZY_TLB_SHOOTDOWN): nobody counts; at the final free every CPU in mm_cpumask gets an IPI.

Who then uses the mm lazily switches to init_mm; when all have answered, the mm is freed. mm_cpumask has every CPU that has run the mm,
until the mm is freed or the CPU unplugged (powerpc, which this is for, keeps it so); or, `trim`, until the CPU runs another mm.
"""
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

from mmgen.lab._cpumask cimport lab_mask, mask_add, mask_clear, mask_remove
from mmgen.lab._policy cimport INIT_MM, NO_MM, lab_machine, lab_policy

cdef struct shootdown:
    lab_mask *masks                 # by mm
    uint32_t nr
    bint trim
    uint32_t broken


# The mask of mm, which lasts until the next call; NULL: no memory.
cdef lab_mask *mask_of(lab_machine *m, uint32_t mm) noexcept nogil:
    cdef shootdown *s = <shootdown *>m.own
    cdef uint32_t nr
    cdef lab_mask *masks
    if mm >= s.nr:
        nr = mm + mm // 2 + 64
        masks = <lab_mask *>realloc(s.masks, <size_t>nr * sizeof(lab_mask))
        if masks is NULL:
            m.no_memory(m)
            return NULL
        memset(masks + s.nr, 0, <size_t>(nr - s.nr) * sizeof(lab_mask))
        s.masks = masks
        s.nr = nr
    return &s.masks[mm]


cdef void context_switch(lab_machine *m, uint32_t cpu, uint32_t prev, uint32_t next) noexcept nogil:
    cdef shootdown *s = <shootdown *>m.own
    cdef uint32_t active = m.cpus[cpu].active_mm
    cdef lab_mask *mask
    if next == NO_MM or next == active:
        return
    mask = mask_of(m, next)
    if mask is NULL:
        return
    if not mask_add(mask, cpu, m.nr_cpus):      # before the CPU uses it, and it leaves the other's after
        m.no_memory(m)
    m.use(m, cpu, next)
    if s.trim and active != INIT_MM:
        mask_remove(&s.masks[active], cpu)


# do_shoot_lazy_tlb
cdef void ipi(lab_machine *m, uint32_t cpu, uint32_t mm) noexcept nogil:
    if m.cpus[cpu].active_mm == mm:
        m.use(m, cpu, INIT_MM)


cdef void exit_mmap(lab_machine *m, uint32_t cpu, uint32_t mm) noexcept nogil:
    cdef shootdown *s = <shootdown *>m.own
    cdef lab_mask *mask = mask_of(m, mm)
    cdef uint32_t i, nr
    cdef uint64_t bits
    cdef bint any_sent = False
    if mask is NULL:
        return
    ipi(m, cpu, mm)                             # on_each_cpu_mask begins at home
    if mask.nr and s.broken != SHOOT_NOBODY:
        if mask.bits is NULL:
            for i in range(mask.nr):
                if mask.few[i] != cpu:
                    m.ipi(m, cpu, mask.few[i], mm)
                    any_sent = True
        else:
            for i in range((m.nr_cpus + 63) >> 6):
                bits = mask.bits[i]
                while bits:
                    nr = (i << 6) + trailing_zeros(bits)
                    bits &= bits - 1
                    if nr != cpu:
                        m.ipi(m, cpu, nr, mm)
                        any_sent = True
    m.ipi_wait(m, cpu, mm, any_sent)


cdef void ipi_done(lab_machine *m, uint32_t cpu, uint32_t mm) noexcept nogil:
    m.free_mm(m, mm)


# A CPU leaves every mm_cpumask as it is unplugged. It must have left the mm that it uses lazily before (sched_force_init_mm, in
# sched_cpu_wait_empty, since the fix): an mm that exits now finds no CPU here to interrupt.
cdef void cpu_dying(lab_machine *m, uint32_t cpu) noexcept nogil:
    cdef shootdown *s = <shootdown *>m.own
    cdef uint32_t mm
    if s.broken != SHOOT_UNFIXED:
        m.use(m, cpu, INIT_MM)
    for mm in range(s.nr):
        mask_remove(&s.masks[mm], cpu)


# idle_task_exit, where the switch was before the fix.
cdef void cpu_dead(lab_machine *m, uint32_t cpu) noexcept nogil:
    if m.cpus[cpu].active_mm != INIT_MM:
        m.use(m, cpu, INIT_MM)


cdef void forget(lab_machine *m, uint32_t mm) noexcept nogil:
    cdef shootdown *s = <shootdown *>m.own
    if mm < s.nr:
        mask_clear(&s.masks[mm])


cdef void nothing(lab_machine *m, uint32_t cpu) noexcept nogil:
    pass


cdef void end(lab_machine *m) noexcept nogil:
    cdef shootdown *s = <shootdown *>m.own
    cdef uint32_t mm
    for mm in range(s.nr):
        mask_clear(&s.masks[mm])
    free(s.masks)
    free(s)


cdef extern from *:
    uint32_t trailing_zeros "__builtin_ctzll"(unsigned long long) noexcept nogil

cdef lab_policy SHOOTDOWN
SHOOTDOWN.context_switch = context_switch
SHOOTDOWN.exit_mmap = exit_mmap
SHOOTDOWN.tick = nothing
SHOOTDOWN.idle_enter = nothing
SHOOTDOWN.idle_exit = nothing
SHOOTDOWN.cpu_dying = cpu_dying
SHOOTDOWN.cpu_dead = cpu_dead
SHOOTDOWN.cpu_online = nothing
SHOOTDOWN.ipi = ipi
SHOOTDOWN.ipi_done = ipi_done
SHOOTDOWN.forget = forget
SHOOTDOWN.end = end


cdef bint shootdown_begin(lab_machine *m, bint trim, uint32_t broken, uint32_t nr_mms) noexcept nogil:
    cdef shootdown *s = <shootdown *>calloc(1, sizeof(shootdown))
    if s is NULL:
        return False
    s.masks = <lab_mask *>calloc(nr_mms, sizeof(lab_mask))
    s.nr = nr_mms if s.masks is not NULL else 0
    s.trim = trim
    s.broken = broken
    m.policy = &SHOOTDOWN
    m.own = s
    return True
