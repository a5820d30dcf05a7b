# The extension class behind mmgen.MmGen: `cdef mm_gen *g = (<MmGen?>obj).g` reaches the C interface.
from libc.stdint cimport uint32_t

from mmgen._core cimport mm_gen
from mmgen._stdatomic cimport atomic_u64

cdef class MmGen:
    cdef mm_gen *g
    cdef atomic_u64 *owners     # NULL, or which thread each CPU belongs to (checked=True); 0: none
    cdef str why                # the domain was closed, if it was not for the asking
    cdef object kick            # the callable behind g.kick, if it is Python's
    cdef object keep            # what g.kick_arg points into, if it is not this
    cdef object __weakref__

# For _cpu: in a checked domain, that CPU `cpu` is the calling thread's; the index that an object is; what to raise in a wrong mode.
cdef int own(MmGen gen, uint32_t cpu, str call) except -1
cdef uint32_t index(MmGen gen, object cpu) except? 0xffffffff
cdef object wrong_mode(MmGen gen, uint32_t cpu, str call)
