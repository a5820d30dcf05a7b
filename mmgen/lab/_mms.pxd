# The real machine's mms: forked, used, counted, freed, and watched.
from libc.stdint cimport uint32_t, uint64_t

from mmgen.lab._real cimport real, real_cpu

cdef void mms_begin(real *r) noexcept nogil
cdef void mms_end(real *r) noexcept nogil
cdef uint32_t fork_real(real *r) noexcept nogil                         # its number; INIT_MM and r.failed: no memory
cdef void exit_real(real_cpu *c, uint32_t mm, uint32_t state) noexcept nogil
cdef void used_after_free(real *r, uint64_t life, uint32_t cpu) noexcept nogil
cdef void tell(real_cpu *c, uint32_t what) noexcept nogil
