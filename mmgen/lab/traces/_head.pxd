# cython: language_level=3
"""The head of an event's line: who, where and when, and which event. As perf script, ftrace and trace-cmd print it:

            comm pid/tid [cpu] flags seconds.fraction: system:event: ...        perf; pid/ and flags may be missing
            comm-tid (tgid) [cpu] flags seconds.fraction: event: ...            ftrace, trace-cmd; (tgid) and flags may be missing

A name may have anything in it, what looks like the rest of a head too: of the places where the rest may begin, it is the last
that leaves the name no longer than names are.
"""
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memchr

from mmgen.lab.traces._columns cimport MOST_TID
from mmgen.lab.traces._text cimport COMM, digits, find_last, spaces, word_end

cdef enum:
    UNKNOWN, PERF, FTRACE       # who printed it
    MOST_CPU = (1 << 20) - 1
    MOST_S = 4_000_000_000      # seconds that a time may have: beyond any clock's, and as ns within 63 bits

ctypedef struct head:
    int form
    const char *name
    Py_ssize_t name_len
    int32_t tid                 # -1: it does not say
    int32_t tgid                # 0: it does not say
    int32_t cpu
    int64_t t_ns
    const char *word            # the event, as it stands there
    const char *event           # without the system, and without the colon
    Py_ssize_t event_len
    const char *rest            # what follows


# Behind "12.345678:", the time in *t_ns; NULL if that is not what is at p.
cdef inline const char *clock(const char *p, const char *end, int64_t *t_ns) noexcept nogil:
    cdef int64_t seconds, fraction
    cdef const char *q = digits(p, end, 10, &seconds)
    cdef Py_ssize_t _n
    if q is NULL or q >= end or q[0] != b"." or seconds > MOST_S:
        return NULL
    p = q + 1
    q = digits(p, end, 9, &fraction)
    if q is NULL or q >= end or q[0] != b":":
        return NULL
    for _n in range(q - p, 9):
        fraction *= 10
    t_ns[0] = seconds * 1_000_000_000 + fraction
    return q + 1


# What follows "[cpu]", from p: flags, the time, and the event.
cdef inline bint after_cpu(const char *p, const char *end, head *h) noexcept nogil:
    cdef const char *q
    cdef const char *after
    cdef int64_t number
    cdef int _i
    for _i in range(4):                          # words before the time, at most
        p = spaces(p, end)
        q = clock(p, end, &h.t_ns)
        if q is not NULL:
            break
        p = word_end(p, end)
        if p == end:
            return False
    else:
        return False
    p = q
    if p < end and p[0] != b" ":
        return False
    p = spaces(p, end)
    q = word_end(p, end)
    after = digits(p, q, 18, &number)
    if after == q and q > p:                    # a count of events, or the period, which perf may print there
        p = spaces(q, end)
        q = word_end(p, end)
    if q == p:
        return False
    h.word = p
    h.rest = spaces(q, end)
    if q[-1] == b":":
        q -= 1
    after = find_last(p, q, b":", 1)
    h.event = p if after is NULL else after + 1
    h.event_len = q - h.event
    return h.event_len > 0


# The digits that end before q, and no further back than begin: where they begin, or NULL.
cdef inline const char *digits_before(const char *begin, const char *q, int32_t *value) noexcept nogil:
    cdef const char *p = q
    cdef int64_t v
    while p > begin and b"0" <= p[-1] <= b"9":
        p -= 1
    if digits(p, q, 10, &v) is NULL or v > MOST_TID:
        return NULL
    value[0] = <int32_t>v
    return p


# "comm-tid (tgid) " before q. sure: it is known to be ftrace's; else "1/-1" and " -1" are perf's, of a thread that it knows no more.
cdef inline bint ftrace_who(const char *begin, const char *q, bint sure, head *h) noexcept nogil:
    cdef const char *p
    h.tgid = 0
    if q > begin and q[-1] == b")":
        p = digits_before(begin, q - 1, &h.tgid)
        if p is NULL:
            p = q - 1
            while p > begin and p[-1] == b"-":
                p -= 1
        while p > begin and p[-1] == b" ":
            p -= 1
        if p == begin or p[-1] != b"(":
            return False
        q = p - 1
        while q > begin and q[-1] == b" ":
            q -= 1
    p = digits_before(begin, q, &h.tid)
    if p is NULL or p == begin or p[-1] != b"-":
        return False
    if not sure and h.tid == 1 and (p - 1 == begin or p[-2] == b" " or p[-2] == b"/"):
        return False
    h.name = begin
    h.name_len = p - 1 - begin
    if h.name_len > COMM:                       # trace-cmd has the instance before it: "instance:       comm-tid"
        q = <const char *>memchr(begin, b":", h.name_len)
        if q is not NULL and q[1] == b" ":
            h.name = spaces(q + 1, p - 1)
            h.name_len = p - 1 - h.name
    return True


# "-1" or digits before q.
cdef inline const char *perf_id(const char *begin, const char *q, int32_t *value) noexcept nogil:
    cdef const char *p = digits_before(begin, q, value)
    if p is not NULL and p - begin >= 1 and p[-1] == b"-":
        if value[0] != 1:
            return NULL
        value[0] = -1
        p -= 1
    return p


# "comm pid/tid " before q.
cdef inline bint perf_who(const char *begin, const char *q, head *h) noexcept nogil:
    cdef const char *p = perf_id(begin, q, &h.tid)
    h.tgid = 0
    if p is NULL:
        return False
    if p > begin and p[-1] == b"/":
        p = perf_id(begin, p - 1, &h.tgid)
        if p is NULL:
            return False
        h.tgid = max(h.tgid, 0)
    if p > begin and p[-1] != b" ":
        return False
    while p > begin and p[-1] == b" ":
        p -= 1
    h.name = begin
    h.name_len = p - begin
    return True


# The head of the line [p, end), of that form, or UNKNOWN: of any. False if it has none.
cdef inline bint read_head(const char *p, const char *end, int form, head *h) noexcept nogil:
    cdef const char *begin = spaces(p, end)
    cdef const char *bracket = begin
    cdef const char *q
    cdef const char *after
    cdef head one
    cdef int64_t cpu
    cdef bint found = False, ok
    while bracket < end:
        bracket = <const char *>memchr(bracket, b"[", end - bracket)
        # COMM, two numbers with what stands around them, and blanks: a place after those leaves the name too long.
        if bracket is NULL or (found and bracket - begin > COMM + 64):
            break
        after = digits(bracket + 1, end, 7, &cpu)
        if after is not NULL and after < end and after[0] == b"]" and cpu <= MOST_CPU and bracket > p and bracket[-1] == b" ":
            one.cpu = <int32_t>cpu
            q = bracket
            while q > begin and q[-1] == b" ":
                q -= 1
            # A name that is empty leaves blanks before a "-tid" of ftrace's.
            ok = False
            if form != PERF and ftrace_who(begin, q, form == FTRACE, &one):
                one.form = FTRACE
                ok = True
            elif form != FTRACE and perf_who(begin, q, &one):
                one.form = PERF
                ok = True
            if ok and (not found or one.name_len <= COMM) and after_cpu(after + 1, end, &one):
                h[0] = one
                found = True
        bracket += 1
    return found
