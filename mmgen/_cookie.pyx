# cython: language_level=3, binding=False, embedsignature=True, embedsignature.format=clinic, freethreading_compatible=True
"""The extension class Cookie: a grace period that has begun, by the generation that ends it."""
cimport cython
from cpython.object cimport Py_EQ, Py_GT, Py_LE, Py_LT, Py_NE
from libc.stdint cimport int64_t


@cython.final
cdef class Cookie:
    """A grace period that has begun: MmGen.start_poll() gives it, poll() and wait_for() ask for it.

    Cookies of one domain order as their grace periods end, also past 2**64 generations; two that compare equal end together.
    generation: the generation that ends it, modulo 2**64.
    """

    def __init__(self):
        raise TypeError("MmGen.start_poll() makes cookies")

    def __richcmp__(self, other, int op):
        cdef int64_t distance
        if not isinstance(other, Cookie) or (<Cookie>other).gen is not self.gen:
            return NotImplemented
        distance = <int64_t>(self.generation - (<Cookie>other).generation)
        if op == Py_LT:
            return distance < 0
        if op == Py_LE:
            return distance <= 0
        if op == Py_EQ:
            return distance == 0
        if op == Py_NE:
            return distance != 0
        if op == Py_GT:
            return distance > 0
        return distance >= 0

    def __hash__(self):
        return hash((id(self.gen), self.generation))

    def __repr__(self):
        return f"<mmgen.Cookie for generation {self.generation}>"


cdef Cookie cookie_of(object gen, uint64_t generation):
    cdef Cookie cookie = Cookie.__new__(Cookie)
    cookie.gen = gen
    cookie.generation = generation
    return cookie


# The generation of `gen`'s own cookie; ValueError for another domain's.
cdef uint64_t own_cookie(object gen, Cookie cookie) except? 0xffffffffffffffff:
    if cookie.gen is not gen:
        raise ValueError(f"{cookie!r} is another domain's")
    return cookie.generation
