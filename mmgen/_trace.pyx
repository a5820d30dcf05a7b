# cython: language_level=3, freethreading_compatible=True
"""Rings of events: a writer takes the next place and never waits; a reader takes what is whole."""
import enum

from libc.stdlib cimport calloc, free

from mmgen._sleep cimport mm_now
from mmgen._stdatomic cimport (
    fence, fetch_add_u64, load_u64, memory_order_acquire, memory_order_relaxed, memory_order_release, store_u64,
)


class TraceEvent(enum.IntEnum):
    """What happened, as mm_trace_read() tells it; _trace.pxd says what each one's argument is."""

    TICK = MM_TRACE_TICK
    COUNT = MM_TRACE_COUNT
    OPEN = MM_TRACE_OPEN
    WAIT_BEGIN = MM_TRACE_WAIT_BEGIN
    WAIT_END = MM_TRACE_WAIT_END
    KICK = MM_TRACE_KICK
    IDLE_ENTER = MM_TRACE_IDLE_ENTER
    IDLE_EXIT = MM_TRACE_IDLE_EXIT
    ONLINE = MM_TRACE_ONLINE
    OFFLINE = MM_TRACE_OFFLINE


cdef mm_trace *mm_trace_create(uint32_t nr_rings, uint32_t size) noexcept nogil:
    cdef mm_trace *trace = <mm_trace *>calloc(1, sizeof(mm_trace))
    if trace is NULL:
        return NULL
    trace.nr_rings = nr_rings
    trace.size = size
    trace.rings = <mm_trace_ring *>calloc(nr_rings, sizeof(mm_trace_ring))
    trace.events = <mm_trace_event *>calloc(<size_t>nr_rings * size, sizeof(mm_trace_event))
    if trace.rings is NULL or trace.events is NULL:
        mm_trace_destroy(trace)
        return NULL
    return trace


cdef void mm_trace_destroy(mm_trace *trace) noexcept nogil:
    if trace is not NULL:
        free(trace.rings)
        free(trace.events)
        free(trace)


cdef void mm_trace_write(mm_trace *trace, uint32_t ring, uint64_t what, uint64_t argument) noexcept nogil:
    if ring >= trace.nr_rings:
        ring = trace.nr_rings - 1
    cdef uint64_t nr = fetch_add_u64(&trace.rings[ring].nr, 1, memory_order_relaxed)
    cdef mm_trace_event *e = &trace.events[<size_t>ring * trace.size + (nr & (trace.size - 1))]
    store_u64(&e.turn, 0, memory_order_relaxed)
    # Pairs with the acquire fence in mm_trace_read: who sees a new word sees turn 0 (litmus: trace-fence).
    fence(memory_order_release)
    store_u64(&e.t_ns, mm_now(), memory_order_relaxed)
    store_u64(&e.what, what, memory_order_relaxed)
    store_u64(&e.argument, argument, memory_order_relaxed)
    store_u64(&e.turn, nr + 1, memory_order_release)    # pairs with the acquire in mm_trace_read (litmus: trace-turn)


cdef list mm_trace_read(mm_trace *trace, uint32_t ring):
    cdef uint64_t nr = load_u64(&trace.rings[ring].nr, memory_order_relaxed)
    cdef uint64_t i, t_ns, what, argument
    cdef mm_trace_event *e
    events = []
    for i in range(nr - min(nr, <uint64_t>trace.size), nr):
        e = &trace.events[<size_t>ring * trace.size + (i & (trace.size - 1))]
        if load_u64(&e.turn, memory_order_acquire) != i + 1:    # pairs with mm_trace_write's last release (litmus: trace-turn)
            continue                                # being written, or overwritten since
        t_ns = load_u64(&e.t_ns, memory_order_relaxed)
        what = load_u64(&e.what, memory_order_relaxed)
        argument = load_u64(&e.argument, memory_order_relaxed)
        fence(memory_order_acquire)                 # pairs with mm_trace_write's release fence (litmus: trace-fence)
        if load_u64(&e.turn, memory_order_relaxed) == i + 1:
            events.append((t_ns, what, argument))
    return events
