# cython: language_level=3, freethreading_compatible=True
"""The virtual machine's events, in order of time; at one time waiters, IPIs and hotplug come before tasks' ends, and those before ticks.

Ticks need no queue: in each period every CPU ticks once, in turn, so the next tick is the next CPU's, whether or not it runs.
"""
from libc.math cimport log1p
from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uint64_t

from mmgen._sleep cimport mm_now
from mmgen._stdatomic cimport load_u64, memory_order_relaxed
from mmgen.lab._account cimport exit_mm, fork_mm, paid_by_all, settle
from mmgen.lab._generation cimport generation_domain
from mmgen.lab._policy cimport INIT_MM, LAB_IPIS_DONE, LAB_OPENED, NO_MM, lab_cpu
from mmgen.lab._timeline cimport MARK_INTERRUPTED, MARK_OPENED, lab_timeline, timeline_mark
from mmgen.lab._virtual cimport (
    BURSTY, CPU_DYING, CPU_IDLE, CPU_KTHREAD, CPU_OFFLINE, CPU_USER, FIXED, MM_WAITER, lab_counts,
)
from mmgen.lab._wheel cimport lab_event, lab_queue, queue_add, queue_first, queue_take, wheel_add, wheel_open, wheel_remove, wheel_take

cdef enum:
    # Between two looks at the clock: 10 to 50 us of events that look at no CPU but their own, or 1 ms of looks at others.
    EVENTS_A_LOOK = 256
    CPUS_A_LOOK = 1 << 18


cdef inline double draw(virtual *v) noexcept nogil:
    return v.random.next_double(v.random.state)


# ---- tasks ---------------------------------------------------------------------------------------------------------------------

# How long a spell of a mean of `mean` ns lasts; task: of a task between two switches.
cdef inline int64_t spell(virtual *v, double mean, bint task) noexcept nogil:
    cdef int64_t ns
    if v.load.distribution == FIXED:
        ns = <int64_t>mean
    else:
        if task and v.load.distribution == BURSTY and draw(v) * v.load.burst < 1:
            mean = v.load.pause_ns
        ns = <int64_t>(-log1p(-draw(v)) * mean)
    return ns if ns > 0 else 1


cdef inline void add(virtual *v, uint32_t cpu) noexcept nogil:
    if not wheel_add(&v.wheel, cpu):
        v.failed = True


# Let the task that cpu has just switched to last as long as its kind does.
cdef inline void begin_task(virtual *v, uint32_t cpu) noexcept nogil:
    cdef lab_cpu *c = &v.m.cpus[cpu]
    if v.load.at_ticks and c.state == CPU_USER:
        return
    c.next = v.now + v.spent + spell(v, v.load.idle_ns if c.state == CPU_IDLE else
                                     v.load.kthread_ns if c.state == CPU_KTHREAD else v.load.switch_ns, c.state == CPU_USER)
    if c.state == CPU_IDLE or not v.load.at_ticks:
        add(v, cpu)


# The process that cpu runs next, one of its own; now and then another CPU's, against it, if that CPU is not just running it.
cdef inline uint32_t next_process(virtual *v, uint32_t cpu) noexcept nogil:
    cdef lab_cpu *c = &v.m.cpus[cpu]
    cdef uint32_t mine, theirs, other
    c.slot = c.slot + 1 if c.slot + 1 < v.load.slots else 0
    mine = cpu * v.load.slots + c.slot
    if v.load.migrate and draw(v) < v.load.migrate:
        other = <uint32_t>(draw(v) * v.m.nr_cpus)
        if v.m.cpus[other].state != CPU_USER or v.m.cpus[other].slot != c.slot:
            theirs = other * v.load.slots + c.slot
            v.processes[mine], v.processes[theirs] = v.processes[theirs], v.processes[mine]
    return v.processes[mine]


cdef void switch_task(virtual *v, uint32_t cpu) noexcept nogil:
    cdef lab_cpu *c = &v.m.cpus[cpu]
    cdef uint32_t state = CPU_USER, prev = c.mm, old
    cdef double what
    if c.state == CPU_IDLE:
        v.m.policy.idle_exit(&v.m, cpu)
    else:
        if c.state == CPU_USER and v.load.exits and draw(v) < v.load.exits:
            old = cpu * v.load.slots + c.slot
            exit_mm(v, cpu, prev, 0)
            prev = NO_MM
            v.processes[old] = fork_mm(v, cpu)
        if v.load.idle + v.load.kthread > 0:
            what = draw(v)
            if what < v.load.idle:
                state = CPU_IDLE
            elif what < v.load.idle + v.load.kthread:
                state = CPU_KTHREAD
    c.mm = next_process(v, cpu) if state == CPU_USER else NO_MM
    c.state = state
    v.n.switches += 1
    v.m.policy.context_switch(&v.m, cpu, prev, c.mm)
    if state == CPU_IDLE:
        v.m.policy.idle_enter(&v.m, cpu)
    v.spent += v.costs.per_switch


cdef void task_over(virtual *v, uint32_t cpu) noexcept nogil:
    cdef lab_cpu *c = &v.m.cpus[cpu]
    v.n.events += 1
    v.current = cpu
    if c.debt and c.state != CPU_IDLE:
        c.next += c.debt                        # it was kept from its work so long
        c.debt = 0
        add(v, cpu)
        return
    v.spent = 0
    switch_task(v, cpu)
    v.n.overhead_ns += v.spent
    begin_task(v, cpu)


# ---- ticks ---------------------------------------------------------------------------------------------------------------------

# What a tick or an interrupt has cost cpu's task.
cdef inline void delay(virtual *v, uint32_t cpu) noexcept nogil:
    cdef lab_cpu *c = &v.m.cpus[cpu]
    v.n.overhead_ns += v.spent
    if c.state != CPU_IDLE and not v.load.at_ticks:
        c.debt = <uint32_t>min(c.debt + v.spent, <int64_t>0xffffffff)


cdef inline void next_cursor(virtual *v) noexcept nogil:
    v.cursor += 1
    if v.cursor == v.m.nr_cpus:
        v.cursor = 0
        v.rest = 0
        v.offset = 0
        v.base += v.period
        return
    v.offset += v.period // v.m.nr_cpus
    v.rest += v.period % v.m.nr_cpus
    if v.rest >= v.m.nr_cpus:
        v.rest -= v.m.nr_cpus
        v.offset += 1


cdef inline void tick(virtual *v) noexcept nogil:
    cdef uint32_t cpu = v.cursor
    cdef lab_cpu *c = &v.m.cpus[cpu]
    v.now = v.base + v.offset
    next_cursor(v)
    if c.state >= CPU_IDLE:
        return
    v.current = cpu
    v.n.ticks += 1
    v.spent = 0
    v.m.policy.tick(&v.m, cpu)
    if v.load.at_ticks and (c.state == CPU_USER or c.next <= v.now):
        switch_task(v, cpu)
        v.n.overhead_ns += v.spent
        begin_task(v, cpu)
    else:
        delay(v, cpu)


# The ticks of CPUs that all run a task of their own, up to `before` (ns): as tick() would, one by one.
cdef void tick_many(virtual *v, int64_t before) noexcept nogil:
    cdef uint32_t last = v.m.nr_cpus, counted, due, next
    if before < v.base + v.period:
        # The first CPU whose offset is not before `before`.
        last = <uint32_t>((<uint64_t>(before - v.base) * v.m.nr_cpus + v.period - 1) // v.period)
    next = v.m.policy.run(&v.m, v.cursor, last, &counted, &due)
    v.n.ticks += next - v.cursor
    v.n.switches += next - v.cursor
    v.offset = <int64_t>(<uint64_t>(next - 1) * <uint64_t>v.period // v.m.nr_cpus)
    v.now = v.base + v.offset
    v.current = next - 1
    v.spent = 0
    if counted:
        paid_by_all(v, v.cursor, next, due == LAB_OPENED)
    if due:
        v.m.policy.woken(&v.m, next - 1)
    v.n.overhead_ns += v.spent + (next - v.cursor) * v.costs.per_switch
    v.cursor = next - 1
    v.rest = <uint32_t>(<uint64_t>(next - 1) * <uint64_t>v.period % v.m.nr_cpus)
    next_cursor(v)


# ---- what else happens ---------------------------------------------------------------------------------------------------------

cdef inline void enqueue(virtual *v, lab_queue *q, int64_t time, uint32_t cpu) noexcept nogil:
    if not queue_add(q, time, cpu, 0):
        v.failed = True


cdef inline bint is_due(virtual *v, lab_queue *q) noexcept nogil:
    return q.nr and queue_first(q).time == v.now


# A waiter's process, which no CPU runs, exits: on one CPU after another.
cdef void waiter_exits(virtual *v) noexcept nogil:
    cdef uint32_t cpu = v.serial % v.m.nr_cpus, mm = fork_mm(v, cpu)
    v.current = cpu
    if not v.failed:
        exit_mm(v, cpu, mm, MM_WAITER)


cdef void interrupt(virtual *v, lab_event event) noexcept nogil:
    v.current = event.cpu
    if event.mm != NO_MM and event.mm & LAB_IPIS_DONE:
        v.m.policy.ipi_done(&v.m, event.cpu, event.mm & ~<uint32_t>LAB_IPIS_DONE)
    elif v.m.cpus[event.cpu].state != CPU_OFFLINE:
        v.spent += v.costs.interrupt
        if v.timeline is not NULL:
            timeline_mark(v.timeline, v.now, event.cpu, MARK_INTERRUPTED, 0)
        v.m.policy.ipi(&v.m, event.cpu, event.mm)


cdef void unplug(virtual *v) noexcept nogil:
    cdef uint32_t cpu = <uint32_t>(draw(v) * v.m.nr_cpus)
    cdef lab_cpu *c = &v.m.cpus[cpu]
    v.next_hotplug += v.load.hotplug_ns
    if c.state >= CPU_DYING or v.nr_online == 1:
        return
    v.current = cpu
    wheel_remove(&v.wheel, cpu)
    if c.state == CPU_IDLE:
        v.m.policy.idle_exit(&v.m, cpu)
    v.m.policy.context_switch(&v.m, cpu, c.mm, NO_MM)
    c.mm = NO_MM
    c.state = CPU_DYING
    v.nr_online -= 1
    v.n.hotplugs += 1
    v.m.policy.cpu_dying(&v.m, cpu)
    enqueue(v, &v.dying, v.now + v.load.unplug_ns, cpu)


cdef void plug_in(virtual *v, uint32_t cpu) noexcept nogil:
    v.current = cpu
    v.m.policy.cpu_online(&v.m, cpu)
    v.m.cpus[cpu].state = CPU_KTHREAD
    v.m.cpus[cpu].debt = 0
    v.nr_online += 1
    begin_task(v, cpu)


# What is due now: one thing.
cdef void other_event(virtual *v) noexcept nogil:
    cdef lab_event event
    v.n.events += 1
    v.spent = 0
    if v.due:
        v.due -= 1
        waiter_exits(v)
    elif is_due(v, &v.waits):
        queue_take(&v.waits)
        waiter_exits(v)
    elif is_due(v, &v.ipis):
        event = queue_first(&v.ipis)[0]
        queue_take(&v.ipis)
        interrupt(v, event)
    elif is_due(v, &v.dying):
        event = queue_first(&v.dying)[0]
        queue_take(&v.dying)
        v.m.cpus[event.cpu].state = CPU_OFFLINE
        v.current = event.cpu
        v.m.policy.cpu_dead(&v.m, event.cpu)
        enqueue(v, &v.offline, v.now + v.load.offline_ns, event.cpu)
    elif is_due(v, &v.offline):
        event = queue_first(&v.offline)[0]
        queue_take(&v.offline)
        plug_in(v, event.cpu)
    else:
        unplug(v)
    delay(v, v.current)


# When the first of the queues is due.
cdef int64_t first_other(virtual *v) noexcept nogil:
    cdef int64_t time = v.next_hotplug
    if v.due:
        return v.now
    if v.waits.nr:
        time = min(time, queue_first(&v.waits).time)
    if v.ipis.nr:
        time = min(time, queue_first(&v.ipis).time)
    if v.dying.nr:
        time = min(time, queue_first(&v.dying).time)
    if v.offline.nr:
        time = min(time, queue_first(&v.offline).time)
    return time


# Note what the event that is over has changed: the state of its CPU, and the generation, whoever opened it and how.
cdef void look(virtual *v) noexcept nogil:
    cdef lab_timeline *t = v.timeline
    cdef uint32_t cpu
    cdef uint64_t gen = load_u64(&generation_domain(&v.m).generation, memory_order_relaxed) if v.m.policy.run is not NULL else 0
    if not t.begun and v.now >= t.begin:
        t.begun = True
        for cpu in range(v.m.nr_cpus):
            timeline_mark(t, t.begin, cpu, t.states[cpu], 0)
    if v.m.cpus[v.current].state != t.states[v.current]:
        t.states[v.current] = v.m.cpus[v.current].state
        timeline_mark(t, v.now, v.current, t.states[v.current], 0)
    if gen != t.generation:
        t.generation = gen
        timeline_mark(t, v.now, v.current, MARK_OPENED, gen)


# ---- all of them ---------------------------------------------------------------------------------------------------------------

cdef bint events_run(virtual *v, int64_t deadline) noexcept nogil:
    cdef int64_t time, tick_time
    cdef uint32_t looks = 0, cpu
    while True:
        if v.timeline is not NULL:
            look(v)                             # at the event before
        if v.failed or v.stop:
            return True
        looks += 1
        if looks & (EVENTS_A_LOOK - 1) == 0 or v.fast or v.work > CPUS_A_LOOK:
            v.work = 0
            if mm_now() > deadline:
                return False
        tick_time = v.base + v.offset
        v.other = v.now if v.due else v.other
        if not wheel_open(&v.wheel, min(v.other, tick_time)):
            v.failed = True
            continue
        time = v.m.cpus[v.wheel.heap[0]].next if v.wheel.nr_heap else INT64_MAX
        if min(time, min(v.other, tick_time)) >= v.end:
            v.now = v.end
            settle(v)
            if v.timeline is not NULL:
                look(v)                         # it may begin after the last event
            return True
        if v.other <= time and v.other <= tick_time:
            v.now = v.other
            other_event(v)
            v.other = first_other(v)
        elif time <= tick_time:
            cpu = v.wheel.heap[0]
            v.now = time
            wheel_take(&v.wheel)
            task_over(v, cpu)
        elif v.fast:
            tick_many(v, min(v.other, v.end))
        else:
            tick(v)


cdef bint events_begin(virtual *v) noexcept nogil:
    cdef uint32_t cpu, slot
    cdef lab_cpu *c
    fork_mm(v, 0)                               # init_mm, which every CPU's idle task uses
    v.mms[INIT_MM].mm_count += v.m.nr_cpus
    v.mms[INIT_MM].nr_active = v.m.nr_cpus
    for cpu in range(v.load.pools):
        fork_mm(v, cpu)
    for cpu in range(v.m.nr_cpus):
        for slot in range(v.load.slots):
            v.processes[cpu * v.load.slots + slot] = 1 + cpu % v.load.pools if v.load.pools else fork_mm(v, cpu)
        c = &v.m.cpus[cpu]
        c.mm = v.processes[cpu * v.load.slots]
        v.m.policy.context_switch(&v.m, cpu, NO_MM, c.mm)
        if not v.load.at_ticks:
            c.next = (<int64_t>(<double>cpu * v.load.switch_ns / v.m.nr_cpus) if v.load.distribution == FIXED else
                      spell(v, v.load.switch_ns, True))
            add(v, cpu)
    # What it took to get here is not the policy's cost. The numbers go on.
    v.n = ZERO
    v.spent = 0
    for slot in range(v.nr_mms):
        v.mms[slot].busy = 0
    v.pending_busy = v.lock_busy = 0
    v.nr_online = v.m.nr_cpus
    v.due = v.load.waiters
    v.next_hotplug = v.load.hotplug_ns if v.load.hotplug_ns else INT64_MAX
    v.other = first_other(v)
    v.fast = (v.fast and v.m.policy.run is not NULL and v.load.at_ticks and v.load.idle + v.load.kthread == 0
              and v.load.exits == 0 and v.load.migrate == 0 and v.load.hotplug_ns == 0)
    return not v.failed


cdef lab_counts ZERO
