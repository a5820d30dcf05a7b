from libc.stdint cimport int64_t, uint32_t

from mmgen.lab._virtual cimport virtual

cdef bint events_begin(virtual *v) noexcept nogil               # all CPUs run; False: no memory
# Go on until v.end, or `deadline` (mm_now()), or something is wrong (v.failed, v.stop). True: it is over.
cdef bint events_run(virtual *v, int64_t deadline) noexcept nogil

# For machines that have events of their own: one thing of those that are due at v.now in the queues; when the first will be; put down
# what the event that is over has changed (v.timeline is not NULL).
cdef void other_event(virtual *v) noexcept nogil
cdef int64_t first_other(virtual *v) noexcept nogil
cdef void look(virtual *v) noexcept nogil
