# cython: language_level=3, binding=False, boundscheck=False, wraparound=False, freethreading_compatible=True
"""What a wait would have taken that began at any moment of a recording, with nobody else waiting: in one pass, from its end back.

A wait takes two generations. In the first each CPU owes a mark: a tick or, where idle CPUs drop their mm, going idle; who idles has paid.
In the second it owes a mark with a switch since the snapshot that was taken of it last in the first: at its last tick there or, if it had
none, when it was credited for idling; going idle is a switch, too. Looking back from a moment, the next such mark of each CPU is known, and
changes only where one is passed; the latest of all CPUs' opens the generation. A tournament tree keeps that latest one, for the moment at
which waits begin and for that at which their first generation has opened, which moves back with it: it costs log2(CPUs) for each mark.

Only of a CPU that has run nothing but kernel threads since it idled last the moment of the snapshot has to be known: such CPUs are in a
list. Under `kick` the CPUs' patience has to be looked at, too, each CPU's for each tick.
"""
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint32_t
from libc.stdlib cimport calloc, free, malloc, realloc

from mmgen._sleep cimport mm_now
from mmgen.lab.replay._step cimport EXEC, IDLE, TICK, USER, step

cdef enum:
    HANG, DROP, KICK                    # policies.IDLE_RULES
    NOW = -1                            # instead of a step's index: at once
    NEVER = 0x7fffffff                  # NEVER - cpu: not while the recording lasts, for that CPU
    LEAST_NEVER = 0x7fefffff            # NEVER - 2**20
    # Of a step: its CPU idled before it; had switched since its last tick; had run kernel threads only since it idled, without a tick.
    WAS_IDLE = 1
    SWITCHED = 2
    WAS_THIN = 4
    FIRST = 1                           # spell.kicked: which of the two generations was
    SECOND = 2
    WORK_A_LOOK = 1 << 14               # between two looks at the clock
    SLICE_NS = 10_000_000               # between two looks at signals

cdef struct spell:                      # waits that begin from `begin` to `end`; waits.py has the same as a numpy dtype
    int64_t begin, end
    int64_t first, over                 # when the two generations open, ns; -1: as soon as the wait begins; INT64_MAX: never
    int32_t first_cpu, last_cpu         # who opens them, or would have to; -1: nobody
    int32_t kicked
    int32_t pad

cdef struct tick_list:                  # one CPU's
    int32_t first, last                 # where its ticks are in `ticks`: from first to last - 1; in the first pass: how many, in last
    int32_t next, next2                 # its next tick from here on, and from where the first generation has opened
    bint fresh2                         # whether it switches between there and that tick

cdef struct cpu_back:                   # one CPU, where the first generation has opened, under hang and drop
    int32_t pays                        # the next mark with a switch since the tick before it, idle or not
    int32_t under                       # thin: the same, if going idle is in the snapshot
    int32_t since                       # thin: it is for waits that begin after this step
    int32_t place                       # thin: where it is in the list of those; else -1
    # In the first pass.
    int32_t last                        # its last tick, or end of idling; -1: none
    int32_t before                      # the same, when it went idle
    unsigned char flags

cdef struct looking_back:
    const step *steps
    int32_t nr
    int32_t at                          # waits that begin just before steps[at]; nr + 1: the way back has not begun
    int32_t at2                         # their first generation has opened just before steps[at2]
    int32_t forward                     # how far the first pass is
    int32_t listed                      # kick: the ticks from steps[listed] on are in the lists
    uint32_t nr_cpus, leaves
    int32_t rule
    int64_t patience
    int64_t end, ipi
    int64_t work                        # since the last look at the clock; who finds it too much goes on after that
    unsigned char *flags                # by step
    int32_t *since                      # by step, where it WAS_THIN: cpu_back.since
    cpu_back *cpus
    int32_t *tree1                      # of each CPU's next mark, from `at` on; the latest of all is tree1[1]
    int32_t *tree2                      # of each CPU's next mark that pays in the second generation, from `at2` on
    int32_t *thin                       # the CPUs that are, at at2
    int32_t nr_thin
    spell last                          # what the wait that was looked at last comes to
    bint changed                        # since then, a mark was passed
    spell *spells                       # from the last to the first
    Py_ssize_t nr_spells, room
    bint failed
    # For kick.
    tick_list *lists
    int32_t *ticks                      # steps, CPU by CPU
    int32_t *with_switch                # by tick: the first from there on, of its CPU, with a switch since the one before it


# ---- the first pass: who idles, who has switched since the last tick -----------------------------------------------------------

cdef inline void pass_forward(looking_back *b, int32_t i) noexcept nogil:
    cdef const step *s = &b.steps[i]
    cdef cpu_back *c = &b.cpus[s.cpu]
    cdef bint idles = c.flags & WAS_IDLE
    b.flags[i] = c.flags
    b.since[i] = c.before
    if s.what == TICK:
        if b.rule == KICK:
            b.lists[s.cpu].last += 1
        if b.rule != DROP or not idles:
            c.flags &= ~<int>(SWITCHED | WAS_THIN)
            c.last = i
    elif s.what < TICK:
        c.flags &= ~<int>WAS_IDLE
        if idles:
            c.last = i
        if s.what == USER:
            c.flags = SWITCHED
        elif s.what == IDLE:
            c.before = c.last
            c.flags = WAS_IDLE | (SWITCHED if b.rule == DROP else c.flags & SWITCHED)
        elif idles and b.rule == DROP:
            c.flags |= WAS_THIN
    elif s.what == EXEC:
        c.flags = SWITCHED


# ---- the way back --------------------------------------------------------------------------------------------------------------

cdef inline void set_leaf(int32_t *tree, uint32_t leaves, uint32_t cpu, int32_t value) noexcept nogil:
    cdef uint32_t i = leaves + cpu
    tree[i] = value
    while i > 1:
        i >>= 1
        value = max(tree[2 * i], tree[2 * i + 1])
        if tree[i] == value:
            return
        tree[i] = value


cdef inline int64_t time_of(looking_back *b, int32_t at) noexcept nogil:
    return -1 if at == NOW else INT64_MAX if at > LEAST_NEVER else b.steps[at].t


cdef inline int32_t cpu_at(looking_back *b, int32_t at) noexcept nogil:
    return -1 if at == NOW else NEVER - at if at > LEAST_NEVER else <int32_t>b.steps[at].cpu


# Waits that begin from the step before steps[at] up to it come to b.last; so may those after it.
cdef inline void put(looking_back *b) noexcept nogil:
    cdef spell *before = &b.spells[b.nr_spells - 1] if b.nr_spells else NULL
    cdef spell *more
    cdef Py_ssize_t room
    cdef spell s = b.last
    s.begin = b.steps[b.at - 1].t if b.at else 0
    s.end = b.steps[b.at].t if b.at < b.nr else b.end
    if s.begin == s.end:
        return
    if (before is not NULL and before.first == s.first and before.over == s.over and before.first_cpu == s.first_cpu
            and before.last_cpu == s.last_cpu and before.kicked == s.kicked):
        before.begin = s.begin
        return
    if b.nr_spells == b.room:
        room = 2 * b.room + 256
        more = <spell *>realloc(b.spells, room * sizeof(spell))
        if more is NULL:
            b.failed = True
            return
        b.spells = more
        b.room = room
    b.spells[b.nr_spells] = s
    b.nr_spells += 1


cdef inline spell outcome(looking_back *b, int32_t first, int32_t second, int32_t kicked) noexcept nogil:
    cdef spell s
    s.begin = s.end = 0
    s.first = time_of(b, first)
    if kicked & FIRST:
        s.first += b.ipi
    s.over = s.first if second == NOW else time_of(b, second)
    if kicked and second != NOW and s.over != INT64_MAX:
        s.over += b.ipi * (kicked >> 1)
    s.first_cpu = cpu_at(b, first)
    s.last_cpu = s.first_cpu if second == NOW else cpu_at(b, second)
    s.kicked = kicked
    s.pad = 0
    return s


cdef inline void thin_ends(looking_back *b, uint32_t cpu) noexcept nogil:
    cdef int32_t place = b.cpus[cpu].place
    if place >= 0:
        b.nr_thin -= 1
        b.thin[place] = b.thin[b.nr_thin]
        b.cpus[b.thin[place]].place = place
        b.cpus[cpu].place = -1


# Let the place where the first generation has opened go back to just before steps[at]. False: it is not there yet.
cdef inline bint follow(looking_back *b, int32_t at) noexcept nogil:
    cdef const step *s
    cdef cpu_back *c
    cdef unsigned char flags
    cdef int32_t before
    while b.at2 > at:
        if b.work > WORK_A_LOOK:
            return False
        b.at2 -= 1
        b.work += 1
        s = &b.steps[b.at2]
        c = &b.cpus[s.cpu]
        flags = b.flags[b.at2]
        before = c.pays
        if s.what == TICK and not (b.rule == DROP and flags & WAS_IDLE):
            if flags & SWITCHED:
                c.pays = b.at2
        elif s.what == IDLE and b.rule == DROP:
            c.pays = b.at2
        elif s.what >= TICK:
            continue
        if b.rule == DROP and flags & WAS_IDLE:
            thin_ends(b, s.cpu)
            set_leaf(b.tree2, b.leaves, s.cpu, NOW)
            continue
        set_leaf(b.tree2, b.leaves, s.cpu, c.pays)
        if flags & WAS_THIN and c.place < 0:
            c.under = before if s.what == TICK else c.pays
            c.since = b.since[b.at2]
            c.place = b.nr_thin
            b.thin[b.nr_thin] = s.cpu
            b.nr_thin += 1
    return True


# What the wait comes to that begins at b.at. False: it takes longer to find out; look again. So look_kick().
cdef inline bint look(looking_back *b) noexcept nogil:
    cdef int32_t first = b.tree1[1], second = first, i
    cdef cpu_back *c
    if first <= LEAST_NEVER:
        if not follow(b, b.at if first == NOW else first + 1):
            return False
        second = b.tree2[1]
        for i in range(b.nr_thin):
            c = &b.cpus[b.thin[i]]
            if b.at > c.since:
                second = max(second, c.under)
        b.work += b.nr_thin
    b.last = outcome(b, first, second, 0)
    return True


cdef inline void pass_back(looking_back *b) noexcept nogil:
    cdef const step *s = &b.steps[b.at - 1]
    cdef bint idles = b.rule == DROP and b.flags[b.at - 1] & WAS_IDLE
    b.at -= 1
    b.work += 1
    if s.what == TICK:
        if idles:
            return
    elif not (s.what == IDLE and b.rule == DROP) and not (idles and s.what < TICK):
        # The outcome changes also where the first snapshot does: at the end of a spell of idling, which is passed below.
        return
    b.changed = True
    set_leaf(b.tree1, b.leaves, s.cpu, NOW if idles else b.at)


# ---- the way back under kick ---------------------------------------------------------------------------------------------------

cdef inline int32_t tick_at(looking_back *b, uint32_t cpu, int64_t i) noexcept nogil:
    return b.ticks[i] if i < b.lists[cpu].last else NEVER - <int32_t>cpu


cdef inline int32_t next_with_switch(looking_back *b, tick_list *list, int32_t i) noexcept nogil:
    return b.with_switch[i] if i < list.last else list.last


# When cpu's patience is out, in a generation whose first tick of this CPU is ticks[next] and in which ticks[counts] counts: it is
# counted from the first tick that does not count, and looked at in those that do not (_core.pyx, impatient).
cdef inline int32_t patience_out(looking_back *b, uint32_t cpu, int32_t next, int32_t counts) noexcept nogil:
    return tick_at(b, cpu, next + b.patience if counts == next or counts == next + b.patience - 1 else next + b.patience - 1)


# As follow(), of the ticks alone.
cdef inline bint follow_ticks(looking_back *b, int32_t at) noexcept nogil:
    cdef const step *s
    cdef tick_list *list
    while b.at2 > at:
        if b.work > WORK_A_LOOK:
            return False
        b.at2 -= 1
        b.work += 1
        s = &b.steps[b.at2]
        list = &b.lists[s.cpu]
        if s.what == TICK:
            list.next2 -= 1
            list.fresh2 = False
        elif s.what == USER or s.what == EXEC:
            list.fresh2 = True
    return True


cdef bint look_kick(looking_back *b) noexcept nogil:
    cdef int32_t first = NOW, first_holdout, last_holdout, out = NEVER, second = NOW, counts, kicked = 0
    cdef uint32_t cpu
    cdef tick_list *list
    b.work += 2 * b.nr_cpus
    for cpu in range(b.nr_cpus):
        list = &b.lists[cpu]
        first = max(first, tick_at(b, cpu, list.next))
        out = min(out, patience_out(b, cpu, list.next, list.next))
    first_holdout = cpu_at(b, first)
    if out < first:
        first = out
        kicked = FIRST
    if first > LEAST_NEVER:
        b.last = outcome(b, first, first, 0)
        return True
    if not follow_ticks(b, first + 1):
        return False
    out = NEVER
    for cpu in range(b.nr_cpus):
        list = &b.lists[cpu]
        if list.next2 < list.last and list.next == list.next2 and kicked:           # it has not ticked: the kick is its last mark
            counts = list.next2 if list.fresh2 else next_with_switch(b, list, list.next2 + 1)
        else:
            counts = next_with_switch(b, list, list.next2)
        second = max(second, tick_at(b, cpu, counts))
        out = min(out, patience_out(b, cpu, list.next2, counts))
    last_holdout = cpu_at(b, second)
    if out < second:
        second = out
        kicked |= SECOND
    b.last = outcome(b, first, second, kicked)
    b.last.first_cpu = first_holdout
    b.last.last_cpu = last_holdout
    return True


cdef inline void pass_back_kick(looking_back *b) noexcept nogil:
    b.at -= 1
    b.work += 1
    if b.steps[b.at].what == TICK:
        b.lists[b.steps[b.at].cpu].next -= 1
        b.changed = True


# ---- all of it -----------------------------------------------------------------------------------------------------------------

# At the end nobody has a mark to come.
cdef void begin_back(looking_back *b) noexcept nogil:
    cdef uint32_t cpu
    cdef cpu_back *c
    cdef int32_t leaf
    b.changed = True
    for cpu in range(b.nr_cpus):
        c = &b.cpus[cpu]
        c.place = -1
        c.pays = NEVER - <int32_t>cpu
        leaf = NOW if b.rule == DROP and c.flags & WAS_IDLE else c.pays
        set_leaf(b.tree1, b.leaves, cpu, leaf)
        set_leaf(b.tree2, b.leaves, cpu, leaf)


# The same for kick: room for each CPU's ticks, which the first pass has counted in list.last. False: no memory.
cdef bint make_lists(looking_back *b) noexcept nogil:
    cdef int32_t nr = 0
    cdef uint32_t cpu
    cdef tick_list *list
    for cpu in range(b.nr_cpus):
        list = &b.lists[cpu]
        nr += list.last
        list.first = list.last = list.next = list.next2 = nr
    b.ticks = <int32_t *>malloc((<size_t>nr + 1) * sizeof(int32_t))
    b.with_switch = <int32_t *>malloc((<size_t>nr + 1) * sizeof(int32_t))
    b.listed = b.nr
    b.changed = True
    return b.ticks is not NULL and b.with_switch is not NULL


# Put steps[i], before which all later ones are, into the lists.
cdef inline void put_into_list(looking_back *b, int32_t i) noexcept nogil:
    cdef tick_list *list = &b.lists[b.steps[i].cpu]
    cdef int32_t tick
    if b.steps[i].what == TICK:
        list.first -= 1
        tick = list.first
        b.ticks[tick] = i
        b.with_switch[tick] = tick if b.flags[i] & SWITCHED else b.with_switch[tick + 1] if tick + 1 < list.last else list.last


# True: it is over.
cdef bint run(looking_back *b, int64_t deadline) noexcept nogil:
    while b.forward < b.nr:
        pass_forward(b, b.forward)
        b.forward += 1
        if b.forward & (WORK_A_LOOK - 1) == 0 and mm_now() > deadline:
            return False
    if b.at > b.nr:
        b.at = b.at2 = b.nr
        if b.rule != KICK:
            begin_back(b)
        elif not make_lists(b):
            b.failed = True
    while b.listed and not b.failed:
        b.listed -= 1
        put_into_list(b, b.listed)
        if b.listed & (WORK_A_LOOK - 1) == 0 and mm_now() > deadline:
            return False
    while not b.failed:
        if b.changed and not (look_kick(b) if b.rule == KICK else look(b)):
            b.work = 0
            if mm_now() > deadline:
                return False
            continue
        b.changed = False
        put(b)
        if b.at == 0:
            return True
        if b.rule == KICK:
            pass_back_kick(b)
        else:
            pass_back(b)
        if b.work > WORK_A_LOOK:
            b.work = 0
            if mm_now() > deadline:
                return False
    return True


cdef class LookBack:
    """The waits of a recording: `steps`, after `first` (steps.Steps has them, and they are not looked at again), which end at end_ns.

    rule: of policies.IDLE_RULES, its index. patience: ticks, for kick; ipi_ns: how long its IPIs take.
    Thread-safety: one thread at a time.
    """

    cdef looking_back b
    cdef const unsigned char[::1] steps

    def __cinit__(self, uint32_t cpus, steps, first, int64_t end_ns, int32_t rule, int64_t patience, int64_t ipi_ns, /):
        cdef looking_back *b = &self.b
        cdef const unsigned char[::1] beginning = first
        cdef const step *states = <const step *>&beginning[0]
        cdef uint32_t cpu
        self.steps = steps
        if self.steps.shape[0] // <Py_ssize_t>sizeof(step) >= LEAST_NEVER:
            raise ValueError(f"{self.steps.shape[0] // sizeof(step)} steps are out of range: fewer than {LEAST_NEVER}")
        b.nr = <int32_t>(self.steps.shape[0] // <Py_ssize_t>sizeof(step))
        b.steps = <const step *>&self.steps[0] if b.nr else NULL
        b.at = b.nr + 1
        b.nr_cpus = cpus
        b.leaves = 1
        while b.leaves < cpus:
            b.leaves *= 2
        b.rule = rule
        b.patience = patience
        b.end = end_ns
        b.ipi = ipi_ns
        b.lists = <tick_list *>calloc(cpus, sizeof(tick_list))
        b.flags = <unsigned char *>malloc(<size_t>b.nr + 1)
        b.since = <int32_t *>malloc((<size_t>b.nr + 1) * sizeof(int32_t))
        b.cpus = <cpu_back *>calloc(cpus, sizeof(cpu_back))
        b.thin = <int32_t *>malloc(cpus * sizeof(int32_t))
        b.tree1 = <int32_t *>malloc(2 * <size_t>b.leaves * sizeof(int32_t))
        b.tree2 = <int32_t *>malloc(2 * <size_t>b.leaves * sizeof(int32_t))
        if b.lists is NULL or b.flags is NULL or b.since is NULL or b.cpus is NULL or b.thin is NULL or b.tree1 is NULL or b.tree2 is NULL:
            raise MemoryError(f"no memory to look back over {b.nr} steps of {cpus} CPUs")
        for cpu in range(2 * b.leaves):
            b.tree1[cpu] = b.tree2[cpu] = NOW
        for cpu in range(cpus):                         # every CPU has switched since somebody waited last
            b.cpus[cpu].flags = SWITCHED | (WAS_IDLE if states[cpu].what == IDLE else 0)
            b.cpus[cpu].last = b.cpus[cpu].before = -1

    def __dealloc__(self):
        cdef looking_back *b = &self.b
        for memory in (<size_t>b.flags, <size_t>b.cpus, <size_t>b.since, <size_t>b.thin, <size_t>b.tree1, <size_t>b.tree2,
                       <size_t>b.spells, <size_t>b.lists, <size_t>b.ticks, <size_t>b.with_switch):
            free(<void *><size_t>memory)

    def go_on(self, /):
        """Go on for some 10 ms; True: that was all. MemoryError."""
        cdef bint over
        with nogil:
            over = run(&self.b, mm_now() + SLICE_NS)
        if self.b.failed:
            raise MemoryError(f"no memory to look back over {self.b.nr} steps of {self.b.nr_cpus} CPUs")
        return over

    def spells(self, /):
        """What the waits come to, as the bytes of an array of waits.SPELL, from the last to the first."""
        return (<const char *>self.b.spells)[:self.b.nr_spells * sizeof(spell)] if self.b.nr_spells else b""
