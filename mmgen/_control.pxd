# What stands before a domain in its block: the words that only its rare paths touch. For _core and _callbacks alone.
from libc.stdint cimport uint32_t, uint64_t

from mmgen._core cimport mm_callback, mm_gen
from mmgen._sleep cimport pthread_mutex_t
from mmgen._stdatomic cimport atomic_u32, atomic_u64

cdef enum:
    CONTROL_BYTES = 384

cdef struct mm_control:
    pthread_mutex_t lock                # the control lock
    uint64_t nr_waits                   # written under the lock, as what follows up to sleepers
    uint32_t online                     # as in pending, whose line the ticks write
    uint32_t hint                       # where to look first for a CPU that is offline
    uint64_t expedite                   # who waits for a generation up to this one wants holdouts kicked at once
    uint64_t kicked                     # the last generation whose holdouts were
    uint32_t max_cpus                   # how many the block has room for
    void *block                         # what to free
    atomic_u32 sleepers                 # threads in mm_gen_wait_for that are about to sleep, or do
    atomic_u32 state                    # MM_OPEN, MM_CLOSED, MM_DRIVERLESS
    atomic_u64 impatient                # the last generation for which a CPU's patience ran out

    pthread_mutex_t queue_lock          # taken before the control lock, never after
    mm_callback *first                  # deferred callbacks, in the order of their cookies; written under the queue lock
    mm_callback **last
    atomic_u64 nr_deferred
    atomic_u64 nr_run                   # what a barrier sleeps on
    atomic_u32 barriers                 # threads that are about to sleep there, or do
    atomic_u32 running                  # whether a thread runs callbacks: one at a time, so that they keep their order

cdef inline mm_control *control_of(mm_gen *g) noexcept nogil:
    return <mm_control *>(<char *>g - CONTROL_BYTES)
