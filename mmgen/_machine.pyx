# cython: language_level=3, binding=False, embedsignature=True, embedsignature.format=clinic, freethreading_compatible=True
"""The thread of one real CPU: its workload and its tick, in one nogil loop that sleeps to absolute times."""
from cpython.pythread cimport PyThread_get_thread_ident
from libc.math cimport log
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from mmgen._core cimport (
    MM_OPEN, MM_RUNNING, mm_cpu_of, mm_gen, mm_gen_idle_enter, mm_gen_idle_exit, mm_gen_offline, mm_gen_owes, mm_gen_quiescent,
    mm_gen_tick, mm_gen_wake, mm_switch,
)
from mmgen._domain cimport MmGen, index
from mmgen._latency cimport Latency, mm_latency, mm_latency_record
from mmgen._lifetime cimport mm_gen_state
from mmgen._sleep cimport mm_now, mm_sleep, mm_wake_all
from mmgen._stdatomic cimport (
    atomic_u32, atomic_u64, fetch_and_u32, fetch_or_u32, load_u32, load_u64, memory_order_acquire, memory_order_relaxed,
    memory_order_release, store_u64,
)

cdef extern from *:
    """
    #ifdef __linux__
    #include <sys/prctl.h>
    /* A sleeper is woken up to 50 us late by default, for the battery's sake: not a tick. */
    static void mm_sharp_timer(void) { prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL); }
    #else
    static void mm_sharp_timer(void) { }
    #endif
    """
    void mm_sharp_timer() noexcept nogil

cdef enum:                              # workload.Step
    SWITCH, KERNEL, IDLE, TICK

cdef enum:
    TO_STOP = 1
    TO_SWITCH = 2

cdef struct step:
    int64_t t
    int64_t what

# A thread's own words; the rest of the process may read them at any time.
cdef struct driver:
    mm_gen *g
    uint32_t cpu
    atomic_u32 told                     # what the thread sleeps on: TO_STOP, TO_SWITCH
    int64_t period                      # ns from tick to tick; 0: a tick after every switch
    mm_latency *late                    # of the ticks
    atomic_u64 switches, ticks, missed
    atomic_u64 idle_ns                  # while it idles, less the time at which it began to
    uint64_t random
    double interval                     # ns from switch to switch, mean
    bint exponential


cdef inline void add(atomic_u64 *word, uint64_t n) noexcept nogil:     # its only writer's
    store_u64(word, load_u64(word, memory_order_relaxed) + n, memory_order_relaxed)


# Tell the thread something, and wake it if it sleeps.
cdef void tell(driver *d, uint32_t what) noexcept nogil:
    fetch_or_u32(&d.told, what, memory_order_release)
    mm_wake_all(&d.told)


# What the thread was told, if not to stop, is done. True: it is to stop.
cdef bint heed(driver *d) noexcept nogil:
    cdef uint32_t told = load_u32(&d.told, memory_order_acquire)        # pairs with tell's release
    if told & TO_SWITCH:
        told = fetch_and_u32(&d.told, ~<uint32_t>TO_SWITCH, memory_order_acquire)
        if load_u32(&mm_cpu_of(d.g, d.cpu).mode, memory_order_relaxed) == MM_RUNNING:
            mm_gen_quiescent(d.g, d.cpu)
    return told & TO_STOP != 0


# Sleep until `t`. True: stop instead.
cdef bint stopped(driver *d, int64_t t) noexcept nogil:
    while not heed(d):
        if mm_now() >= t:
            return False
        mm_sleep(&d.told, 0, t)
    return True


# The next interval between switches, in ns: splitmix64 (Steele, Lea, Flood 2014), and the inverse of the distribution.
cdef int64_t draw(driver *d) noexcept nogil:
    cdef uint64_t z
    if not d.exponential:
        return <int64_t>d.interval
    d.random += <uint64_t>0x9e3779b97f4a7c15
    z = d.random
    z = (z ^ (z >> 30)) * <uint64_t>0xbf58476d1ce4e5b9
    z = (z ^ (z >> 27)) * <uint64_t>0x94d049bb133111eb
    return <int64_t>(-log(((z ^ (z >> 31)) >> 11) * 2.0**-53 + 2.0**-54) * d.interval)


cdef void switch(driver *d) noexcept nogil:
    mm_switch(d.g, d.cpu)
    add(&d.switches, 1)


cdef void tick(driver *d) noexcept nogil:
    add(&d.ticks, 1)
    if mm_gen_tick(d.g, d.cpu):
        mm_gen_wake(d.g)


cdef bint idle_enter(driver *d) noexcept nogil:
    add(&d.idle_ns, -<uint64_t>mm_now())
    return mm_gen_idle_enter(d.g, d.cpu) == 0


cdef bint idle_exit(driver *d) noexcept nogil:
    add(&d.idle_ns, mm_now())
    return mm_gen_idle_exit(d.g, d.cpu) == 0


cdef void run_unpaced(driver *d) noexcept nogil:
    cdef int64_t next_switch = mm_now()
    while not heed(d):
        if d.interval:
            next_switch += draw(d)
            if stopped(d, next_switch):
                break
        switch(d)
        tick(d)


cdef void run_busy(driver *d, int64_t next_tick, int64_t next_switch) noexcept nogil:
    cdef int64_t now, late
    next_switch += draw(d)
    while not stopped(d, min(next_tick, next_switch)):
        now = mm_now()
        if now < next_tick:
            switch(d)
            # Owed switches are caught up, but not those of more than a tick ago.
            next_switch = max(next_switch + draw(d), now - d.period)
            continue
        late = now - next_tick
        mm_latency_record(d.late, late)
        add(&d.missed, late // d.period)
        next_tick += d.period * (1 + late // d.period)
        tick(d)


cdef void run_idle(driver *d, int64_t t) noexcept nogil:
    while idle_enter(d):
        t += draw(d)
        if stopped(d, t) or not idle_exit(d):
            break
        switch(d)


cdef void run_replay(driver *d, int64_t begin, const step *steps, size_t nr) noexcept nogil:
    cdef const step *s
    cdef bint idle = False
    cdef int64_t late
    cdef size_t i
    for i in range(nr):
        s = &steps[i]
        if stopped(d, begin + s.t):
            return
        if idle and s.what != IDLE and s.what != TICK:
            idle = False
            if not idle_exit(d):
                return
        if s.what == SWITCH:
            switch(d)
        elif s.what == IDLE and not idle:
            idle = True
            if not idle_enter(d):
                return
        elif s.what == TICK:
            late = mm_now() - begin - s.t
            mm_latency_record(d.late, late)
            add(&d.missed, late // d.period)
            if not idle:
                tick(d)
    if idle or idle_enter(d):
        stopped(d, 1 << 62)


cdef struct kickable:
    uint32_t nr                         # of the machine's own CPUs: register() may have let the domain grow past them
    driver **drivers


# The IPI of a machine: mm_gen.kick, with the machine's drivers, one a CPU.
cdef void kick(void *arg, mm_gen *g) noexcept nogil:
    cdef kickable *machine = <kickable *>arg
    cdef uint32_t cpu
    for cpu in range(machine.nr):
        if mm_gen_owes(g, cpu):
            tell(machine.drivers[cpu], TO_SWITCH)


cdef class Kicks:
    """Where a machine's kick finds its drivers."""

    cdef kickable machine
    cdef list keep

    def __cinit__(self, list drivers not None):
        self.keep = drivers
        self.machine.nr = len(drivers)
        self.machine.drivers = <driver **>malloc(len(drivers) * sizeof(void *))
        if self.machine.drivers is NULL:
            raise MemoryError(f"no memory for {len(drivers)} drivers")
        for i, one in enumerate(drivers):
            self.machine.drivers[i] = &(<Driver?>one).d

    def __dealloc__(self):
        free(self.machine.drivers)


def supply_kick(MmGen gen not None, list drivers not None):
    """Give `gen`, before its first wait, a kick that makes the CPUs of `drivers` (one a CPU, in order) switch and tick at once."""
    cdef Kicks kicks = Kicks(drivers)
    gen.keep = kicks
    gen.g.kick_arg = &kicks.machine
    gen.g.kick = kick


cdef class Driver:
    """What one thread needs to be CPU `cpu` of `gen`, ticking every `period_ns` (0: after every switch).

    One thread calls one of busy(), idle() and replay(), once; each returns after stop(), with the CPU offline, or sooner if it finds
    the domain closed. stop() and the statistics may be used by any thread.
    """

    cdef driver d
    cdef MmGen gen
    cdef readonly Latency late

    def __cinit__(self, MmGen gen not None, cpu, int64_t period_ns, /):
        self.gen = gen
        self.late = Latency()
        self.d.g = gen.g
        self.d.cpu = index(gen, cpu)
        self.d.period = period_ns
        self.d.late = &self.late.l

    def busy(self, int64_t first_tick, int64_t begin, double interval_ns, bint exponential, uint64_t seed, /):
        """Switch every `interval_ns` from `begin` on, tick from `first_tick` on (both ns of CLOCK_MONOTONIC)."""
        self._vary(interval_ns, exponential, seed)
        with nogil:
            mm_sharp_timer()
            if not stopped(&self.d, begin):
                if self.d.period:
                    run_busy(&self.d, first_tick, begin)
                else:
                    run_unpaced(&self.d)
            mm_gen_offline(self.d.g, self.d.cpu)

    def idle(self, int64_t begin, double interval_ns, bint exponential, uint64_t seed, /):
        """Idle from `begin` on (ns of CLOCK_MONOTONIC), but for a switch every `interval_ns`."""
        self._vary(interval_ns, exponential, seed)
        with nogil:
            mm_sharp_timer()
            run_idle(&self.d, begin)
            mm_gen_offline(self.d.g, self.d.cpu)

    def replay(self, int64_t begin, const int64_t[::1] times, const int64_t[::1] whats, /):
        """Do whats[i] (a workload.Step) at begin + times[i] (ns of CLOCK_MONOTONIC), then idle."""
        cdef size_t nr = times.shape[0], i
        if whats.shape[0] != <Py_ssize_t>nr:
            raise ValueError(f"{nr} times for {whats.shape[0]} steps")
        cdef step *steps = <step *>malloc((nr + 1) * sizeof(step))
        if steps is NULL:
            raise MemoryError(f"no memory to replay {nr} steps")
        for i in range(nr):
            steps[i].t = times[i]
            steps[i].what = whats[i]
        with nogil:
            mm_sharp_timer()
            run_replay(&self.d, begin, steps, nr)
            mm_gen_offline(self.d.g, self.d.cpu)
            free(steps)

    def claim(self):
        """In a checked domain, the CPU is the calling thread's from now on, whoever has used it before."""
        if self.gen.owners is not NULL:
            store_u64(&self.gen.owners[self.d.cpu], PyThread_get_thread_ident(), memory_order_relaxed)

    cdef _vary(self, double interval_ns, bint exponential, uint64_t seed):
        self.d.interval = interval_ns
        self.d.exponential = exponential
        self.d.random = seed

    def pause(self, int64_t begin, /):
        """Sleep until `begin` (ns of CLOCK_MONOTONIC), before the first call of a Calls workload. True: stop instead."""
        with nogil:
            told = stopped(&self.d, begin)
        return bool(told)

    def between(self, int64_t due, /):
        """Between two calls of a Calls workload: do what the thread was told, and tick if `due` (ns of CLOCK_MONOTONIC) is past.

        When the next tick is due; -1: stop. A kick is a tick now: whether the CPU may switch, the calls alone know.
        """
        cdef int64_t now, late
        cdef uint32_t told = fetch_and_u32(&self.d.told, ~<uint32_t>TO_SWITCH, memory_order_acquire)
        if told & TO_STOP or mm_gen_state(self.d.g) != MM_OPEN:
            return -1
        now = mm_now()
        if now < due and not told & TO_SWITCH:
            return due
        with nogil:
            if load_u32(&mm_cpu_of(self.d.g, self.d.cpu).mode, memory_order_relaxed) == MM_RUNNING:
                tick(&self.d)
        if now < due or self.d.period == 0:
            return due
        late = now - due
        mm_latency_record(self.d.late, late)
        add(&self.d.missed, late // self.d.period)
        return due + self.d.period * (1 + late // self.d.period)

    def leave(self):
        """Take the CPU offline, if it is not."""
        with nogil:
            mm_gen_offline(self.d.g, self.d.cpu)

    def stop(self):
        """Have the loop end."""
        tell(&self.d, TO_STOP)

    @property
    def cpu(self):
        """Which CPU the thread is."""
        return self.d.cpu

    @property
    def stopping(self):
        """Whether stop() was called, or the domain is closed."""
        return load_u32(&self.d.told, memory_order_relaxed) & TO_STOP != 0 or mm_gen_state(self.d.g) != MM_OPEN

    @property
    def switches(self):
        """Switches of the workload: going idle, and what a waiter credits meanwhile, not counted."""
        return load_u64(&self.d.switches, memory_order_relaxed)

    @property
    def ticks(self):
        """Ticks of the running CPU."""
        return load_u64(&self.d.ticks, memory_order_relaxed)

    @property
    def missed(self):
        """Ticks that came a whole period late or more, each period counted."""
        return load_u64(&self.d.missed, memory_order_relaxed)

    @property
    def idle_ns(self):
        """How long the CPU has idled, in ns, the spell that lasts included."""
        cdef int64_t idle = load_u64(&self.d.idle_ns, memory_order_relaxed)
        return idle if idle >= 0 else idle + mm_now()
