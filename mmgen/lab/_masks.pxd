# mm_cpumask in virtual time: a compact mask for each mm.
from libc.stdint cimport uint32_t

from mmgen.lab._virtual cimport virtual

cdef bint masks_begin(virtual *v, uint32_t nr_mms) noexcept nogil       # for a policy that wants them; False: no memory
cdef void masks_end(virtual *v) noexcept nogil
