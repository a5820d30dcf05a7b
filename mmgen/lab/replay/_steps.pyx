# cython: language_level=3, binding=False, boundscheck=False, wraparound=False, freethreading_compatible=True
"""From a recording's events to what the CPUs did, in one pass: what contradicts itself is mended here, so that nobody else need look."""
from libc.stdint cimport int32_t, int64_t, uint32_t
from libc.stdlib cimport calloc, free

from mmgen.lab.replay._step cimport EXEC, EXIT, IDLE, KTHREAD, TEARDOWN, TICK, USER, step

cdef enum:
    SWITCHED, TICKED, EXITED, EXECED, TORN_DOWN         # columns.Kind
    NOBODY = -1
    # So many periods without a tick or anything else, and a CPU did not run: ticks come late, but not by more than one.
    QUIET = 3
    WORK_A_SLICE = 1 << 17              # events, and CPUs looked at, between two looks at signals: 2 to 10 ms

cdef struct cpu_state:
    int32_t tid, mm                     # its task, and that task's own mm; NOBODY: not known yet
    int64_t last                        # when it was seen last

cdef struct mending:
    step *out
    step *first                         # by CPU: what it runs at the beginning
    step *early                         # what belongs before the last of `out`
    Py_ssize_t nr, nr_early
    uint32_t nr_cpus
    cpu_state *cpus
    int32_t *tid_mm                     # by tid: the mm that the thread was last seen with
    int32_t *becomes                    # by tid: the mm that its exec gave it, until the event of the exec has come
    int32_t *torn_by                    # by mm: who tore it down, + 1; 0: it lives
    uint32_t *users                     # by mm: the CPUs whose task has it
    int64_t period                      # ns between the ticks of a CPU that does not idle; 0: ticks tell nothing
    int32_t fresh                       # the next number for an mm that was never seen before it was torn down
    int64_t work                        # since the last look at signals
    Py_ssize_t made_up, contradictions


cdef inline void set_step(step *s, int64_t t, uint32_t cpu, unsigned char what, int32_t tid, int32_t mm, bint made_up) noexcept nogil:
    s.t = t
    s.cpu = cpu
    s.tid = tid
    s.mm = mm
    s.what = what
    s.made_up = made_up
    s.pad[0] = s.pad[1] = 0


cdef inline void put(mending *m, int64_t t, uint32_t cpu, unsigned char what, int32_t tid, int32_t mm, bint made_up) noexcept nogil:
    set_step(&m.out[m.nr], t, cpu, what, tid, mm, made_up)
    m.nr += 1
    m.made_up += made_up


# cpu's task is tid, with mm.
cdef inline void has(mending *m, uint32_t cpu, int32_t tid, int32_t mm) noexcept nogil:
    m.users[m.cpus[cpu].mm] -= 1
    m.users[mm] += 1
    m.cpus[cpu].tid = tid
    m.cpus[cpu].mm = mm
    if tid:
        m.tid_mm[tid] = mm


# The mm that a thread has, of which the recording says that it has `mm`: the name of an mm that its exec has torn down lasts until the
# event of the exec. Who has one that another tore down has none; nor has the idle task, which would be taken for one that runs.
cdef inline int32_t mm_of(mending *m, int32_t tid, int32_t mm) noexcept nogil:
    if tid == 0:
        m.contradictions += mm != 0
        return 0
    if mm == 0 or m.torn_by[mm] == 0:
        return mm
    if m.becomes[tid] and m.torn_by[m.becomes[tid]] == 0:
        return m.becomes[tid]
    m.contradictions += m.torn_by[mm] != tid + 1
    return 0


cdef inline unsigned char kind_of(int32_t tid, int32_t mm) noexcept nogil:
    return USER if mm else KTHREAD if tid else IDLE


cdef inline void switch_to(mending *m, int64_t t, uint32_t cpu, int32_t tid, int32_t mm, bint made_up) noexcept nogil:
    has(m, cpu, tid, mm)
    put(m, t, cpu, kind_of(tid, mm), tid, mm, made_up)


cdef inline void give_up(mending *m, int64_t t, uint32_t cpu, bint made_up) noexcept nogil:
    has(m, cpu, m.cpus[cpu].tid, 0)
    put(m, t, cpu, EXIT, m.cpus[cpu].tid, 0, made_up)


cdef inline void get_new(mending *m, int64_t t, uint32_t cpu, int32_t mm, bint made_up) noexcept nogil:
    has(m, cpu, m.cpus[cpu].tid, mm)
    put(m, t, cpu, EXEC, m.cpus[cpu].tid, mm, made_up)


# cpu has gone idle unseen since it was seen last: at the latest when it should have ticked, had it run on.
cdef inline void idled(mending *m, int64_t t, uint32_t cpu) noexcept nogil:
    if m.period == 0 or t - m.cpus[cpu].last <= m.period:
        switch_to(m, t, cpu, 0, 0, True)
        return
    has(m, cpu, 0, 0)
    set_step(&m.early[m.nr_early], m.cpus[cpu].last + m.period, cpu, IDLE, 0, 0, True)
    m.nr_early += 1
    m.made_up += 1


# That `tid`, with mm, runs on cpu now is what an event there says.
cdef inline void runs(mending *m, int64_t t, uint32_t cpu, int32_t tid, int32_t mm) noexcept nogil:
    cdef cpu_state *c = &m.cpus[cpu]
    if c.tid == NOBODY:                     # the first that is known of this CPU: it has run it from the beginning
        has(m, cpu, tid, mm)
        set_step(&m.first[cpu], 0, cpu, kind_of(tid, mm), tid, mm, True)
    elif c.tid != tid and tid == 0:
        idled(m, t, cpu)
    elif c.tid != tid:
        switch_to(m, t, cpu, tid, mm, True)
    elif c.mm != mm:
        if mm == 0:
            give_up(m, t, cpu, True)
        else:
            get_new(m, t, cpu, mm, True)


cdef void tear_down(mending *m, int64_t t, uint32_t cpu, int32_t tid, int32_t mm, int32_t new) noexcept nogil:
    cdef uint32_t other
    if mm == 0:
        mm = m.fresh
        m.fresh += 1
    elif m.torn_by[mm]:
        m.contradictions += 1
        return
    if new and (tid == 0 or m.torn_by[new]):
        m.contradictions += 1
        new = 0
    if new:                                 # exec: the thread has the new one first
        m.becomes[tid] = new
        if m.cpus[cpu].mm != new:
            get_new(m, t, cpu, new, False)
    elif m.cpus[cpu].mm == mm:              # the event of the exit is yet to come, or was lost
        give_up(m, t, cpu, False)
    if m.users[mm]:
        m.work += m.nr_cpus
        for other in range(m.nr_cpus):
            if m.cpus[other].mm == mm:
                m.contradictions += 1
                give_up(m, t, other, True)
    m.torn_by[mm] = tid + 1
    put(m, t, cpu, TEARDOWN, tid, mm, False)


cdef void event(mending *m, int64_t t, uint32_t cpu, unsigned char kind, int32_t tid, int32_t mm, int32_t next_tid, int32_t next_mm,
                int32_t new) noexcept nogil:
    if m.period and m.cpus[cpu].tid > 0 and t - m.cpus[cpu].last > QUIET * m.period:
        idled(m, t, cpu)                    # it would have ticked
    if kind == SWITCHED:
        runs(m, t, cpu, tid, mm_of(m, tid, mm))
        switch_to(m, t, cpu, next_tid, mm_of(m, next_tid, next_mm), False)
    elif kind == TICKED:
        put(m, t, cpu, TICK, max(m.cpus[cpu].tid, 0), 0, False)
    else:
        runs(m, t, cpu, tid, mm_of(m, tid, m.tid_mm[tid]))
        if kind == EXITED:
            if m.cpus[cpu].mm:
                give_up(m, t, cpu, False)
        elif kind == EXECED:
            m.becomes[tid] = 0
            if tid == 0 or next_mm == 0 or m.torn_by[next_mm]:
                m.contradictions += 1
            elif m.cpus[cpu].mm != next_mm:
                get_new(m, t, cpu, next_mm, False)
        else:
            tear_down(m, t, cpu, tid, mm, new)
    m.cpus[cpu].last = t


# Who should have ticked before the last event of all, has idled since.
cdef void quiet_at_the_end(mending *m, int64_t end) noexcept nogil:
    cdef uint32_t cpu
    for cpu in range(m.nr_cpus):
        if m.period and m.cpus[cpu].tid > 0 and end - m.cpus[cpu].last > QUIET * m.period:
            idled(m, end, cpu)


cdef class Mender:
    """Makes steps of events, whose columns are checked (Trace), into `out`: steps, four times as many as there are events, and one more;
    into `early`, as many as there are events and CPUs: steps that belong before the last of those; and into `first`, a step for each CPU:
    what it runs at the beginning, idle where nothing is known of it.

    execs: the indices of the teardowns that are a part of an exec; exec_mms: the mm that each of those gives. nr_tids, nr_mms: one more
    than the highest; there is room for as many mms more as there are teardowns. period: ns from tick to tick, 0 where ticks tell nothing.
    Thread-safety: one thread at a time.
    """

    cdef mending m
    cdef const int64_t[::1] t, execs
    cdef const int32_t[::1] cpu, tid, mm, next_tid, next_mm, exec_mms
    cdef const unsigned char[::1] kind
    cdef unsigned char[::1] out, first, early
    cdef Py_ssize_t next, next_exec

    def __cinit__(self, columns, execs, exec_mms, out, first, early, uint32_t nr_cpus, int32_t nr_tids, int32_t nr_mms,
                  int32_t nr_torn_down, int64_t period, /):
        cdef uint32_t cpu
        self.t, self.cpu, self.kind, self.tid, self.mm, self.next_tid, self.next_mm = columns
        self.execs = execs
        self.exec_mms = exec_mms
        self.out = out
        self.first = first
        self.early = early
        if <size_t>len(out) < (4 * <size_t>len(self.t) + 1) * sizeof(step):
            raise ValueError(f"out has {len(out)} bytes: too few")
        if <size_t>len(first) < nr_cpus * sizeof(step):
            raise ValueError(f"first has {len(first)} bytes: too few")
        self.m.out = <step *>&self.out[0]
        if <size_t>len(early) < (<size_t>len(self.t) + nr_cpus) * sizeof(step):
            raise ValueError(f"early has {len(early)} bytes: too few")
        self.m.first = <step *>&self.first[0]
        self.m.early = <step *>&self.early[0]
        self.m.nr_cpus = nr_cpus
        self.m.fresh = nr_mms
        self.m.period = period
        self.m.cpus = <cpu_state *>calloc(nr_cpus, sizeof(cpu_state))
        self.m.tid_mm = <int32_t *>calloc(nr_tids, sizeof(int32_t))
        self.m.becomes = <int32_t *>calloc(nr_tids, sizeof(int32_t))
        self.m.torn_by = <int32_t *>calloc(<size_t>nr_mms + nr_torn_down, sizeof(int32_t))
        self.m.users = <uint32_t *>calloc(<size_t>nr_mms + nr_torn_down, sizeof(uint32_t))
        if (self.m.cpus is NULL or self.m.tid_mm is NULL or self.m.becomes is NULL or self.m.torn_by is NULL
                or self.m.users is NULL):
            raise MemoryError(f"no memory for {nr_cpus} CPUs, {nr_tids} threads and {nr_mms + nr_torn_down} mms")
        self.m.users[0] = nr_cpus
        for cpu in range(nr_cpus):
            self.m.cpus[cpu].tid = NOBODY
            set_step(&self.m.first[cpu], 0, cpu, IDLE, 0, 0, True)

    def __dealloc__(self):
        free(self.m.cpus)
        free(self.m.tid_mm)
        free(self.m.becomes)
        free(self.m.torn_by)
        free(self.m.users)

    def go_on(self, /):
        """Go on for some 10 ms; True: that was all."""
        cdef Py_ssize_t i = self.next
        cdef int32_t new
        self.m.work = 0
        with nogil:
            while i < self.t.shape[0] and self.m.work < WORK_A_SLICE:
                new = 0
                if self.next_exec < self.execs.shape[0] and self.execs[self.next_exec] == i:
                    new = self.exec_mms[self.next_exec]
                    self.next_exec += 1
                event(&self.m, self.t[i], <uint32_t>self.cpu[i], self.kind[i], self.tid[i], self.mm[i], self.next_tid[i], self.next_mm[i],
                      new)
                self.m.work += 1
                i += 1
            if i == self.t.shape[0]:
                quiet_at_the_end(&self.m, self.t[i - 1])
        self.next = i
        return i == self.t.shape[0]

    @property
    def nr(self):
        """Steps so far."""
        return self.m.nr

    @property
    def nr_early(self):
        """Steps in `early` so far."""
        return self.m.nr_early

    @property
    def nr_mms(self):
        """One more than the highest number of an mm."""
        return self.m.fresh

    @property
    def made_up(self):
        """Steps that were not recorded, but must have happened."""
        return self.m.made_up

    @property
    def contradictions(self):
        """How often an mm was used, or torn down, that was torn down before; or was the idle task's, or an exec gave none."""
        return self.m.contradictions
