# cython: language_level=3, freethreading_compatible=True
"""A domain with its CPUs and waiters as the search's threads: what they may do, and what must hold in every state.

A CPU is in a section, and may hold what it found, from the end of a switch, online or idle_exit to the beginning of the next switch,
idle_enter or offline. A wait must outlast the sections that were going on when it was called: THE PROMISE, checked in every state as
soon as the wait has its cookie, whether or not anybody looks. With store buffers "going on" has no one moment; there each wait unpublishes
an object first, each section looks for it when it begins, and no section may have found what is freed.
"""
from libc.stdint cimport int64_t
from libc.string cimport memset

from mmgen._sleep cimport ESHUTDOWN
from mmgen._stdatomic cimport atomic_u64, memory_order_relaxed
from mmgen.check._callbacks cimport mm_gen_barrier, mm_gen_defer, mm_gen_run_callbacks, mm_gen_take_callbacks
from mmgen.check._control cimport CONTROL_BYTES, control_of
from mmgen.check._core cimport (
    MM_IDLE, MM_OFFLINE, MM_ONLINE_SHIFT, MM_PARITY_SHIFT, MM_PROXIED, MM_RUNNING, mm_cpu, mm_cpu_of, mm_gen_expedite,
    mm_gen_idle_enter, mm_gen_idle_exit, mm_gen_offline, mm_gen_online, mm_gen_poll, mm_gen_start_poll, mm_gen_tick,
    mm_gen_wait_for, mm_gen_wake, mm_switch,
)
from mmgen.check._lifetime cimport mm_gen_close, mm_gen_create, mm_gen_destroy
from mmgen.check._sketch cimport (
    MM_SKETCH_CPUS, mm_sketch_begin, mm_sketch_over, mm_sketch_switch, mm_sketch_tick,
)
from mmgen.check._steps cimport (
    MM_ADD, MM_ASLEEP, MM_CAS, MM_FENCE, MM_LOAD, MM_NOBODY, MM_REST, MM_STORE, MM_SUB, MM_UNLOCK, MM_YIELD, load_u64, mm_access,
    mm_enabled, mm_flush_one, mm_peek, mm_step, mm_steps, mm_steps_begin, mm_steps_of, mm_thread, store_u64,
)

cdef enum:
    LONGEST = 400                       # accesses in one operation; what ends takes fewer in any search that is not hopeless
    ROUNDS = 8                          # switches and ticks of every CPU in which all waits must end: three would do

cdef mm_world world
cdef mm_steps *steps = mm_steps_of()

cdef mm_world *mm_world_of() noexcept nogil:
    return &world


cdef int mm_world_begin(int cpus, int waiters, uint32_t allowed, int ops, int waits, int cpu_waits, int preemptions, bint continuous,
                        bint buffered, bint invariants, bint every, bint sketched, int variant, int patience,
                        uint64_t first_generation, uint64_t first_switches) except -1:
    cdef int cpu, t
    mm_world_end()
    memset(&world, 0, sizeof(world))
    world.cpus, world.waiters, world.allowed, world.preemptions = cpus, waiters, allowed, preemptions
    world.invariants, world.sketched, world.absolute = invariants, sketched, first_switches != 0
    mm_steps_begin(cpus + waiters)
    steps.body, steps.hidden, steps.wrote = body, hidden, wrote
    world.g = mm_gen_create(cpus, cpus, first_generation, first_switches)
    if world.g is NULL:
        raise MemoryError("no memory for a domain")
    world.block = <char *>control_of(world.g)
    world.bytes = CONTROL_BYTES + sizeof(mm_gen) + cpus * sizeof(mm_cpu)
    world.g.continuous = continuous
    world.g.patience = patience
    if patience or allowed & 1 << OP_EXPEDITE:
        world.g.kick = kick
    world.ghost.ops_left = ops
    world.ghost.last = MM_NOBODY
    for t in range(MM_MAX_THREADS):
        world.ghost.proxy[t] = MM_NOBODY
        world.ghost.waits_left[t] = waits if cpus <= t < cpus + waiters else cpu_waits if t < cpus else 0
        store_u64(&world.ghost.object[t], 1, memory_order_relaxed)
    for cpu in range(cpus):
        mm_gen_online(world.g, cpu)
        world.ghost.counted |= 1 << cpu
    world.ghost.holds = world.ghost.counted
    for t in range(cpus, cpus + waiters):
        world.ghost.found[t] = world.ghost.counted
    sketch_begin(first_generation, variant)
    steps.buffered, steps.every, steps.broken = buffered, every, variant
    return 0


# As mm_foo starts; variant 1: with its first generation owed and complete what it should be, so that its other faults can be seen.
cdef void sketch_begin(uint64_t generation, int variant) noexcept nogil:
    cdef int cpu
    world.ghost.sketch.nr_online_cpus = world.cpus
    (<uint64_t *>&world.ghost.sketch.generation)[0] = generation
    (<uint32_t *>&world.ghost.sketch.complete)[0] = world.cpus if variant else 0xffffffff
    for cpu in range(MM_SKETCH_CPUS):
        (<uint64_t *>&world.ghost.sketch.switches[generation & 1][cpu])[0] = <uint64_t>0 - variant


cdef void mm_world_end() noexcept nogil:
    if world.g is not NULL:
        mm_gen_destroy(world.g)
        world.g = NULL


cdef void kick(void *_arg, mm_gen *_g) noexcept nogil:
    pass                                # makes CPUs switch and tick, as they may anyway


# ---- operations -----------------------------------------------------------------------------------------------------------------

# In the thread: the operation that mm_begin chose.
cdef void body(int t) noexcept nogil:
    cdef int op = steps.threads[t].op
    cdef int err
    if world.sketched:
        sketch_body(t, op)
    elif op == OP_SWITCH:
        mm_switch(world.g, t)
        section(t)
    elif op == OP_TICK:
        if mm_gen_tick(world.g, t):
            mm_gen_wake(world.g)
    elif op == OP_IDLE_ENTER:
        answered(mm_gen_idle_enter(world.g, t))
    elif op == OP_IDLE_EXIT:
        if answered(mm_gen_idle_exit(world.g, t)):
            section(t)
    elif op == OP_ONLINE:
        if answered(mm_gen_online(world.g, t)):
            section(t)
    elif op == OP_OFFLINE:
        answered(mm_gen_offline(world.g, t))
    elif op == OP_BEGIN:
        if steps.buffered:
            store_u64(&world.ghost.object[t], 0, memory_order_relaxed)
        world.ghost.cookie[t] = mm_gen_start_poll(world.g)
        world.ghost.waiting[t] = True
    elif op == OP_POLL:
        if mm_gen_poll(world.g, world.ghost.cookie[t]):
            released(t)
    elif op == OP_WAIT or op == OP_WAIT_TIMED:
        err = mm_gen_wait_for(world.g, world.ghost.cookie[t], 1 if op == OP_WAIT_TIMED else -1)
        if err == 0:
            released(t)
        elif err == -ESHUTDOWN:
            world.ghost.waiting[t] = False
    elif op == OP_EXPEDITE:
        mm_gen_expedite(world.g, world.ghost.cookie[t])
    elif op == OP_DEFER:
        if mm_gen_defer(world.g, &world.ghost.callback[t], called) == 0:
            if world.ghost.callback_state[t] == MM_NOT_DEFERRED:        # it may have run before its defer returned
                world.ghost.callback_state[t] = MM_DEFERRED
        else:
            world.ghost.callback_state[t] = MM_TAKEN                    # still the caller's
    elif op == OP_RUN:
        mm_gen_run_callbacks(world.g, 8)
    elif op == OP_BARRIER:
        if mm_gen_barrier(world.g, -1) == 0:
            barred(t)
    elif op == OP_CLOSE:
        mm_gen_close(world.g)
        take(mm_gen_take_callbacks(world.g))
        world.ghost.closed = True


# Whether a call by a CPU whose mode fits has succeeded. That the domain was closed meanwhile is the one reason why it might not.
cdef bint answered(int err) noexcept nogil:
    if err and err != -ESHUTDOWN:
        world.ghost.harm = MM_REFUSED
    return err == 0


cdef void section(int t) noexcept nogil:
    cdef int waiter
    if steps.buffered:
        for waiter in range(world.cpus, world.cpus + world.waiters):
            if load_u64(&world.ghost.object[waiter], memory_order_relaxed):
                world.ghost.found[waiter] |= 1 << t
                if world.ghost.freed[waiter]:
                    world.ghost.harm = MM_STALE
    world.ghost.holds |= 1 << t


cdef void released(int t) noexcept nogil:
    if world.ghost.need[t]:
        world.ghost.harm = MM_EARLY
    if steps.buffered and t >= world.cpus:
        world.ghost.freed[t] = True
        if world.ghost.found[t]:
            world.ghost.harm = MM_STALE
    world.ghost.waiting[t] = False


cdef void called(mm_callback *callback) noexcept nogil:
    cdef int t = callback - world.ghost.callback
    if world.ghost.callback_need[t]:
        world.ghost.harm = MM_EARLY
    load_u64(<atomic_u64 *>&callback.cookie, memory_order_relaxed)      # a step: it may take its time
    world.ghost.callback_state[t] = MM_RAN


cdef void barred(int t) noexcept nogil:
    cdef int i
    for i in range(steps.nr_threads):
        if world.ghost.barrier[t] & 1 << i and world.ghost.callback_state[i] != MM_RAN:
            world.ghost.harm = MM_BARRED


cdef void take(mm_callback *callback) noexcept nogil:
    while callback is not NULL:
        world.ghost.callback_state[callback - world.ghost.callback] = MM_TAKEN
        callback = callback.next


cdef void sketch_body(int t, int op) noexcept nogil:
    if op == OP_SWITCH:
        mm_sketch_switch(&world.ghost.sketch, t)
        section(t)
    elif op == OP_TICK:
        mm_sketch_tick(&world.ghost.sketch, t)
    elif op == OP_OFFLINE:
        world.ghost.sketch.nr_online_cpus -= 1
        world.ghost.counted &= ~(1 << t)
    elif op == OP_BEGIN:
        world.ghost.cookie[t] = mm_sketch_begin(&world.ghost.sketch)
        world.ghost.waiting[t] = True
    elif op == OP_POLL and mm_sketch_over(&world.ghost.sketch, <uint32_t>world.ghost.cookie[t]):
        released(t)


cdef inline bint over(int t) noexcept nogil:
    if world.sketched:
        return mm_peek(&world.ghost.sketch.generation, 8) - <uint32_t>world.ghost.cookie[t] > 1
    return <int64_t>(mm_peek(&world.g.generation, 8) - world.ghost.cookie[t]) >= 0


cdef inline uint32_t mode_of(int cpu) noexcept nogil:
    if world.sketched:                  # an idle CPU of the sketch is one that does nothing
        return MM_RUNNING if world.ghost.counted & 1 << cpu else MM_OFFLINE
    return <uint32_t>mm_peek(&mm_cpu_of(world.g, cpu).mode, 4)


cdef uint32_t mm_may(int t) noexcept nogil:
    cdef uint32_t may = 0, mode
    if t < world.cpus:
        mode = mode_of(t)
        if world.ghost.ops_left and mode == MM_RUNNING:
            may = 1 << OP_SWITCH | 1 << OP_TICK | 1 << OP_IDLE_ENTER | 1 << OP_OFFLINE
        elif world.ghost.ops_left and mode == MM_OFFLINE and not world.sketched:
            may = 1 << OP_ONLINE
        elif world.ghost.ops_left and mode != MM_OFFLINE:
            may = 1 << OP_IDLE_EXIT | 1 << OP_OFFLINE
        if mode == MM_RUNNING:
            return may & world.allowed
    if world.ghost.waiting[t]:
        may |= 1 << OP_POLL | 1 << OP_WAIT | 1 << OP_WAIT_TIMED | 1 << OP_EXPEDITE
    elif world.ghost.waits_left[t]:
        may |= 1 << OP_BEGIN
    if world.ghost.waits_left[t] and world.ghost.callback_state[t] == MM_NOT_DEFERRED:
        may |= 1 << OP_DEFER
    if t >= world.cpus:
        may |= 1 << OP_RUN | 1 << OP_BARRIER | (0 if world.ghost.closed else 1 << OP_CLOSE)
    return may & world.allowed


# `thread`, which is at rest, begins `op`, and runs up to its first access.
cdef void mm_begin(int t, int op) noexcept nogil:
    cdef int i
    steps.threads[t].op = op
    steps.threads[t].loops = op == OP_CLOSE
    world.ghost.length[t] = 0
    if op <= OP_OFFLINE:
        world.ghost.ops_left -= 1
    if op == OP_SWITCH or op == OP_IDLE_ENTER or op == OP_OFFLINE:
        world.ghost.holds &= ~(1 << t)
        for i in range(steps.nr_threads):
            world.ghost.need[i] &= ~(1 << t)
            world.ghost.callback_need[i] &= ~(1 << t)
            world.ghost.found[i] &= ~(1 << t)
    elif op == OP_BEGIN:
        world.ghost.waits_left[t] -= 1
        world.ghost.need[t] = world.ghost.holds
    elif op == OP_DEFER:
        world.ghost.waits_left[t] -= 1
        world.ghost.callback_need[t] = world.ghost.holds
    elif op == OP_BARRIER:
        world.ghost.barrier[t] = 0
        for i in range(steps.nr_threads):
            if world.ghost.callback_state[i] == MM_DEFERRED:
                world.ghost.barrier[t] |= 1 << i
    mm_step(t)
    if not steps.every and mm_enabled(t):
        mm_step(t)                      # that it has begun nobody can tell before its first access


# ---- which accesses are steps ---------------------------------------------------------------------------------------------------

# Whether no other thread can tell when thread t makes this access: what it reads stands still, what it writes nobody else reads, until
# then. A CPU's counters are its own while it runs, and its proxy's after a claim; that nobody else touches them is checked here
# (MM_FOREIGN). The goal stands still for who holds the control lock, and so does the number of CPUs.
cdef bint hidden(int t, mm_access *a) noexcept nogil:
    cdef mm_gen *g = world.g
    cdef mm_cpu *c
    cdef int cpu
    cdef uint32_t mode
    world.ghost.length[t] += 1
    if a.what == MM_FENCE:
        return not steps.buffered
    if a.what == MM_YIELD:
        return False
    if a.what == MM_UNLOCK:
        return not steps.every and not steps.buffered
    if <char *>a.word < <char *>mm_cpu_of(g, 0) or <char *>a.word >= world.block + world.bytes:
        if a.word == <void *>&g.nr_cpus:
            return True
        if steps.every:
            return False
        if a.word == <void *>&g.goal:
            return a.what == MM_LOAD and mm_peek(&control_of(g).lock, 4) == <uint64_t>t + 1
        return a.word == <void *>&control_of(g).state and not world.allowed & 1 << OP_CLOSE
    cpu = (<char *>a.word - <char *>mm_cpu_of(g, 0)) // sizeof(mm_cpu)
    c = mm_cpu_of(g, cpu)
    mode = <uint32_t>mm_peek(&c.mode, 4)
    if a.word == <void *>&c.mode:
        return (not steps.every and a.what == MM_LOAD and t == cpu and mode != MM_PROXIED and mode != MM_IDLE
                and not world.allowed & 1 << OP_CLOSE)
    if a.word == <void *>&c.nr_ticks or a.word == <void *>&c.nr_opened or a.word == <void *>&c.nr_kicks:
        return True                     # statistics
    if (mode == MM_PROXIED and world.ghost.proxy[cpu] == t) or (t == cpu and (mode == MM_RUNNING or mode == MM_OFFLINE)):
        return not steps.every and world.g.kick is NULL
    if world.invariants and not steps.buffered and not (world.g.kick is not NULL and a.what == MM_LOAD):
        world.ghost.harm = MM_FOREIGN
    return False


# ---- what must hold -------------------------------------------------------------------------------------------------------------

cdef inline bint owes_by(uint64_t *mm_switches, int parity) noexcept nogil:
    return <int64_t>(mm_switches[parity] - mm_switches[parity ^ 1]) < 0


# Memory was written: keep the books on who holds and who pays.
cdef void wrote(int t, void *word, uint64_t was, uint64_t now) noexcept nogil:
    cdef mm_gen *g = world.g
    cdef mm_ghost *ghost = &world.ghost
    cdef mm_cpu *c
    cdef int cpu, parity, what
    cdef uint64_t before[2]
    if word == <void *>&g.pending:
        if <uint32_t>now > MM_MAX_THREADS * 4:
            ghost.harm = MM_UNDERFLOW
        what = steps.threads[t].next.what               # an access to pending is always a step
        if what == MM_CAS:
            ghost.held[t] += 1
        elif what == MM_ADD:
            ghost.counted |= 1 << t
            ghost.indebted |= 1 << t
            ghost.held[t] -= 1                          # the hold is now its debt
        elif what == MM_SUB and was >> MM_ONLINE_SHIFT != now >> MM_ONLINE_SHIFT:
            ghost.counted &= ~(1 << t)                  # and its debt goes with it
        elif what == MM_SUB and ghost.paying[t]:
            ghost.paying[t] -= 1
        elif what == MM_SUB:
            ghost.held[t] -= 1
        elif now >> MM_ONLINE_SHIFT == 0:               # the last CPU has gone
            ghost.held[t] = 0
        elif was >> MM_ONLINE_SHIFT == 0:               # the first comes
            ghost.counted |= 1 << t
            ghost.indebted |= 1 << t
        return
    if <char *>word < <char *>mm_cpu_of(g, 0) or <char *>word >= world.block + world.bytes:
        return
    cpu = (<char *>word - <char *>mm_cpu_of(g, 0)) // sizeof(mm_cpu)
    c = mm_cpu_of(g, cpu)
    if word == <void *>&c.mode:
        if now == MM_RUNNING:
            ghost.indebted &= ~(1 << cpu)
        ghost.proxy[cpu] = t if now == MM_PROXIED else MM_NOBODY
    elif (word == <void *>&c.mm_switches[0] or word == <void *>&c.mm_switches[1]) and ghost.counted & ~ghost.indebted & 1 << cpu:
        parity = <uint64_t>mm_peek(&g.pending, 8) >> MM_PARITY_SHIFT & 1
        before[0] = mm_peek(&c.mm_switches[0], 8)
        before[1] = mm_peek(&c.mm_switches[1], 8)
        before[word == <void *>&c.mm_switches[1]] = was
        if owes_by(before, parity) and not owes_by(<uint64_t *>&c.mm_switches[0], parity):
            ghost.paying[t] += 1


cdef void mm_check() noexcept nogil:
    cdef mm_ghost *ghost = &world.ghost
    cdef int t
    if ghost.harm:
        return
    if steps.overflow:
        ghost.harm = MM_VOID
        return
    for t in range(steps.nr_threads):
        if ghost.waiting[t] and ghost.need[t] and over(t):
            ghost.harm = MM_EARLY
            return
        if ghost.length[t] > LONGEST:
            ghost.harm = MM_ENDLESS
            return
    if world.invariants and not steps.buffered and not world.sketched:
        check_books()


cdef void check_books() noexcept nogil:
    cdef uint64_t pending = mm_peek(&world.g.pending, 8)
    cdef int parity = pending >> MM_PARITY_SHIFT & 1
    cdef int t, sum = 0
    cdef bint opening = False
    for t in range(steps.nr_threads):
        sum += world.ghost.held[t] + world.ghost.paying[t]
        if steps.threads[t].next.what == MM_STORE and steps.threads[t].next.word == <void *>&world.g.generation:
            opening = True
    for t in range(world.cpus):
        if world.ghost.counted & 1 << t and (
                world.ghost.indebted & 1 << t or owes_by(<uint64_t *>&mm_cpu_of(world.g, t).mm_switches[0], parity)):
            sum += 1
    if <uint32_t>pending != <uint32_t>sum:
        world.ghost.harm = MM_COMPLETE
    elif (parity ^ mm_peek(&world.g.generation, 8)) & 1 and not opening:
        world.ghost.harm = MM_PARITY
    elif control_of(world.g).online != pending >> MM_ONLINE_SHIFT and mm_peek(&control_of(world.g).lock, 4) == 0:
        world.ghost.harm = MM_ONLINE


# ---- a fair schedule ------------------------------------------------------------------------------------------------------------

# Somebody is in an operation, and nobody who is in one can go on: that others might begin operations yet helps nobody.
cdef bint mm_stuck() noexcept nogil:
    cdef mm_thread *thread
    cdef int t
    for t in range(steps.nr_threads):
        thread = &steps.threads[t]
        if mm_enabled(t) or thread.nr_buffered or (thread.may_time_out and thread.next.what == MM_ASLEEP):
            return False
    return not mm_at_rest()


cdef bint mm_at_rest() noexcept nogil:
    cdef int t, what
    for t in range(steps.nr_threads):
        what = steps.threads[t].next.what
        if what != MM_REST and (what != MM_ASLEEP or steps.threads[t].woken):
            return False
        if steps.threads[t].nr_buffered:
            return False
    return True


# Thread t goes on until it is at rest or asleep, others where it has to wait for them; its stores reach memory.
cdef bint finish(int t) noexcept nogil:
    cdef int other, _i
    for _i in range(LONGEST):
        if mm_enabled(t):
            mm_step(t)
        elif steps.threads[t].next.what == MM_REST or steps.threads[t].next.what == MM_ASLEEP:
            while steps.threads[t].nr_buffered:
                mm_flush_one(t)
            return True
        else:
            for other in range(steps.nr_threads):
                if other != t and mm_enabled(other):
                    mm_step(other)
                    break
            else:
                return False
        mm_check()
        if world.ghost.harm:
            return True
    return False


# Where only one thread can go on in its operation, it ends that, or lets another go on: it does not go round for ever.
cdef void mm_alone() noexcept nogil:
    cdef int t, who = MM_NOBODY, _i
    if steps.buffered:
        return                          # others may be waiting for its stores
    for t in range(steps.nr_threads):
        if mm_enabled(t):
            if who != MM_NOBODY:
                return
            who = t
    for _i in range(LONGEST):
        if who == MM_NOBODY or world.ghost.harm or not mm_enabled(who):
            return
        mm_step(who)
        mm_check()
        for t in range(steps.nr_threads):
            if t != who and mm_enabled(t):
                return
    world.ghost.harm = MM_ENDLESS


cdef bint run(int t, int op) noexcept nogil:
    world.ghost.ops_left = 1
    mm_begin(t, op)
    return finish(t)


cdef bint all_released() noexcept nogil:
    cdef int t
    for t in range(steps.nr_threads):
        if steps.threads[t].next.what != MM_REST or (world.ghost.waiting[t] and not world.ghost.closed and not over(t)):
            return False
        if world.ghost.callback_state[t] == MM_DEFERRED:
            return False
    return True


cdef void check_rest() noexcept nogil:
    cdef int t
    if mm_peek(&control_of(world.g).lock, 4) or mm_peek(&control_of(world.g).queue_lock, 4):
        world.ghost.harm = MM_HELD
        return
    for t in range(world.cpus):
        if world.ghost.closed and mode_of(t) != MM_OFFLINE:
            world.ghost.harm = MM_REVIVED
            return


cdef void mm_drain() noexcept nogil:
    cdef int t, _round
    if mm_at_rest():
        check_rest()
    if world.ghost.harm:
        return
    for _round in range(ROUNDS):
        for t in range(steps.nr_threads):
            if steps.threads[t].next.what != MM_REST and not finish(t):
                world.ghost.harm = MM_STUCK
        if all_released():
            return
        for t in range(world.cpus):
            if steps.threads[t].next.what == MM_REST and mode_of(t) == MM_RUNNING:
                if not run(t, OP_SWITCH) or not run(t, OP_TICK):
                    world.ghost.harm = MM_STUCK
        if world.allowed & 1 << OP_DEFER and not world.ghost.closed:
            for t in range(steps.nr_threads):
                if steps.threads[t].next.what == MM_REST:
                    if not run(t, OP_RUN):
                        world.ghost.harm = MM_STUCK
                    break
            else:                       # nobody is left to run callbacks, and who waits for these sleeps in vain; but only they may
                for t in range(steps.nr_threads):
                    if steps.threads[t].op != OP_BARRIER:
                        world.ghost.harm = MM_HANGS
                return
        if world.ghost.harm:
            return
    for t in range(steps.nr_threads):
        if world.ghost.closed and world.ghost.callback_state[t] == MM_DEFERRED:
            world.ghost.harm = MM_LOST
            return
    world.ghost.harm = MM_HANGS


# ---- what tells states apart ----------------------------------------------------------------------------------------------------

cdef inline uint64_t mix(uint64_t hash, uint64_t value) noexcept nogil:
    hash = (hash ^ value) * <uint64_t>0xff51afd7ed558ccd
    return hash ^ (hash >> 32)


# 0, 1 or 2: where `snapshot` of a counter that is now `nr` stands in the order of the two snapshots and it.
cdef inline uint64_t rank(uint64_t snapshot, uint64_t other, uint64_t nr) noexcept nogil:
    if snapshot == nr:
        return 2
    return 1 if other == nr or <int64_t>(snapshot - other) >= 0 else 0


cdef uint64_t hash_cpu(uint64_t hash, int cpu) noexcept nogil:
    cdef mm_cpu *c = mm_cpu_of(world.g, cpu)
    cdef uint64_t nr = mm_peek(&c.nr_mm_switches, 8)
    cdef uint64_t even = mm_peek(&c.mm_switches[0], 8)
    cdef uint64_t odd = mm_peek(&c.mm_switches[1], 8)
    cdef uint32_t mode = <uint32_t>mm_peek(&c.mode, 4)
    hash = mix(hash, mode)
    if world.g.patience:                # how many ticks it has been patient for, in which generation
        hash = mix(hash, mm_peek(&c.nr_ticks, 8) - c.first_tick)
        hash = mix(hash, c.ticked - <uint32_t>mm_peek(&world.g.generation, 8))
    if mode == MM_OFFLINE and steps.threads[cpu].next.what == MM_REST and not world.absolute:
        return hash                     # overwritten before they are read
    # The code compares a CPU's three counters with each other only: where no thread remembers one, their order is all there is. Near
    # the wrap that is what is to be shown: there they count as they are.
    if (steps.threads[cpu].next.what == MM_REST and mode != MM_PROXIED and not steps.every and world.g.kick is NULL
            and not world.absolute and <int64_t>(nr - even) >= 0 and <int64_t>(nr - odd) >= 0):
        if even == odd:
            return mix(hash, 16 + (even == nr))
        return mix(hash, rank(even, odd, nr) * 4 + rank(odd, even, nr))
    return mix(mix(mix(hash, nr), even), odd)


cdef uint64_t mm_hash() noexcept nogil:
    cdef mm_ghost *ghost = &world.ghost
    cdef mm_thread *thread
    cdef uint64_t hash = 0
    cdef uint64_t *words
    cdef int t, i
    if world.sketched:
        words = <uint64_t *>&ghost.sketch
        for i in range(<int>sizeof(ghost.sketch) // 8):
            hash = mix(hash, words[i])
    else:
        hash = hash_domain()
        for t in range(world.cpus):
            hash = hash_cpu(hash, t)
    hash = mix(hash, <uint64_t>ghost.holds | <uint64_t>ghost.counted << 8 | <uint64_t>ghost.indebted << 16 | <uint64_t>ghost.closed << 24)
    if world.preemptions >= 0:
        hash = mix(hash, (ghost.preemptions << 8) + ghost.last + 1)
    for t in range(steps.nr_threads):
        thread = &steps.threads[t]
        if thread.next.what != MM_REST:
            hash = mix(hash, hash_stack(<uint64_t *>thread.sp, <uint64_t *>steps.stack[t]))
        hash = mix(hash, <uint64_t>thread.woken | <uint64_t>thread.yielded << 1 | <uint64_t>ghost.waiting[t] << 2
                   | <uint64_t>(thread.next.what == MM_REST) << 3 | <uint64_t>ghost.freed[t] << 4
                   | <uint64_t>thread.mover << 5 | <uint64_t>thread.timed_out << 6
                   | <uint64_t>thread.loops << 7 | <uint64_t>thread.stirred << 60
                   | <uint64_t>ghost.waits_left[t] << 8 | <uint64_t>ghost.need[t] << 16 | <uint64_t>ghost.callback_state[t] << 24
                   | <uint64_t>ghost.callback_need[t] << 32 | <uint64_t>ghost.barrier[t] << 40 | <uint64_t>ghost.found[t] << 48)
        if ghost.waiting[t]:
            hash = mix(hash, ghost.cookie[t])
        for i in range(thread.nr_buffered):
            hash = mix(mix(hash, <uint64_t>thread.buffer[i].word), thread.buffer[i].value)
        if steps.buffered:
            hash = mix(hash, mm_peek(&ghost.object[t], 8))
        # Its callback, while anybody may read that: from its defer until it has run, or was taken.
        if world.allowed & 1 << OP_DEFER and (ghost.callback_state[t] == MM_DEFERRED or (
                ghost.callback_state[t] == MM_NOT_DEFERRED and thread.next.what != MM_REST)):
            hash = mix(mix(hash, ghost.callback[t].cookie), <uint64_t>ghost.callback[t].next)
    return hash


# What a thread that is stopped has yet to do hangs on its stack, its registers on it, and on memory. Sum of products, each by an odd
# number of its own: two words that differ make a difference. The factors are powers, and no arithmetic series: in that, small
# differences at equal distances cancel out, +1, -2, +1 for one.
cdef uint64_t hash_stack(uint64_t *word, uint64_t *end) noexcept nogil:
    cdef uint64_t sum = end - word, by = <uint64_t>0x9e3779b97f4a7c15
    while word != end:
        sum += (word[0] ^ (by >> 7)) * by
        by *= <uint64_t>0xd1342543de82ef95
        word += 1
    return sum


# The words that threads share; the rest of the domain is constant, or statistics.
cdef uint64_t hash_domain() noexcept nogil:
    cdef mm_gen *g = world.g
    cdef uint64_t hash = mix(0, mm_peek(&g.generation, 8))
    hash = mix(hash, mm_peek(&g.goal, 8))
    hash = mix(hash, mm_peek(&g.pending, 8))
    hash = mix(hash, <uint64_t>control_of(g).online << 32 | mm_peek(&g.idled, 8))
    hash = mix(hash, mm_peek(&control_of(g).lock, 4) << 32 | mm_peek(&control_of(g).sleepers, 4))
    if g.kick is not NULL:
        hash = mix(mix(mix(hash, control_of(g).expedite), control_of(g).kicked), mm_peek(&control_of(g).impatient, 8))
    if world.allowed & (1 << OP_DEFER | 1 << OP_CLOSE):
        hash = mix(hash, mm_peek(&control_of(g).queue_lock, 4) << 32 | mm_peek(&control_of(g).state, 4))
        hash = mix(hash, mm_peek(&control_of(g).barriers, 4) << 32 | mm_peek(&control_of(g).running, 4))
        hash = mix(mix(hash, mm_peek(&control_of(g).nr_deferred, 8)), mm_peek(&control_of(g).nr_run, 8))
        hash = mix(mix(hash, <uint64_t>control_of(g).first), <uint64_t>control_of(g).last)
    return hash
