# cython: language_level=3, binding=False, embedsignature=True, embedsignature.format=clinic, freethreading_compatible=True
"""The CPUs of a torture: each a thread, in one nogil loop that reads what others publish, and switches, ticks, idles, comes and goes.

What a reader finds it may use until its next switch, so a section is what lies between two switches: it may be long, it may tick,
it may stall, and another object may be found in the midst of it. Every use looks at all that is held. No word of the reader's is
ordered by more than the protocol does for it: a fence here would hide one that is missing there.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t

from mmgen.torture._chance cimport mm_add, mm_draw, mm_happens, mm_spell
from mmgen._core cimport (
    MM_OFFLINE, MM_OPEN, mm_cpu_of, mm_gen, mm_gen_idle_enter, mm_gen_idle_exit, mm_gen_offline, mm_gen_online, mm_gen_register,
    mm_gen_start_poll, mm_gen_tick, mm_gen_wait_for, mm_gen_wake, mm_switch,
)
from mmgen._domain cimport MmGen
from mmgen._lifetime cimport mm_gen_state
from mmgen.torture._pipe cimport MM_FINE, MM_OLDEST, Pipe, mm_object, mm_over, mm_pipe, mm_replace, mm_sections, mm_slot, mm_use
from mmgen._sleep cimport EINTR, ETIMEDOUT, mm_cpu_relax, mm_now, mm_sleep, mm_wake_all, sched_yield
from mmgen._stdatomic cimport (
    atomic_u32, atomic_u64, fetch_and_u32, fetch_or_u32, load_u32, load_u64, memory_order_acquire, memory_order_relaxed,
    memory_order_release, store_u32, store_u64,
)

cdef enum:
    TO_STOP = 1
    TO_SWITCH = 2
    MOST_HELD = 3                       # objects, in one section
    MOST_FAILURES = 8                   # that a reader tells of; it counts all
    SLICE_NS = 10_000_000               # how long a CPU that waits may take to notice that it is to stop

cdef struct failure:
    uint64_t what                       # _pipe's MM_TOO_OLD, ...
    uint64_t cpu
    uint64_t slot
    uint64_t stamp
    uint64_t age
    uint64_t use
    uint64_t section
    uint64_t began, generation          # the generation when the section began, and now

# How often in 65536 sections; tick_within: in 65536 uses.
cdef struct chances:
    uint32_t tick, tick_within, lengthy, idle, offline, wait, stall, rest

cdef struct reader:
    mm_gen *g
    mm_pipe *p
    uint32_t index                      # which reader
    atomic_u32 cpu                      # which CPU: the same, but where registers is set
    uint32_t registers                  # whether it comes online by mm_gen_register, as whichever CPU that gives
    chances odds
    int64_t spell                       # the longest section, stall and absence, in ns
    uint64_t random
    atomic_u32 told                     # what the thread sleeps on: TO_STOP, TO_SWITCH
    # Counters, which the thread alone writes.
    atomic_u64 uses, sections, switches, ticks, idles, offlines, stalls, lengthy, heeded, waits
    atomic_u64 since                    # when the wait began that the CPU is in, in ns; 0: none
    atomic_u64 refused                  # calls that failed though the domain is open
    atomic_u64 nr_failures
    atomic_u64 ages[MM_OLDEST + 1]      # uses that found each; the last: that old or older
    failure failures[MOST_FAILURES]


cdef void tell(reader *r, uint32_t what) noexcept nogil:
    fetch_or_u32(&r.told, what, memory_order_release)
    mm_wake_all(&r.told)


# Sleep until `t`, or until the thread is told something.
cdef void nap(reader *r, int64_t t) noexcept nogil:
    while load_u32(&r.told, memory_order_relaxed) == 0 and mm_now() < t:
        mm_sleep(&r.told, 0, t)


cdef void relax(uint64_t times) noexcept nogil:
    cdef uint64_t _i
    for _i in range(times):
        mm_cpu_relax()


cdef void tick(reader *r) noexcept nogil:
    mm_add(&r.ticks, 1)
    if mm_gen_tick(r.g, load_u32(&r.cpu, memory_order_relaxed)):
        mm_gen_wake(r.g)


cdef void switch(reader *r) noexcept nogil:
    mm_add(&r.switches, 1)
    mm_switch(r.g, load_u32(&r.cpu, memory_order_relaxed))


# ---- a section -----------------------------------------------------------------------------------------------------------------

cdef struct holding:
    mm_object *o
    uint64_t stamp
    uint32_t slot


cdef void use(reader *r, holding *held, uint64_t nr_use, uint64_t began) noexcept nogil:
    cdef uint64_t age, nr
    cdef int what = mm_use(held.o, held.stamp, &age)
    cdef failure *f
    mm_add(&r.uses, 1)
    mm_add(&r.ages[age if age < MM_OLDEST else MM_OLDEST], 1)
    if what == MM_FINE:
        return
    nr = load_u64(&r.nr_failures, memory_order_relaxed)
    if nr < MOST_FAILURES:
        f = &r.failures[nr]
        f.what = what
        f.cpu = load_u32(&r.cpu, memory_order_relaxed)
        f.slot = held.slot
        f.stamp = held.stamp
        f.age = age
        f.use = nr_use
        f.section = load_u64(&r.sections, memory_order_relaxed)
        f.began = began
        f.generation = load_u64(&r.g.generation, memory_order_relaxed)
    # Release, pairs with the acquire in Reader.failures: they are whole.
    store_u64(&r.nr_failures, nr + 1, memory_order_release)


cdef void find(reader *r, holding *held) noexcept nogil:
    held.slot = <uint32_t>(mm_draw(&r.random) % r.p.nr_slots)
    # Acquire, pairs with mm_replace's release.
    held.o = <mm_object *><uintptr_t>load_u64(mm_slot(r.p, held.slot), memory_order_acquire)
    held.stamp = load_u64(&held.o.stamp, memory_order_relaxed)


cdef void read_section(reader *r) noexcept nogil:
    cdef holding held[MOST_HELD]
    cdef atomic_u64 *sections = mm_sections(r.p, r.index)
    cdef uint64_t began = load_u64(&r.g.generation, memory_order_relaxed)
    cdef uint64_t least = 1 + mm_draw(&r.random) % 8, nr_use = 0
    cdef int64_t until = 0              # 0: a short section, that ends after `least` uses
    cdef int nr = 0, i
    cdef bint ticks = True, sleeps = False
    mm_add(&r.sections, 1)
    # Relaxed, and no order is meant: the quarantine, which reads it, has time.
    store_u64(sections, load_u64(sections, memory_order_relaxed) + 1, memory_order_relaxed)
    if mm_happens(&r.random, r.odds.lengthy):
        mm_add(&r.lengthy, 1)
        until = mm_now() + mm_spell(&r.random, r.spell)
        ticks = mm_happens(&r.random, 0xc000)           # else it stalls, holding what it has found
        sleeps = mm_happens(&r.random, 0x8000)
    while True:
        if nr == 0 or (nr < MOST_HELD and mm_happens(&r.random, 0x2000)):
            find(r, &held[nr])
            nr += 1
        nr_use += 1
        for i in range(nr):
            use(r, &held[i], nr_use, began)
        if load_u32(&r.told, memory_order_relaxed) or (nr_use >= least if until == 0 else mm_now() >= until):
            break
        if ticks and mm_happens(&r.random, r.odds.tick_within):
            tick(r)                     # holding all it has found: a tick is not a switch
        if sleeps:
            nap(r, min(until, mm_now() + mm_spell(&r.random, 1_000_000)))
        else:
            relax(mm_draw(&r.random) % 32)
    store_u64(sections, load_u64(sections, memory_order_relaxed) + 1, memory_order_relaxed)


# ---- between sections ----------------------------------------------------------------------------------------------------------

# Stay idle until generations have been opened, however long that takes: while somebody waits it may need nobody who is away.
# For this CPU may be the last that ran, and a wait that went unseen as it left would end when it comes back, and be thought fine.
cdef void stay_until_opened(reader *r) noexcept nogil:
    cdef uint64_t until = load_u64(&r.g.generation, memory_order_relaxed) + 1 + mm_draw(&r.random) % 3
    cdef uint32_t told
    while <int64_t>(load_u64(&r.g.generation, memory_order_relaxed) - until) < 0 and mm_gen_state(r.g) == MM_OPEN:
        told = load_u32(&r.told, memory_order_relaxed)
        if told & TO_STOP:
            break
        mm_sleep(&r.told, told, mm_now() + 500_000)


# Stay away, for no time or for some.
cdef void stay(reader *r) noexcept nogil:
    cdef uint64_t how = mm_draw(&r.random) % 4
    if how == 1:
        relax(mm_draw(&r.random) % 256)
    elif how > 1:
        nap(r, mm_now() + mm_spell(&r.random, r.spell))


# Whether a call went as it must; in a closed domain none does.
cdef bint went(reader *r, int err) noexcept nogil:
    if err < 0 and mm_gen_state(r.g) == MM_OPEN:
        mm_add(&r.refused, 1)
    return err >= 0


cdef bint idle(reader *r) noexcept nogil:
    cdef uint32_t cpu = load_u32(&r.cpu, memory_order_relaxed)
    if not went(r, mm_gen_idle_enter(r.g, cpu)):
        return False
    mm_add(&r.idles, 1)
    if mm_happens(&r.random, 0x2000):
        stay_until_opened(r)
    else:
        stay(r)
    return went(r, mm_gen_idle_exit(r.g, cpu))


cdef bint come_online(reader *r) noexcept nogil:
    cdef int cpu
    if not r.registers:
        return went(r, mm_gen_online(r.g, load_u32(&r.cpu, memory_order_relaxed)))
    cpu = mm_gen_register(r.g)
    if cpu >= 0:
        store_u32(&r.cpu, cpu, memory_order_relaxed)
    return went(r, cpu)


cdef bint go_offline(reader *r) noexcept nogil:
    if not went(r, mm_gen_offline(r.g, load_u32(&r.cpu, memory_order_relaxed))):
        return False
    mm_add(&r.offlines, 1)
    stay(r)
    return come_online(r)


# The CPU is an updater itself: it unpublishes, and waits as Cpu.wait() does, idle.
cdef bint wait(reader *r) noexcept nogil:
    cdef uint32_t cpu = load_u32(&r.cpu, memory_order_relaxed)
    cdef mm_object *o = mm_replace(r.p, <uint32_t>(mm_draw(&r.random) % r.p.nr_slots))
    cdef uint64_t cookie
    cdef int err
    if o is NULL or not went(r, mm_gen_idle_enter(r.g, cpu)):
        return False
    store_u64(&r.since, mm_now(), memory_order_relaxed)
    cookie = mm_gen_start_poll(r.g)
    while True:
        err = mm_gen_wait_for(r.g, cookie, SLICE_NS)
        if err != -EINTR and err != -ETIMEDOUT:
            break
    store_u64(&r.since, 0, memory_order_relaxed)
    if err == 0:
        mm_over(o)
        mm_add(&r.waits, 1)
    return went(r, err) and went(r, mm_gen_idle_exit(r.g, cpu))


# What happens after a section. False: the domain is closed, or will not have this CPU.
cdef bint between(reader *r) noexcept nogil:
    cdef uint32_t told = load_u32(&r.told, memory_order_acquire)        # pairs with tell's release
    if told & TO_SWITCH:
        # A kick: it switches and ticks now.
        fetch_and_u32(&r.told, ~<uint32_t>TO_SWITCH, memory_order_acquire)
        mm_add(&r.heeded, 1)
        switch(r)
        tick(r)
        return True
    if mm_happens(&r.random, r.odds.idle):
        return idle(r)
    if mm_happens(&r.random, r.odds.offline):
        return go_offline(r)
    if mm_happens(&r.random, r.odds.wait):
        return wait(r)
    if mm_happens(&r.random, r.odds.stall):             # before the switch that it owes
        mm_add(&r.stalls, 1)
        stay(r)
    switch(r)
    if mm_happens(&r.random, r.odds.tick):
        tick(r)
    if mm_happens(&r.random, r.odds.rest):
        sched_yield()
    return True


cdef void run(reader *r) noexcept nogil:
    cdef bint on = True
    if load_u32(&mm_cpu_of(r.g, load_u32(&r.cpu, memory_order_relaxed)).mode, memory_order_relaxed) == MM_OFFLINE or r.registers:
        on = come_online(r)
    while on and load_u32(&r.told, memory_order_relaxed) & TO_STOP == 0:
        read_section(r)
        on = between(r)
    mm_gen_offline(r.g, load_u32(&r.cpu, memory_order_relaxed))         # refused where it is so already


cdef class Reader:
    """What one thread needs to be a CPU of `gen` that reads what `pipe` publishes.

    index: which of the pipe's readers, and which CPU; registers: it comes online by register(), and is the CPU that that gives.
    chances: how often in 65536 sections it does each of CHANCES. spell_ns: how long it stalls or stays away at most.
    One thread calls run(), once. Everything else may be called by any thread.
    """

    CHANCES = ("tick", "tick_within", "lengthy", "idle", "offline", "wait", "stall", "rest")

    cdef reader r
    cdef MmGen gen
    cdef Pipe pipe

    def __cinit__(self, MmGen gen not None, Pipe pipe not None, uint32_t index, chances, int64_t spell_ns, uint64_t seed,
                  bint registers=False, /):
        if not index < min(gen.cpus, pipe.p.nr_readers):
            raise IndexError(f"reader {index} is out of range: {pipe.p.nr_readers} readers, {gen.cpus} CPUs")
        self.gen = gen
        self.pipe = pipe
        self.r.g = gen.g
        self.r.p = &pipe.p
        self.r.index = index
        store_u32(&self.r.cpu, index, memory_order_relaxed)
        self.r.odds = chances
        self.r.spell = spell_ns
        self.r.random = seed
        self.r.registers = registers

    def run(self):
        """Be the CPU until stop(), or until the domain is closed; then it is offline."""
        with nogil:
            run(&self.r)

    def stop(self):
        """Have run() end."""
        tell(&self.r, TO_STOP)

    def kick(self):
        """Have the CPU switch and tick at once."""
        tell(&self.r, TO_SWITCH)

    @property
    def cpu(self):
        """Which CPU it is, or was last."""
        return load_u32(&self.r.cpu, memory_order_relaxed)

    @property
    def waiting_ns(self):
        """How long the wait has lasted that the CPU is in, in ns; 0: it is in none."""
        cdef int64_t since = load_u64(&self.r.since, memory_order_relaxed)
        return mm_now() - since if since else 0

    @property
    def ages(self):
        """How many uses found an object of each age; the last: of that or more."""
        cdef int i
        return [load_u64(&self.r.ages[i], memory_order_relaxed) for i in range(MM_OLDEST + 1)]

    @property
    def counts(self):
        """What it has done so far: how often each."""
        return {
            "uses": load_u64(&self.r.uses, memory_order_relaxed),
            "sections": load_u64(&self.r.sections, memory_order_relaxed),
            "long sections": load_u64(&self.r.lengthy, memory_order_relaxed),
            "switches": load_u64(&self.r.switches, memory_order_relaxed),
            "ticks": load_u64(&self.r.ticks, memory_order_relaxed),
            "idles": load_u64(&self.r.idles, memory_order_relaxed),
            "offlines": load_u64(&self.r.offlines, memory_order_relaxed),
            "stalls": load_u64(&self.r.stalls, memory_order_relaxed),
            "kicks heeded": load_u64(&self.r.heeded, memory_order_relaxed),
            "waits": load_u64(&self.r.waits, memory_order_relaxed),
        }

    @property
    def refused(self):
        """How many of its calls failed though the domain was open: none may."""
        return load_u64(&self.r.refused, memory_order_relaxed)

    @property
    def nr_failures(self):
        """How many uses found what they must not."""
        return load_u64(&self.r.nr_failures, memory_order_relaxed)

    @property
    def failures(self):
        """The first of them: (what, cpu, slot, stamp, age, use, section, generation when the section began, generation then)."""
        cdef uint64_t i, nr = load_u64(&self.r.nr_failures, memory_order_acquire)     # pairs with use()'s release
        cdef failure *f
        found = []
        for i in range(min(nr, <uint64_t>MOST_FAILURES)):
            f = &self.r.failures[i]
            found.append((f.what, f.cpu, f.slot, f.stamp, f.age, f.use, f.section, f.began, f.generation))
        return found
