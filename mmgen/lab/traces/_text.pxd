# cython: language_level=3
"""What every reader of lines needs: numbers, words, and where a word is. [p, end) is what is left of a line."""
from libc.stdint cimport int64_t
from libc.string cimport memcmp

cdef extern from "<string.h>" nogil:
    void *memmem(const void *text, size_t nr, const void *what, size_t nr_what)

cdef enum:
    COMM = 15                   # bytes of a thread's name (TASK_COMM_LEN less the NUL)


cdef inline bint begins(const char *p, const char *end, const char *what, Py_ssize_t n) noexcept nogil:
    return end - p >= n and memcmp(p, what, n) == 0


cdef inline const char *find(const char *p, const char *end, const char *what, Py_ssize_t n) noexcept nogil:
    return <const char *>memmem(p, end - p, what, n) if end > p else NULL


# The last place of `what`, or NULL.
cdef inline const char *find_last(const char *p, const char *end, const char *what, Py_ssize_t n) noexcept nogil:
    cdef const char *q = end - n
    while q >= p:
        if q[0] == what[0] and memcmp(q, what, n) == 0:
            return q
        q -= 1
    return NULL


# Where a thread's name that begins at p ends, since `what` follows: a name may have `what` in it, but it has COMM bytes at most, so that it
# is the last place within those. If there is none, somebody has given the thread a longer name: the first place.
cdef inline const char *name_end(const char *p, const char *end, const char *what, Py_ssize_t n) noexcept nogil:
    cdef const char *q = p + COMM if end - p > COMM else end
    while q >= p:
        if begins(q, end, what, n):
            return q
        q -= 1
    return find(p, end, what, n)


cdef inline const char *spaces(const char *p, const char *end) noexcept nogil:
    while p < end and (p[0] == b" " or p[0] == b"\t"):
        p += 1
    return p


cdef inline const char *word_end(const char *p, const char *end) noexcept nogil:
    while p < end and p[0] != b" " and p[0] != b"\t":
        p += 1
    return p


# Behind the digits at p, whose number is *value; NULL if there are none, or more than `most`.
cdef inline const char *digits(const char *p, const char *end, int most, int64_t *value) noexcept nogil:
    cdef int64_t v = 0
    cdef const char *begin = p
    while p < end and b"0" <= p[0] <= b"9":
        if p - begin == most:
            return NULL
        v = v * 10 + (p[0] - 48)
        p += 1
    value[0] = v
    return p if p > begin else NULL
