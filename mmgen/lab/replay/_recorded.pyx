# cython: language_level=3, binding=False, boundscheck=False, wraparound=False, freethreading_compatible=True
"""A recorded machine under a policy, in virtual time: the steps of a recording drive the policy's code, and the lab's account counts."""
from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc

from mmgen._core cimport mm_cpu_of, mm_gen, mm_gen_poll, mm_gen_start_poll, mm_switch
from mmgen._sleep cimport mm_now
from mmgen._stdatomic cimport load_u64, memory_order_relaxed
from mmgen.lab._account cimport exit_mm, fork_mm, settle
from mmgen.lab._events cimport first_other, look, other_event
from mmgen.lab._generation cimport generation_domain
from mmgen.lab._policy cimport INIT_MM, NO_MM, lab_cpu
from mmgen.lab._timeline cimport timeline_begin
from mmgen.lab._virtual cimport CPU_IDLE, CPU_KTHREAD, CPU_USER, Machine, lab_counts, virtual
from mmgen.lab.replay._step cimport EXEC, EXIT, IDLE, TEARDOWN, TICK, USER, step

cdef enum:
    # Between two looks at the clock: steps, and CPUs that the domain has looked at.
    STEPS_A_LOOK = 4096
    CPUS_A_LOOK = 1 << 18
    SLICE_NS = 10_000_000               # between two looks at signals

cdef struct opening:
    int64_t t
    uint64_t generation
    uint32_t cpu
    uint32_t pad

cdef struct recorded:
    virtual *v
    mm_gen *g                           # NULL: the policy has no generations
    bint idle_drops                     # who idles has told the domain so, and does not tick
    bint no_exits                       # what is torn down is not to be freed
    const step *steps
    Py_ssize_t nr_steps, next
    # Waits that begin at given times, beside those of mms that are torn down.
    const int64_t *arrivals
    uint64_t *cookies
    int64_t *ends
    Py_ssize_t nr_arrivals, begun, over
    uint64_t seen                       # the generation at the last look
    opening *openings
    Py_ssize_t nr_openings, room


cdef inline void settle_step(recorded *r) noexcept nogil:
    r.v.n.overhead_ns += r.v.spent
    r.v.spent = 0


# A generation has opened: put it down, and end the waits that waited for it.
cdef void opened(recorded *r) noexcept nogil:
    cdef uint64_t gen = load_u64(&r.g.generation, memory_order_relaxed)
    cdef opening *more
    cdef Py_ssize_t room
    while r.seen != gen:
        r.seen += 1
        if r.nr_openings == r.room:
            room = 2 * r.room + 256
            more = <opening *>realloc(r.openings, room * sizeof(opening))
            if more is NULL:
                r.v.failed = True
                return
            r.openings = more
            r.room = room
        r.openings[r.nr_openings].t = r.v.now
        r.openings[r.nr_openings].generation = r.seen
        r.openings[r.nr_openings].cpu = r.v.current
        r.nr_openings += 1
    while r.over < r.begun and mm_gen_poll(r.g, r.cookies[r.over]):
        r.ends[r.over] = r.v.now
        r.over += 1


cdef inline void look_at(recorded *r) noexcept nogil:
    if r.g is not NULL and load_u64(&r.g.generation, memory_order_relaxed) != r.seen:
        opened(r)
    if r.v.timeline is not NULL:
        look(r.v)


cdef void arrive(recorded *r) noexcept nogil:
    r.v.now = r.arrivals[r.begun]
    r.cookies[r.begun] = mm_gen_start_poll(r.g)
    r.v.work += r.v.m.nr_cpus
    r.begun += 1
    if load_u64(&r.g.generation, memory_order_relaxed) != r.seen:
        r.v.m.policy.woken(&r.v.m, r.v.current)         # who was idle has answered; what that ends is freed
        settle_step(r)
    elif mm_gen_poll(r.g, r.cookies[r.begun - 1]):
        opened(r)
    look_at(r)


cdef inline void go_idle(recorded *r, uint32_t cpu) noexcept nogil:
    r.v.m.cpus[cpu].state = CPU_IDLE
    r.v.m.policy.idle_enter(&r.v.m, cpu)


cdef inline void switch(recorded *r, const step *s) noexcept nogil:
    cdef virtual *v = r.v
    cdef lab_cpu *c = &v.m.cpus[s.cpu]
    cdef uint32_t prev = c.mm
    if c.state == CPU_IDLE:
        v.m.policy.idle_exit(&v.m, s.cpu)
    c.mm = <uint32_t>s.mm if s.what == USER else NO_MM
    c.state = CPU_USER if s.what == USER else CPU_KTHREAD
    v.m.policy.context_switch(&v.m, s.cpu, prev, c.mm)
    if s.what == IDLE:
        go_idle(r, s.cpu)
    v.spent += v.costs.per_switch


cdef void do_step(recorded *r, const step *s) noexcept nogil:
    cdef virtual *v = r.v
    cdef lab_cpu *c = &v.m.cpus[s.cpu]
    cdef uint32_t prev = c.mm
    v.now = s.t
    v.current = s.cpu
    if s.what == TICK:
        v.n.ticks += 1
        if not (r.idle_drops and c.state == CPU_IDLE):
            v.m.policy.tick(&v.m, s.cpu)
    elif s.what < TICK:
        v.n.switches += 1
        switch(r, s)
    else:
        v.n.events += 1
        if s.what == TEARDOWN:
            if not r.no_exits:
                exit_mm(v, s.cpu, <uint32_t>s.mm, 0)
        else:
            c.mm = <uint32_t>s.mm if s.what == EXEC else NO_MM
            if s.what == EXIT and c.state == CPU_USER:
                c.state = CPU_KTHREAD
            elif s.what == EXEC:
                c.state = CPU_USER
            v.m.policy.context_switch(&v.m, s.cpu, prev, c.mm)      # exec's is activate_mm, an exit's mmgrab_lazy_tlb
    settle_step(r)


# Until `deadline` (mm_now()), or the end. True: that is reached.
cdef bint run(recorded *r, int64_t deadline) noexcept nogil:
    cdef virtual *v = r.v
    cdef int64_t t, arrival
    cdef Py_ssize_t looks = 0
    while not v.failed and not v.stop:
        looks += 1
        if looks & (STEPS_A_LOOK - 1) == 0 or v.work > CPUS_A_LOOK:
            v.work = 0
            if mm_now() > deadline:
                return False
        t = r.steps[r.next].t if r.next < r.nr_steps else v.end
        arrival = r.arrivals[r.begun] if r.begun < r.nr_arrivals else INT64_MAX
        if v.other <= t and v.other <= arrival and v.other <= v.end:
            v.now = v.other
            other_event(v)
            v.other = first_other(v)
        elif arrival <= t and arrival < v.end:
            arrive(r)
            continue
        elif r.next < r.nr_steps and t <= v.end:
            do_step(r, &r.steps[r.next])
            r.next += 1
        else:
            break
        look_at(r)
    if not v.failed and not v.stop:
        v.now = v.end
        settle(v)
    if v.timeline is not NULL:
        look(v)
    return True


cdef void set_up(recorded *r, const step *first, uint32_t nr_mms) noexcept nogil:
    cdef virtual *v = r.v
    cdef uint32_t cpu, mm, _
    for _ in range(nr_mms):                             # each has the number that the recording gives it; 0 is init_mm
        fork_mm(v, 0)
    v.mms[INIT_MM].mm_count += v.m.nr_cpus
    v.mms[INIT_MM].nr_active = v.m.nr_cpus
    for cpu in range(v.m.nr_cpus):
        v.m.cpus[cpu].mm = NO_MM
        v.m.cpus[cpu].state = CPU_KTHREAD
        v.current = cpu
        switch(r, &first[cpu])
        if r.g is not NULL:
            # Somebody waited at some time before the recording, and every CPU has switched since.
            mm_switch(r.g, cpu)
            mm_cpu_of(r.g, cpu).ticked = <uint32_t>-1
    for mm in range(nr_mms):
        v.mms[mm].busy = 0
    v.pending_busy = v.lock_busy = 0
    v.nr_online = v.m.nr_cpus
    v.next_hotplug = INT64_MAX
    v.other = first_other(v)
    v.n = ZERO
    v.spent = 0


cdef lab_counts ZERO


cdef class Recorded(Machine):
    """A machine that does `steps`, after `first`, whose arguments are not looked at again (steps.Steps has them).

    nr_mms: one more than the highest number of an mm. end_ns: when it is over; steps after that are not done. costs, policy: as Virtual.
    idle_drops: the policy is told by who idles, and ticks of theirs are nothing to it. exits: whether what is torn down is freed.
    arrivals: when waits begin, int64 ns, sorted, under a policy that has generations. keep_going, timeline: as Virtual.
    Thread-safety: one thread at a time.
    """

    cdef recorded r
    cdef bint over
    cdef const unsigned char[::1] steps
    cdef const int64_t[::1] arrivals

    def __cinit__(self, cpus, steps, first, nr_mms, end_ns, costs, policy, idle_drops, exits, arrivals, keep_going, timeline=None, /):
        cdef virtual *v = &self.v
        cdef recorded *r = &self.r
        cdef const unsigned char[::1] beginning = first
        cdef Py_ssize_t i
        self.steps = steps
        self.arrivals = arrivals
        v.m.nr_cpus = cpus
        v.keep_going = keep_going
        self.begin(policy, costs, nr_mms, end_ns)
        r.v = v
        r.g = generation_domain(&v.m) if v.m.policy.run is not NULL else NULL
        r.seen = load_u64(&r.g.generation, memory_order_relaxed) if r.g is not NULL else 0
        r.idle_drops = idle_drops
        r.no_exits = not exits
        r.steps = <const step *>&self.steps[0] if self.steps.shape[0] else NULL
        r.nr_steps = self.steps.shape[0] // <Py_ssize_t>sizeof(step)
        r.nr_arrivals = self.arrivals.shape[0]
        r.arrivals = &self.arrivals[0] if r.nr_arrivals else NULL
        r.cookies = <uint64_t *>malloc((r.nr_arrivals + 1) * sizeof(uint64_t))
        r.ends = <int64_t *>malloc((r.nr_arrivals + 1) * sizeof(int64_t))
        if r.cookies is NULL or r.ends is NULL:
            self.no_memory()
        for i in range(r.nr_arrivals):
            r.ends[i] = -1
        set_up(r, <const step *>&beginning[0], nr_mms)
        if r.g is not NULL and load_u64(&r.g.generation, memory_order_relaxed) != r.seen:
            opened(r)
            r.nr_openings = 0
        if v.failed:
            self.no_memory()
        if timeline is not None:
            v.timeline = timeline_begin(timeline[0], timeline[1], cpus)
            if v.timeline is NULL:
                self.no_memory()
            v.timeline.generation = self.generation
            for i in range(v.m.nr_cpus):
                v.timeline.states[i] = v.m.cpus[i].state

    def __dealloc__(self):
        free(self.r.cookies)
        free(self.r.ends)
        free(self.r.openings)

    def go_on(self, /):
        """Go on for some 10 ms; True: the end is reached, or a use after free. MemoryError."""
        cdef bint over
        if not self.over:
            with nogil:
                over = run(&self.r, mm_now() + SLICE_NS)
            if self.v.failed:
                self.no_memory()
            self.over = over
        return self.over

    @property
    def openings(self):
        """(ns, generation, CPU whose step it was) of each that has opened."""
        cdef Py_ssize_t i
        return [(self.r.openings[i].t, self.r.openings[i].generation, self.r.openings[i].cpu) for i in range(self.r.nr_openings)]

    @property
    def ends(self):
        """When each wait that arrived was over, in ns, as the bytes of int64; -1: not yet."""
        return (<const char *>self.r.ends)[:self.r.nr_arrivals * sizeof(int64_t)]
