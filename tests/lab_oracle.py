"""The lab's model in plain Python, with a heap and one object for each thing: slow, and written to be read beside docs/lab.md."""
import heapq
import itertools
import math

import mmgen
import numpy as np
from mmgen.lab import Generation, Refcount, Shootdown

USER, KTHREAD, IDLE, DYING, OFFLINE = range(5)
# What comes first at one time.
WAITER, IPI, DEAD, BACK, UNPLUG, TASK, TICK = range(7)


class Line:
    def __init__(self, owner=None):
        self.owner, self.busy = owner, 0


class Mm:
    def __init__(self, serial, cpu):
        self.serial, self.line, self.count = serial, Line(cpu), 1
        self.exited = self.waiter = self.freed = False
        self.mask = set()


class Cpu:
    def __init__(self, index, init_mm):
        self.index, self.active, self.mm = index, init_mm, None
        self.state, self.slot, self.debt, self.ends, self.number = USER, 0, 0, 0, 0


class Oracle:
    def __init__(self, case):
        self.case, self.load, self.costs = case, case.load, case.costs
        self.now = self.spent = 0
        self.heap = []
        self.sent = 0
        self.random = np.random.Generator(np.random.PCG64(case.seed))
        self.n = dict.fromkeys(["switches", "ticks", "events", "atomics", "ipis", "lines", "looks", "overhead_ns", "exits", "frees",
                                "hotplugs"], 0)
        self.held = self.held_peak = 0
        self.held_ns, self.held_since = 0.0, 0
        self.held_at = [(0, 0)]             # (ns, how many from then on)
        self.marks = []
        self.generation = 0
        self.latencies, self.uses_after_free = [], []
        self.serial = 0
        self.pending, self.lock, self.opener = Line(), Line(), None
        self.begin()

    # ---- what happens when

    def at(self, time, rank, cpu, what, *args):
        """Call what(*args) at `time`; what comes at one time and rank goes by CPU where it is a task's end or a tick."""
        self.sent += 1
        order = cpu if rank in (TASK, TICK) else self.sent
        heapq.heappush(self.heap, (time, rank, order, self.sent, cpu, what, args))

    def run(self):
        end = round(self.case.seconds * 1e9)
        while self.heap[0][0] < end:
            self.now, rank, _, _, cpu, what, args = heapq.heappop(self.heap)
            self.spent = 0
            self.current = cpu
            self.states = [cpu.state for cpu in self.cpus]
            what(*args)
            if rank < TASK:
                self.n["events"] += 1
                self.delay(cpu)
            self.look()
        self.now = end
        self.settle()
        return self

    def mark(self, ns, cpu, what, number=0):
        self.marks.append((ns, cpu, what, number))

    def look(self):
        """What the event has changed, for the timeline."""
        names = ("user", "kthread", "idle", "dying", "offline")
        for cpu, before in zip(self.cpus, self.states, strict=True):
            if cpu.state != before:
                self.mark(self.now, cpu.index, names[cpu.state])
        gen = self.policy.gen.generation if hasattr(self.policy, "gen") else 0
        if gen != self.generation:
            self.generation = gen
            self.mark(self.now, self.current, "opened", gen)

    def delay(self, index):
        cpu = self.cpus[index]
        self.n["overhead_ns"] += self.spent
        if cpu.state != IDLE and self.load.switch_us is not None:
            cpu.debt = min(cpu.debt + self.spent, 2**32 - 1)

    def begin(self):
        load, n = self.load, self.case.cpus
        self.init_mm = self.fork(0)
        self.init_mm.count += n
        self.cpus = [Cpu(i, self.init_mm) for i in range(n)]
        pools = [self.fork(i) for i in range(load.mms)] if load.kind == "threads" else None
        self.period = 10**9 // self.case.hz
        self.policy = {Refcount: Counted, Shootdown: Shot, Generation: Waited}[type(self.case.policy)](self, self.case.policy)
        self.processes = []
        for cpu in self.cpus:
            self.processes.append([pools[cpu.index % load.mms]] if pools else [self.fork(cpu.index) for _ in range(load.mms)])
            cpu.mm = self.processes[-1][0]
            self.policy.context_switch(cpu, None, cpu.mm)
            if load.switch_us is not None:
                if load.distribution == "fixed":
                    ends = int(cpu.index * (1e3 * load.switch_us) / n)
                else:
                    ends = self.spell(1e3 * load.switch_us, True)
                self.task_ends(cpu, ends)
            self.at(cpu.index * self.period // n, TICK, cpu.index, self.tick, cpu, 0)
        for name in self.n:
            self.n[name] = 0
        for mm in self.all_mms:
            mm.line.busy = 0
        self.pending.busy = self.lock.busy = 0
        for _ in range(load.waiters):
            self.at(0, WAITER, 0, self.waiter)
        if load.hotplug_per_s:
            self.at(max(round(1e9 / load.hotplug_per_s), 1), UNPLUG, 0, self.unplug, 1)

    # ---- tasks

    def spell(self, mean, task=False):
        load = self.load
        if load.distribution == "fixed":
            return max(int(mean), 1)
        if task and load.distribution == "bursty" and self.random.random() * load.burst < 1:
            mean = 1e3 * load.pause_us
        return max(int(-math.log1p(-self.random.random()) * mean), 1)

    def task_ends(self, cpu, time):
        cpu.ends = time
        cpu.number += 1
        self.at(time, TASK, cpu.index, self.task_over, cpu, cpu.number)

    def task_over(self, cpu, number):
        if number != cpu.number:
            return                          # it was unplugged meanwhile
        self.n["events"] += 1
        if cpu.debt and cpu.state != IDLE:
            ends, cpu.debt = cpu.ends + cpu.debt, 0
            self.task_ends(cpu, ends)
            return
        self.switch(cpu)
        self.n["overhead_ns"] += self.spent
        self.begin_task(cpu)

    def begin_task(self, cpu):
        load = self.load
        if load.switch_us is None and cpu.state == USER:
            return
        mean = {USER: load.switch_us, KTHREAD: load.kthread_us, IDLE: load.idle_us}[cpu.state]
        ends = self.now + self.spent + self.spell(1e3 * mean, cpu.state == USER)
        if cpu.state == IDLE or load.switch_us is not None:
            self.task_ends(cpu, ends)
        else:
            cpu.ends = ends

    def switch(self, cpu):
        load, state, prev = self.load, USER, cpu.mm
        if cpu.state == IDLE:
            self.policy.idle_exit(cpu)
        else:
            if cpu.state == USER and load.exits and self.random.random() < load.exits:
                self.exit(cpu, prev)
                prev = None
                self.processes[cpu.index][cpu.slot] = self.fork(cpu.index)
            if load.idle + load.kthread > 0:
                what = self.random.random()
                state = IDLE if what < load.idle else KTHREAD if what < load.idle + load.kthread else USER
        cpu.mm = self.next_process(cpu) if state == USER else None
        cpu.state = state
        self.n["switches"] += 1
        self.policy.context_switch(cpu, prev, cpu.mm)
        if state == IDLE:
            self.policy.idle_enter(cpu)
        self.spent += self.costs.switch

    def next_process(self, cpu):
        mine = self.processes[cpu.index]
        slot = cpu.slot = (cpu.slot + 1) % len(mine)
        if self.load.migrate and self.random.random() < self.load.migrate:
            other = self.cpus[int(self.random.random() * len(self.cpus))]
            if other.state != USER or other.slot != slot:
                theirs = self.processes[other.index]
                mine[slot], theirs[slot] = theirs[slot], mine[slot]
        return mine[slot]

    def tick(self, cpu, period):
        self.at((period + 1) * self.period + cpu.index * self.period // len(self.cpus), TICK, cpu.index, self.tick, cpu, period + 1)
        if cpu.state >= IDLE:
            return
        self.n["ticks"] += 1
        self.policy.tick(cpu)
        if self.load.switch_us is None and (cpu.state == USER or cpu.ends <= self.now):
            self.switch(cpu)
            self.n["overhead_ns"] += self.spent
            self.begin_task(cpu)
        else:
            self.delay(cpu.index)

    # ---- the rest

    def waiter(self):
        cpu = self.cpus[self.serial % len(self.cpus)]
        mm = self.fork(cpu.index)
        mm.waiter = True
        self.current = cpu.index
        self.exit(cpu, mm)
        self.redirect(cpu)

    def redirect(self, cpu):
        """Let what the event cost be cpu's."""
        self.n["overhead_ns"] += self.spent
        if cpu.state != IDLE and self.load.switch_us is not None:
            cpu.debt = min(cpu.debt + self.spent, 2**32 - 1)
        self.spent = 0

    def unplug(self, number):
        self.at((number + 1) * max(round(1e9 / self.load.hotplug_per_s), 1), UNPLUG, 0, self.unplug, number + 1)
        cpu = self.cpus[int(self.random.random() * len(self.cpus))]
        if cpu.state >= DYING or sum(c.state < DYING for c in self.cpus) == 1:
            return
        self.current = cpu.index
        cpu.number += 1
        if cpu.state == IDLE:
            self.policy.idle_exit(cpu)
        self.policy.context_switch(cpu, cpu.mm, None)
        cpu.mm = None
        cpu.state = DYING
        self.n["hotplugs"] += 1
        self.policy.cpu_dying(cpu)
        self.at(self.now + round(1e3 * self.load.unplug_us), DEAD, cpu.index, self.dead, cpu)
        self.redirect(cpu)

    def dead(self, cpu):
        cpu.state = OFFLINE
        self.policy.cpu_dead(cpu)
        self.at(self.now + round(1e3 * self.load.offline_us), BACK, cpu.index, self.back, cpu)

    def back(self, cpu):
        self.policy.cpu_online(cpu)
        cpu.state = KTHREAD
        cpu.debt = 0
        self.begin_task(cpu)

    # ---- mms, and who uses them

    def fork(self, cpu):
        mm = Mm(self.serial, cpu)
        self.serial += 1
        self.all_mms = getattr(self, "all_mms", [])
        self.all_mms.append(mm)
        return mm

    def exit(self, cpu, mm):
        if mm.freed:
            self.used_after_free(mm, cpu.index)
            return
        mm.exited, mm.exit_time = True, self.now + self.spent
        self.settle()
        self.held += 1
        self.held_peak = max(self.held_peak, self.held)
        self.held_at.append((self.now, self.held))
        self.mark(mm.exit_time, cpu.index, "exited", mm.serial)
        self.n["exits"] += 1
        self.exiting = mm
        self.policy.exit_mmap(cpu, mm)
        self.exiting = None

    def use(self, cpu, mm):
        cpu.active = mm
        if mm.freed:
            self.used_after_free(mm, cpu.index)

    def used_after_free(self, mm, cpu):
        users = [c.index for c in self.cpus if c.active is mm]
        self.uses_after_free.append((mm.serial, users[0] if users else cpu, self.now + self.spent))

    def free(self, mm):
        assert not mm.freed
        mm.freed = True
        if any(cpu.active is mm for cpu in self.cpus):
            self.used_after_free(mm, self.current)
        if not mm.exited:
            return
        self.settle()
        self.held -= 1
        self.held_at.append((self.now, self.held))
        self.mark(self.now + self.spent, self.current, "freed", mm.serial)
        self.n["frees"] += 1
        took = max(self.now + self.spent - mm.exit_time, 0)
        self.latencies.append(took)
        if mm.waiter:
            pause = round(1e3 * self.load.waiter_us) or (self.period if mm is self.exiting else 0)
            self.at(self.now + pause, WAITER, 0, self.waiter)

    def settle(self):
        self.held_ns += float(self.held) * float(self.now - self.held_since)
        self.held_since = self.now

    def series(self):
        """The mms held in 256 buckets of time: from the list of all changes."""
        end, changes = self.now, [*self.held_at, (self.now, self.held)]
        width = max(-(-end // 256), 1)
        rows = []
        for begin in range(0, end, width):
            until, area, most = min(begin + width, end), 0, 0
            for (ns, held), (following, _) in itertools.pairwise(changes):
                if ns < until and (following > begin or ns >= begin):       # also one that is over at once
                    most = max(most, held)
                    area += held * max(min(following, until) - max(ns, begin), 0)
            rows.append((begin, area / (until - begin), most))
        return tuple(rows)

    # ---- costs

    def write(self, line, cpu):
        start, cost = self.now + self.spent, self.costs.atomic
        if line.owner != cpu.index:
            line.owner = cpu.index
            cost += self.costs.line
            self.n["lines"] += 1
        most = len(self.cpus) * (self.costs.line + self.costs.atomic)
        start = max(start, min(line.busy, start + most))
        line.busy = start + cost
        self.spent = line.busy - self.now
        self.n["atomics"] += 1

    def ipi(self, cpu, mm):
        self.n["ipis"] += 1

        def arrives():
            if cpu.state != OFFLINE:
                self.spent += self.costs.interrupt
                self.mark(self.now, cpu.index, "interrupted")
                self.policy.ipi(cpu, mm)

        self.at(self.now + self.costs.ipi, IPI, cpu.index, arrives)


class Counted:
    def __init__(self, machine, options):
        self.m, self.grabs = machine, options.broken is None

    def add(self, cpu, mm, n):
        self.m.write(mm.line, cpu)
        mm.count += n
        if n < 0 and mm.count == 0:
            self.m.free(mm)

    def context_switch(self, cpu, prev, next):
        lazy = cpu.active
        if next is None:
            if prev is not None and self.grabs:
                self.add(cpu, lazy, 1)
            return
        self.m.use(cpu, next)
        if prev is None:
            self.add(cpu, lazy, -1)

    def exit_mmap(self, cpu, mm):
        if cpu.active is mm:
            self.add(cpu, mm, 1)
        self.add(cpu, mm, -1)

    def cpu_dying(self, cpu):
        lazy = cpu.active
        if lazy is not self.m.init_mm:
            self.add(cpu, self.m.init_mm, 1)
            self.m.use(cpu, self.m.init_mm)
            self.add(cpu, lazy, -1)

    def nothing(self, cpu):
        pass

    tick = idle_enter = idle_exit = cpu_dead = cpu_online = nothing


class Shot:
    def __init__(self, machine, options):
        self.m, self.trim, self.broken = machine, options.trim, options.broken

    def context_switch(self, cpu, prev, next):
        old = cpu.active
        if next is None or next is old:
            return
        next.mask.add(cpu.index)
        self.m.use(cpu, next)
        if self.trim:
            old.mask.discard(cpu.index)

    def exit_mmap(self, cpu, mm):
        self.ipi(cpu, mm)
        others = mm.mask - {cpu.index} if self.broken != "no-ipi" else ()
        for other in others:
            self.m.ipi(self.m.cpus[other], mm)
        if not others:
            self.m.free(mm)
            return
        self.m.spent += self.m.costs.ipi
        self.m.at(self.m.now + self.m.costs.ipi, IPI, cpu.index, self.m.free, mm)

    def ipi(self, cpu, mm):
        if cpu.active is mm:
            self.m.use(cpu, self.m.init_mm)

    def cpu_dying(self, cpu):
        if self.broken != "unfixed-hotplug":
            self.m.use(cpu, self.m.init_mm)
        for mm in self.m.all_mms:
            mm.mask.discard(cpu.index)

    def cpu_dead(self, cpu):
        self.m.use(cpu, self.m.init_mm)

    def nothing(self, cpu):
        pass

    tick = idle_enter = idle_exit = cpu_online = nothing


class Waited:
    """Of the domain only what Python is given of it."""

    def __init__(self, machine, options):
        self.m, self.idle, self.broken = machine, options.idle, options.broken
        kick = {"kick": self.kick, "patience": options.patience} if options.idle == "kick" else {}
        self.gen = mmgen.MmGen(len(machine.cpus), continuous=options.continuous, reclaimer=False, stall_after=None,
                               increments=1 if options.broken == "one-increment" else None, **kick)
        self.handles = [self.gen.cpu(i) for i in range(len(machine.cpus))]
        self.dead = []
        self.goal = 0
        self.online, self.idle_cpus, self.ever_idle = {cpu.index for cpu in machine.cpus}, set(), False

    def kick(self, holdouts):
        self.here = set()
        for _ in "who owes", "whom to interrupt":
            for index in range(len(self.m.cpus)):
                self.look(index)
        for holdout in holdouts:
            self.m.ipi(self.m.cpus[holdout.index], None)

    def reap(self):
        due = [(mm, cookie) for mm, cookie in self.dead if self.gen.poll(cookie)]
        self.dead = self.dead[len(due):]
        for mm, _ in due:
            self.m.free(mm)

    def look(self, index):
        if index not in self.here:                      # else its line has been fetched in this call
            self.here.add(index)
            self.m.n["lines"] += 1
            self.m.n["looks"] += 1
            self.m.spent += self.m.costs.look

    def look_for_an_idle_one(self):
        for index in range(len(self.m.cpus)) if self.ever_idle else ():
            self.look(index)
            if index in self.idle_cpus:
                return True
        return False

    def owing(self):
        return {holdout.index for holdout in self.gen.holdouts()}

    def credit(self, cpu, generation, owing):
        """With the lock: what the idle get while somebody waits. owing, in `generation`, is who did before; the domain has done it."""
        m = self.m
        while self.goal > generation and self.look_for_an_idle_one():
            m.write(m.pending, cpu)                     # from here on nobody opens a generation
            for index in range(len(m.cpus)):
                self.look(index)
                if index not in self.idle_cpus:
                    continue
                m.n["atomics"] += 1                     # its mode: somebody is at it
                m.spent += m.costs.atomic
                if index in owing:
                    m.write(m.pending, cpu)
            owing -= self.idle_cpus
            m.write(m.pending, cpu)                     # up to here
            if owing:
                break
            generation += 1
            owing = set(self.online)
            m.opener = cpu.index
        assert (generation, owing) == (self.gen.generation, self.owing())

    def wake(self, cpu, generation, owing):
        self.here = set()
        if self.look_for_an_idle_one():
            self.m.write(self.m.lock, cpu)
            self.credit(cpu, generation, owing)

    def context_switch(self, cpu, prev, next):
        if next is not None:
            self.m.use(cpu, next)
            self.handles[cpu.index].switch()

    def exit_mmap(self, cpu, mm):
        self.m.write(self.m.lock, cpu)
        generation, owing = self.gen.generation, self.owing()
        self.dead.append((mm, self.gen.start_poll()))
        self.goal = max(self.goal, self.dead[-1][1].generation)
        self.here = set()
        self.credit(cpu, generation, owing)
        self.reap()

    def owes(self, cpu):
        return cpu.index in self.owing()

    def tick(self, cpu):
        m, before, owed = self.m, self.gen.generation, self.owes(cpu)
        due = self.handles[cpu.index].tick()
        opened = self.gen.generation != before
        if opened or (owed and not self.owes(cpu)):
            if m.opener != cpu.index:
                m.n["lines"] += 1
                m.spent += m.costs.line
            m.spent += m.costs.fence
            m.write(m.pending, cpu)
            m.mark(m.now, cpu.index, "paid", m.generation)
            if opened:
                m.opener = cpu.index
        if due:
            if self.idle == "kick":
                m.write(m.lock, cpu)                    # is somebody to be kicked?
            generation, owing = self.gen.generation, self.owing()
            self.gen.wake()
            self.wake(cpu, generation, owing)
            self.reap()

    def idle_enter(self, cpu):
        if self.idle == "drop":
            if self.broken != "idle-keeps":
                self.m.use(cpu, self.m.init_mm)
            self.fenced()
            self.ever_idle = True
            self.idle_cpus.add(cpu.index)
            generation, owing = self.gen.generation, self.owing()
            self.handles[cpu.index].idle_enter()
            if self.goal > generation:
                self.wake(cpu, generation, owing)
            self.reap()

    def idle_exit(self, cpu):
        if self.idle == "drop":
            self.fenced()
            self.idle_cpus.remove(cpu.index)
            self.handles[cpu.index].idle_exit()

    def fenced(self):
        self.m.n["atomics"] += 1
        self.m.spent += self.m.costs.atomic + self.m.costs.fence

    def cpu_dying(self, cpu):
        self.m.use(cpu, self.m.init_mm)
        self.online.remove(cpu.index)
        self.handles[cpu.index].offline()
        self.reap()

    def cpu_dead(self, cpu):
        pass

    def cpu_online(self, cpu):
        self.online.add(cpu.index)
        self.handles[cpu.index].online()

    def ipi(self, cpu, mm):
        if self.owes(cpu):
            if cpu.mm is None:
                self.m.use(cpu, self.m.init_mm)
            self.handles[cpu.index].switch()
            self.tick(cpu)
