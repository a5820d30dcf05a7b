# cython: language_level=3, freethreading_compatible=True
"""Whose mm each event is about, told from what a recording has: threads, their processes, forks, execs and exits.

An mm is the pair of a process and how many execs it has made. A kernel thread has none, and a thread after its exit has none. A tid may
come again, for another thread: each is a spell of that tid. A new one begins with a fork of a tid that has exited; so a process
is the spell of its leader's tid. Which process a spell belongs to may be told late, by an event that has a tgid: a first pass over the
events makes the spells and gathers what is said of each, a second, which makes the same spells again, tells the mms.
"""
cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

from mmgen.lab.traces._columns cimport EVENTS_A_LOOK, EXEC, EXIT, FORK, SWITCH, TEARDOWN, TICK, Columns
from mmgen.lab.traces._head cimport MOST_CPU
from mmgen.lab.traces._threads cimport KERNEL, KTHREADD, LISTED, Threads, thread

# What kernel threads are called. Not vhost-, kvm- and iou-: those have an mm.
NAMES = (b"cpuhp/", b"dmcrypt_write", b"idle_inject/", b"irq/", b"jbd2/", b"kauditd", b"kblockd", b"kcompactd", b"kdamond.",
         b"kdevtmpfs", b"khugepaged", b"khungtaskd", b"kintegrityd", b"ksmd", b"ksoftirqd/", b"kswapd", b"kthreadd", b"kthrotld",
         b"ktimers/", b"kworker/", b"migration/", b"mm_percpu_wq", b"oom_reaper", b"pool_workqueue_", b"psimon", b"rcu_", b"rcub/",
         b"rcuc/", b"rcuog/", b"rcuop/", b"rcuos/", b"scsi_eh_", b"scsi_tmf_", b"watchdog", b"writeback", b"xfs-", b"xfsaild/")

cdef enum:
    # Of a spell.
    IS_KERNEL = 1
    ASSUMED = 2                 # nothing says which process it belongs to: one of its own
    NAMED = 4                   # a kernel thread by its name only
    USER = 8                    # was forked by a user's thread, or made an exec: no kernel thread, whatever its name
    DEAD = 16                   # these two change as time goes on
    EXECED = 32

ctypedef struct spell:
    int32_t tid
    int32_t tgid                # 0: not known yet
    int32_t mm                  # of the process that it leads: the number, 0 before its first use
    int32_t last                # the mm that it was last seen with in a switch or an exec
    uint8_t flags


@cython.final
@cython.auto_pickle(False)
cdef class Whose:
    """Tells the mms of `columns`, which are sorted, in place; forks go. Not for two threads at a time.

    by_name: kernel threads are told by what they are called, too: there is no list of tasks.
    """

    cdef Columns columns
    cdef Threads threads
    cdef bint by_name
    cdef spell *spells
    cdef int32_t nr             # begun in this pass
    cdef int32_t made           # in the first
    cdef int32_t room, total
    cdef bint no_memory
    cdef readonly int nr_mms
    cdef readonly Py_ssize_t assumed_switches
    """that have a thread of which nothing says the process"""
    cdef readonly Py_ssize_t named_switches
    """that have a kernel thread which only its name says to be one"""
    cdef readonly int64_t begin_ns
    """when the first event was, by the recorder's clock"""

    def __cinit__(self, Columns columns not None, Threads threads not None, bint by_name):
        self.columns = columns
        self.threads = threads
        self.by_name = by_name

    def __dealloc__(self):
        free(self.spells)

    def tell(self):
        """The two passes. MemoryError; ValueError if the events span more than 10**18 ns."""
        cdef Py_ssize_t begin, end, n = self.columns.n, kept = 0
        cdef int32_t i
        for begin in range(0, n, EVENTS_A_LOOK):
            end = min(begin + EVENTS_A_LOOK, n)
            with nogil:
                gather(self, self.columns, begin, end)
            PyErr_CheckSignals()
            if self.no_memory:
                raise MemoryError("no memory for threads")
        for i in range(self.made):
            settle(self, &self.spells[i])
            add_leader(self, self.spells[i].tgid)
            if i % 1024 == 0:
                PyErr_CheckSignals()
        self.nr = 0
        for begin in range(0, n, EVENTS_A_LOOK):
            end = min(begin + EVENTS_A_LOOK, n)
            with nogil:
                kept = assign(self, self.columns, begin, end, kept)
            PyErr_CheckSignals()
        self.columns.n = kept
        if kept and self.columns.t_ns[kept - 1] >= 10**18:
            raise ValueError(f"the times span {self.columns.t_ns[kept - 1]} ns: 10**18 or more")

    def counts(self):
        """(threads whose process is assumed, kernel threads by name only)."""
        cdef int32_t i
        assumed = named = 0
        for i in range(self.made):
            assumed += (self.spells[i].flags & (ASSUMED | IS_KERNEL)) == ASSUMED
            named += (self.spells[i].flags & NAMED) != 0
        return assumed, named

    def number_cpus(self):
        """Number the CPUs from 0 without gaps, in order; the number that each had."""
        cdef int32_t *numbers = <int32_t *>calloc(MOST_CPU + 1, sizeof(int32_t))
        cdef Py_ssize_t i, begin, end, n = self.columns.n
        cdef int32_t cpu, nr = 0
        if numbers is NULL:
            raise MemoryError("no memory for CPUs")
        try:
            for i in range(n):
                numbers[self.columns.cpu[i]] = 1
            ids = []
            for cpu in range(MOST_CPU + 1):
                if numbers[cpu]:
                    numbers[cpu] = nr
                    nr += 1
                    ids.append(cpu)
            for begin in range(0, n if ids != list(range(nr)) else 0, EVENTS_A_LOOK):
                end = min(begin + EVENTS_A_LOOK, n)
                for i in range(begin, end):
                    self.columns.cpu[i] = numbers[self.columns.cpu[i]]
                PyErr_CheckSignals()
            return tuple(ids)
        finally:
            free(numbers)


# ---- spells --------------------------------------------------------------------------------------------------------------------

# The spell that tid, not 0, is in; a first one begins if there was none. NULL if there is no memory.
cdef inline spell *spell_of(Whose w, int32_t tid) noexcept nogil:
    cdef thread *t = w.threads.at(tid)
    if t is NULL:
        w.no_memory = True
        return NULL
    return &w.spells[t.spell - 1] if t.spell else begin_spell(w, tid, t)


cdef spell *begin_spell(Whose w, int32_t tid, thread *t) noexcept nogil:
    if w.nr == w.made:                          # in the first pass; the second finds what that made
        if not add_spell(w, tid, t):
            return NULL
        w.made += 1
    w.nr += 1
    t.spell = w.nr
    return &w.spells[w.nr - 1]


cdef bint add_spell(Whose w, int32_t tid, thread *t) noexcept nogil:
    cdef spell *grown
    if w.total == w.room:
        grown = <spell *>realloc(w.spells, (2 * w.room + 1024) * sizeof(spell))
        if grown is NULL:
            w.no_memory = True
            return False
        w.spells = grown
        w.room = 2 * w.room + 1024
    memset(&w.spells[w.total], 0, sizeof(spell))
    w.spells[w.total].tid = tid
    if t.flags & KERNEL:
        w.spells[w.total].flags = IS_KERNEL
    w.total += 1
    if t.first == 0:
        t.first = w.total
    return True


# The spell that begins with a fork. A tid that is in use is not given away: if its spell has not ended, the child was seen before its
# fork, by a CPU whose clock is behind, or its exit is missing.
cdef inline spell *forked(Whose w, int32_t child, bint *new) noexcept nogil:
    cdef thread *t = w.threads.at(child)
    if t is NULL:
        w.no_memory = True
        return NULL
    new[0] = t.spell == 0 or w.spells[t.spell - 1].flags & DEAD
    return begin_spell(w, child, t) if new[0] else &w.spells[t.spell - 1]


# ---- first pass ----------------------------------------------------------------------------------------------------------------

cdef void gather(Whose w, Columns c, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    cdef Py_ssize_t i
    cdef int kind
    cdef spell *s
    cdef bint new = False
    for i in range(begin, end):
        kind = c.kind[i]
        if c.tid[i]:
            s = spell_of(w, c.tid[i])
            if s is NULL:
                return
            if c.mm[i]:
                s.tgid = c.mm[i]
            if kind == EXIT:
                s.flags |= DEAD
            elif kind == EXEC:
                s.flags = <uint8_t>((s.flags & ~DEAD) | USER | EXECED)
                if c.next_tid[i] and c.next_tid[i] != c.tid[i]:
                    s = spell_of(w, c.next_tid[i])
                    if s is NULL:
                        return
                    s.flags |= DEAD
        if kind == SWITCH and c.next_tid[i] and spell_of(w, c.next_tid[i]) is NULL:
            return
        if kind == FORK:
            s = forked(w, c.next_tid[i], &new)
            if s is NULL:
                return
            if c.tid[i] == KTHREADD:
                s.flags |= IS_KERNEL
            elif c.tid[i] and new:              # if the list has a kernel thread of that tid, it was another one
                s.flags = <uint8_t>((s.flags & ~IS_KERNEL) | USER)


# What the whole of the file and the list say of a spell.
cdef int settle(Whose w, spell *s) except -1:
    cdef thread *t = w.threads.at(s.tid)
    if s.tgid == 0 and t.flags & LISTED:
        s.tgid = t.tgid
    if (w.by_name and not t.flags & LISTED and not s.flags & (IS_KERNEL | USER) and s.tgid in (0, s.tid)
            and t.name[:t.name_len].startswith(NAMES)):
        s.flags |= IS_KERNEL | NAMED
    if s.tgid == 0:
        s.tgid = s.tid
        s.flags |= ASSUMED
    t.tgid = s.tgid                             # of the last of its spells
    t.flags = <uint8_t>(t.flags | KERNEL if s.flags & IS_KERNEL and not s.flags & EXECED else t.flags & ~KERNEL)
    s.flags &= ~DEAD
    t.spell = 0                                 # the second pass begins
    return 0


# A process whose leader is in no event has a spell that leads it all the same; it is none that the second pass could begin.
cdef int add_leader(Whose w, int32_t tgid) except -1:
    cdef thread *t = w.threads.at(tgid)
    if t is NULL or (t.first == 0 and not add_spell(w, tgid, t)):
        raise MemoryError("no memory for threads")
    return 0


# ---- second pass ---------------------------------------------------------------------------------------------------------------

# The spell that leads the process of s: its leader's, or, before that is seen, the leader's first.
cdef inline spell *process(Whose w, spell *s) noexcept nogil:
    cdef thread *t
    if s.tgid == s.tid:
        return s
    t = w.threads.at(s.tgid)
    return &w.spells[(t.spell if t.spell else t.first) - 1]


# The mm of s, numbered if this is its first use; 0 if it has none.
cdef inline int32_t mm_of(Whose w, spell *s) noexcept nogil:
    cdef spell *leader
    if s.flags & (IS_KERNEL | DEAD):
        return 0
    leader = process(w, s)
    if leader.mm == 0:
        w.nr_mms += 1
        leader.mm = w.nr_mms
    return leader.mm


# As mm_of(), in a switch, whose assumptions are counted.
cdef inline int32_t seen_with(Whose w, int32_t tid, bint *assumed, bint *named) noexcept nogil:
    cdef spell *s
    cdef int32_t mm
    if tid == 0:
        return 0
    s = spell_of(w, tid)
    mm = mm_of(w, s)
    if mm:
        s.last = mm
    if (s.flags & (ASSUMED | IS_KERNEL)) == ASSUMED:
        assumed[0] = True
    if s.flags & NAMED:
        named[0] = True
    return mm


# Events [begin, end) with their mms, from index kept on; where the next one goes.
cdef Py_ssize_t assign(Whose w, Columns c, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t kept) noexcept nogil:
    cdef Py_ssize_t i
    cdef int kind
    cdef int32_t tid, next_tid, mm, next_mm
    cdef bint assumed, named, new = False
    cdef spell *s = NULL
    for i in range(begin, end):
        kind = c.kind[i]
        tid = c.tid[i]
        next_tid = c.next_tid[i]
        mm = next_mm = 0
        if kind == SWITCH:
            assumed = named = False
            mm = seen_with(w, tid, &assumed, &named)
            next_mm = seen_with(w, next_tid, &assumed, &named)
            w.assumed_switches += assumed
            w.named_switches += named
        elif tid:
            s = spell_of(w, tid)
            if kind == EXIT:
                s.flags |= DEAD
            elif kind == EXEC:
                mm_of(w, s)
                # Where another thread than the leader makes it, the leader has exited before, and that thread takes its tid.
                s.flags &= ~(DEAD | IS_KERNEL)
                w.nr_mms += 1
                process(w, s).mm = next_mm = s.last = w.nr_mms
                if next_tid and next_tid != tid:
                    spell_of(w, next_tid).flags |= DEAD
                next_tid = 0
            elif kind == TEARDOWN:
                mm = s.last
            elif kind == TICK:
                tid = 0
        if kind == FORK:
            forked(w, next_tid, &new)
            continue
        if kept == 0:
            w.begin_ns = c.t_ns[i]
        c.t_ns[kept] = c.t_ns[i] - w.begin_ns
        c.cpu[kept] = c.cpu[i]
        c.kind[kept] = <uint8_t>kind
        c.tid[kept] = tid
        c.mm[kept] = mm
        c.next_tid[kept] = next_tid
        c.next_mm[kept] = next_mm
        kept += 1
    return kept
