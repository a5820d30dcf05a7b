# cython: language_level=3, binding=False, embedsignature=True, embedsignature.format=clinic, freethreading_compatible=True
"""The virtual machine, for simulate(): memory, a policy, and slices of virtual time; and what others like it tell."""
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport calloc, free

from mmgen._latency cimport Latency
from mmgen._sleep cimport mm_now
from mmgen._stdatomic cimport load_u64, memory_order_relaxed
from mmgen.lab._account cimport account_begin, account_end, settle
from mmgen.lab._events cimport events_begin, events_run
from mmgen.lab._generation cimport generation_begin, generation_domain
from mmgen.lab._masks cimport masks_begin, masks_end
from mmgen.lab._policy cimport lab_cpu
from mmgen.lab._refcount cimport refcount_begin
from mmgen.lab._shootdown cimport shootdown_begin
from mmgen.lab._timeline cimport lab_series, lab_timeline, series_begin, timeline_begin, timeline_end
from mmgen.lab._wheel cimport wheel_begin, wheel_end

cdef enum:
    SLICE_NS = 10_000_000               # between two looks at signals


cdef class Machine:
    """What has happened on a virtual machine so far.

    Thread-safety: one thread at a time.
    """

    def __cinit__(self, *_):
        if type(self) is Machine:
            raise TypeError("Machine is what others have in common: it has no events")

    cdef begin(self, policy, costs, uint32_t nr_mms, int64_t end_ns):
        cdef virtual *v = &self.v
        self.latency = Latency()
        v.latency = &self.latency.l
        v.costs = costs
        v.end = end_ns
        series_begin(&v.series, end_ns)
        v.m.cpus = <lab_cpu *>calloc(v.m.nr_cpus, sizeof(lab_cpu))
        if v.m.cpus is NULL or not account_begin(v, nr_mms) or not begin_policy(v, policy):
            self.no_memory()
        self.begun = True

    cdef no_memory(self):
        raise MemoryError(f"no memory for a virtual machine of {self.v.m.nr_cpus} CPUs with {self.v.nr_mms} mms")

    def __dealloc__(self):
        if self.begun:
            self.v.m.policy.end(&self.v.m)
        masks_end(&self.v)
        wheel_end(&self.v.wheel)
        timeline_end(self.v.timeline)
        account_end(&self.v)
        free(self.v.ipis.events)
        free(self.v.waits.events)
        free(self.v.dying.events)
        free(self.v.offline.events)
        free(self.v.processes)
        free(self.v.m.cpus)

    @property
    def now_ns(self):
        """The time."""
        return self.v.now

    @property
    def generation(self):
        """How many generations have opened; 0 under other policies."""
        if self.v.m.policy.run is NULL:
            return 0
        return load_u64(&generation_domain(&self.v.m).generation, memory_order_relaxed)

    @property
    def counts(self):
        """What has been counted, by name."""
        return dict(self.v.n)

    @property
    def held(self):
        """mms of processes that have exited, not freed: now, at most, and times ns so far."""
        settle(&self.v)
        return self.v.held, self.v.held_peak, self.v.held_ns

    @property
    def series(self):
        """The same for each bucket of time, in turn: (ns at its beginning, the mean, the peak); what is left of the last one, too."""
        cdef lab_series *s = &self.v.series
        cdef uint32_t i
        settle(&self.v)
        full = [(i * s.width, s.areas[i] / s.width, s.peaks[i]) for i in range(s.nr)]
        begin, held_ns = s.nr * s.width, self.v.now - s.nr * s.width
        return [*full, (begin, s.area / held_ns, s.peak)] if held_ns > 0 else full

    @property
    def marks(self):
        """((ns, CPU, what, number), ...), and until when none is missing, in ns; None: nobody asked for a timeline."""
        cdef lab_timeline *t = self.v.timeline
        cdef uint32_t i
        if t is NULL:
            return None
        return ([(t.marks[i].ns, t.marks[i].cpu, t.marks[i].what, t.marks[i].number) for i in range(t.nr)],
                t.until if t.full else min(self.v.now, t.end))

    @property
    def latencies(self):
        """From exit to free."""
        return self.latency

    @property
    def bad(self):
        """(mm, CPU, ns) of the first use after free; None: there was none."""
        return (self.v.bad_mm, self.v.bad_cpu, self.v.bad_time) if self.v.n.use_after_frees else None


cdef class Virtual(Machine):
    """A machine of `cpus` CPUs, none of whose arguments is looked at again: mmgen.lab.Case has.

    random: a numpy bit generator. costs: as lab_costs has them, by name. load: as lab_load has it, by name.
    policy: ("refcount", broken), ("shootdown", trim, broken) or ("generation", idle, patience, continuous, broken).
    fast: take the short way where there is one. timeline: from when to when marks are kept, in ns, or None; it takes the long way.

    Thread-safety: one thread at a time.
    """

    cdef object random
    cdef bint over

    def __cinit__(self, cpus, period_ns, end_ns, costs, load, policy, random, keep_going, fast, timeline=None, /):
        cdef virtual *v = &self.v
        cdef uint32_t slots = load["slots"]
        self.random = random
        v.random = <bitgen_t *>PyCapsule_GetPointer(random.capsule, "BitGenerator")
        v.m.nr_cpus = cpus
        v.period = period_ns
        v.load = load
        v.keep_going = keep_going
        v.fast = fast and timeline is None
        self.begin(policy, costs, 1 + (v.load.pools or v.m.nr_cpus * slots) + v.load.waiters, end_ns)
        v.processes = <uint32_t *>calloc(<size_t>v.m.nr_cpus * slots, sizeof(uint32_t))
        if v.processes is NULL or not wheel_begin(&v.wheel, v.m.cpus, v.m.nr_cpus, mean_ns(v)) or not events_begin(v):
            self.no_memory()
        if timeline is not None:
            v.timeline = timeline_begin(timeline[0], timeline[1], cpus)
            if v.timeline is NULL:
                self.no_memory()
            v.timeline.generation = self.generation

    def go_on(self, /):
        """Go on for some 10 ms; True: the end is reached, or a use after free. MemoryError."""
        cdef bint over
        if not self.over:
            with nogil:
                over = events_run(&self.v, mm_now() + SLICE_NS)
            if self.v.failed:
                self.no_memory()
            self.over = over
        return self.over


# How long what the wheel keeps lasts, at the mean.
cdef double mean_ns(virtual *v) noexcept nogil:
    cdef lab_load *load = &v.load
    cdef double user = load.switch_ns
    if load.distribution == BURSTY:
        user += (load.pause_ns - user) / load.burst
    if load.at_ticks:
        return load.idle_ns
    return user * (1 - load.idle / (1 + load.idle) - load.kthread) + load.idle_ns * load.idle / (1 + load.idle) + (
        load.kthread_ns * load.kthread)


cdef bint begin_policy(virtual *v, policy):
    if policy[0] == "refcount":
        refcount_begin(&v.m, policy[1])
        return True
    if policy[0] == "shootdown":
        return masks_begin(v, v.room) and shootdown_begin(&v.m, policy[1], policy[2])
    return generation_begin(&v.m, policy[1], policy[2], policy[3], policy[4])
