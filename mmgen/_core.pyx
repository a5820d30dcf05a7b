# cython: language_level=3, freethreading_compatible=True
"""Grace periods counted by mm switches: the protocol.

The idea is Peter Zijlstra's (mail of 2 December 2020). Each CPU counts its mm switches, for itself. Its tick snapshots the
counter. When every CPU's counter has moved since the generation before, the last one opens the next generation. Who unpublished an
object waits for the generation to move far enough: then every CPU has switched since, and holds the object no more.

    generation      g-1                g                   g+1                 g+2
                   -|------------------|-------------------|-------------------|------>
    CPU 0             s t     s            t                  s   t
    CPU 1                s             t          s        t          s        t
    a wait                       ^ begins                                      ^ ends

Drawn (s a switch, t a tick) is a wait that begins while g-1 is under way. CPU 0 ticked for g-1 and switched again before the wait
began: that switch is credited to g, though it says nothing about what was unpublished since. Hence three generations, g-1 to g+1,
have to end. Where nobody was waiting no tick has taken a snapshot: the first generation gives every CPU a baseline from after the
wait began, and two suffice.

What is assumed of the machine: C11's memory model, 64-bit atomics without a lock; that a CPU's calls come from one thread; that
less than 2^63 generations pass while somebody holds a cookie. Generations, goals and counters are compared by signed difference.

Everything rare - a wait, a CPU that comes, goes, idles - takes the control lock. A switch never does, nor a tick that opens
nothing.
"""
from libc.stdint cimport INT64_MAX

from mmgen._control cimport control_of, mm_control
from mmgen._sleep cimport (
    EBUSY, EINVAL, ESHUTDOWN, MM_LOW_HALF, mm_cpu_relax, mm_now, mm_sleep, mm_wake_all, pthread_mutex_lock,
    pthread_mutex_unlock, sched_yield,
)
from mmgen._stdatomic cimport (
    cas_u32, cas_u64, fence, fetch_add_u32, fetch_add_u64, fetch_sub_u32, fetch_sub_u64, load_u32,
    memory_order_acq_rel, memory_order_release, memory_order_seq_cst, store_u32,
)
from mmgen._trace cimport (
    MM_TRACE_COUNT, MM_TRACE_IDLE_ENTER, MM_TRACE_IDLE_EXIT, MM_TRACE_KICK, MM_TRACE_OFFLINE, MM_TRACE_ONLINE, MM_TRACE_OPEN,
    MM_TRACE_TICK, MM_TRACE_WAIT_BEGIN, MM_TRACE_WAIT_END, mm_trace_write,
)

cdef enum:
    SPINS = 64                          # 1 to 3 us of `pause`: a tenth of what a futex takes to wake a thread on another core
    OUTSIDE = 0xffffffff                # whose event it is, where it is no CPU's
cdef uint64_t ONE_ONLINE = <uint64_t>1 << MM_ONLINE_SHIFT

cdef inline void note(mm_gen *g, uint32_t cpu, uint64_t what, uint64_t argument) noexcept nogil:
    if g.trace is not NULL:
        mm_trace_write(g.trace, cpu, what, argument)


# ---- the tick ------------------------------------------------------------------------------------------------------------------

cdef inline bint owes(mm_cpu *c, uint64_t gen) noexcept nogil:
    return <int64_t>(load_u64(&c.mm_switches[gen & 1], memory_order_relaxed)
                     - load_u64(&c.mm_switches[(gen & 1) ^ 1], memory_order_relaxed)) < 0


cdef bint mm_gen_owes(mm_gen *g, uint32_t cpu) noexcept nogil:
    # Acquire, pairs with open_next's release of generation: an older snapshot would hide the debt (litmus: holdout).
    return (load_u32(&mm_cpu_of(g, cpu).mode, memory_order_relaxed) != MM_OFFLINE
            and owes(mm_cpu_of(g, cpu), load_u64(&g.generation, memory_order_acquire)))


# The last debt of generation gen is paid (pending was `was` before that): open the next.
cdef inline void open_next(mm_gen *g, uint64_t gen, uint64_t was) noexcept nogil:
    cdef uint64_t online = was >> MM_ONLINE_SHIFT
    # Release, both; in this order: a tick that acquires generation + 1 decrements the new complete, never one that is still to be
    # overwritten; and it sees whatever those saw who paid before (their decrements' acq_rel). Pending pairs with hold's swap also,
    # which then takes no older generation for this one. (litmus: open-order, open-pending, hold-parity)
    store_u64(&g.pending, (was ^ (<uint64_t>1 << MM_PARITY_SHIFT)) - 1 + online, memory_order_release)
    store_u64(&g.generation, gen + 1, memory_order_release)


# Whether the caller has ticked, and not counted, in generation gen so often that its holdouts are to be kicked, and is the first to
# say so. Only while somebody waits: a generation that is counted for nobody would else use up its one kick.
cdef inline bint impatient(mm_gen *g, mm_cpu *c, uint64_t gen) noexcept nogil:
    cdef uint64_t ticks
    if g.patience == 0 or not waited_for(g):
        return False
    ticks = load_u64(&c.nr_ticks, memory_order_relaxed)
    if c.ticked != <uint32_t>gen:
        c.ticked = <uint32_t>gen
        c.first_tick = ticks - 1            # this tick is the first
    if ticks - c.first_tick < g.patience or load_u64(&control_of(g).impatient, memory_order_relaxed) == gen:
        return False
    store_u64(&control_of(g).impatient, gen, memory_order_relaxed)      # mm_gen_wake looks at it; the same thread calls that
    return True


cdef bint mm_gen_tick_wanted(mm_gen *g, uint32_t cpu, uint64_t gen) noexcept nogil:
    cdef mm_cpu *c = mm_cpu_of(g, cpu)
    cdef uint64_t prev = load_u64(&c.mm_switches[(gen & 1) ^ 1], memory_order_relaxed)
    cdef uint64_t curr = load_u64(&c.mm_switches[gen & 1], memory_order_relaxed)
    cdef uint64_t switches = load_u64(&c.nr_mm_switches, memory_order_relaxed)
    store_u64(&c.nr_ticks, load_u64(&c.nr_ticks, memory_order_relaxed) + 1, memory_order_relaxed)
    note(g, cpu, MM_TRACE_TICK, gen)
    if switches == prev:
        return impatient(g, c, gen)     # no switch since the last generation
    store_u64(&c.mm_switches[gen & 1], switches, memory_order_relaxed)
    if <int64_t>(curr - prev) >= 0:
        return impatient(g, c, gen)     # counted in this generation already; the next one's baseline is now later
    # Pairs with the fence of mm_gen_begin, between the unpublish and its load of generation: either that wait saw this
    # generation and asks for one more, or this CPU's sections from here on see what was unpublished (litmus: tick-fence).
    fence(memory_order_seq_cst)
    # Acq_rel, pairs with those of whoever else pays: the last has seen all the others' uses, and open_next hands them on
    # (litmus: tick-decrement, wake-look). After the fence acquire would do.
    cdef uint64_t was = fetch_sub_u64(&g.pending, 1, memory_order_acq_rel)
    note(g, cpu, MM_TRACE_COUNT, gen)
    if <uint32_t>was != 1:
        return False
    open_next(g, gen, was)
    store_u64(&c.nr_opened, load_u64(&c.nr_opened, memory_order_relaxed) + 1, memory_order_relaxed)
    note(g, cpu, MM_TRACE_OPEN, gen + 1)
    return True


# ---- the hold, and credit for the idle: with the control lock ------------------------------------------------------------------

# Keeps the generation from opening until release(): one more is owed.
cdef void hold(mm_gen *g) noexcept nogil:
    cdef uint64_t seen = load_u64(&g.pending, memory_order_relaxed)
    # Only from above 0: at 0 a generation is being opened. Acquire, pairs with open_next's release of pending: the parity below is
    # not that of two generations before (litmus: hold-parity). Nothing needs its release.
    while <uint32_t>seen == 0 or not cas_u64(&g.pending, &seen, seen + 1, memory_order_acq_rel, memory_order_relaxed):
        if <uint32_t>seen == 0:
            sched_yield()
            seen = load_u64(&g.pending, memory_order_relaxed)
    # An opener may have stored pending and not yet generation: the parity that was swapped says which generation is held.
    # Acquire, pairs with open_next's release; relaxed would do, after the swap's (litmus: hold-parity).
    while (load_u64(&g.generation, memory_order_acquire) ^ (seen >> MM_PARITY_SHIFT)) & 1:
        sched_yield()


# True: it was the last debt, and the next generation is open.
cdef bint release(mm_gen *g) noexcept nogil:
    cdef uint64_t gen = load_u64(&g.generation, memory_order_relaxed)       # held still, so it stands
    cdef uint64_t was = fetch_sub_u64(&g.pending, 1, memory_order_acq_rel)  # (litmus: hold-release, wake-look)
    if <uint32_t>was != 1:
        return False
    open_next(g, gen, was)
    note(g, OUTSIDE, MM_TRACE_OPEN, gen + 1)
    return True


cdef inline bint waited_for(mm_gen *g) noexcept nogil:
    # Acquire, both, as the tick's loads; relaxed would do. Where it decides who is credited, a seq_cst fence stands before the call, or
    # the hold (litmus: idle-fence).
    cdef uint64_t goal = load_u64(&g.goal, memory_order_acquire)
    return <int64_t>(goal - load_u64(&g.generation, memory_order_acquire)) > 0


cdef bint any_idle(mm_gen *g) noexcept nogil:
    cdef uint32_t cpu
    # Most domains never idle, and a mode is on the line that its CPU writes at every switch. Set before the first mode that is IDLE, so
    # who must see that sees this (litmus: idle-flag, wake-look).
    if load_u64(&g.idled, memory_order_relaxed) == 0:
        return False
    for cpu in range(load_u32(&g.nr_cpus, memory_order_relaxed)):
        if load_u32(&mm_cpu_of(g, cpu).mode, memory_order_relaxed) == MM_IDLE:
            return True
    return False


# While somebody waits and a CPU is idle: count a switch for each idle CPU that owes one. True: that opened a generation.
cdef bint credit_idle(mm_gen *g) noexcept nogil:
    cdef mm_cpu *c
    cdef uint32_t cpu, idle
    cdef uint64_t gen, nr
    cdef bint opened = False
    while True:
        # Between raising goal (or opening) and the first load of a mode. Pairs with the fence of mm_gen_idle_enter, between
        # its store of the mode and its load of goal: either this sees the idle CPU or that CPU sees the goal (litmus: idle-fence,
        # idle-flag).
        fence(memory_order_seq_cst)
        if not waited_for(g) or not any_idle(g):
            return opened
        hold(g)
        # Ticks open generations without the lock: the goal may have been reached since the look above. A credit in a generation that
        # nobody waits for would be a snapshot there, and the next wait counts on there being none. Now both words stand still.
        if not waited_for(g):
            release(g)
            return opened
        gen = load_u64(&g.generation, memory_order_relaxed)
        for cpu in range(load_u32(&g.nr_cpus, memory_order_relaxed)):
            c = mm_cpu_of(g, cpu)
            idle = MM_IDLE
            if load_u32(&c.mode, memory_order_relaxed) != MM_IDLE:
                continue
            # Acquire, pairs with the release by which the CPU (or the proxy before) stored IDLE: the line is whole, and what the CPU
            # used is handed on (litmus: claim, proxy-decrement).
            if not cas_u32(&c.mode, &idle, MM_PROXIED, memory_order_acquire, memory_order_relaxed):
                continue
            if owes(c, gen):
                nr = load_u64(&c.nr_mm_switches, memory_order_relaxed) + 1
                store_u64(&c.nr_mm_switches, nr, memory_order_relaxed)
                store_u64(&c.mm_switches[gen & 1], nr, memory_order_relaxed)
                # As the tick's; but release would do, since the hold keeps it above 0 (litmus: proxy-decrement).
                fetch_sub_u64(&g.pending, 1, memory_order_acq_rel)
            # Release, pairs with the acquire of mm_gen_idle_exit, or of the next claim (litmus: put-back, idle-exit-lock).
            store_u32(&c.mode, MM_IDLE, memory_order_release)
        if not release(g):
            return opened
        opened = True


cdef void mm_gen_wake_sleepers(mm_gen *g) noexcept nogil:
    # Between the opener's store of generation and this load. Pairs with the fence of mm_gen_wait_for, between counting itself and
    # its load of generation: either this sees the sleeper or the sleeper sees the generation (litmus: sleep-fence).
    fence(memory_order_seq_cst)
    if load_u32(&control_of(g).sleepers, memory_order_relaxed):
        mm_wake_all(MM_LOW_HALF(&g.generation))


# Name the holdouts of the generation under way, if a patience ran out in it or who waits for it is in a hurry: once a generation.
cdef void kick_holdouts(mm_gen *g) noexcept nogil:
    cdef mm_control *control = control_of(g)
    cdef uint64_t gen
    cdef uint32_t cpu
    cdef bint due, any_owes = False
    if g.kick is NULL:
        return
    pthread_mutex_lock(&control.lock)
    gen = load_u64(&g.generation, memory_order_acquire)     # relaxed would do: mm_gen_owes acquires again (litmus: holdout)
    due = waited_for(g) and control.kicked != gen and (
        load_u64(&control.impatient, memory_order_relaxed) == gen or <int64_t>(control.expedite - gen) > 0)
    if due:
        control.kicked = gen
        for cpu in range(load_u32(&g.nr_cpus, memory_order_relaxed)):
            if mm_gen_owes(g, cpu):
                any_owes = True
                fetch_add_u64(&mm_cpu_of(g, cpu).nr_kicks, 1, memory_order_relaxed)
                note(g, cpu, MM_TRACE_KICK, gen)
    pthread_mutex_unlock(&control.lock)
    if any_owes:
        g.kick(g.kick_arg, g)           # without a lock: it may call anything


# A generation was opened, or the goal was raised by who is in a hurry.
cdef void mm_gen_announce(mm_gen *g) noexcept nogil:
    mm_gen_wake_sleepers(g)
    kick_holdouts(g)


cdef void mm_gen_wake(mm_gen *g) noexcept nogil:
    # Without the lock: whom must this see, that has opened a generation? After a CPU has stored IDLE and somebody waits, a hold follows,
    # its own wake's or the waiter's. One that was released before this generation opened came before the payment that opened it, so the
    # mode is seen, and the flag (litmus: wake-look); one that comes later credits the CPU in this generation itself. Who is PROXIED is
    # being credited under such a later one: a put-back comes before its hold's release.
    if any_idle(g):
        pthread_mutex_lock(&control_of(g).lock)
        credit_idle(g)
        pthread_mutex_unlock(&control_of(g).lock)
    mm_gen_announce(g)


cdef void mm_gen_expedite(mm_gen *g, uint64_t cookie) noexcept nogil:
    pthread_mutex_lock(&control_of(g).lock)
    if <int64_t>(cookie - control_of(g).expedite) > 0:
        control_of(g).expedite = cookie
    pthread_mutex_unlock(&control_of(g).lock)
    kick_holdouts(g)


# ---- the wait ------------------------------------------------------------------------------------------------------------------

cdef uint64_t mm_gen_begin(mm_gen *g, bint *opened) noexcept nogil:
    cdef uint64_t gen, goal, target
    opened[0] = False
    # Between the caller's unpublish and the load of generation. Pairs with the fence of mm_gen_tick_wanted, and with those of CPUs
    # that come back, in mm_gen_idle_exit and mm_gen_online (litmus: wait-fence, idle-exit, online).
    fence(memory_order_seq_cst)
    pthread_mutex_lock(&control_of(g).lock)
    control_of(g).nr_waits += 1
    # Acquire, pairs with open_next's release; relaxed would do, after the fence (litmus: wait-fence).
    gen = load_u64(&g.generation, memory_order_acquire)
    if control_of(g).online == 0:       # nobody holds anything: over already
        pthread_mutex_unlock(&control_of(g).lock)
        return gen
    goal = load_u64(&g.goal, memory_order_relaxed)
    if g.increments:
        target = gen + g.increments
    elif g.continuous or <int64_t>(goal - gen) > 0:
        target = gen + 3                # a generation is under way, its snapshots may be older than this wait
    else:
        target = gen + 2
    if <int64_t>(target - goal) > 0:
        store_u64(&g.goal, target, memory_order_release)    # pairs with mm_gen_tick's acquire; the fence would do (litmus: goal-store)
    opened[0] = credit_idle(g)
    pthread_mutex_unlock(&control_of(g).lock)
    note(g, OUTSIDE, MM_TRACE_WAIT_BEGIN, target)
    return target


cdef uint64_t mm_gen_start_poll(mm_gen *g) noexcept nogil:
    cdef bint opened
    cdef uint64_t cookie = mm_gen_begin(g, &opened)
    if opened:
        mm_gen_announce(g)
    return cookie


cdef bint mm_gen_poll(mm_gen *g, uint64_t cookie) noexcept nogil:
    # Acquire, pairs with open_next's release: the caller may free what every CPU used before (litmus: wait-load).
    return <int64_t>(load_u64(&g.generation, memory_order_acquire) - cookie) >= 0


cdef int mm_gen_wait_for(mm_gen *g, uint64_t cookie, int64_t timeout_ns) noexcept nogil:
    cdef mm_control *control = control_of(g)
    cdef uint64_t gen
    cdef int64_t deadline = -1
    cdef int err = 0, _spin
    for _spin in range(SPINS):
        if mm_gen_poll(g, cookie):
            note(g, OUTSIDE, MM_TRACE_WAIT_END, cookie)
            return 0
        if timeout_ns == 0:
            break
        mm_cpu_relax()
    if timeout_ns >= 0:
        deadline = mm_now()
        deadline = deadline + timeout_ns if timeout_ns < INT64_MAX - deadline else -1
    fetch_add_u32(&control.sleepers, 1, memory_order_relaxed)
    while True:
        fence(memory_order_seq_cst)     # pairs with mm_gen_wake_sleepers' and mm_gen_close's (litmus: sleep-fence, close-fence)
        gen = load_u64(&g.generation, memory_order_acquire)                 # as mm_gen_poll's (litmus: wait-load)
        if <int64_t>(gen - cookie) >= 0:
            err = 0
            break
        if load_u32(&control.state, memory_order_relaxed) != MM_OPEN:       # the fence, and close's loop, see to it
            err = -ESHUTDOWN
            break
        if err:
            break
        err = mm_sleep(MM_LOW_HALF(&g.generation), <uint32_t>gen, deadline)
    # Release, pairs with mm_gen_close's acquire: after it this sleeper looks at nothing but the trace (litmus: leave).
    fetch_sub_u32(&control.sleepers, 1, memory_order_release)
    if err == 0:
        note(g, OUTSIDE, MM_TRACE_WAIT_END, cookie)
    return err


cdef int mm_gen_wait(mm_gen *g, int64_t timeout_ns) noexcept nogil:
    return mm_gen_wait_for(g, mm_gen_start_poll(g), timeout_ns)


# ---- CPUs that idle, come and go -----------------------------------------------------------------------------------------------

# -EINVAL, or -ESHUTDOWN if that is why no mode fits.
cdef inline int wrong_mode(mm_gen *g) noexcept nogil:
    return -EINVAL if load_u32(&control_of(g).state, memory_order_relaxed) == MM_OPEN else -ESHUTDOWN


cdef int mm_gen_idle_enter(mm_gen *g, uint32_t cpu) noexcept nogil:
    cdef mm_cpu *c = mm_cpu_of(g, cpu)
    cdef uint32_t running = MM_RUNNING
    if load_u32(&c.mode, memory_order_relaxed) != MM_RUNNING:
        return wrong_mode(g)
    mm_switch(g, cpu)
    if load_u64(&g.idled, memory_order_relaxed) == 0:
        store_u64(&g.idled, 1, memory_order_relaxed)        # before the fence below, whoever stored it (litmus: idle-flag)
    # Release, pairs with the proxy's acquire in credit_idle (litmus: claim, proxy-decrement). Compared, since mm_gen_close may have
    # come between.
    if not cas_u32(&c.mode, &running, MM_IDLE, memory_order_release, memory_order_relaxed):
        return wrong_mode(g)
    note(g, cpu, MM_TRACE_IDLE_ENTER, 0)
    fence(memory_order_seq_cst)                             # pairs with credit_idle's (litmus: idle-fence, idle-flag)
    if waited_for(g):
        mm_gen_wake(g)
    return 0


cdef int mm_gen_idle_exit(mm_gen *g, uint32_t cpu) noexcept nogil:
    cdef mm_cpu *c = mm_cpu_of(g, cpu)
    cdef uint32_t seen = MM_IDLE
    # Acquire, pairs with the proxy's release in credit_idle: the line is whole, and says what was credited (litmus: put-back).
    while not cas_u32(&c.mode, &seen, MM_RUNNING, memory_order_acquire, memory_order_relaxed):
        if seen != MM_PROXIED:
            return wrong_mode(g)
        sched_yield()
        seen = MM_IDLE
    # A CPU that was credited while away must not read what was unpublished meanwhile. Pairs with mm_gen_begin's fence
    # (litmus: idle-exit). The lock, which that wait and the proxy take, would do, with the acquire above (litmus: idle-exit-lock).
    fence(memory_order_seq_cst)
    note(g, cpu, MM_TRACE_IDLE_EXIT, 0)
    return 0


cdef int mm_gen_offline(mm_gen *g, uint32_t cpu) noexcept nogil:
    cdef mm_cpu *c = mm_cpu_of(g, cpu)
    cdef uint64_t gen, goal, was
    cdef bint opened
    if load_u32(&c.mode, memory_order_relaxed) != MM_RUNNING and mm_gen_idle_exit(g, cpu) < 0:
        return wrong_mode(g)
    pthread_mutex_lock(&control_of(g).lock)
    if load_u32(&c.mode, memory_order_relaxed) != MM_RUNNING:               # closed since
        pthread_mutex_unlock(&control_of(g).lock)
        return wrong_mode(g)
    hold(g)
    gen = load_u64(&g.generation, memory_order_relaxed)
    # One CPU less, and its debt with it: acq_rel as the tick's, for what it used before. The hold keeps complete above 0; giving it
    # back hands on the same, so relaxed would do (litmus: offline-debt).
    was = fetch_sub_u64(&g.pending, ONE_ONLINE + owes(c, gen), memory_order_acq_rel)
    control_of(g).online -= 1
    store_u32(&c.mode, MM_OFFLINE, memory_order_relaxed)                    # read under the lock, which orders it
    if was >> MM_ONLINE_SHIFT == 1:        # it was the last: nobody is left to wait for, and nobody ticks
        goal = load_u64(&g.goal, memory_order_relaxed)
        if <int64_t>(goal - gen) > 0:
            gen = goal
            note(g, OUTSIDE, MM_TRACE_OPEN, gen)
        # Release of pending: relaxed would do, with online 0 it is read under the lock (litmus: offline-lock). Release of generation:
        # pairs with mm_gen_poll's acquire (litmus: offline-last).
        store_u64(&g.pending, (gen & 1) << MM_PARITY_SHIFT, memory_order_release)  # in this order, as in open_next
        store_u64(&g.generation, gen, memory_order_release)
        opened = True
    else:
        opened = release(g)
        if opened:
            credit_idle(g)
    pthread_mutex_unlock(&control_of(g).lock)
    note(g, cpu, MM_TRACE_OFFLINE, 0)
    if opened:
        mm_gen_announce(g)
    return 0


# An offline CPU comes up, owing the generation under way; with the control lock.
cdef void bring_up(mm_gen *g, uint32_t cpu) noexcept nogil:
    cdef mm_cpu *c = mm_cpu_of(g, cpu)
    cdef uint64_t parity, nr
    if control_of(g).online:
        hold(g)
        # Acq_rel as the hold's, pairs with open_next's release of pending; after the hold relaxed would do (litmus: open-pending).
        fetch_add_u64(&g.pending, ONE_ONLINE, memory_order_acq_rel)         # and the hold is now this CPU's debt
        parity = load_u64(&g.generation, memory_order_relaxed) & 1
    else:
        parity = load_u64(&g.generation, memory_order_relaxed) & 1
        # Relaxed would do: others come to read it by the lock (litmus: online-lock).
        store_u64(&g.pending, ONE_ONLINE | parity << MM_PARITY_SHIFT | 1, memory_order_release)
    control_of(g).online += 1
    nr = load_u64(&c.nr_mm_switches, memory_order_relaxed)
    store_u64(&c.mm_switches[parity], nr - 1, memory_order_relaxed)
    store_u64(&c.mm_switches[parity ^ 1], nr, memory_order_relaxed)
    c.ticked = <uint32_t>(load_u64(&g.generation, memory_order_relaxed) - 1)        # has not ticked in this one
    store_u32(&c.mode, MM_RUNNING, memory_order_relaxed)                    # read under the lock, which orders it
    note(g, cpu, MM_TRACE_ONLINE, 0)


cdef int mm_gen_online(mm_gen *g, uint32_t cpu) noexcept nogil:
    cdef bint fits
    pthread_mutex_lock(&control_of(g).lock)
    fits = (load_u32(&mm_cpu_of(g, cpu).mode, memory_order_relaxed) == MM_OFFLINE
            and load_u32(&control_of(g).state, memory_order_relaxed) == MM_OPEN)
    if fits:
        bring_up(g, cpu)
    pthread_mutex_unlock(&control_of(g).lock)
    # Before this CPU's first section: as in mm_gen_idle_exit. Pairs with mm_gen_begin's fence (litmus: online). The lock, which both
    # take, would do (litmus: online-lock).
    fence(memory_order_seq_cst)
    return 0 if fits else wrong_mode(g)


cdef int mm_gen_register(mm_gen *g) noexcept nogil:
    cdef mm_control *control = control_of(g)
    cdef uint32_t nr, i, cpu
    cdef int found = -EBUSY
    pthread_mutex_lock(&control.lock)
    nr = load_u32(&g.nr_cpus, memory_order_relaxed)
    if load_u32(&control.state, memory_order_relaxed) != MM_OPEN:
        found = -ESHUTDOWN
    else:
        for i in range(nr):
            cpu = (control.hint + i) % nr
            if load_u32(&mm_cpu_of(g, cpu).mode, memory_order_relaxed) == MM_OFFLINE:
                found = cpu
                break
        if found < 0 and nr < control.max_cpus:
            found = nr
            store_u32(&g.nr_cpus, nr + 1, memory_order_relaxed)             # any_idle: as the modes
    if found >= 0:
        control.hint = found + 1
        bring_up(g, found)
    pthread_mutex_unlock(&control.lock)
    fence(memory_order_seq_cst)         # as in mm_gen_online (litmus: online, online-lock)
    return found
