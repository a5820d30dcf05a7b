# The extension classes behind mmgen.MmGen and mmgen.Cpu: `cdef mm_gen *g = (<MmGen?>obj).g` reaches the C interface from either.
from libc.stdint cimport uint32_t

from mmgen._core cimport mm_gen

cdef class MmGen:
    cdef mm_gen *g
    cdef str why                # the domain was closed, if it was not for the asking
    cdef object __weakref__

cdef class Cpu:
    cdef mm_gen *g
    cdef uint32_t cpu
    cdef readonly MmGen gen
