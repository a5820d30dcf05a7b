# cython: language_level=3, freethreading_compatible=True
"""The lines of a .mmtrace.tsv, into columns and out of them. mmgen/mmtrace.py has the rules, and says what is wrong with a line."""
cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcpy

from mmgen.lab.traces._columns cimport EXEC, EXIT, SWITCH, TEARDOWN, TICK, Columns, add_event
from mmgen.lab.traces._text cimport digits

SHORTEST = 6                    # bytes of a line: "0\t0\tT\n"

cdef enum:
    LONGEST_WRITTEN = 80

cdef enum:
    FINE, REMARK, WRONG, BACK


@cython.final
@cython.auto_pickle(False)
cdef class TsvText:
    """A scanner: feed() it blocks, and the events are in `columns`. It stops at what is no event. Not for two threads at a time."""

    cdef readonly Columns columns
    cdef readonly Py_ssize_t line
    """lines so far, the one at which it has stopped included"""
    cdef readonly int64_t last_ns
    cdef readonly int stopped
    """why feed() has stopped: FINE at the block's end, REMARK at a line of #, WRONG at what cannot be read, BACK where time goes back"""
    cdef int32_t cpus
    cdef Py_ssize_t longest

    def __cinit__(self, int cpus, Py_ssize_t longest):
        self.columns = Columns()
        self.cpus = cpus
        self.longest = longest
        self.line = 1                           # the first is not for it

    def feed(self, const unsigned char[::1] block, Py_ssize_t begin, Py_ssize_t n):
        """Read the lines of block[begin:n], until it must stop; where the next line begins that is not read, or that it has stopped at."""
        if not 0 <= begin <= n <= block.shape[0]:
            raise ValueError(f"{begin} to {n} is out of range: 0 to {block.shape[0]}")
        self.columns.reserve((n - begin) // SHORTEST + 1)
        cdef const char *first
        cdef const char *p
        cdef const char *end
        cdef const char *stop
        self.stopped = FINE
        if n == 0:
            return 0
        first = <const char *>&block[0]
        p = first + begin
        stop = first + n
        with nogil:
            while p < stop:
                end = <const char *>memchr(p, b"\n", stop - p)
                if end is NULL:
                    break
                self.line += 1
                self.stopped = REMARK if p[0] == b"#" else WRONG if end - p >= self.longest else read_event(self, p, end)
                if self.stopped != FINE:
                    break
                p = end + 1
        PyErr_CheckSignals()                    # before the caller waits for a pipe's next bytes
        return p - first


cdef int read_event(TsvText s, const char *p, const char *end) noexcept nogil:
    cdef int64_t t_ns, cpu
    cdef int64_t[4] numbers
    cdef int i, n, kind
    if p == end:
        return FINE
    p = digits(p, end, 18, &t_ns)
    if p is NULL or p == end or p[0] != b"\t":
        return WRONG
    p = digits(p + 1, end, 18, &cpu)
    if p is NULL or end - p < 2 or p[0] != b"\t" or cpu >= s.cpus:
        return WRONG
    if p[1] == b"S":
        kind = SWITCH
        n = 4
    elif p[1] == b"T":
        kind = TICK
        n = 0
    elif p[1] == b"X":
        kind = EXIT
        n = 1
    elif p[1] == b"C":
        kind = EXEC
        n = 2
    elif p[1] == b"M":
        kind = TEARDOWN
        n = 2
    else:
        return WRONG
    p += 2
    for i in range(4):
        numbers[i] = 0
        if i < n:
            if p == end or p[0] != b"\t":
                return WRONG
            p = digits(p + 1, end, 18, &numbers[i])
            if p is NULL or numbers[i] > 0x7fffffff:
                return WRONG
    if p != end:
        return WRONG
    if t_ns < s.last_ns:
        return BACK
    s.last_ns = t_ns
    add_event(s.columns, t_ns, <int32_t>cpu, <uint8_t>kind, <int32_t>numbers[0], <int32_t>numbers[1] if kind != EXEC else 0,
              <int32_t>numbers[2], <int32_t>numbers[3] if kind != EXEC else <int32_t>numbers[1])
    return FINE


cdef const char *LETTERS = b"STXCM???"


# ---- writing -------------------------------------------------------------------------------------------------------------------

@cython.boundscheck(False)
@cython.wraparound(False)
def lines(const int64_t[::1] t_ns, const int32_t[::1] cpu, const uint8_t[::1] kind, const int32_t[::1] tid, const int32_t[::1] mm,
          const int32_t[::1] next_tid, const int32_t[::1] next_mm):
    """These events as the lines of a file, bytes. They are a piece of a Trace's columns, at whose numbers it has looked."""
    cdef Py_ssize_t i, n = t_ns.shape[0]
    if not (cpu.shape[0] == kind.shape[0] == tid.shape[0] == mm.shape[0] == next_tid.shape[0] == next_mm.shape[0] == n):
        raise ValueError("the columns are of different lengths")
    cdef char *text = <char *>malloc(n * LONGEST_WRITTEN + 1)
    cdef char *p = text
    if text is NULL:
        raise MemoryError(f"no memory for the text of {n} events")
    try:
        with nogil:
            for i in range(n):
                p = put(p, t_ns[i], b"\t")
                p = put(p, cpu[i], b"\t")
                p[0] = LETTERS[kind[i] & 7]
                p += 1
                if kind[i] == SWITCH:
                    p = field(field(field(field(p, tid[i]), mm[i]), next_tid[i]), next_mm[i])
                elif kind[i] == EXIT:
                    p = field(p, tid[i])
                elif kind[i] == EXEC:
                    p = field(field(p, tid[i]), next_mm[i])
                elif kind[i] == TEARDOWN:
                    p = field(field(p, tid[i]), mm[i])
                p[0] = b"\n"
                p += 1
        return PyBytes_FromStringAndSize(text, p - text)
    finally:
        free(text)


cdef inline char *field(char *p, int64_t number) noexcept nogil:
    p[0] = b"\t"
    return put(p + 1, number, 0)


# `number`, not negative, and then `after` unless that is 0; behind it.
cdef inline char *put(char *p, int64_t number, char after) noexcept nogil:
    cdef char[20] text
    cdef char *q = text + 20
    while True:
        q -= 1
        q[0] = <char>(48 + number % 10)
        number //= 10
        if number == 0:
            break
    memcpy(p, q, text + 20 - q)
    p += text + 20 - q
    if after:
        p[0] = after
        p += 1
    return p
