# cython: language_level=3, binding=False, embedsignature=True, embedsignature.format=clinic, freethreading_compatible=True
"""The real machine, for measure(): what each of its threads does, and what comes of it.

A task runs by spinning to its absolute end. Where that is past, what follows begins when it should have: so neither the time that a look
at the clock takes nor a moment that the thread had no core makes tasks longer. What the policy takes, by the clock, comes on top.
"""
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport log1p
from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from mmgen._latency cimport Latency
from mmgen._sleep cimport (
    mm_cpu_relax, mm_now, mm_sleep, pthread_mutex_destroy, pthread_mutex_init, pthread_mutex_lock, pthread_mutex_unlock, sched_yield,
)
from mmgen._stdatomic cimport (
    atomic_u32, fence, fetch_add_u32, load_u32, load_u64, memory_order_acquire, memory_order_relaxed, memory_order_release,
    memory_order_seq_cst, store_u32, store_u64,
)
from mmgen.lab._account cimport NOBODY
from mmgen.lab._bitgen cimport bitgen_t
from mmgen.lab._generation cimport generation_begin, generation_domain
from mmgen.lab._interrupts cimport delay, heed, interrupts_begin
from mmgen.lab._mms cimport exit_real, fork_real, mms_begin, mms_end, tell, used_after_free
from mmgen.lab._policy cimport INIT_MM, NO_MM, cpu_of, lab_cpu
from mmgen.lab._refcount cimport refcount_begin
from mmgen.lab._shootdown cimport shootdown_begin
from mmgen.lab._virtual cimport BURSTY, CPU_IDLE, CPU_KTHREAD, CPU_USER, FIXED, MM_EXITED, MM_FREED, MM_WAITER
from mmgen.lab._wheel cimport queue_add, queue_first, queue_take

cdef extern from *:
    """
    #ifdef __linux__
    #include <sys/prctl.h>
    /* A sleeper is woken up to 50 us late by default, for the battery's sake. */
    static void mm_sharp_timer(void) { prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL); }
    #else
    static void mm_sharp_timer(void) { }
    #endif
    """
    void mm_sharp_timer() noexcept nogil
cdef extern from "<stdlib.h>" nogil:
    int posix_memalign(void **block, size_t alignment, size_t size) noexcept

cdef enum:
    SPIN_NS = 200_000               # an idle spell sleeps until so long before its end: a timer of a virtual machine is 50 to 100 us late
    GAP_NS = 250                    # two looks at the clock that are further apart, while an interrupt comes, were interrupted
    BREATH = 4                      # looks, where CPUs outnumber cores, before one lets another run


cdef inline double draw(real_cpu *c) noexcept nogil:
    return c.random.next_double(c.random.state)


# ---- tasks ---------------------------------------------------------------------------------------------------------------------

# As in virtual time (_events.pyx).
cdef inline int64_t spell(real_cpu *c, double mean, bint task) noexcept nogil:
    cdef int64_t ns
    if c.r.load.distribution == FIXED:
        ns = <int64_t>mean
    else:
        if task and c.r.load.distribution == BURSTY and draw(c) * c.r.load.burst < 1:
            mean = c.r.load.pause_ns
        ns = <int64_t>(-log1p(-draw(c)) * mean)
    return ns if ns > 0 else 1


cdef inline void begin_task(real_cpu *c, int64_t now) noexcept nogil:
    cdef real *r = c.r
    if r.load.at_ticks and c.state == CPU_USER:
        c.next = INT64_MAX
        return
    c.next = now + spell(c, r.load.idle_ns if c.state == CPU_IDLE else r.load.kthread_ns if c.state == CPU_KTHREAD else r.load.switch_ns,
                         c.state == CPU_USER)


# Both CPUs' locks, if the other is another.
cdef inline void lock_both(real *r, uint32_t one, uint32_t other) noexcept nogil:
    pthread_mutex_lock(&r.cpus[min(one, other)].lock)
    if one != other:
        pthread_mutex_lock(&r.cpus[max(one, other)].lock)


cdef inline void unlock_both(real *r, uint32_t one, uint32_t other) noexcept nogil:
    pthread_mutex_unlock(&r.cpus[one].lock)
    if one != other:
        pthread_mutex_unlock(&r.cpus[other].lock)


# The process that the CPU runs next, taken in hand; now and then another's against it, if that CPU has no hand on it.
cdef inline uint32_t next_process(real_cpu *c) noexcept nogil:
    cdef real *r = c.r
    cdef uint32_t slots = r.load.slots, slot, mine, theirs, other = c.cpu
    cdef uint32_t *processes = r.processes
    if not r.load.migrate:
        c.slot = c.slot + 1 if c.slot + 1 < slots else 0
        return processes[c.cpu * slots + c.slot]
    if draw(c) < r.load.migrate:
        other = <uint32_t>(draw(c) * r.m.nr_cpus)
    lock_both(r, c.cpu, other)
    slot = c.slot + 1 if c.slot + 1 < slots else 0
    mine = c.cpu * slots + slot
    # Its own, as long as the switch has not left it, is not to be had either: another's lazy entry would come before this one's.
    if (other != c.cpu and slot != c.busy and r.cpus[other].busy != slot
            and (r.cpus[other].state_shown != CPU_USER or r.cpus[other].slot != slot)):
        theirs = other * slots + slot
        processes[mine], processes[theirs] = processes[theirs], processes[mine]
    c.slot = slot
    c.state_shown = CPU_USER
    mine = processes[mine]
    unlock_both(r, c.cpu, other)
    return mine


# The switch has left what ran before, and others may have that.
cdef inline void show_state(real_cpu *c) noexcept nogil:
    if c.r.load.migrate:
        pthread_mutex_lock(&c.lock)
        c.state_shown = c.state
        c.busy = c.slot if c.state == CPU_USER else NOBODY
        pthread_mutex_unlock(&c.lock)


cdef void switch_task(real_cpu *c) noexcept nogil:
    cdef real *r = c.r
    cdef lab_cpu *own = cpu_of(&r.m, c.cpu)
    cdef uint32_t state = CPU_USER, prev = own.mm
    cdef double what
    if c.state == CPU_IDLE:
        r.m.policy.idle_exit(&r.m, c.cpu)
    else:
        if c.state == CPU_USER and r.load.exits and draw(c) < r.load.exits:
            r.processes[c.cpu * r.load.slots + c.slot] = fork_real(r)          # first: what it takes is not the exit's
            exit_real(c, prev, 0)
            prev = NO_MM
        if r.load.idle + r.load.kthread > 0:
            what = draw(c)
            if what < r.load.idle:
                state = CPU_IDLE
            elif what < r.load.idle + r.load.kthread:
                state = CPU_KTHREAD
    own.mm = next_process(c) if state == CPU_USER else NO_MM
    c.state = state
    c.switches += 1
    r.m.policy.context_switch(&r.m, c.cpu, prev, own.mm)
    show_state(c)
    if state == CPU_IDLE:
        r.m.policy.idle_enter(&r.m, c.cpu)


cdef inline void check_active(real_cpu *c) noexcept nogil:
    cdef uint64_t life = load_u64(&c.using.life, memory_order_relaxed)
    if life != c.life:
        used_after_free(c.r, c.life, c.cpu)
        c.life = life                           # said once


# ---- one after another ---------------------------------------------------------------------------------------------------------

# A waiter is due: the first who comes by has its process, which no CPU runs, exit.
cdef void waiter_exits(real_cpu *c) noexcept nogil:
    cdef real *r = c.r
    cdef int64_t begin = mm_now()
    cdef bint due
    cdef uint32_t mm
    pthread_mutex_lock(&r.wait_lock)
    due = r.waits.nr and queue_first(&r.waits).time <= begin
    if due:
        queue_take(&r.waits)
    store_u64(&r.next_wait, queue_first(&r.waits).time if r.waits.nr else INT64_MAX, memory_order_relaxed)
    pthread_mutex_unlock(&r.wait_lock)
    if due:
        mm = fork_real(r)
        if mm != INIT_MM:
            c.events += 1
            exit_real(c, mm, MM_WAITER)
            delay(c, mm_now() - begin)


# Let the task run to its end, or to the next tick: c.now. True: to the machine's end instead.
cdef bint stopped(real_cpu *c) noexcept nogil:
    cdef real *r = c.r
    cdef int64_t now, last = 0, until
    cdef uint32_t looks = 0
    while True:
        if load_u32(&c.told, memory_order_acquire) and heed(c):         # pairs with tell's release
            return True
        now = mm_now()
        if last and now - last > GAP_NS and load_u32(&c.coming, memory_order_relaxed):
            delay(c, now - last)
        last = now
        check_active(c)
        if <int64_t>load_u64(&r.next_wait, memory_order_relaxed) <= now:
            waiter_exits(c)
        c.now = now
        until = c.next if c.state == CPU_IDLE else c.next_tick if r.load.at_ticks else min(c.next, c.next_tick)
        if now >= r.end:
            return True
        if now >= until:
            return False
        looks += 1
        if c.state == CPU_IDLE and until - now > SPIN_NS:
            until = min(min(until - SPIN_NS // 2, r.end), <int64_t>load_u64(&r.next_wait, memory_order_relaxed))
            store_u32(&c.asleep, 1, memory_order_relaxed)
            fence(memory_order_seq_cst)         # pairs with tell's: it sees the sleeper, or the futex sees the word
            mm_sleep(&c.told, 0, until)
            store_u32(&c.asleep, 0, memory_order_relaxed)
            last = 0
        elif r.crowded and looks % BREATH == 0:
            sched_yield()
            last = 0
        else:
            mm_cpu_relax()


cdef void task_over(real_cpu *c, int64_t planned) noexcept nogil:
    cdef int64_t now = c.now, took
    switch_task(c)
    took = mm_now() - now
    c.overhead_ns += took
    # Owed switches are caught up, but not those of more than a tick ago.
    begin_task(c, max(planned, now - c.r.period) + took)


cdef void tick(real_cpu *c) noexcept nogil:
    cdef real *r = c.r
    cdef int64_t now = c.now
    c.next_tick += r.period * (1 + (now - c.next_tick) // r.period)
    c.ticks += 1
    r.m.policy.tick(&r.m, c.cpu)
    if r.load.at_ticks and (c.state == CPU_USER or c.next <= now):
        task_over(c, now)
    else:
        delay(c, mm_now() - now)


cdef void cpu_runs(real_cpu *c) noexcept nogil:
    cdef real *r = c.r
    mm_sharp_timer()
    c.next += r.begin
    c.next_tick += r.begin
    while mm_now() < r.begin:
        mm_cpu_relax()
    while not stopped(c):
        if c.state != CPU_IDLE and c.next_tick <= c.now and (r.load.at_ticks or c.next_tick <= c.next):
            tick(c)
            continue
        if c.state == CPU_IDLE and c.next_tick <= c.now:
            c.next_tick += r.period * (1 + (c.now - c.next_tick) // r.period)       # there were none meanwhile
        c.events += 1
        task_over(c, c.next)
    # Others may still want an answer.
    fetch_add_u32(&r.nr_left, 1, memory_order_release)
    while load_u32(&r.nr_left, memory_order_acquire) < r.m.nr_cpus and not load_u32(&r.abandoned, memory_order_relaxed):
        heed(c)
        sched_yield()


# Every CPU runs its first task, as in virtual time; what that took is nobody's cost.
cdef void begin_all(real *r) noexcept nogil:
    cdef uint32_t cpu, slot, _pool, nr = r.m.nr_cpus
    cdef real_cpu *c
    fork_real(r)                                # init_mm
    store_u32(&mm_at(r, INIT_MM).count, 1 + nr, memory_order_relaxed)
    for _pool in range(r.load.pools):
        fork_real(r)
    for cpu in range(nr):
        c = r.cpus[cpu]
        c.using = mm_at(r, INIT_MM)
        store_u32(&c.exiting, NOBODY, memory_order_relaxed)
    for cpu in range(nr):
        c = r.cpus[cpu]
        for slot in range(r.load.slots):
            r.processes[cpu * r.load.slots + slot] = 1 + cpu % r.load.pools if r.load.pools else fork_real(r)
        if load_u32(&r.failed, memory_order_relaxed):
            return
        cpu_of(&r.m, cpu).mm = r.processes[cpu * r.load.slots]
        r.m.policy.context_switch(&r.m, cpu, NO_MM, cpu_of(&r.m, cpu).mm)
        c.next = INT64_MAX // 2
        if not r.load.at_ticks:
            c.next = <int64_t>(<double>cpu * r.load.switch_ns / nr) if r.load.distribution == FIXED else spell(c, r.load.switch_ns, True)
        c.next_tick = <int64_t>(<uint64_t>cpu * <uint64_t>r.period // nr)
        c.atomics = 0


cdef class Real:
    """A machine of `cpus` CPUs, each a thread that calls run(), none of whose arguments is looked at again: measure() has.

    cores: of each CPU, -1 for any. randoms: a numpy bit generator for each. load, policy: as _virtual.Virtual has them.
    crowded: CPUs share cores.

    Thread-safety: begin() before the threads run; each thread one run(); stop() and abandon() any time; the rest when they have ended.
    """

    cdef real r
    cdef Latency latency
    cdef list randoms
    cdef bint begun

    def __cinit__(self, cpus, cores, period_ns, length_ns, load, policy, randoms, keep_going, mm_bytes, crowded, /):
        cdef real *r = &self.r
        cdef uint32_t cpu, slots = load["slots"]
        memset(r, 0, sizeof(real))
        self.latency = Latency()
        self.randoms = list(randoms)
        r.latency = &self.latency.l
        r.m.nr_cpus = cpus
        r.m.spread = REAL_SPREAD
        r.m.threads = True
        r.load = load
        r.period = period_ns
        r.end = length_ns
        r.keep_going = keep_going
        r.mm_bytes = mm_bytes
        r.crowded = crowded
        mms_begin(r)
        r.m.cpus = <lab_cpu *>lines((<size_t>r.m.nr_cpus << REAL_SPREAD) * sizeof(lab_cpu))
        r.processes = <uint32_t *>calloc(<size_t>r.m.nr_cpus * slots, sizeof(uint32_t))
        r.cpus = <real_cpu **>calloc(r.m.nr_cpus, sizeof(void *))
        if r.chunks is NULL or r.m.cpus is NULL or r.processes is NULL or r.cpus is NULL:
            self.no_memory()
        for cpu in range(r.m.nr_cpus):
            r.cpus[cpu] = self.cpu(cpu, cores[cpu])
        interrupts_begin(r)
        if policy[0] == "refcount":
            refcount_begin(&r.m, policy[1])
            self.begun = True
        elif policy[0] == "shootdown":
            self.begun = shootdown_begin(&r.m, policy[1], policy[2])
        else:
            self.begun = generation_begin(&r.m, policy[1], policy[2], policy[3], policy[4])
        r.broken = policy[len(policy) - 1]
        if not self.begun:
            self.no_memory()
        begin_all(r)
        if load_u32(&r.failed, memory_order_relaxed):
            self.no_memory()

    cdef real_cpu *cpu(self, uint32_t cpu, int core) except NULL:
        cdef real_cpu *c = <real_cpu *>lines(sizeof(real_cpu))
        if c is NULL:
            self.no_memory()
        c.inbox = <atomic_u32 *>lines(self.r.mask_words * 4)
        if c.inbox is NULL:
            free(c)
            self.no_memory()
        pthread_mutex_init(&c.lock, NULL)
        c.r = &self.r
        c.cpu = cpu
        c.core = core
        c.busy = 0
        c.random = <bitgen_t *>PyCapsule_GetPointer(self.randoms[cpu].capsule, "BitGenerator")
        return c

    cdef no_memory(self):
        raise MemoryError(f"no memory for a machine of {self.r.m.nr_cpus} CPUs with {self.r.nr_mms} mms")

    def __dealloc__(self):
        cdef uint32_t cpu
        if self.begun:
            self.r.m.policy.end(&self.r.m)
        for cpu in range(self.r.m.nr_cpus if self.r.cpus is not NULL else 0):
            if self.r.cpus[cpu] is not NULL:
                pthread_mutex_destroy(&self.r.cpus[cpu].lock)
                free(self.r.cpus[cpu].inbox)
                free(self.r.cpus[cpu])
        mms_end(&self.r)
        free(self.r.cpus)
        free(self.r.processes)
        free(self.r.m.cpus)

    def begin(self, int64_t begin, /):
        """Begin at `begin` (ns of CLOCK_MONOTONIC)."""
        cdef uint32_t _waiter
        self.r.begin = begin
        self.r.end += begin
        for _waiter in range(self.r.load.waiters):
            if not queue_add(&self.r.waits, begin, 0, 0):
                self.no_memory()
        store_u64(&self.r.next_wait, begin if self.r.load.waiters else INT64_MAX, memory_order_relaxed)

    def run(self, cpu, /):
        """Be CPU `cpu` until the end, or until told to stop."""
        cdef real_cpu *c = self.r.cpus[<uint32_t>cpu]
        with nogil:
            cpu_runs(c)

    def stop(self, /):
        """Have every thread end, within the time of a switch."""
        cdef uint32_t cpu
        for cpu in range(self.r.m.nr_cpus):
            tell(self.r.cpus[cpu], TO_STOP)

    def abandon(self, /):
        """The same, where one of them cannot: nobody waits for it."""
        store_u32(&self.r.abandoned, 1, memory_order_relaxed)
        self.stop()

    @property
    def failed(self):
        """Whether memory ran out."""
        return load_u32(&self.r.failed, memory_order_relaxed) != 0

    @property
    def ipi(self):
        """How an IPI interrupts: "one core", "every core", or "none"."""
        return {0: "none", 1 << 7: "one core"}.get(self.r.private_expedited, "every core")

    @property
    def ran_ns(self):
        """How long it ran."""
        cdef int64_t last = self.r.begin
        cdef uint32_t cpu
        for cpu in range(self.r.m.nr_cpus):
            last = max(last, self.r.cpus[cpu].now)
        return min(last, self.r.end) - self.r.begin

    @property
    def generation(self):
        """How many generations have opened; 0 under other policies."""
        if self.r.m.policy.run is NULL:
            return 0
        return load_u64(&generation_domain(&self.r.m).generation, memory_order_relaxed)

    @property
    def counts(self):
        """What has been counted, by name."""
        cdef real *r = &self.r
        cdef real_cpu *c
        cdef uint32_t cpu
        counts = dict.fromkeys(("switches", "ticks", "events", "atomics", "overhead_ns", "exits"), 0)
        for cpu in range(r.m.nr_cpus):
            c = r.cpus[cpu]
            for name, n in (("switches", c.switches), ("ticks", c.ticks), ("events", c.events), ("atomics", c.atomics),
                            ("overhead_ns", c.overhead_ns), ("exits", c.exits)):
                counts[name] += n
        return counts | {
            "frees": load_u64(&r.frees, memory_order_relaxed), "ipis": load_u64(&r.ipis, memory_order_relaxed), "lines": None,
            "hotplugs": 0, "use_after_frees": load_u64(&r.use_after_frees, memory_order_relaxed)}

    @property
    def held(self):
        """mms of processes that have exited, not freed: now, at most, and times ns."""
        cdef uint64_t ns = self.latency.total_ns
        cdef int64_t end = self.r.begin + <int64_t>self.ran_ns
        cdef uint32_t mm, state
        for mm in range(self.r.nr_mms):
            state = load_u32(&mm_at(&self.r, mm).state, memory_order_relaxed)
            if state & MM_EXITED and not state & MM_FREED:
                ns += max(end - <int64_t>load_u64(&mm_at(&self.r, mm).exited, memory_order_relaxed), 0)
        return load_u64(&self.r.held, memory_order_relaxed), load_u64(&self.r.held_peak, memory_order_relaxed), float(ns)

    @property
    def latencies(self):
        """From exit to free."""
        return self.latency

    @property
    def bad(self):
        """(mm, CPU, ns) of the first use after free; None: there was none."""
        if not load_u64(&self.r.use_after_frees, memory_order_relaxed):
            return None
        return self.r.bad_mm, self.r.bad_cpu, max(self.r.bad_time, 0)


# Zeroed memory, on cache lines of its own. NULL: none.
cdef void *lines(size_t size) noexcept nogil:
    cdef void *block
    size = (size + 127) & ~<size_t>127
    if posix_memalign(&block, 128, size):
        return NULL
    memset(block, 0, size)
    return block
