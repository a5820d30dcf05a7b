# The real machine: CPUs that are threads, mms whose memory is allocated, and what they share, each word on the line of whoever writes it.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from mmgen._latency cimport mm_latency
from mmgen._sleep cimport pthread_mutex_t
from mmgen._stdatomic cimport atomic_u32, atomic_u64
from mmgen.lab._bitgen cimport bitgen_t
from mmgen.lab._policy cimport lab_machine
from mmgen.lab._virtual cimport lab_load
from mmgen.lab._wheel cimport lab_queue

cdef enum:
    TO_STOP = 1, TO_ANSWER = 2, TO_SWITCH = 4           # real_cpu.told: bits
    CHUNK_SHIFT = 8                                     # mms are allocated so many at a time
    CHUNK_MMS = 1 << CHUNK_SHIFT
    MOST_CHUNKS = 1 << 14
    REAL_SPREAD = 2                                     # lab_cpus 128 bytes apart: a line, and the one that is fetched along with it

cdef struct real_mm:                # two lines; its mm_cpumask follows, on lines of its own
    atomic_u32 count                # mm_count
    uint32_t pad0[15]
    atomic_u64 life                 # its serial number << 1; | 1 since it was freed
    atomic_u64 exited               # when
    atomic_u32 state                # MM_EXITED, MM_FREED, MM_WAITER
    uint32_t exit_cpu
    uint32_t next                   # in the list of numbers that are free
    uint32_t pad1
    char *memory                    # mm_bytes, from fork to free
    uint64_t pad2[3]

cdef struct real_cpu:
    # Written by others.
    atomic_u32 told                 # what the thread sleeps on
    atomic_u32 coming               # interrupts that are on their way to its core
    atomic_u32 unanswered           # of its own IPIs
    uint32_t pad0[29]
    # Its own, read by others.
    atomic_u32 active               # the mm that it uses
    atomic_u32 exiting              # the mm in whose exit it is
    atomic_u32 shot                 # the mm that its IPIs are about
    atomic_u32 asleep
    # Under its lock: which of its processes it runs, if it shows that it runs one; which it may not have left yet, or NOBODY.
    uint32_t slot, busy, state_shown
    uint32_t pad1[25]
    # Its own.
    real *r
    real_mm *using
    uint64_t life                   # of that, as it began to use it
    uint32_t cpu, state             # CPU_USER, CPU_KTHREAD, CPU_IDLE
    int core
    int64_t next, next_tick, now
    bitgen_t *random
    uint64_t switches, ticks, events, atomics, overhead_ns, exits
    atomic_u32 *inbox               # whose IPIs it has not answered: a bit for each CPU
    pthread_mutex_t lock            # its processes, where they migrate

cdef struct real:
    lab_machine m                   # first: a policy's functions are given this
    lab_load load
    real_cpu **cpus
    bint keep_going, broken, crowded
    int64_t begin, end, period
    size_t mm_bytes, stride
    uint32_t mask_words
    uint32_t *processes             # mm by CPU and slot
    uint32_t private_expedited      # how membarrier interrupts: RSEQ's command, which takes one core; all cores; 0: not at all
    pthread_mutex_t lock            # the numbers of mms
    char **chunks
    uint32_t nr_mms, free_mms
    uint64_t serial
    pthread_mutex_t wait_lock
    lab_queue waits
    atomic_u64 next_wait            # when the first of them is due
    atomic_u64 frees, ipis, held, held_peak, use_after_frees
    atomic_u32 failed, abandoned, nr_left
    uint64_t bad_mm
    uint32_t bad_cpu
    int64_t bad_time
    mm_latency *latency

cdef inline real_mm *mm_at(real *r, uint32_t mm) noexcept nogil:
    return <real_mm *>(r.chunks[mm >> CHUNK_SHIFT] + <size_t>(mm & (CHUNK_MMS - 1)) * r.stride)
