# The extension class behind mmgen.Cpu: `(<Cpu?>obj).g` and `.cpu` reach the C interface.
from libc.stdint cimport uint32_t

from mmgen._core cimport mm_gen
from mmgen._domain cimport MmGen

cdef class Cpu:
    cdef mm_gen *g
    cdef uint32_t cpu
    cdef readonly MmGen gen
