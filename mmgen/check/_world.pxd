# What is searched: a domain, the threads that are its CPUs and its waiters, what each may do next, and what must hold.
from libc.stdint cimport uint32_t, uint64_t

from mmgen._stdatomic cimport atomic_u64
from mmgen.check._core cimport mm_callback, mm_gen
from mmgen.check._sketch cimport mm_sketch
from mmgen.check._steps cimport MM_MAX_THREADS

cdef enum:                              # operations; names in _search.pyx
    OP_SWITCH, OP_TICK, OP_IDLE_ENTER, OP_IDLE_EXIT, OP_ONLINE, OP_OFFLINE          # a CPU's
    OP_BEGIN, OP_POLL, OP_WAIT, OP_WAIT_TIMED, OP_EXPEDITE, OP_DEFER, OP_RUN, OP_BARRIER, OP_CLOSE  # no running CPU's
    NR_OPS

cdef enum:                              # what went wrong; texts in _search.pyx
    MM_FINE, MM_EARLY, MM_STALE, MM_HANGS, MM_STUCK, MM_ENDLESS, MM_UNDERFLOW, MM_COMPLETE, MM_PARITY, MM_ONLINE, MM_FOREIGN, MM_LOST,
    MM_BARRED, MM_REFUSED, MM_HELD, MM_REVIVED, MM_VOID

cdef struct mm_ghost:                   # what the code does not keep, and the checks need; with memory and stacks, the whole state
    uint32_t holds                      # a bit per CPU: it is in a section, and may hold what it found there
    uint32_t need[MM_MAX_THREADS]       # the CPUs that each thread's wait must outlast, and that have not been quiescent since
    uint64_t cookie[MM_MAX_THREADS]
    bint waiting[MM_MAX_THREADS]        # it has a cookie
    int waits_left[MM_MAX_THREADS]
    int ops_left                        # the CPUs', together
    uint32_t counted, indebted          # CPUs in pending's online; whose debt is in complete before their line says so
    int held[MM_MAX_THREADS]            # each thread's holds; and the debts it is about to pay, its line written already
    int paying[MM_MAX_THREADS]
    int proxy[MM_MAX_THREADS]           # which thread has claimed the CPU, or MM_NOBODY
    int length[MM_MAX_THREADS]          # accesses in this operation
    int last                            # the thread that stepped last, and how often one that could go on had to stand back
    int preemptions
    int harm
    bint closed
    atomic_u64 object[MM_MAX_THREADS]   # with buffers: 1 while what thread t will free is published
    uint32_t found[MM_MAX_THREADS]      # a bit per CPU: its section has found it
    bint freed[MM_MAX_THREADS]
    mm_callback callback[MM_MAX_THREADS]
    uint32_t callback_need[MM_MAX_THREADS]
    int callback_state[MM_MAX_THREADS]  # MM_NOT_DEFERRED ...
    uint32_t barrier[MM_MAX_THREADS]    # a bit per thread: its callback must have run when this thread's barrier returns
    mm_sketch sketch

cdef enum:
    MM_NOT_DEFERRED, MM_DEFERRED, MM_RAN, MM_TAKEN

cdef struct mm_world:
    int cpus, waiters
    uint32_t allowed                    # a bit per operation
    int preemptions                     # at most; -1: any number
    bint invariants                     # check what the protocol specifies, and not only what harm comes of it
    bint sketched                       # the sketch instead of the protocol
    bint absolute                       # counters count as they are, and not only in their order
    char *block                         # the domain's memory
    size_t bytes
    mm_gen *g
    mm_ghost ghost

cdef mm_world *mm_world_of() noexcept nogil
cdef int mm_world_begin(int cpus, int waiters, uint32_t allowed, int ops, int waits, int cpu_waits, int preemptions, bint continuous,
                        bint buffered, bint invariants, bint every, bint sketched, int variant, int patience,
                        uint64_t first_generation, uint64_t first_switches) except -1
cdef void mm_world_end() noexcept nogil

# What thread `thread` may do next: a bit per operation.
cdef uint32_t mm_may(int thread) noexcept nogil
cdef void mm_begin(int thread, int op) noexcept nogil
cdef void mm_check() noexcept nogil                     # sets ghost.harm
cdef bint mm_at_rest() noexcept nogil                   # nobody is in an operation, but for who sleeps in one
cdef bint mm_stuck() noexcept nogil                     # somebody is, and nobody who is can go on
cdef void mm_alone() noexcept nogil                     # if one thread alone can go on in its operation, it must not do so for ever
cdef void mm_drain() noexcept nogil                     # a fair schedule: from mm_at_rest(), every waiter must be released
cdef uint64_t mm_hash() noexcept nogil
