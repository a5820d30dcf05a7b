from libc.stdint cimport int64_t

from mmgen.lab._virtual cimport virtual

cdef bint events_begin(virtual *v) noexcept nogil               # all CPUs run; False: no memory
# Go on until v.end, or `deadline` (mm_now()), or something is wrong (v.failed, v.stop). True: it is over.
cdef bint events_run(virtual *v, int64_t deadline) noexcept nogil
