# cython: language_level=3, freethreading_compatible=True
"""Lazy mms shot down (MMU_LAZY_TLB_SHOOTDOWN): nobody counts; at the final free every CPU in mm_cpumask gets an IPI.

Who then uses the mm lazily switches to init_mm; when all have answered, the mm is freed. mm_cpumask has every CPU that has run the mm,
until the mm is freed or the CPU unplugged (powerpc, which this is for, keeps it so); or, `trim`, until the CPU runs another mm.
"""
from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free

from mmgen.lab._policy cimport INIT_MM, NO_MM, cpu_of, lab_machine, lab_policy

cdef struct shootdown:
    bint trim
    uint32_t broken

cdef struct shot:                   # an exit that is going round
    lab_machine *m
    uint32_t cpu, mm
    bint any_sent


cdef void context_switch(lab_machine *m, uint32_t cpu, uint32_t prev, uint32_t next) noexcept nogil:
    cdef uint32_t active = cpu_of(m, cpu).active_mm
    if next == NO_MM or next == active:
        return
    m.mask_set(m, cpu, next)                    # before the CPU uses it, and it leaves the other's after
    m.use(m, cpu, next)
    if (<shootdown *>m.own).trim and active != INIT_MM:
        m.mask_clear(m, cpu, active)


# do_shoot_lazy_tlb
cdef void ipi(lab_machine *m, uint32_t cpu, uint32_t mm) noexcept nogil:
    if cpu_of(m, cpu).active_mm == mm:
        m.use(m, cpu, INIT_MM)


cdef void send(void *arg, uint32_t cpu) noexcept nogil:
    cdef shot *s = <shot *>arg
    if cpu != s.cpu:
        s.m.ipi(s.m, s.cpu, cpu, s.mm)
        s.any_sent = True


cdef void exit_mmap(lab_machine *m, uint32_t cpu, uint32_t mm) noexcept nogil:
    cdef shot s
    s.m = m
    s.cpu = cpu
    s.mm = mm
    s.any_sent = False
    ipi(m, cpu, mm)                             # on_each_cpu_mask begins at home
    if (<shootdown *>m.own).broken != SHOOT_NOBODY:
        m.mask_each(m, mm, send, &s)
    m.ipi_wait(m, cpu, mm, s.any_sent)


cdef void ipi_done(lab_machine *m, uint32_t cpu, uint32_t mm) noexcept nogil:
    m.free_mm(m, mm)


# A CPU leaves every mm_cpumask as it is unplugged. It must have left the mm that it uses lazily before (sched_force_init_mm, in
# sched_cpu_wait_empty, since the fix): an mm that exits now finds no CPU here to interrupt.
cdef void cpu_dying(lab_machine *m, uint32_t cpu) noexcept nogil:
    if (<shootdown *>m.own).broken != SHOOT_UNFIXED:
        m.use(m, cpu, INIT_MM)
    m.mask_clear_all(m, cpu)


# idle_task_exit, where the switch was before the fix.
cdef void cpu_dead(lab_machine *m, uint32_t cpu) noexcept nogil:
    if cpu_of(m, cpu).active_mm != INIT_MM:
        m.use(m, cpu, INIT_MM)


cdef void forget(lab_machine *m, uint32_t mm) noexcept nogil:
    m.mask_empty(m, mm)


cdef void nothing(lab_machine *m, uint32_t cpu) noexcept nogil:
    pass


cdef void end(lab_machine *m) noexcept nogil:
    free(m.own)


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


cdef bint shootdown_begin(lab_machine *m, bint trim, uint32_t broken) noexcept nogil:
    cdef shootdown *s = <shootdown *>calloc(1, sizeof(shootdown))
    if s is NULL:
        return False
    s.trim = trim
    s.broken = broken
    m.policy = &SHOOTDOWN
    m.own = s
    return True
