# What a torture publishes, and what it has unpublished, each object with its age. Every function is nogil and thread-safe.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from mmgen._core cimport mm_callback
from mmgen._sleep cimport pthread_mutex_t
from mmgen._stdatomic cimport atomic_u64

cdef enum:
    MM_OLDEST = 10          # ages are told apart up to here (Linux: RCU_TORTURE_PIPE_LEN)
    MM_WORDS = 5            # the words of an object that are checked at every use
    MM_LISTS = 3            # of the quarantine
    MM_FINE = 0, MM_TOO_OLD, MM_POISONED, MM_CHANGED            # what a use finds

cdef struct mm_object:
    mm_callback callback    # first, so that mm_gen_defer can take it
    void *arg               # of who deferred it
    mm_pipe *pipe
    mm_object *next
    uint64_t order          # of its unpublishing
    uint32_t over           # its own grace period has ended: it is poisoned
    uint32_t named          # Python has an Unpublished of it: not to be freed yet
    atomic_u64 stamp        # which object it is, from 1
    atomic_u64 age
    atomic_u64 words[MM_WORDS]

cdef struct mm_pipe:
    pthread_mutex_t lock    # of what follows up to seen; readers never take it
    mm_object *first        # unpublished, in that order, until they are freed
    mm_object **last
    mm_object *quarantine[MM_LISTS]
    int64_t rotated         # when the lists were last moved on
    uint64_t *seen          # sections, as they were then
    uint64_t nr_made, nr_unpublished, nr_over, nr_freed
    uint32_t nr_slots, nr_readers
    atomic_u64 *slots       # the published objects, a cache line each
    atomic_u64 *sections    # of each reader, a cache line each: odd within one

cdef inline atomic_u64 *mm_slot(mm_pipe *p, uint32_t slot) noexcept nogil:
    return p.slots + 8 * slot

cdef inline atomic_u64 *mm_sections(mm_pipe *p, uint32_t reader) noexcept nogil:
    return p.sections + 8 * reader

# Publish a new object in `slot`; the one that was there, of age 1 from now on. NULL: no memory, nothing has changed.
cdef mm_object *mm_replace(mm_pipe *p, uint32_t slot) noexcept nogil
# A grace period that was begun after mm_replace() returned `o` has ended: all that was unpublished before ages; `o` is poisoned.
cdef void mm_over(mm_object *o) noexcept nogil
# A use of `o`, that has been found to be object `stamp`: MM_FINE, or what is wrong; and its age.
cdef int mm_use(mm_object *o, uint64_t stamp, uint64_t *age) noexcept nogil

cdef class Pipe:
    cdef mm_pipe p
