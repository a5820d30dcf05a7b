# A grace period that has begun, for Python; in C it is the generation alone.
cimport cython
from libc.stdint cimport uint64_t


@cython.final
cdef class Cookie:
    cdef readonly object gen        # the MmGen
    cdef readonly uint64_t generation

cdef Cookie cookie_of(object gen, uint64_t generation)
cdef uint64_t own_cookie(object gen, Cookie cookie) except? 0xffffffffffffffff
