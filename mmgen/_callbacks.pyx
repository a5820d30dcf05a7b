# cython: language_level=3, freethreading_compatible=True
"""Deferred callbacks: one queue a domain, in the order of the cookies.

Each gets its cookie under the queue lock, and cookies only grow, so the first in the queue is due first. All that are deferred in one
generation have the same cookie, or the one before it: they share a grace period.
"""
from libc.stdint cimport INT64_MAX, uint32_t

from mmgen._control cimport control_of, mm_control
from mmgen._core cimport MM_DRIVERLESS, MM_OPEN, mm_gen_announce, mm_gen_begin, mm_gen_poll
from mmgen._sleep cimport ESHUTDOWN, MM_LOW_HALF, mm_now, mm_sleep, mm_wake_all, pthread_mutex_lock, pthread_mutex_unlock
from mmgen._stdatomic cimport (
    exchange_u32, fence, fetch_add_u32, fetch_add_u64, fetch_sub_u32, load_u32, load_u64, memory_order_acquire,
    memory_order_relaxed, memory_order_release, memory_order_seq_cst, store_u32, store_u64,
)


cdef int mm_gen_defer(mm_gen *g, mm_callback *callback, void (*fn)(mm_callback *callback) noexcept nogil) noexcept nogil:
    cdef mm_control *control = control_of(g)
    cdef bint opened
    callback.fn = fn
    callback.next = NULL
    pthread_mutex_lock(&control.queue_lock)
    # Under the lock: who closes, and then takes what is left, finds this callback, or this finds the domain closed.
    if load_u32(&control.state, memory_order_relaxed) != MM_OPEN:
        pthread_mutex_unlock(&control.queue_lock)
        return -ESHUTDOWN
    callback.cookie = mm_gen_begin(g, &opened)
    control.last[0] = callback
    control.last = &callback.next
    store_u64(&control.nr_deferred, load_u64(&control.nr_deferred, memory_order_relaxed) + 1, memory_order_relaxed)
    pthread_mutex_unlock(&control.queue_lock)
    if opened:
        mm_gen_announce(g)              # may kick, and a kick may call anything
    return 0


# Cut off and return the callbacks at the front that are due, at most `limit`.
cdef mm_callback *take_due(mm_gen *g, size_t limit) noexcept nogil:
    cdef mm_control *control = control_of(g)
    cdef mm_callback *first
    cdef mm_callback **end = &control.first
    pthread_mutex_lock(&control.queue_lock)
    while limit and end[0] is not NULL and mm_gen_poll(g, end[0].cookie):
        end = &end[0].next
        limit -= 1
    first = NULL
    if end != &control.first:
        first = control.first
        control.first = end[0]
        if control.first is NULL:
            control.last = &control.first
        end[0] = NULL
    pthread_mutex_unlock(&control.queue_lock)
    return first


cdef size_t mm_gen_run_callbacks(mm_gen *g, size_t limit) noexcept nogil:
    cdef mm_control *control = control_of(g)
    cdef mm_callback *callback
    cdef mm_callback *next
    cdef size_t nr = 0
    if load_u32(&control.state, memory_order_relaxed) == MM_DRIVERLESS:
        return 0                        # the parent runs them
    # Acquire, pairs with the release below: the callbacks of one runner come after those of the one before (litmus: runner).
    if exchange_u32(&control.running, 1, memory_order_acquire):
        return 0
    callback = take_due(g, limit)
    while callback is not NULL:
        next = callback.next            # read first: the function may free it
        callback.fn(callback)
        callback = next
        nr += 1
        fetch_add_u64(&control.nr_run, 1, memory_order_release)     # pairs with mm_gen_barrier_until's acquire (litmus: barrier-load)
    store_u32(&control.running, 0, memory_order_release)    # pairs with the acquire above (litmus: runner)
    if nr:
        mm_gen_wake_barriers(g)
    return nr


cdef void mm_gen_wake_barriers(mm_gen *g) noexcept nogil:
    # Between the count and this load. Pairs with the fence in mm_gen_barrier_until: either sees the other (litmus: barrier-fence).
    fence(memory_order_seq_cst)
    if load_u32(&control_of(g).barriers, memory_order_relaxed):
        mm_wake_all(MM_LOW_HALF(&control_of(g).nr_run))


cdef int mm_gen_barrier_until(mm_gen *g, uint64_t nr_deferred, int64_t timeout_ns) noexcept nogil:
    cdef mm_control *control = control_of(g)
    cdef int64_t deadline = -1
    cdef uint64_t nr
    cdef int err = 0
    if timeout_ns >= 0:
        deadline = mm_now()
        deadline = deadline + timeout_ns if timeout_ns < INT64_MAX - deadline else -1
    fetch_add_u32(&control.barriers, 1, memory_order_relaxed)
    while True:
        fence(memory_order_seq_cst)     # pairs with mm_gen_wake_barriers' and mm_gen_close's (litmus: barrier-fence, close-fence)
        nr = load_u64(&control.nr_run, memory_order_acquire)    # pairs with mm_gen_run_callbacks' release (litmus: barrier-load)
        if <int64_t>(nr - nr_deferred) >= 0:
            err = 0
            break
        if load_u32(&control.state, memory_order_relaxed) != MM_OPEN:
            err = -ESHUTDOWN
            break
        if err:
            break
        err = mm_sleep(MM_LOW_HALF(&control.nr_run), <uint32_t>nr, deadline)
    fetch_sub_u32(&control.barriers, 1, memory_order_release)   # pairs with mm_gen_close's acquire (litmus: leave)
    return err


cdef int mm_gen_barrier(mm_gen *g, int64_t timeout_ns) noexcept nogil:
    return mm_gen_barrier_until(g, mm_gen_nr_deferred(g), timeout_ns)


cdef bint mm_gen_first_callback(mm_gen *g, uint64_t *cookie) noexcept nogil:
    cdef mm_control *control = control_of(g)
    cdef bint found
    pthread_mutex_lock(&control.queue_lock)
    found = control.first is not NULL
    if found:
        cookie[0] = control.first.cookie
    pthread_mutex_unlock(&control.queue_lock)
    return found


cdef uint64_t mm_gen_nr_deferred(mm_gen *g) noexcept nogil:
    pthread_mutex_lock(&control_of(g).queue_lock)
    cdef uint64_t nr = load_u64(&control_of(g).nr_deferred, memory_order_relaxed)
    pthread_mutex_unlock(&control_of(g).queue_lock)
    return nr


cdef uint64_t mm_gen_nr_run(mm_gen *g) noexcept nogil:
    return load_u64(&control_of(g).nr_run, memory_order_acquire)    # as mm_gen_barrier_until's (litmus: barrier-load)


cdef mm_callback *mm_gen_take_callbacks(mm_gen *g) noexcept nogil:
    cdef mm_control *control = control_of(g)
    cdef mm_callback *first
    pthread_mutex_lock(&control.queue_lock)
    first = control.first
    control.first = NULL
    control.last = &control.first
    pthread_mutex_unlock(&control.queue_lock)
    return first
