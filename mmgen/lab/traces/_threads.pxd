# cython: language_level=3
"""Threads by tid: a page of them for those that are near each other."""
from libc.stdint cimport int32_t, uint8_t

cdef enum:
    PAGE = 1 << 10              # threads
    LISTED = 1                  # a list of tasks has it
    KERNEL = 2                  # as a kernel thread
    SEEN = 4                    # an event has it
    KTHREADD = 2                # a tid: kernel threads are its children

ctypedef struct thread:
    int32_t tgid                # as the list has it, later as the events do; 0: unknown
    int32_t spell               # _whose.pyx: the one that it is in, plus 1
    int32_t first               # and its first
    uint8_t flags
    uint8_t name_len
    char name[16]


cdef class Threads:
    cdef thread **pages
    cdef thread *at(self, int32_t tid) noexcept nogil
