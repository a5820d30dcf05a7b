# cython: language_level=3
"""A trace while it is read: columns that grow. Each event takes 29 bytes; while a recording is read, mm has the tgid of tid, or 0."""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t

cdef enum:
    # columns.py's Kind, and a fork, which is needed to tell whose mm it is, and then left out.
    SWITCH, TICK, EXIT, EXEC, TEARDOWN, FORK
    MOST_TID = 1 << 22          # the kernel's own limit (PID_MAX_LIMIT)
    EVENTS_A_LOOK = 1 << 16     # between two looks for a signal: about a ms


cdef class Columns:
    cdef int64_t *t_ns
    cdef int32_t *cpu
    cdef uint8_t *kind
    cdef int32_t *tid
    cdef int32_t *mm
    cdef int32_t *next_tid
    cdef int32_t *next_mm
    cdef Py_ssize_t n
    cdef Py_ssize_t room

    cdef bint resize(self, Py_ssize_t room) except False
    cdef bint reserve(self, Py_ssize_t more) except False


cdef inline void add_event(Columns c, int64_t t_ns, int32_t cpu, uint8_t kind, int32_t tid, int32_t mm, int32_t next_tid,
                           int32_t next_mm) noexcept nogil:
    cdef Py_ssize_t i = c.n
    c.t_ns[i] = t_ns
    c.cpu[i] = cpu
    c.kind[i] = kind
    c.tid[i] = tid
    c.mm[i] = mm
    c.next_tid[i] = next_tid
    c.next_mm[i] = next_mm
    c.n = i + 1
