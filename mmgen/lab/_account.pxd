from libc.stdint cimport uint32_t

from mmgen.lab._virtual cimport virtual

cdef enum:
    NOBODY = 0xffffffff

cdef bint account_begin(virtual *v, uint32_t nr_mms) noexcept nogil         # False: no memory
cdef void account_end(virtual *v) noexcept nogil
cdef uint32_t fork_mm(virtual *v, uint32_t cpu) noexcept nogil              # its number; v.failed: no memory
cdef void exit_mm(virtual *v, uint32_t cpu, uint32_t mm, uint32_t state) noexcept nogil
cdef void settle(virtual *v) noexcept nogil                                 # bring the mean of the held mms up to now
# The account of ticks of CPUs first to last - 1 that all counted, the last at v.now: spent is then that one's.
cdef void paid_by_all(virtual *v, uint32_t first, uint32_t last, bint opened) noexcept nogil
