# cython: language_level=3, freethreading_compatible=True
"""A domain's beginning and end: its memory, closing it, and its copy in a forked child."""
from libc.stdint cimport uintptr_t
from libc.stdlib cimport calloc, free

from mmgen._callbacks cimport mm_gen_wake_barriers
from mmgen._control cimport CONTROL_BYTES, control_of, mm_control
from mmgen._core cimport MM_CLOSED, MM_DRIVERLESS, MM_OFFLINE, MM_PARITY_SHIFT, mm_cpu, mm_cpu_of, mm_gen_wake_sleepers
from mmgen._sleep cimport pthread_mutex_destroy, pthread_mutex_init, pthread_mutex_lock, pthread_mutex_unlock, sched_yield
from mmgen._stdatomic cimport (
    exchange_u32, fence, load_u32, memory_order_acquire, memory_order_relaxed, memory_order_seq_cst, store_u32, store_u64,
)
from mmgen._trace cimport mm_trace_destroy

assert sizeof(mm_control) <= CONTROL_BYTES and sizeof(mm_gen) == 256 and sizeof(mm_cpu) == 64


cdef mm_gen *mm_gen_create(uint32_t nr_cpus, uint32_t max_cpus, uint64_t first_generation, uint64_t first_switches) noexcept nogil:
    # calloc gives memory that nobody has touched: what a domain might grow to costs nothing yet. 63 bytes more, to align.
    cdef char *block = <char *>calloc(1, CONTROL_BYTES + sizeof(mm_gen) + max_cpus * sizeof(mm_cpu) + 63)
    cdef mm_gen *g
    cdef uint32_t cpu
    if block is NULL:
        return NULL
    g = <mm_gen *>((<uintptr_t>(block + CONTROL_BYTES) + 63) & ~<uintptr_t>63)
    control_of(g).block = block
    control_of(g).max_cpus = max_cpus
    control_of(g).last = &control_of(g).first
    control_of(g).expedite = first_generation
    control_of(g).kicked = first_generation - 1
    store_u64(&control_of(g).impatient, first_generation - 1, memory_order_relaxed)
    pthread_mutex_init(&control_of(g).lock, NULL)
    pthread_mutex_init(&control_of(g).queue_lock, NULL)
    store_u32(&g.nr_cpus, nr_cpus, memory_order_relaxed)
    store_u64(&g.generation, first_generation, memory_order_relaxed)
    store_u64(&g.goal, first_generation, memory_order_relaxed)
    store_u64(&g.pending, (first_generation & 1) << MM_PARITY_SHIFT, memory_order_relaxed)
    if first_switches:
        for cpu in range(max_cpus):
            store_u64(&mm_cpu_of(g, cpu).nr_mm_switches, first_switches, memory_order_relaxed)
    return g


cdef void mm_gen_close(mm_gen *g) noexcept nogil:
    cdef uint32_t cpu
    pthread_mutex_lock(&control_of(g).lock)
    if load_u32(&control_of(g).state, memory_order_relaxed) == MM_DRIVERLESS:
        pthread_mutex_unlock(&control_of(g).lock)           # dead already, and that says more
        return
    store_u32(&control_of(g).state, MM_CLOSED, memory_order_relaxed)        # read under the lock, or again after the fence
    # From now on every call finds the wrong mode, and then the reason.
    for cpu in range(load_u32(&g.nr_cpus, memory_order_relaxed)):
        exchange_u32(&mm_cpu_of(g, cpu).mode, MM_OFFLINE, memory_order_relaxed)
    pthread_mutex_unlock(&control_of(g).lock)
    # Pairs with the fences of mm_gen_wait_for and mm_gen_barrier_until. A waiter that looked at the state before may fall asleep
    # after: wake until all have left (litmus: close-fence).
    fence(memory_order_seq_cst)
    # The acquires pair with the release with which each leaves (litmus: leave).
    while load_u32(&control_of(g).sleepers, memory_order_acquire) or load_u32(&control_of(g).barriers, memory_order_acquire):
        mm_gen_wake_sleepers(g)
        mm_gen_wake_barriers(g)
        sched_yield()


# In the child, the only thread left: whoever held the lock, slept or drove a CPU is in the parent.
cdef void mm_gen_after_fork(mm_gen *g) noexcept nogil:
    cdef uint32_t cpu
    pthread_mutex_init(&control_of(g).lock, NULL)
    pthread_mutex_init(&control_of(g).queue_lock, NULL)
    store_u32(&control_of(g).sleepers, 0, memory_order_relaxed)
    store_u32(&control_of(g).barriers, 0, memory_order_relaxed)
    store_u32(&control_of(g).running, 0, memory_order_relaxed)
    store_u32(&control_of(g).state, MM_DRIVERLESS, memory_order_relaxed)
    for cpu in range(load_u32(&g.nr_cpus, memory_order_relaxed)):
        store_u32(&mm_cpu_of(g, cpu).mode, MM_OFFLINE, memory_order_relaxed)


cdef int mm_gen_state(mm_gen *g) noexcept nogil:
    return load_u32(&control_of(g).state, memory_order_relaxed)


cdef uint64_t mm_gen_nr_waits(mm_gen *g) noexcept nogil:
    pthread_mutex_lock(&control_of(g).lock)
    cdef uint64_t nr = control_of(g).nr_waits
    pthread_mutex_unlock(&control_of(g).lock)
    return nr


cdef void mm_gen_destroy(mm_gen *g) noexcept nogil:
    pthread_mutex_destroy(&control_of(g).queue_lock)
    pthread_mutex_destroy(&control_of(g).lock)
    mm_trace_destroy(g.trace)
    free(control_of(g).block)
