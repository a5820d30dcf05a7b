"""The whole interface in one thread, in any order, against a model in plain Python: who must switch before what may end."""
import array
import sys
import weakref
from dataclasses import dataclass, field

import mmgen
import pytest
from conftest import SANITIZER
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from mmgen import Mode, Op
from test_protocol import STARTS

OFFLINE, RUNNING, IDLE = Mode.OFFLINE, Mode.RUNNING, Mode.IDLE
# The modes in which an operation may find a CPU, and that in which it leaves it.
FITS = {op: {RUNNING} for op in Op} | {Op.IDLE_EXIT: {IDLE}, Op.ONLINE: {OFFLINE}, Op.OFFLINE: {RUNNING, IDLE}}
LEAVES = dict.fromkeys(Op, RUNNING) | {Op.IDLE_ENTER: IDLE, Op.OFFLINE: OFFLINE}
ROUNDS = 4                      # a wait takes three generations at most, and the one under way may have been paid in part


class Thing:
    """What can be retired, and seen to die."""


@dataclass
class Due:
    """A callback, and the CPUs that have not been quiescent since it was deferred."""

    nr: int
    owing: set = field(default_factory=set)
    thing: weakref.ref | None = None


class Interface(RuleBasedStateMachine):
    """Every call of a domain that nobody else drives. The model never asks the domain what it is to expect of it."""

    @initialize(cpus=st.integers(1, 4), offline=st.sets(st.integers(0, 3)), grows=st.integers(0, 2), continuous=st.booleans(),
                first_generation=st.sampled_from(STARTS), first_switches=st.sampled_from(STARTS),
                patience=st.sampled_from([None, 1, 3]), obeys=st.booleans(), max_pending=st.sampled_from([None, 1, 4]),
                closes=st.booleans())
    def make(self, cpus, offline, grows, continuous, first_generation, first_switches, patience, obeys, max_pending, closes):
        self.online = set(range(cpus)) - offline
        self.gen = mmgen.MmGen(cpus, online=self.online, max_cpus=cpus + grows, continuous=continuous, patience=patience, kick=self.kick,
                               max_pending=max_pending, when_full="raise", reclaimer=False, first_generation=first_generation,
                               first_switches=first_switches)
        self.max_cpus, self.max_pending, self.continuous, self.obeys, self.closes = cpus + grows, max_pending, continuous, obeys, closes
        self.first_generation, self.first_switches = first_generation, first_switches
        self.generation = self.goal = first_generation          # never wrapped here
        self.modes = [RUNNING if i in self.online else OFFLINE for i in range(cpus)]
        self.made = [0] * cpus              # switches of each CPU, its own
        self.credited = [0] * cpus          # and what was added to them while it idled
        self.ticked = [0] * cpus
        self.registered = {}                # index: handle
        self.cookies = []                   # (cookie, owing), in the order of their making
        self.switched = set()
        self.idled = set()                  # who idled at some time of a batch
        self.nr_waits = self.nr_waited = self.nr_deferred = self.nr_named = 0
        self.pending = []                   # of Due
        self.ran = []                       # nr of each callback that ran
        self.raised = []                    # what came to the unraisable hook
        self.unwoken = self.running = False
        self.hook, sys.unraisablehook = sys.unraisablehook, lambda what: self.raised.append((what.exc_type, what.object))

    # ---- the model

    def quiescent(self, cpu):
        """CPU `cpu` holds nothing from before."""
        self.made[cpu] += 1
        self.switched.add(cpu)
        for _, owing in self.cookies:
            owing.discard(cpu)
        for due in self.pending:
            due.owing.discard(cpu)

    def begin(self, call):
        """What call() returns, and who owes the grace period that it begins: a kick within it may have made some switch."""
        owing = {i for i, mode in enumerate(self.modes) if mode is RUNNING}
        self.switched = set()
        if set(self.modes) != {OFFLINE}:
            self.look()
            self.goal = max(self.goal, self.generation + (3 if self.wanted() else 2))
        result = call()
        self.nr_waits += 1
        return result, owing - self.switched

    def remember(self, cookie, owing):
        assert not self.cookies or self.cookies[-1][0] <= cookie
        self.cookies.append((cookie, owing))

    def kick(self, holdouts):
        assert holdouts
        assert holdouts == self.gen.holdouts()
        assert OFFLINE not in {h.mode for h in holdouts}
        self.nr_named += len(holdouts)
        for holdout in holdouts if self.obeys else ():
            if holdout.mode is RUNNING:
                self.quiescent(holdout.index)
                self.ticked[holdout.index] += 1
                self.gen.cpu(holdout.index).quiescent()

    def look(self):
        passed = (self.gen.generation - self.generation) % 2**64
        assert passed < 2**63
        self.generation += passed

    def wanted(self):
        """Whether a tick changes anything."""
        return self.continuous or self.goal > self.generation

    def where(self, cpu, *modes):
        """CPU `cpu`, if it is in one of `modes`; else None, and `self.forbidden` says how a call is refused."""
        i = cpu % self.gen.cpus
        return i, self.gen.cpu(i), self.modes[i] in modes

    def forbidden(self, call, place=""):
        before = self.gen.stats()
        with pytest.raises(RuntimeError, match=place + r"\w+\(\) on CPU \d, which"):
            call()
        after = self.gen.stats()
        assert (before.cpus, before.generation, before.nr_online) == (after.cpus, after.generation, after.nr_online)

    # ---- CPUs

    cpu = st.integers(0, 5)

    @rule(cpu=cpu, bare=st.booleans())
    def switch(self, cpu, bare):
        i, handle, fits = self.where(cpu, RUNNING)
        call = (lambda: self.gen.switch(i)) if bare else handle.switch
        if not fits:
            return self.forbidden(call)
        self.quiescent(i)
        return call()

    @rule(cpu=cpu, bare=st.booleans(), wake=st.booleans())
    def tick(self, cpu, bare, wake):
        i, handle, fits = self.where(cpu, RUNNING)
        call = (lambda: self.gen.tick(i)) if bare else handle.tick
        if not fits:
            return self.forbidden(call)
        self.look()
        wanted, generation = self.wanted(), self.gen.generation
        self.ticked[i] += 1
        if call():
            assert wanted
            self.unwoken = True
        if not wanted:
            assert self.gen.generation == generation
        if wake and self.unwoken:
            self.unwoken = False
            self.gen.wake()
        return None

    @rule()
    def wake(self):
        self.unwoken = False
        self.gen.wake()

    @rule(cpu=cpu)
    def turn(self, cpu):
        i, handle, fits = self.where(cpu, RUNNING)
        if not fits:
            return self.forbidden(handle.quiescent)
        self.quiescent(i)
        self.ticked[i] += 1
        return handle.quiescent()

    @rule(cpu=cpu)
    def idle_enter(self, cpu):
        i, handle, fits = self.where(cpu, RUNNING)
        if not fits:
            return self.forbidden(handle.idle_enter)
        self.quiescent(i)
        self.modes[i] = IDLE
        return handle.idle_enter()

    @rule(cpu=cpu)
    def idle_exit(self, cpu):
        i, handle, fits = self.where(cpu, IDLE)
        if not fits:
            return self.forbidden(handle.idle_exit)
        handle.idle_exit()
        self.modes[i] = RUNNING
        return None

    @rule(cpu=cpu)
    def bring_online(self, cpu):
        i, handle, fits = self.where(cpu, OFFLINE)
        if not fits:
            return self.forbidden(handle.online)
        handle.online()
        self.modes[i] = RUNNING
        return None

    @rule(cpu=cpu)
    def take_offline(self, cpu):
        i, handle, fits = self.where(cpu, RUNNING, IDLE)
        handle = self.registered.get(i, handle)
        if not fits:
            return self.forbidden(handle.offline)
        self.leaves(i)
        return handle.offline()

    @rule()
    def register(self):
        if OFFLINE not in self.modes and len(self.modes) == self.max_cpus:
            with pytest.raises(mmgen.FullError, match="are all online"):
                self.gen.register()
            return
        cpu = self.gen.register()
        if cpu.index == len(self.modes):
            assert OFFLINE not in self.modes
            for counts, first in ((self.modes, OFFLINE), (self.made, 0), (self.credited, 0), (self.ticked, 0)):
                counts.append(first)
        assert self.modes[cpu.index] is OFFLINE
        self.modes[cpu.index] = RUNNING
        self.registered[cpu.index] = cpu

    @rule(cpu=cpu)
    def leave(self, cpu):
        i, _, _ = self.where(cpu)
        if i in self.registered:
            handle = self.registered[i]
            self.leaves(i)
            handle.leave()
            handle.leave()                              # twice is fine
            self.forbidden(handle.offline)

    def leaves(self, cpu):
        self.registered.pop(cpu, None)
        self.quiescent(cpu)
        self.made[cpu] -= 1                             # going offline is no switch
        self.modes[cpu] = OFFLINE

    @rule(wanted=st.lists(st.tuples(cpu, st.sampled_from(Op)), max_size=12), fit=st.booleans())
    def run(self, wanted, fit):
        """A batch: of those that fit; or of all, and then it is refused whole if one does not."""
        modes, ops, place = list(self.modes), [], None
        for cpu, op in wanted:
            i, _, _ = self.where(cpu)
            if op is Op.OFFLINE and i in self.registered:
                continue                                # whose handle would not know
            if modes[i] in FITS[op]:
                modes[i] = LEAVES[op]
            elif fit:
                continue
            elif place is None:
                place = len(ops)
            ops.append((i, op))
        call = lambda: self.gen.run(array.array("I", [word for pair in ops for word in pair]))  # noqa: E731
        if place is not None:
            return self.forbidden(call, rf"^op {place}: ")
        self.idled = {i for i, mode in enumerate(self.modes) if mode is IDLE} | {i for i, op in ops if op is Op.IDLE_ENTER}
        for i, op in ops:
            self.ticked[i] += op in (Op.TICK, Op.QUIESCENT)
            if op in (Op.SWITCH, Op.QUIESCENT, Op.IDLE_ENTER):
                self.quiescent(i)
            elif op is Op.OFFLINE:
                self.leaves(i)
            self.modes[i] = LEAVES[op]
        generation = self.gen.generation
        opened = call()
        assert opened == (self.gen.generation - generation) % 2**64
        return None

    @rule()
    def checkpoint(self):
        """From here on with the domain that was restored."""
        if self.pending:
            with pytest.raises(RuntimeError, match=rf"^{len(self.pending)} callbacks are pending"):
                self.gen.snapshot()
            return
        try:
            state = self.gen.snapshot()
        except RuntimeError as error:
            assert "owes a wake" in str(error)
            assert self.unwoken
            return
        before = self.gen
        self.gen = mmgen.MmGen.restore(state, kick=self.kick, max_pending=self.max_pending, when_full="raise", reclaimer=False)
        assert self.gen.snapshot() == state
        self.cookies = [(self.gen.cookie(cookie.generation), owing) for cookie, owing in self.cookies]
        self.nr_waited = 0                              # latencies are no part of it
        before.close()
        for cpu in self.registered.values():            # nor who registered: now it is a CPU as the others
            cpu.leave()
        self.registered = {}

    # ---- waits

    @rule()
    def start_poll(self):
        cookie, owing = self.begin(self.gen.start_poll)
        assert cookie.generation == (self.generation if set(self.modes) == {OFFLINE} else self.goal) % 2**64
        self.remember(cookie, owing)

    @rule(which=st.integers(0, 99), expedite=st.booleans())
    def wait_for(self, which, expedite):
        if self.cookies:
            cookie, _ = self.cookies[which % len(self.cookies)]
            over = self.gen.wait_for(cookie, timeout=0, expedite=expedite)
            assert over == self.gen.poll(cookie)
            self.nr_waited += over

    @rule(expedite=st.booleans())
    def wait(self, expedite):
        over, owing = self.begin(lambda: self.gen.wait(timeout=0, expedite=expedite))
        assert not (over and owing)
        self.nr_waited += over

    # ---- callbacks

    def put(self, due, call):
        if len(self.pending) + self.running == self.max_pending:        # what runs is pending until it has
            with pytest.raises(mmgen.FullError, match="callbacks are pending, as many as max_pending allows"):
                call()
            return
        _, due.owing = self.begin(call)
        self.pending.append(due)
        self.nr_deferred += 1

    @rule(does=st.sampled_from(["nothing", "raise", "defer"]))
    def defer(self, does):
        due = Due(self.nr_deferred)

        def callback(nr):
            self.drop_retired()
            self.ran.append(nr)
            due = self.pending.pop(0)
            assert due.nr == nr
            assert not due.owing
            with pytest.raises(RuntimeError, match="in a callback"):
                self.gen.barrier()
            assert self.gen.run_callbacks() == 0
            if does == "raise":
                raise LookupError(nr)
            if does == "defer" and not self.gen.closed:
                self.running = True
                self.defer("nothing")
                self.running = False

        self.put(due, lambda: self.gen.defer(callback, due.nr))

    @rule()
    def retire(self):
        thing = Thing()
        # Its callback is nobody's: what runs next, or run_callbacks() itself, sees that it is gone.
        self.put(Due(self.nr_deferred, thing=weakref.ref(thing)), lambda: self.gen.retire(thing))

    @rule(limit=st.sampled_from([None, 0, 1, 3]))
    def run_callbacks(self, limit):
        before, deferred = self.gen.nr_run, self.nr_deferred
        nr = self.gen.run_callbacks(limit)
        assert nr == self.gen.nr_run - before
        assert limit is None or nr <= limit
        self.drop_retired()
        if (limit is None or nr < limit) and self.pending and self.pending[0].nr < deferred:
            assert not self.gen.poll(self.gen._first_callback())

    @rule()
    def barrier(self):
        pending, deferred = len(self.pending), self.nr_deferred
        over = self.gen.barrier(timeout=0)
        self.drop_retired()
        assert over == (not self.pending or self.pending[0].nr >= deferred)
        assert over or pending

    # ---- what holds after every step

    @invariant()
    def nothing_ends_early(self):
        ends = [self.gen.poll(cookie) for cookie, _ in self.cookies]
        assert ends == sorted(ends, reverse=True)
        assert not any(owing and over for (_, owing), over in zip(self.cookies, ends, strict=True))

    def drop_retired(self):
        while self.pending and self.pending[0].thing is not None and self.pending[0].thing() is None:
            assert not self.pending.pop(0).owing

    @invariant()
    def callbacks_run_in_order_once_none_early(self):
        self.drop_retired()
        assert self.ran == sorted(set(self.ran))
        assert all(due.thing is None or due.thing() is not None for due in self.pending)
        assert self.nr_deferred - len(self.pending) == self.gen.nr_run
        assert {error for error, _ in self.raised} <= {LookupError}
        assert all("callback" in repr(named) for _, named in self.raised)

    @invariant()
    def counters_agree(self):
        stats = self.gen.stats()
        assert (stats.deferred, stats.run, stats.waits, stats.wait_latency.count, stats.kicks, stats.stalls) == (
            self.nr_deferred, self.gen.nr_run, self.nr_waits, self.nr_waited, self.nr_named, 0)
        assert [cpu.mode for cpu in stats.cpus] == self.modes
        assert stats.nr_online == self.gen.nr_online == sum(mode is not OFFLINE for mode in self.modes)
        self.look()
        assert stats.generation == self.generation % 2**64
        assert sum(cpu.opened for cpu in stats.cpus) <= (stats.generation - self.first_generation) % 2**64
        for cpu, made, ticked in zip(stats.cpus, self.made, self.ticked, strict=True):
            credited = (cpu.switches - self.first_switches - made) % 2**64
            idled = cpu.mode is IDLE or cpu.index in self.idled
            assert credited == self.credited[cpu.index] or (idled and credited > self.credited[cpu.index])
            self.credited[cpu.index] = credited
            assert cpu.ticks == ticked if self.continuous else cpu.ticks <= ticked
        self.idled = set()

    # ---- the end

    def teardown(self):
        if not hasattr(self, "gen"):
            return
        try:
            if self.closes:
                self.close()
            else:
                self.settle()
        finally:
            sys.unraisablehook = self.hook
            for cpu in list(self.registered.values()):
                cpu.leave()

    def settle(self):
        """A fair schedule ends every wait and runs every callback."""
        self.gen.wake()
        for _ in range(ROUNDS):
            for i in range(self.gen.cpus):
                if self.modes[i] is RUNNING:
                    self.turn(i)
                    self.nothing_ends_early()
        assert all(self.gen.poll(cookie) for cookie, _ in self.cookies)
        last = self.nr_deferred
        self.run_callbacks(None)
        self.callbacks_run_in_order_once_none_early()
        assert len(self.pending) == self.nr_deferred - last     # what callbacks deferred just now
        self.counters_agree()

    def close(self):
        """What runs now and what is said not to have run is all there was."""
        self.drop_retired()
        ran, nr, pending = len(self.ran), self.gen.nr_run, list(self.pending)
        lost = self.gen.close()
        self.callbacks_run_in_order_once_none_early()
        assert self.gen.nr_run - nr == len(pending) - len(lost)
        assert [args[0] for fn, args in lost if fn is not None] == [due.nr for due in pending[-len(lost):] if due.thing is None and lost]
        assert [args[0] for fn, args in lost if fn is None] == [due.thing() for due in self.pending if due.thing is not None]
        assert len(self.ran) - ran == sum(due.thing is None for due in pending[:len(pending) - len(lost)])
        assert self.gen.close() == []
        handle = self.gen.cpu(0)
        for call in (self.gen.start_poll, self.gen.wait, self.gen.register, lambda: self.gen.defer(print), lambda: self.gen.retire(0),
                     handle.switch, handle.tick, handle.quiescent, handle.online, handle.offline, handle.idle_enter, handle.idle_exit):
            with pytest.raises(mmgen.ClosedError):
                call()
        assert self.gen.nr_deferred == self.nr_deferred


TestInterface = Interface.TestCase
# Without `explain`, which takes minutes of a run of 60 steps.
TestInterface.settings = settings(max_examples=30 if SANITIZER else 150, stateful_step_count=60, deadline=None,
                                  report_multiple_bugs=False, phases=set(Phase) - {Phase.explain})


@pytest.mark.parametrize("continuous", [False, True])
def test_the_model_sees_one_increment_too_few(continuous):
    machine = Interface()
    machine.make(2, set(), 0, continuous, 0, 0, None, False, None, False)
    machine.gen = mmgen.MmGen(2, continuous=continuous, increments=1, kick=machine.kick, reclaimer=False)
    try:
        machine.switch(0, False)
        machine.remember(*machine.begin(machine.gen.start_poll))
        machine.tick(0, False, True)
        machine.turn(1)
        with pytest.raises(AssertionError):
            machine.nothing_ends_early()
    finally:
        sys.unraisablehook = machine.hook
