# The real machine's IPIs.
from libc.stdint cimport uint32_t

from mmgen.lab._real cimport real, real_cpu

cdef void interrupts_begin(real *r) noexcept nogil
cdef bint heed(real_cpu *c) noexcept nogil              # do what the thread was told; True: it is to stop
cdef void delay(real_cpu *c, long long ns) noexcept nogil
cdef uint32_t membarrier_begin() noexcept nogil         # the command that interrupts this process's threads; 0: there is none
cdef void interrupt_core(uint32_t command, int core) noexcept nogil
