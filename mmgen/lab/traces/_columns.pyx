# cython: language_level=3, freethreading_compatible=True
"""A trace while it is read: columns that grow by doubling, their order by time, and the numpy arrays that they become."""
cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cython cimport view
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

import numpy as np


cdef void *grown(void *old, size_t nbytes) except NULL:
    cdef void *new = realloc(old, nbytes if nbytes else 1)
    if new is NULL:
        raise MemoryError(f"no memory for a column of {nbytes} bytes")
    return new


@cython.final
@cython.auto_pickle(False)
cdef class Columns:
    """The events so far. Not for two threads at a time."""

    def __dealloc__(self):
        free(self.t_ns)
        free(self.cpu)
        free(self.kind)
        free(self.tid)
        free(self.mm)
        free(self.next_tid)
        free(self.next_mm)

    def __len__(self):
        return self.n

    cdef bint resize(self, Py_ssize_t room) except False:
        # One after the other, and room last: what was there stays valid if memory ends between two.
        self.room = min(self.room, room)
        self.t_ns = <int64_t *>grown(self.t_ns, room * 8)
        self.cpu = <int32_t *>grown(self.cpu, room * 4)
        self.kind = <uint8_t *>grown(self.kind, room)
        self.tid = <int32_t *>grown(self.tid, room * 4)
        self.mm = <int32_t *>grown(self.mm, room * 4)
        self.next_tid = <int32_t *>grown(self.next_tid, room * 4)
        self.next_mm = <int32_t *>grown(self.next_mm, room * 4)
        self.room = room
        return True

    cdef bint reserve(self, Py_ssize_t more) except False:
        if self.n + more > self.room:
            self.resize(max(self.n + more, 2 * self.room))
        return True

    def sort(self):
        """By time, stable. Returns whether anything had to move."""
        cdef uint32_t *by = order(self.t_ns, self.n)
        if by is NULL:
            return False
        try:
            self.t_ns = <int64_t *>moved(self.t_ns, by, self.n, 8)
            self.cpu = <int32_t *>moved(self.cpu, by, self.n, 4)
            self.kind = <uint8_t *>moved(self.kind, by, self.n, 1)
            self.tid = <int32_t *>moved(self.tid, by, self.n, 4)
            self.mm = <int32_t *>moved(self.mm, by, self.n, 4)
            self.next_tid = <int32_t *>moved(self.next_tid, by, self.n, 4)
            self.next_mm = <int32_t *>moved(self.next_mm, by, self.n, 4)
            self.room = self.n
        finally:
            free(by)
        return True

    def arrays(self):
        """The columns as numpy arrays, by name. They take the memory along: no event is left here."""
        cdef Py_ssize_t n = self.n
        if n == 0:
            return {name: np.empty(0, dtype) for name, dtype in DTYPES}
        self.resize(n)
        self.n = self.room = 0
        taken = {}
        taken["t_ns"] = owned(<void **>&self.t_ns, n, 8, "q")
        taken["cpu"] = owned(<void **>&self.cpu, n, 4, "i")
        taken["kind"] = owned(<void **>&self.kind, n, 1, "B")
        taken["tid"] = owned(<void **>&self.tid, n, 4, "i")
        taken["mm"] = owned(<void **>&self.mm, n, 4, "i")
        taken["next_tid"] = owned(<void **>&self.next_tid, n, 4, "i")
        taken["next_mm"] = owned(<void **>&self.next_mm, n, 4, "i")
        return taken


DTYPES = (("t_ns", np.int64), ("cpu", np.int32), ("kind", np.uint8), ("tid", np.int32), ("mm", np.int32), ("next_tid", np.int32),
          ("next_mm", np.int32))


# What *p points to, as an array that frees it; *p is NULL from then on.
cdef object owned(void **p, Py_ssize_t n, Py_ssize_t width, str format):
    cdef view.array array = view.array((n,), width, format, allocate_buffer=False)
    array.data = <char *>p[0]
    array.callback_free_data = free
    p[0] = NULL
    return np.asarray(array)


cdef void *moved(void *old, const uint32_t *by, Py_ssize_t n, int width) except NULL:
    cdef Py_ssize_t begin, end, i
    cdef void *new = malloc(n * width)
    if new is NULL:
        raise MemoryError(f"no memory for a column of {n * width} bytes")
    try:
        for begin in range(0, n, EVENTS_A_LOOK):
            end = min(begin + EVENTS_A_LOOK, n)
            with nogil:
                if width == 8:
                    for i in range(begin, end):
                        (<int64_t *>new)[i] = (<int64_t *>old)[by[i]]
                elif width == 4:
                    for i in range(begin, end):
                        (<int32_t *>new)[i] = (<int32_t *>old)[by[i]]
                else:
                    for i in range(begin, end):
                        (<uint8_t *>new)[i] = (<uint8_t *>old)[by[i]]
            PyErr_CheckSignals()
    except BaseException:
        free(new)
        raise
    free(old)
    return new


def sorting(const int64_t[::1] t_ns):
    """The indices (uint32) that sort `t_ns`, stable. Looks for signals meanwhile, as numpy's does not."""
    cdef Py_ssize_t n = t_ns.shape[0]
    cdef uint32_t *by = order(&t_ns[0], n) if n else NULL
    if by is NULL:
        return np.arange(n, dtype=np.uint32)
    return owned(<void **>&by, n, 4, "I")


# The indices that sort t, or NULL if it is sorted: runs that are there already are merged in pairs, until one is left. A recording of
# many CPUs is a few long runs, or ups and downs of neighbours: the first takes few passes, and of the second most is in the cache.
cdef uint32_t *order(const int64_t *t, Py_ssize_t n) except? NULL:
    cdef uint32_t *a = NULL
    cdef uint32_t *b = NULL
    cdef Py_ssize_t begin, middle, end, since = 0, runs, i
    if n > <Py_ssize_t>0xffffffff:
        raise ValueError(f"{n} events are too many: 2**32 - 1")
    for i in range(1, n):
        if t[i] < t[i - 1]:
            break
    else:
        return NULL
    a = <uint32_t *>malloc(n * 4)
    b = <uint32_t *>malloc(n * 4)
    try:
        if a is NULL or b is NULL:
            raise MemoryError(f"no memory to sort {n} events")
        for i in range(n):
            a[i] = <uint32_t>i
        while True:
            runs = 0
            begin = 0
            while begin < n:
                middle = run_end(t, a, begin, n)
                end = run_end(t, a, middle, n) if middle < n else n
                merge(t, a, b, begin, middle, end)
                runs += 1
                since += end - begin
                if since >= EVENTS_A_LOOK:
                    since = 0
                    PyErr_CheckSignals()
                begin = end
            a, b = b, a
            if runs == 1:
                free(b)
                return a
    except BaseException:
        free(a)
        free(b)
        raise


cdef Py_ssize_t run_end(const int64_t *t, const uint32_t *a, Py_ssize_t begin, Py_ssize_t n) noexcept:
    cdef Py_ssize_t i = begin + 1
    while i < n and t[a[i]] >= t[a[i - 1]]:
        i += 1
    return i


# a[begin:middle] and a[middle:end] into b. As long as a run may be, a look for a signal comes every EVENTS_A_LOOK events.
cdef int merge(const int64_t *t, const uint32_t *a, uint32_t *b, Py_ssize_t begin, Py_ssize_t middle, Py_ssize_t end) except -1:
    cdef Py_ssize_t i = begin, j = middle, k = begin, until
    while k < end:
        until = min(k + EVENTS_A_LOOK, end)
        while k < until and i < middle and j < end:
            if t[a[j]] < t[a[i]]:
                b[k] = a[j]
                j += 1
            else:
                b[k] = a[i]
                i += 1
            k += 1
        if k < until and i == middle:
            memcpy(b + k, a + j, (until - k) * 4)
            j += until - k
            k = until
        elif k < until:
            memcpy(b + k, a + i, (until - k) * 4)
            i += until - k
            k = until
        if end - begin > EVENTS_A_LOOK:
            PyErr_CheckSignals()
    return 0
