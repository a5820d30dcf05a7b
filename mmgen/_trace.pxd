# Rings of events, one per CPU and one for everybody else, written without a lock.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from mmgen._stdatomic cimport atomic_u64

cdef enum:                                          # what happened, and what `argument` then is
    MM_TRACE_TICK                                   # a tick that somebody wanted: the generation
    MM_TRACE_COUNT                                  # ... and that was counted: the generation
    MM_TRACE_OPEN                                   # the CPU opened a generation: which
    MM_TRACE_WAIT_BEGIN                             # a grace period was asked for: the cookie
    MM_TRACE_WAIT_END                               # a wait for it returned: the cookie
    MM_TRACE_KICK                                   # the CPU was named a holdout: the generation
    MM_TRACE_IDLE_ENTER
    MM_TRACE_IDLE_EXIT
    MM_TRACE_ONLINE
    MM_TRACE_OFFLINE

cdef struct mm_trace_event:
    atomic_u64 turn                                 # 0 while it is written; 1 + its number in the ring
    atomic_u64 t_ns                                 # of CLOCK_MONOTONIC
    atomic_u64 what
    atomic_u64 argument

cdef struct mm_trace_ring:
    atomic_u64 nr                                   # events ever written
    uint64_t pad[7]

cdef struct mm_trace:
    uint32_t nr_rings                               # the last is for who is no CPU
    uint32_t size                                   # events a ring keeps, a power of two
    mm_trace_ring *rings
    mm_trace_event *events

cdef mm_trace *mm_trace_create(uint32_t nr_rings, uint32_t size) noexcept nogil
cdef void mm_trace_destroy(mm_trace *trace) noexcept nogil
cdef void mm_trace_write(mm_trace *trace, uint32_t ring, uint64_t what, uint64_t argument) noexcept nogil

# [(t_ns, what, argument), ...] of what a ring still has, in order.
cdef list mm_trace_read(mm_trace *trace, uint32_t ring)
