"""Snapshots of random states, and of made-up ones: a restored domain continues identically, and keeps the protocol's promises."""
import array
import contextlib

import mmgen
import pytest
from conftest import SANITIZER
from hostile import examples
from hypothesis import given
from hypothesis import strategies as st
from mmgen import Mode, Op
from test_protocol import OPS, STARTS, Oracle
from test_snapshot import CHECKSUM, COUNTING, GENERATION, GOAL, M64, PENDING, domain, of_cpu, sealed, two, words

pytestmark = [pytest.mark.unsanitized("one thread alone: there is nothing to see")] if SANITIZER == "thread" else []

STEPS = ["switch", "tick", "tick_no_wake", "quiescent", "idle_enter", "idle_exit", "online", "offline", "wait", "expedite", "register",
         "callback", "run"]
steps = st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 4)), max_size=60)


class One:
    """A domain that is driven, and all that its calls said."""

    def __init__(self, gen, kicks):
        self.gen = gen
        self.kicks = kicks
        self.cookies = []
        self.registered = []

    def restored(self):
        kicks = list(self.kicks)
        other = One(mmgen.MmGen.restore(self.gen.snapshot(), kick=kicks.append, reclaimer=False), kicks)
        other.cookies = [other.gen.cookie(cookie.generation) for cookie in self.cookies]
        return other

    def step(self, what, i):
        """One call, if it fits; what it returned, or why not."""
        cpu = self.gen.cpu(i % self.gen.cpus)
        try:
            if what == "wait":
                self.cookies.append(self.gen.start_poll())
                return self.cookies[-1].generation
            if what == "expedite":
                return self.gen.wait(0, expedite=True)
            if what == "register":
                self.registered.append(self.gen.register())
                return self.registered[-1].index
            if what == "callback":
                self.gen.defer(len, "")
                return self.gen.run_callbacks()
            if what == "run":
                return self.gen.run(array.array("I", [cpu.index, Op.SWITCH, cpu.index, Op.TICK]))
            if what == "tick":
                return cpu.tick() and self.gen.wake()
            return getattr(cpu, what.removesuffix("_no_wake"))()
        except RuntimeError as error:
            return repr(error)

    def all_said(self):
        return [self.gen.poll(cookie) for cookie in self.cookies], self.kicks, self.gen.stats().cpus, self.gen.generation

    def end(self):
        self.gen.close()
        for cpu in self.registered:
            cpu.leave()


@given(cpus=st.integers(1, 4), offline=st.sets(st.integers(0, 3)), grows=st.integers(0, 2), continuous=st.booleans(),
       first_generation=st.sampled_from(STARTS), first_switches=st.sampled_from(STARTS), patience=st.sampled_from([None, 1, 3]),
       increments=st.sampled_from([None, None, 1, 2, 6]), before=steps, after=steps)
@examples(150)
def test_a_restored_domain_continues_identically(cpus, offline, grows, continuous, first_generation, first_switches, patience, increments,
                                                 before, after):
    kicks = []
    one = One(mmgen.MmGen(cpus, online=set(range(cpus)) - offline, max_cpus=cpus + grows, continuous=continuous, patience=patience,
                          increments=increments, kick=kicks.append, reclaimer=False, first_generation=first_generation,
                          first_switches=first_switches), kicks)
    twin = None
    try:
        for step in before:
            one.step(*step)
        one.gen.wake()
        if one.gen.nr_deferred != one.gen.nr_run:
            with pytest.raises(RuntimeError, match=r"^\d callbacks are pending"):
                one.gen.snapshot()
            for i in range(one.gen.cpus):
                with contextlib.suppress(RuntimeError):
                    one.gen.cpu(i).offline()
            one.gen.run_callbacks()
        twin = one.restored()
        assert twin.gen.snapshot() == one.gen.snapshot()
        for step in after:
            assert one.step(*step) == twin.step(*step)
            assert one.all_said() == twin.all_said()
        for each in (one, twin):                        # whatever is deferred now is due
            for i in range(each.gen.cpus):
                with contextlib.suppress(RuntimeError):
                    each.gen.cpu(i).offline()
            each.gen.run_callbacks()
            each.gen.wake()
        assert one.gen.snapshot() == twin.gen.snapshot()
    finally:
        one.end()
        if twin is not None:
            twin.end()


# ---- what was made up

def restored(state):
    """The domain, or None for what is refused."""
    try:
        gen = mmgen.MmGen.restore(state)
    except ValueError as error:
        assert "cannot be restored: " in str(error)
        return None
    assert gen.snapshot() == state
    return gen


def keeps_its_promises(gen, state, steps, waits):
    """Who begins to wait is not released early, whatever is done, and he and whoever waited before are released in the end."""
    found = words(state)
    oracle = Oracle(gen)
    if waits:
        oracle.apply("wait", 0)
    for op, cpu in steps:
        oracle.apply(op, cpu % gen.cpus)
        assert found[COUNTING] >> 32 or not oracle.released_too_early()         # so many generations, for study, may be too few
    if oracle.unwoken:
        gen.wake()
    running = [i for i, mode in enumerate(oracle.modes) if mode is Mode.RUNNING]
    for _ in range(6):
        over, before = all(gen.poll(cookie) for cookie, _ in oracle.waits) and gen.poll(gen.cookie(found[GOAL])), gen.generation
        for i in running:
            gen.cpu(i).quiescent()
        for i in running:
            gen.cpu(i).quiescent()
        assert over or gen.generation != before
    assert over or found[COUNTING] >> 32                                        # or too many


def stay_behind(cpus):
    """Steps in which each CPU in turn is the one that does not switch, long enough for all that others could end."""
    for last in range(cpus):
        yield "wait", last
        for _ in range(3):
            for cpu in range(cpus):
                if cpu != last:
                    yield from [("switch", cpu), ("tick", cpu), ("switch", cpu), ("tick", cpu)]
            yield "tick", last
        yield from [("switch", last), ("tick", last)]


def states():
    """Of two or three CPUs: somebody waits or nobody, and the one has paid or not; near wraps; one idle, offline; counted for nobody."""
    yield mmgen.MmGen(2)
    for options in ({}, {"continuous": True, "first_switches": M64 - 1}, {"max_cpus": 3, "patience": 2, "first_generation": M64 - 1}):
        yield domain(**options)
        gen = domain(**options)
        for cpu in (1, 0, 1, 0, 1):
            gen.cpu(cpu).quiescent()
        yield gen
    gen = mmgen.MmGen(2, first_generation=1)
    gen.start_poll()
    for cpu in (0, 1, 0):
        gen.cpu(cpu).quiescent()
    gen.switch(0)                                       # after it has paid, to a generation that might be nobody's
    yield gen
    gen = mmgen.MmGen(3)
    gen.cpu(1).idle_enter()
    gen.start_poll()
    gen.cpu(0).quiescent()
    gen.cpu(2).offline()
    yield gen
    gen = mmgen.MmGen(2, continuous=True)
    gen.cpu(0).quiescent()
    gen.cpu(1).idle_enter()
    yield gen


@pytest.mark.parametrize("state", [gen.snapshot() for gen in states()], ids=lambda state: f"{words(state)[PENDING]:x}-{words(state)[GOAL]}")
def test_every_bit_that_is_another_is_refused_or_harmless(state):
    """With a checksum that fits: without it, test_snapshot.py says, none comes through."""
    found, through = words(state), 0
    assert sealed(found) == state
    for at in range(64 * len(found)):
        made_up = list(found)
        made_up[at // 64] ^= 1 << at % 64
        if at // 64 != CHECKSUM and (gen := restored(sealed(made_up))) is not None:
            through += 1
            keeps_its_promises(gen, sealed(made_up), stay_behind(gen.cpus), waits=True)
            keeps_its_promises(mmgen.MmGen.restore(sealed(made_up)), sealed(made_up), (), waits=False)
    assert 500 < through < 64 * len(found)              # counters, mostly


def but_now_and_then(usual, odd):
    return st.integers(0, 11).flatmap(lambda n: odd if n == 0 else usual)


@st.composite
def made_up(draw):
    """A snapshot of random words, of which most are such as others are."""
    base = draw(st.sampled_from([0, 5, 2**31, 2**32 - 1, 2**63 - 1, 2**63, M64 - 1, M64]))
    near = st.integers(-2, 2)
    far = st.sampled_from([2**62, 2**63, 1 - 2**62, -(2**62), 2 - 2**63, 1 - 2**63])
    gen, cpus = base + draw(near), draw(st.integers(1, 3))
    found = words(mmgen.MmGen(cpus).snapshot())
    found[COUNTING] = draw(st.sampled_from([0, 0, 0, 1, two(0, 1), two(1, 5)]))
    goal = draw(but_now_and_then(st.integers(0, 3), st.sampled_from([4, -1, -5, 2**63, -(2**62), -(2**63)])))
    online = owing = 0
    for cpu in range(cpus):
        switches = base + draw(near)
        paid, older, newer = draw(st.booleans()), *draw(but_now_and_then(st.sampled_from([(1, 0), (2, 1), (3, 0)]), st.tuples(near, near)))
        seen = [switches - older, switches - newer]
        if paid != gen & 1:                             # the newer is the even generation's
            seen.reverse()
        seen = [count + draw(but_now_and_then(st.just(0), far)) for count in seen]
        mode = draw(st.sampled_from([0, 1, 1, 1, 2]))
        found[of_cpu(cpu, 0):of_cpu(cpu + 1, 0)] = [
            count % 2**64 for count in (switches, *seen, two(mode, gen % 2**32), draw(near), draw(near), draw(near), draw(near))]
        online += mode != 0
        owing += mode != 0 and (seen[gen & 1] - seen[gen & 1 ^ 1]) % 2**64 >= 2**63
    found[GENERATION], found[GOAL] = gen % 2**64, (gen + goal) % 2**64
    found[PENDING] = two((owing + draw(but_now_and_then(st.just(0), near))) % 2**32, gen & 1 | online << 1)
    return sealed(found)


@given(state=made_up(), steps=st.lists(st.tuples(st.sampled_from(OPS), st.integers(0, 2)), max_size=40), waits=st.booleans())
@examples(250)
def test_what_was_made_up_is_refused_or_harmless(state, steps, waits):
    gen = restored(state)
    if gen is not None:
        keeps_its_promises(gen, state, stay_behind(gen.cpus), waits=True)
        keeps_its_promises(mmgen.MmGen.restore(state), state, (), waits=False)
        keeps_its_promises(mmgen.MmGen.restore(state), state, steps, waits)
