# The extension classes behind mmgen.MmGen and mmgen.Cpu: `cdef mm_gen *g = (<MmGen?>obj).g` reaches the C interface from either.
cimport cython
from libc.stdint cimport uint32_t, uint64_t

from mmgen._core cimport mm_gen
from mmgen._stdatomic cimport atomic_u64

cdef class MmGen:
    cdef mm_gen *g
    cdef atomic_u64 *owners     # NULL, or which thread each CPU belongs to (checked=True); 0: none
    cdef str why                # the domain was closed, if it was not for the asking
    cdef object kick            # the callable behind g.kick, if it is Python's
    cdef object keep            # what g.kick_arg points into, if it is not this
    cdef object __weakref__

cdef class Cpu:
    cdef mm_gen *g
    cdef uint32_t cpu
    cdef readonly MmGen gen


@cython.final
cdef class Cookie:
    cdef readonly MmGen gen
    cdef readonly uint64_t generation
