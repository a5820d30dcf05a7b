# Threads as coroutines that stop before each access to a word that threads share: who may go on, and what it is about to do.
#
# The functions below have the names and arguments of mmgen/_stdatomic.pxd and mmgen/_sleep.pxd. Called in a thread, each stops it first
# (unless `hidden` says that no other thread could tell), and makes the access when the search lets the thread step.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from mmgen._sleep cimport pthread_mutex_t
from mmgen._stdatomic cimport atomic_u32, atomic_u64, memory_order

cdef enum:
    MM_MAX_THREADS = 8
    MM_MAX_BUFFERED = 8
    MM_NOBODY = -1

cdef enum:                          # what a thread is about to do
    MM_REST                         # begin an operation: it is between two
    MM_LOAD, MM_STORE, MM_EXCHANGE, MM_ADD, MM_SUB, MM_CAS, MM_FENCE
    MM_LOCK, MM_UNLOCK
    MM_SLEEP                        # look at a futex's word, and fall asleep
    MM_ASLEEP                       # return from a futex, once woken
    MM_WAKE, MM_YIELD

cdef struct mm_access:
    int what
    int bytes
    memory_order order
    void *word
    uint64_t value                  # to store, to add, to sleep on
    uint64_t expected               # MM_CAS

cdef struct mm_buffered:            # a store that other threads do not see yet
    void *word
    uint64_t value
    int bytes
    bint hidden

cdef struct mm_thread:
    void *sp
    mm_access next
    int op                          # of the world's operations
    bint woken, timed_out
    bint may_time_out               # asleep, with a deadline
    bint mover                      # what it did last commutes with what others do until its next access: they are one step
    bint yielded                    # waits for another thread to change anything
    bint loops                      # its operation goes round a loop that looks at more than one word; and
    bint stirred                    # another thread has changed something since it yielded last, or began
    int nr_buffered
    mm_buffered buffer[MM_MAX_BUFFERED]

cdef struct mm_steps:
    int current                     # the thread that runs, or MM_NOBODY
    int nr_threads
    int broken                      # which variant of the source runs: hooked.py
    bint buffered                   # stores wait in a buffer of their thread, as on most machines
    bint every                      # every access is a step, also where no other thread could tell
    bint overflow                   # a thread buffered more than there is room for: the search is void
    void (*body)(int thread) noexcept nogil                                         # one operation: threads[thread].op
    bint (*hidden)(int thread, mm_access *access) noexcept nogil
    void (*wrote)(int thread, void *word, uint64_t was, uint64_t now) noexcept nogil        # memory
    void (*made)(int thread, mm_access *access, uint64_t result) noexcept nogil     # NULL, or told of every access
    char *stack[MM_MAX_THREADS]     # their ends
    mm_thread threads[MM_MAX_THREADS]

cdef mm_steps *mm_steps_of() noexcept nogil
cdef int mm_steps_begin(int nr_threads) except -1                   # threads that are at rest; MemoryError
cdef void mm_step(int thread) noexcept nogil                        # it makes its access, and runs up to the next one
cdef bint mm_enabled(int thread) noexcept nogil                     # whether it could
cdef void mm_flush_one(int thread) noexcept nogil                   # its oldest store reaches memory
cdef bint broken(int variant) noexcept nogil

cdef uint64_t mm_peek(void *word, int bytes) noexcept nogil

cdef uint32_t load_u32(atomic_u32 *word, memory_order order) noexcept nogil
cdef void store_u32(atomic_u32 *word, uint32_t value, memory_order order) noexcept nogil
cdef uint32_t exchange_u32(atomic_u32 *word, uint32_t value, memory_order order) noexcept nogil
cdef uint32_t fetch_add_u32(atomic_u32 *word, uint32_t n, memory_order order) noexcept nogil
cdef uint32_t fetch_sub_u32(atomic_u32 *word, uint32_t n, memory_order order) noexcept nogil
cdef bint cas_u32(atomic_u32 *word, uint32_t *expected, uint32_t desired, memory_order success, memory_order failure) noexcept nogil
cdef uint64_t load_u64(atomic_u64 *word, memory_order order) noexcept nogil
cdef void store_u64(atomic_u64 *word, uint64_t value, memory_order order) noexcept nogil
cdef uint64_t fetch_add_u64(atomic_u64 *word, uint64_t n, memory_order order) noexcept nogil
cdef uint64_t fetch_sub_u64(atomic_u64 *word, uint64_t n, memory_order order) noexcept nogil
cdef bint cas_u64(atomic_u64 *word, uint64_t *expected, uint64_t desired, memory_order success, memory_order failure) noexcept nogil
cdef void fence(memory_order order) noexcept nogil

cdef int64_t mm_now() noexcept nogil
cdef int mm_sleep(void *word, uint32_t seen, int64_t deadline) noexcept nogil
cdef void mm_wake_all(void *word) noexcept nogil
cdef void mm_cpu_relax() noexcept nogil
cdef int sched_yield() noexcept nogil
cdef int pthread_mutex_init(pthread_mutex_t *lock, void *attributes) noexcept nogil
cdef int pthread_mutex_lock(pthread_mutex_t *lock) noexcept nogil
cdef int pthread_mutex_unlock(pthread_mutex_t *lock) noexcept nogil
cdef int pthread_mutex_destroy(pthread_mutex_t *lock) noexcept nogil
