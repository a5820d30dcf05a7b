# cython: language_level=3, freethreading_compatible=True
"""Lazy mms freed after a grace period: the domain of mmgen._core, driven by a machine's switches, ticks, idle spells and hotplug.

A switch to a task with an mm is a switch of the domain's, as in the sketch; a kernel thread keeps the mm. An mm whose last task exits is
deferred, and freed by whoever opens the generation that ends its grace period, or comes by next.
"""
from libc.stdint cimport SIZE_MAX, int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc

from mmgen._callbacks cimport mm_gen_defer, mm_gen_first_callback, mm_gen_run_callbacks, mm_gen_take_callbacks
from mmgen._core cimport (
    MM_IDLE, mm_callback, mm_cpu, mm_cpu_of, mm_gen, mm_gen_idle_enter, mm_gen_idle_exit, mm_gen_offline, mm_gen_online, mm_gen_owes,
    mm_gen_poll, mm_gen_tick, mm_gen_wake, mm_switch,
)
from mmgen._lifetime cimport mm_gen_create, mm_gen_destroy
from mmgen._stdatomic cimport atomic_u64, fence, load_u32, load_u64, memory_order_relaxed, memory_order_seq_cst, store_u64
from mmgen.lab._policy cimport INIT_MM, LAB_OPENED, LAB_WAKE, NO_MM, OUTSIDE, cpu_of, lab_machine, lab_policy

cdef struct generation:
    mm_gen *g
    uint32_t idle
    uint32_t broken
    atomic_u64 seen                 # the generation in which callbacks were run last

cdef struct dead_mm:                # what call_rcu would have in the mm itself
    mm_callback callback
    lab_machine *m
    uint32_t mm

cdef struct idlers:                 # what the domain sees when it looks for CPUs that idle (_core.pyx, any_idle, credit_idle)
    uint32_t looks                  # at CPUs up to the first that does: all, if none does; 0, if none ever has
    uint32_t idle                   # how many do
    uint32_t owing                  # how many of those owe the generation under way


cdef void release(mm_callback *callback) noexcept nogil:
    cdef dead_mm *dead = <dead_mm *>callback
    dead.m.free_mm(dead.m, dead.mm)
    free(dead)


# Free what is due, if a generation has opened since the last look.
cdef inline void reap(lab_machine *m) noexcept nogil:
    cdef generation *own = <generation *>m.own
    cdef uint64_t gen = load_u64(&own.g.generation, memory_order_relaxed), cookie
    if gen == load_u64(&own.seen, memory_order_relaxed):
        return
    store_u64(&own.seen, gen, memory_order_relaxed)
    mm_gen_run_callbacks(own.g, SIZE_MAX)
    while m.threads:
        # Who came while this thread was at it has run none. The fence is between saying that it is done with it and looking at the
        # generation, which the other opened before it came.
        fence(memory_order_seq_cst)
        if not mm_gen_first_callback(own.g, &cookie) or not mm_gen_poll(own.g, cookie) or not mm_gen_run_callbacks(own.g, SIZE_MAX):
            return


cdef inline bint waited_for(mm_gen *g) noexcept nogil:
    return <int64_t>(load_u64(&g.goal, memory_order_relaxed) - load_u64(&g.generation, memory_order_relaxed)) > 0


# ---- what the domain does besides, for the account -----------------------------------------------------------------------------

# What there is to see before the domain does. entering: the CPU that will idle by then. Where nobody waits it looks for one only.
cdef idlers survey(mm_gen *g, uint32_t entering, bint waited) noexcept nogil:
    cdef idlers seen
    cdef uint32_t cpu, nr = load_u32(&g.nr_cpus, memory_order_relaxed)
    seen.looks = seen.idle = seen.owing = 0
    if load_u64(&g.idled, memory_order_relaxed) == 0 and entering == OUTSIDE:
        return seen
    seen.looks = nr
    for cpu in range(nr):
        if cpu != entering and load_u32(&mm_cpu_of(g, cpu).mode, memory_order_relaxed) != MM_IDLE:
            continue
        if seen.idle == 0:
            seen.looks = cpu + 1
        seen.idle += 1
        if not waited:
            break
        seen.owing += mm_gen_owes(g, cpu)
    return seen


# What credit_idle has done. It went round once for each generation that it opened since `gen`, and once more if somebody waits still; what
# it looked at again was there. fetched: so many CPUs' lines were, from mm_gen_wake's look.
cdef void credit(lab_machine *m, uint32_t cpu, mm_gen *g, const idlers *seen, uint32_t fetched, uint64_t gen) noexcept nogil:
    cdef uint64_t opened = load_u64(&g.generation, memory_order_relaxed) - gen, rounds = opened + waited_for(g), i
    cdef uint32_t owing = seen.owing
    if rounds == 0:
        return
    m.looked(m, seen.looks - fetched)
    if seen.idle == 0:
        return
    for i in range(rounds):
        m.credited(m, cpu, 0 if i else m.nr_cpus - seen.looks, seen.idle, owing, i < opened)
        owing = seen.idle                           # in a new generation everybody owes


# The same for mm_gen_wake, which looks without the lock first.
cdef void wake(lab_machine *m, uint32_t cpu, mm_gen *g, const idlers *seen, uint64_t gen) noexcept nogil:
    m.looked(m, seen.looks)
    if seen.idle:
        m.locked(m, cpu)
        credit(m, cpu, g, seen, seen.looks, gen)


# ---- the policy ----------------------------------------------------------------------------------------------------------------

cdef void context_switch(lab_machine *m, uint32_t cpu, uint32_t prev, uint32_t next) noexcept nogil:
    if next != NO_MM:
        m.use(m, cpu, next)
        mm_switch((<generation *>m.own).g, cpu)


cdef void exit_mmap(lab_machine *m, uint32_t cpu, uint32_t mm) noexcept nogil:
    cdef generation *own = <generation *>m.own
    cdef dead_mm *dead = <dead_mm *>malloc(sizeof(dead_mm))
    cdef uint64_t gen
    cdef idlers seen
    if dead is NULL:
        m.no_memory(m)
        return
    dead.m = m
    dead.mm = mm
    m.locked(m, cpu)
    seen = survey(own.g, OUTSIDE, True)
    gen = load_u64(&own.g.generation, memory_order_relaxed)
    mm_gen_defer(own.g, &dead.callback, release)
    credit(m, cpu, own.g, &seen, 0, gen)
    if not waited_for(own.g):                       # all are idle, or offline; another thread may have run the callback by now
        store_u64(&own.seen, load_u64(&own.g.generation, memory_order_relaxed) - 1, memory_order_relaxed)
    reap(m)


# cpu's tick has opened a generation, or has run out of patience.
cdef void woken(lab_machine *m, uint32_t cpu) noexcept nogil:
    cdef mm_gen *g = (<generation *>m.own).g
    cdef idlers seen = survey(g, OUTSIDE, waited_for(g))
    cdef uint64_t gen = load_u64(&g.generation, memory_order_relaxed)
    if g.kick is not NULL:
        m.locked(m, cpu)                            # to see whether a kick is due
    mm_gen_wake(g)
    wake(m, cpu, g, &seen, gen)
    reap(m)


# Of which parity a CPU's later snapshot is: that changes when a tick counts, and only then (_core.pyx, owes).
cdef inline bint later(mm_cpu *c) noexcept nogil:
    return <int64_t>(load_u64(&c.mm_switches[0], memory_order_relaxed) - load_u64(&c.mm_switches[1], memory_order_relaxed)) < 0


cdef void tick(lab_machine *m, uint32_t cpu) noexcept nogil:
    cdef mm_gen *g = (<generation *>m.own).g
    cdef mm_cpu *c = mm_cpu_of(g, cpu)
    cdef uint64_t opened = load_u64(&c.nr_opened, memory_order_relaxed)
    cdef bint before = later(c), due = mm_gen_tick(g, cpu)
    if later(c) != before:
        m.paid(m, cpu, load_u64(&c.nr_opened, memory_order_relaxed) != opened)
    if due:
        woken(m, cpu)


# The same for CPUs first to last - 1, which all run: no mm that dies was theirs, so nobody need know which they use.
cdef uint32_t run(lab_machine *m, uint32_t first, uint32_t last, uint32_t *counted, uint32_t *due) noexcept nogil:
    cdef mm_gen *g = (<generation *>m.own).g
    cdef uint32_t before = <uint32_t>load_u64(&g.pending, memory_order_relaxed), cpu
    cdef uint64_t gen = load_u64(&g.generation, memory_order_relaxed)
    due[0] = 0
    for cpu in range(first, last):
        if mm_gen_tick(g, cpu):
            mm_switch(g, cpu)
            last = cpu + 1
            due[0] = LAB_WAKE
            break
        mm_switch(g, cpu)
    if load_u64(&g.generation, memory_order_relaxed) != gen:
        due[0] = LAB_OPENED
        counted[0] = before
    else:
        counted[0] = before - <uint32_t>load_u64(&g.pending, memory_order_relaxed)
    return last


cdef void idle_enter(lab_machine *m, uint32_t cpu) noexcept nogil:
    cdef generation *own = <generation *>m.own
    cdef bint waited
    cdef uint64_t gen
    cdef idlers seen
    if own.idle != IDLE_DROP:
        return
    if own.broken != GEN_IDLE_KEEPS:
        m.use(m, cpu, INIT_MM)
    m.fenced(m, cpu)
    waited = waited_for(own.g)
    if waited:
        seen = survey(own.g, cpu, True)
        gen = load_u64(&own.g.generation, memory_order_relaxed)
    mm_gen_idle_enter(own.g, cpu)
    if waited:
        wake(m, cpu, own.g, &seen, gen)
    reap(m)


cdef void idle_exit(lab_machine *m, uint32_t cpu) noexcept nogil:
    cdef generation *own = <generation *>m.own
    if own.idle == IDLE_DROP:
        m.fenced(m, cpu)
        mm_gen_idle_exit(own.g, cpu)


cdef void cpu_dying(lab_machine *m, uint32_t cpu) noexcept nogil:
    m.use(m, cpu, INIT_MM)
    mm_gen_offline((<generation *>m.own).g, cpu)
    reap(m)


cdef void cpu_dead(lab_machine *m, uint32_t cpu) noexcept nogil:
    pass


cdef void cpu_online(lab_machine *m, uint32_t cpu) noexcept nogil:
    mm_gen_online((<generation *>m.own).g, cpu)


# The domain's kick: some CPU's patience is out.
cdef void kick(void *arg, mm_gen *g) noexcept nogil:
    cdef lab_machine *m = <lab_machine *>arg
    cdef uint32_t cpu
    m.looked(m, m.nr_cpus)                  # the domain has, and this does, just after
    for cpu in range(m.nr_cpus):
        if mm_gen_owes(g, cpu):
            m.ipi(m, OUTSIDE, cpu, NO_MM)


# On the holdout: whoever uses an mm lazily leaves it, and a task that has an mm holds no other.
cdef void ipi(lab_machine *m, uint32_t cpu, uint32_t mm) noexcept nogil:
    cdef mm_gen *g = (<generation *>m.own).g
    if not mm_gen_owes(g, cpu):
        return                              # it has switched and ticked, or left, while the IPI was on its way
    if cpu_of(m, cpu).mm == NO_MM:
        m.use(m, cpu, INIT_MM)
    mm_switch(g, cpu)
    tick(m, cpu)


cdef void ipi_done(lab_machine *m, uint32_t cpu, uint32_t mm) noexcept nogil:
    pass


cdef void forget(lab_machine *m, uint32_t mm) noexcept nogil:
    pass


cdef void end(lab_machine *m) noexcept nogil:
    cdef generation *own = <generation *>m.own
    cdef mm_callback *callback = mm_gen_take_callbacks(own.g)
    cdef mm_callback *next
    while callback is not NULL:
        next = callback.next
        free(callback)
        callback = next
    mm_gen_destroy(own.g)
    free(own)


cdef lab_policy GENERATION
GENERATION.context_switch = context_switch
GENERATION.exit_mmap = exit_mmap
GENERATION.tick = tick
GENERATION.idle_enter = idle_enter
GENERATION.idle_exit = idle_exit
GENERATION.cpu_dying = cpu_dying
GENERATION.cpu_dead = cpu_dead
GENERATION.cpu_online = cpu_online
GENERATION.ipi = ipi
GENERATION.ipi_done = ipi_done
GENERATION.forget = forget
GENERATION.run = run
GENERATION.woken = woken
GENERATION.end = end


cdef mm_gen *generation_domain(lab_machine *m) noexcept nogil:
    return (<generation *>m.own).g


cdef bint generation_begin(lab_machine *m, uint32_t idle, uint32_t patience, bint continuous, uint32_t broken) noexcept nogil:
    cdef generation *own = <generation *>calloc(1, sizeof(generation))
    cdef uint32_t cpu
    if own is NULL:
        return False
    own.g = mm_gen_create(m.nr_cpus, m.nr_cpus, 0, 0)
    if own.g is NULL:
        free(own)
        return False
    own.idle = idle
    own.broken = broken
    own.g.continuous = continuous
    own.g.increments = 1 if broken == GEN_ONE_INCREMENT else 0
    if idle == IDLE_KICK:
        own.g.patience = patience
        own.g.kick = kick
        own.g.kick_arg = m
    for cpu in range(m.nr_cpus):
        mm_gen_online(own.g, cpu)
    m.policy = &GENERATION
    m.own = own
    return True
