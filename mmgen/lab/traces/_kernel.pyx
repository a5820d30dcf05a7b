# cython: language_level=3, freethreading_compatible=True
"""What perf script, ftrace and trace-cmd print, into columns: the lines of a block at a time, without the GIL."""
cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.string cimport memchr, memcmp, memcpy

from mmgen.lab.traces._columns cimport EXEC, EXIT, FORK, MOST_TID, SWITCH, TEARDOWN, TICK, Columns, add_event
from mmgen.lab.traces._head cimport FTRACE, UNKNOWN, head, read_head
from mmgen.lab.traces._text cimport COMM, begins, digits, find, find_last, name_end, spaces, word_end
from mmgen.lab.traces._threads cimport KERNEL, KTHREADD, LISTED, SEEN, Threads, thread

SHORTEST = 16                   # bytes of a line that is an event: less than any

cdef enum:
    SHOWN = 3                   # lines that could not be read, which are shown
    SHOWN_BYTES = 80
    MOST_LOST = 100_000_000_000_000_000         # whatever a file says


@cython.final
@cython.auto_pickle(False)
cdef class KernelText:
    """A scanner: feed() it blocks, and the events are in `columns`, the threads' names in `threads`. Not for two threads at a time."""

    cdef readonly Columns columns
    cdef readonly Threads threads
    cdef readonly int form
    cdef readonly Py_ssize_t line
    """lines so far"""
    cdef readonly Py_ssize_t bad
    cdef readonly Py_ssize_t others
    """events of other kinds"""
    cdef readonly Py_ssize_t unnamed
    """timers whose function is a number, where its name should be"""
    cdef readonly Py_ssize_t forks
    cdef readonly int64_t lost
    cdef readonly Py_ssize_t told
    """threads of which perf's own records tell"""
    cdef readonly Py_ssize_t online
    """CPUs, as the file has it; 0: it does not say"""
    cdef bint no_memory
    cdef Py_ssize_t bad_line[SHOWN]
    cdef int bad_len[SHOWN]
    cdef char bad_text[SHOWN][SHOWN_BYTES]

    def __cinit__(self, Threads threads not None):
        self.columns = Columns()
        self.threads = threads
        self.form = UNKNOWN

    def feed(self, const unsigned char[::1] block, Py_ssize_t n, bint last=False):
        """Read the lines of block[:n]; how many bytes those had. last: what has no end is a line, too, and one that cannot be read."""
        if not 0 <= n <= block.shape[0]:
            raise ValueError(f"n={n} is out of range: 0 to {block.shape[0]}")
        self.columns.reserve(n // SHORTEST + 1)
        cdef const char *p
        cdef const char *begin
        cdef const char *end
        cdef const char *stop
        if n == 0:
            return 0
        begin = p = <const char *>&block[0]
        stop = p + n
        with nogil:
            while p < stop:
                end = <const char *>memchr(p, b"\n", stop - p)
                if end is NULL:
                    break
                self.line += 1
                read_line(self, p, end)
                p = end + 1
            if last and p < stop:
                self.line += 1
                bad(self, p, stop)
                p = stop
        PyErr_CheckSignals()                    # before the caller waits for a pipe's next bytes
        if self.no_memory:
            raise MemoryError("no memory for threads")
        return p - begin

    def bad_lines(self):
        """(line, its text) of the first that could not be read."""
        return [(self.bad_line[i], self.bad_text[i][:self.bad_len[i]]) for i in range(min(self.bad, SHOWN))]


cdef void bad(KernelText k, const char *p, const char *end) noexcept nogil:
    cdef int n
    if k.bad < SHOWN:
        n = <int>min(end - p, SHOWN_BYTES)
        memcpy(k.bad_text[k.bad], p, n)
        k.bad_len[k.bad] = n
        k.bad_line[k.bad] = k.line
    k.bad += 1


cdef inline bint is_event(const head *h, const char *name, Py_ssize_t n) noexcept nogil:
    return h.event_len == n and memcmp(h.event, name, n) == 0


cdef void read_line(KernelText k, const char *p, const char *end) noexcept nogil:
    cdef head h
    cdef bint ok = True
    if end > p and end[-1] == b"\r":
        end -= 1
    if end == p:
        return
    if p[0] == b"#":
        comment(k, p, end)
        return
    if not read_head(p, end, k.form, &h):
        if not remark(k, p, end):
            bad(k, p, end)
        return
    k.form = h.form
    if is_event(&h, b"sched_switch", 12):
        ok = switch(k, &h, end)
    elif is_event(&h, b"hrtimer_expire_entry", 20):
        timer(k, &h, end)
    elif is_event(&h, b"exit_mmap", 9):
        ok = h.tid >= 0 and add(k, &h, TEARDOWN, h.tid, 0)
    elif is_event(&h, b"sched_process_fork", 18):
        ok = fork(k, &h, end)
    elif is_event(&h, b"sched_process_exec", 18):
        ok = exec_(k, &h, end)
    elif is_event(&h, b"sched_process_exit", 18):
        ok = exit_(k, &h, end)
    elif is_event(&h, b"tick_periodic", 13):
        add(k, &h, TICK, max(h.tid, 0), 0)
    elif begins(h.word, end, b"PERF_RECORD_FORK(", 17):
        task_event(k, h.word + 17, end)
    elif begins(h.word, end, b"PERF_RECORD_LOST", 16):
        lose(k, number_after(h.rest, end, b"lost ", 5, 1))
    else:
        k.others += 1
    if not ok:
        bad(k, p, end)


# ---- events --------------------------------------------------------------------------------------------------------------------

# False only if there is no memory, so that it is said as that.
cdef bint seen(KernelText k, int32_t tid, const char *name, Py_ssize_t n, bint sure) noexcept nogil:
    cdef thread *t = k.threads.at(tid)
    if t is NULL:
        k.no_memory = True
        return False
    t.flags |= SEEN
    if n <= 0 or (t.name_len and not sure) or begins(name, name + n, b"<...>", 5):
        return True
    t.name_len = <uint8_t>min(n, 16)
    memcpy(t.name, name, t.name_len)
    return True


# An event of tid's; its head has the tgid if it is of the same thread.
cdef inline bint add(KernelText k, const head *h, int kind, int32_t tid, int32_t next_tid) noexcept nogil:
    if kind != SWITCH and tid:
        seen(k, tid, h.name, h.name_len, kind == EXEC)
    add_event(k.columns, h.t_ns, h.cpu, <uint8_t>kind, tid, h.tgid if h.tid == tid else 0, next_tid, 0)
    return True


# The tid at p, if it is one and what follows it is `after` (or the line's end, if that is NUL): behind it; or NULL.
cdef inline const char *tid_at(const char *p, const char *end, int32_t *tid) noexcept nogil:
    cdef int64_t value
    cdef const char *q = digits(p, end, 10, &value)
    if q is NULL or value > MOST_TID:
        return NULL
    tid[0] = <int32_t>value
    return q


# prev_comm=A prev_pid=1 prev_prio=120 prev_state=S ==> next_comm=B next_pid=2 next_prio=120, or A:1 [120] S ==> B:2 [120]
cdef bint switch(KernelText k, const head *h, const char *end) noexcept nogil:
    cdef const char *a = h.rest
    cdef const char *a_end
    cdef const char *b
    cdef const char *b_end
    cdef const char *p
    cdef int32_t prev = 0, next = 0
    if begins(a, end, b"prev_comm=", 10):
        a += 10
        a_end = name_end(a, end, b" prev_pid=", 10)
        if a_end is NULL:
            return False
        p = tid_at(a_end + 10, end, &prev)
        if p is NULL or not begins(p, end, b" ", 1):
            return False
        b = find(p, end, b"==> next_comm=", 14)
        if b is NULL:
            return False
        b += 14
        b_end = name_end(b, end, b" next_pid=", 10)
        if b_end is NULL:
            return False
        p = tid_at(b_end + 10, end, &next)
        if p is NULL or not begins(p, end, b" next_prio=", 11):
            return False
    else:
        a_end = bracketed(a, end, &prev, &p)
        while a_end is not NULL:                # a name may look like it: what follows it does not
            b = find(p, end, b" ==> ", 5)
            if b is not NULL and begins(p, b, b" ", 1) and word_end(p + 1, b) == b:
                break
            a_end = bracketed(a_end + 1, end, &prev, &p)
        if a_end is NULL:
            return False
        b += 5
        b_end = last_bracketed(b, end, &next)
        if b_end is NULL:
            return False
    if prev:
        seen(k, prev, a, a_end - a, True)
    if next:
        seen(k, next, b, b_end - b, True)
    return add(k, h, SWITCH, prev, next)


# The first ":tid [prio]" from p on: where it begins, and in *after where it ends.
cdef inline const char *bracketed(const char *p, const char *end, int32_t *tid, const char **after) noexcept nogil:
    cdef const char *q
    cdef int64_t prio
    while p < end:
        p = <const char *>memchr(p, b":", end - p)
        if p is NULL:
            return NULL
        q = tid_at(p + 1, end, tid)
        if q is not NULL and begins(q, end, b" [", 2):
            q += 2
            if q < end and q[0] == b"-":        # a deadline task's
                q += 1
            q = digits(q, end, 10, &prio)
            if q is not NULL and begins(q, end, b"]", 1):
                after[0] = q + 1
                return p
        p += 1
    return NULL


cdef inline const char *last_bracketed(const char *p, const char *end, int32_t *tid) noexcept nogil:
    cdef const char *found = NULL
    cdef const char *after = NULL
    cdef const char *begin = p
    cdef int32_t one = 0
    while True:
        p = bracketed(p, end, &one, &after)
        if p is NULL or (found is not NULL and p - begin > COMM):
            return found
        found = p
        tid[0] = one
        p += 1


# hrtimer=0xffff888627c1c6f8 function=tick_nohz_handler now=2618868010108
cdef void timer(KernelText k, const head *h, const char *end) noexcept nogil:
    cdef const char *p = find(h.rest, end, b"function=", 9)
    cdef const char *q
    if p is NULL:
        k.unnamed += 1
        return
    p += 9
    q = p
    while q < end and q[0] != b" " and q[0] != b"/" and q[0] != b"+":
        q += 1
    if (word(p, q, b"tick_nohz_handler", 17) or word(p, q, b"tick_sched_timer", 16) or word(p, q, b"tick_nohz_highres_handler", 25)
            or word(p, q, b"tick_periodic", 13)):
        add(k, h, TICK, max(h.tid, 0), 0)
    elif begins(p, q, b"0x", 2):
        k.unnamed += 1
    else:
        k.others += 1


cdef inline bint word(const char *p, const char *q, const char *what, Py_ssize_t n) noexcept nogil:
    return q - p == n and memcmp(p, what, n) == 0


# comm=A pid=1 child_comm=B child_pid=2
cdef bint fork(KernelText k, const head *h, const char *end) noexcept nogil:
    cdef const char *p = h.rest
    cdef const char *q
    cdef int32_t parent, child
    if not begins(p, end, b"comm=", 5):
        return False
    q = name_end(p + 5, end, b" pid=", 5)
    if q is NULL:
        return False
    q = tid_at(q + 5, end, &parent)
    if q is NULL or not begins(q, end, b" child_comm=", 12):
        return False
    p = q + 12
    q = name_end(p, end, b" child_pid=", 11)
    if q is NULL or not number_ends(tid_at(q + 11, end, &child), end) or child == 0:
        return False
    seen(k, child, p, q - p, True)
    k.forks += 1
    return add(k, h, FORK, parent, child)


# filename=X pid=1 old_pid=1: a file's name may have anything in it
cdef bint exec_(KernelText k, const head *h, const char *end) noexcept nogil:
    cdef const char *p = find_last(h.rest, end, b" old_pid=", 9)
    cdef const char *q
    cdef int32_t tid, old
    if p is NULL or not number_ends(tid_at(p + 9, end, &old), end):
        return False
    q = find_last(h.rest, p, b" pid=", 5)
    if q is NULL or tid_at(q + 5, p, &tid) != p:
        return False
    return add(k, h, EXEC, tid, old)


# comm=A pid=1 prio=120 group_dead=true
cdef bint exit_(KernelText k, const head *h, const char *end) noexcept nogil:
    cdef const char *q
    cdef int32_t tid
    if not begins(h.rest, end, b"comm=", 5):
        return False
    q = name_end(h.rest + 5, end, b" pid=", 5)
    if q is NULL or not number_ends(tid_at(q + 5, end, &tid), end):
        return False
    return add(k, h, EXIT, tid, 0)


cdef inline bint number_ends(const char *p, const char *end) noexcept nogil:
    return p is not NULL and (p == end or p[0] == b" ")


# PERF_RECORD_FORK(tgid:tid):(tgid of the parent:its tid), which perf script --show-task-events prints: for threads that there were
# before, too, if they lead a process. It is as good as a list of tasks, for that thread.
cdef void task_event(KernelText k, const char *p, const char *end) noexcept nogil:
    cdef int32_t tgid = 0, tid = 0, parent = 0
    cdef thread *t
    p = tid_at(p, end, &tgid)
    if p is NULL or not begins(p, end, b":", 1):
        return
    p = tid_at(p + 1, end, &tid)
    if p is NULL or not begins(p, end, b"):(", 3) or tid_at(p + 3, end, &parent) is NULL or tid == 0:
        return
    t = k.threads.at(tid)
    if t is NULL:
        k.no_memory = True
        return
    k.told += 1
    t.tgid = tgid
    t.flags = <uint8_t>((t.flags & ~KERNEL) | LISTED | (KERNEL if parent == KTHREADD or tid == KTHREADD else 0))


# ---- what is no event ----------------------------------------------------------------------------------------------------------

# The number behind the first `what`, or `without`.
cdef int64_t number_after(const char *p, const char *end, const char *what, Py_ssize_t n, int64_t without) noexcept nogil:
    cdef int64_t value
    p = find(p, end, what, n)
    return value if p is not NULL and digits(p + n, end, 12, &value) is not NULL else without


cdef inline void lose(KernelText k, int64_t number) noexcept nogil:
    k.lost = min(k.lost + number, <int64_t>MOST_LOST)


cdef void comment(KernelText k, const char *p, const char *end) noexcept nogil:
    cdef int64_t kept, written
    cdef const char *q
    if k.form == UNKNOWN and begins(p, end, b"# tracer: ", 10):
        k.form = FTRACE                         # with no event in it, perhaps
    q = find(p, end, b"entries-in-buffer/entries-written: ", 35)
    if q is not NULL:
        q = digits(q + 35, end, 15, &kept)
        if q is not NULL and begins(q, end, b"/", 1) and digits(q + 1, end, 15, &written) is not NULL and written > kept:
            lose(k, written - kept)
        k.online = number_after(p, end, b"#P:", 3, 0)


# Whether a line without a head is none that should have one: it says what was lost, or is of a call chain, or of a preamble.
cdef bint remark(KernelText k, const char *p, const char *end) noexcept nogil:
    cdef int64_t number
    cdef const char *begin = p
    cdef const char *q
    p = spaces(p, end)
    if p == end:
        return True
    if begins(p, end, b"CPU:", 4) and (find(p, end, b"LOST", 4) is not NULL or find(p, end, b"DROPPED", 7) is not NULL):
        q = find(p, end, b"[", 1)               # [LOST 12 EVENTS], [12 EVENTS DROPPED], [LOST EVENTS]
        if q is not NULL and digits(q + 1, end, 15, &number) is NULL:
            number = number_after(q, end, b"LOST ", 5, 1)
        lose(k, number if q is not NULL else 1)
        return True
    q = find(p, end, b"LOST ", 5)
    if q is not NULL:                           # LOST 12 events!
        q = digits(q + 5, end, 15, &number)
        if q is not NULL and begins(q, end, b" events", 7):
            lose(k, number)
            return True
    if begins(p, end, b"cpus=", 5) and digits(p + 5, end, 7, &number) == end:
        k.online = number
        return True
    if begins(p, end, b"version = ", 10) or (begins(p, end, b"CPU ", 4) and find(p, end, b" is empty", 9) is not NULL):
        return True
    if p == begin:
        return False
    q = p
    while q < end and (b"0" <= q[0] <= b"9" or b"a" <= q[0] <= b"f"):
        q += 1
    return q - p >= (1 if begin[0] == 9 else 6) and q < end and q[0] == b" "          # 9: a tab
