# loop.h, for Cython.
from libc.stdint cimport uint64_t

cdef extern from "loop.h":
    struct loop:
        void (*run)(void *arg, uint64_t n) noexcept nogil
        void (*enter)(void *arg) noexcept nogil
        void (*leave)(void *arg) noexcept nogil
        void *arg
    void KEEP() noexcept nogil
