# cython: language_level=3, freethreading_compatible=True
"""Lazy mms counted (MMU_LAZY_TLB_REFCOUNT): a CPU that keeps an mm lazily has a reference to it, and the last reference frees it.

mm_count is 1 for all of the mm's tasks together, and 1 for each CPU that uses it lazily: an atomic at each lazy entry and exit.
"""
from libc.stdint cimport uint32_t, uintptr_t

from mmgen.lab._policy cimport INIT_MM, NO_MM, cpu_of, lab_machine, lab_policy


cdef inline void mmdrop(lab_machine *m, uint32_t cpu, uint32_t mm) noexcept nogil:
    if m.count(m, cpu, mm, -1) == 0:
        m.free_mm(m, mm)


cdef void context_switch(lab_machine *m, uint32_t cpu, uint32_t prev, uint32_t next) noexcept nogil:
    cdef uint32_t active = cpu_of(m, cpu).active_mm
    if next == NO_MM:
        if prev != NO_MM and m.own is NULL:
            m.count(m, cpu, active, 1)          # mmgrab_lazy_tlb; from a kernel thread the reference is handed on
        return
    m.use(m, cpu, next)
    if prev == NO_MM:
        mmdrop(m, cpu, active)                  # in finish_task_switch, when the CPU has left it


cdef void exit_mmap(lab_machine *m, uint32_t cpu, uint32_t mm) noexcept nogil:
    if cpu_of(m, cpu).mm == mm:
        m.count(m, cpu, mm, 1)                  # exit_mm: the exiting task goes on as a kernel thread
    mmdrop(m, cpu, mm)


# sched_force_init_mm, in the last state of an unplug in which tasks may still run.
cdef void cpu_dying(lab_machine *m, uint32_t cpu) noexcept nogil:
    cdef uint32_t active = cpu_of(m, cpu).active_mm
    if active != INIT_MM:
        m.count(m, cpu, INIT_MM, 1)
        m.use(m, cpu, INIT_MM)
        mmdrop(m, cpu, active)


cdef void nothing(lab_machine *m, uint32_t cpu) noexcept nogil:
    pass


cdef void no_ipi(lab_machine *m, uint32_t cpu, uint32_t mm) noexcept nogil:
    pass


cdef lab_policy REFCOUNT
REFCOUNT.context_switch = context_switch
REFCOUNT.exit_mmap = exit_mmap
REFCOUNT.tick = nothing
REFCOUNT.idle_enter = nothing
REFCOUNT.idle_exit = nothing
REFCOUNT.cpu_dying = cpu_dying
REFCOUNT.cpu_dead = nothing
REFCOUNT.cpu_online = nothing
REFCOUNT.ipi = no_ipi
REFCOUNT.ipi_done = no_ipi
REFCOUNT.forget = forget
REFCOUNT.end = end


cdef void forget(lab_machine *m, uint32_t mm) noexcept nogil:
    pass


cdef void end(lab_machine *m) noexcept nogil:
    pass


cdef void refcount_begin(lab_machine *m, bint broken) noexcept nogil:
    m.policy = &REFCOUNT
    m.own = <void *><uintptr_t>broken
