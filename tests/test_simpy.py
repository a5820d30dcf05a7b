"""The domain in a SimPy simulation: what happens at which virtual moment, to the number, and the same domain as without SimPy.

Times are in ms and ticks come at 250 Hz, once in 4 ms, unless a test says otherwise.
"""
import array
import asyncio
import contextlib
import gc
import itertools
import random
import re
import sys
import threading
import time
import weakref
from pathlib import Path

import mmgen
import mmgen.simpy
import pytest
import simpy
from hostile import FLOATS, INTS, ODD, Hostile, examples, hostile, no_hang  # noqa: F401 - a fixture
from hypothesis import given
from hypothesis import strategies as st
from mmgen import MmGen, Mode, Op
from mmgen._arguments import shown
from mmgen.simpy import SimCpu, SimMmGen

EXAMPLE = Path(__file__).parents[1] / "examples" / "simpy_machine"
pytestmark = pytest.mark.unsanitized("Python, in one thread, over calls that test_interface.py makes in every order under one")


class Watched(SimMmGen):
    """A domain that remembers when its CPUs ticked: [(CPU, when), ...]."""

    def __init__(self, *args, **options):
        self.ticked = []
        super().__init__(*args, **options)

    def tick(self, cpu, /):
        due = super().tick(cpu)
        self.ticked.append((cpu, self.env.now))
        return due


def domain(cpus, **options):
    """(env, gen), in ms, at 250 Hz."""
    env = simpy.Environment()
    return env, Watched(env, cpus, **{"unit": 1e-3} | options)


def at(env, moment, call):
    """Have call() happen at `moment`."""
    def wait():
        yield env.timeout(moment - env.now)
        call()
    env.process(wait())


def asks(env, gen, moment, fired, **options):
    """Ask for a grace period at `moment`; when it is over, and its cookie, go to the list `fired`."""
    def wait():
        yield env.timeout(moment - env.now)
        cookie = yield gen.grace_period(**options)
        fired.append((env.now, cookie.generation))
    return env.process(wait())


def moments(cpu, times):
    """Delays that have `cpu` switch at `times`."""
    cpu.drive(later - earlier for earlier, later in itertools.pairwise([0, *times]))


# ---- when a grace period is over ------------------------------------------------------------------------------------------------

def two_cpus(**options):
    """CPU 0 switches at 1, 5, 9 and 13, and ticks at 0, 4, 8 and 12; CPU 1 switches at 3, 7, 11 and ticks at 2, 6, 10, 14."""
    env, gen = domain(2, **options)
    moments(gen.cpu(0), [1, 5, 9, 13])
    moments(gen.cpu(1), [3, 7, 11])
    return env, gen


def test_a_grace_period_is_over_at_the_tick_that_opens_its_last_generation():
    env, gen = two_cpus()
    fired = []
    asks(env, gen, 0.5, fired)          # ticks at 4 and 6 open generation 1 (at 2 CPU 1 has not switched), at 8 and 10 generation 2
    env.run(until=16)
    assert fired == [(10, 2)]
    assert gen.ticked == [(0, 0), (1, 2), (0, 4), (1, 6), (0, 8), (1, 10), (0, 12), (1, 14)]
    assert [cpu.opened for cpu in gen.stats().cpus] == [0, 2]
    assert [cpu.switches for cpu in gen.stats().cpus] == [4, 3]
    assert [cpu.ticks for cpu in gen.stats().cpus] == [2, 3]        # those that somebody wanted
    assert gen.stats().wait_latency.max_ns == 9_500_000


def test_the_ways_to_pay_the_last_debt():
    """Instead of the tick at 10: CPU 1 idles, or goes offline, or is quiescent, at 9."""
    for call in ("idle_enter", "offline", "quiescent"):
        env, gen = two_cpus()
        fired = []
        asks(env, gen, 0.5, fired)
        at(env, 9, getattr(gen.cpu(1), call))
        env.run(until=16)
        assert fired == [(9, 2)], call


def test_a_tick_and_a_wake_of_ones_own():
    env, gen = two_cpus()
    fired = []
    asks(env, gen, 0.5, fired)
    due = []
    at(env, 9, lambda: due.append(gen.tick(1)))
    at(env, 9.5, gen.wake)
    env.run(until=16)
    assert due == [True]
    assert fired == [(9.5, 2)]          # its wake is when who waits is told


def test_one_that_joins_takes_three():
    env, gen = domain(2)
    for cpu in (0, 1):
        gen.cpu(cpu).drive(itertools.repeat(1.25))
    fired = []
    for moment in (0.5, 0.75, 7):
        asks(env, gen, moment, fired)
    env.run(until=30)                   # CPU 1's tick at 2 and CPU 0's at 4 open generation 1; 6 and 8 the next, and so on
    assert fired == [(8, 2), (12, 3), (16, 4)]


def test_any_number_fire_in_the_order_of_their_cookies():
    env, gen = two_cpus()
    order = []
    cookies = []

    def begin():
        cookies.extend(gen.start_poll() for _ in range(1000))
        for nr, i in enumerate(random.Random(1).sample(range(1000), 1000)):
            gen.grace_period(cookies[i]).callbacks.append(lambda event, nr=nr: order.append((event.value.generation, nr, env.now)))

    at(env, 0.5, begin)
    moments(gen.cpu(0), [14])
    moments(gen.cpu(1), [13])
    env.run(until=19)
    assert [generation for generation, _, _ in order] == [2] + [3] * 999
    assert order == sorted(order)           # of one generation, as they were asked for
    assert {moment for _, _, moment in order} == {10, 14}


def test_the_event_of_a_cookie():
    env, gen = two_cpus()
    first, fired = gen.start_poll(), []
    asks(env, gen, 5, fired, cookie=first)
    env.run(until=11)
    assert fired == [(10, 2)]               # as if it had asked at 0
    late = gen.grace_period(first)          # it is over: at this moment
    assert late.triggered
    env.run(until=late)
    assert env.now == 11


def test_idle_and_offline_cpus_delay_nobody():
    env, gen = domain(3, online=[0, 1])
    gen.cpu(1).idle_enter()
    gen.cpu(0).drive(itertools.repeat(1))
    fired = []
    asks(env, gen, 0.5, fired)
    env.run(until=20)
    assert fired == [(8, 2)]                # CPU 0's ticks alone: at 4 and 8
    assert {cpu for cpu, _ in gen.ticked} == {0}


def test_where_nobody_runs_it_is_over_at_once():
    env, gen = domain(2)
    gen.cpu(0).idle_enter()
    gen.cpu(1).offline()
    fired = []
    asks(env, gen, 3, fired)
    env.run(until=4)
    gen.cpu(0).offline()
    asks(env, gen, 5, fired)
    env.run(until=6)
    assert fired == [(3, 2), (5, 2)]


def test_the_last_cpu_that_leaves_ends_all():
    env, gen = domain(2)
    fired = []
    asks(env, gen, 1, fired)
    asks(env, gen, 2, fired)
    at(env, 3, gen.cpu(0).offline)
    at(env, 5, gen.cpu(1).offline)
    env.run(until=9)
    assert [now for now, _ in fired] == [5, 5]


def test_a_cpu_that_comes_is_waited_for_from_then_on():
    env, gen = domain(2, online=1, phases=[0, 1])
    gen.cpu(0).drive(itertools.repeat(1))
    at(env, 2, gen.cpu(1).online)
    moments(gen.cpu(1), [4, 8, 12])
    fired = []
    asks(env, gen, 2.5, fired)
    env.run(until=20)                       # CPU 1 ticks at 5 and 9
    assert fired == [(9, 2)]
    assert [now for cpu, now in gen.ticked if cpu == 1] == [5, 9, 13, 17]


def test_a_cpu_waits_for_the_others_idle():
    env, gen = domain(2)
    gen.cpu(0).drive(itertools.repeat(1))
    fired = []

    def waits():
        yield env.timeout(1)
        with gen.cpu(1).idle():
            yield gen.grace_period()
        fired.append(env.now)

    env.process(waits())
    env.run(until=20)
    assert fired == [8]
    assert gen.cpu(1).mode is Mode.RUNNING
    assert [now for cpu, now in gen.ticked if cpu == 1] == [10, 14, 18]         # none at 2 and 6


def test_or_a_timeout():
    env, gen = two_cpus()
    found = []

    def impatient(moment, patience):
        yield env.timeout(moment)
        event = gen.grace_period()
        seen = yield event | env.timeout(patience)
        found.append((env.now, event in seen, event.triggered))

    env.process(impatient(0.5, 9))
    env.process(impatient(0.5, 10))
    env.run(until=30)
    assert found == [(9.5, False, False), (10.5, False, False)]         # the second joined: it takes three, and CPU 1 does not switch again
    env, gen = two_cpus()
    env.process(impatient(0.5, 10))
    env.run(until=30)
    assert found[2:] == [(10, True, True)]


def test_one_that_lasts_longer_than_can_be_recorded():
    env = simpy.Environment()
    gen = SimMmGen(env, 1, online=0)
    mmgen.Cpu(gen, 0).online()              # not by gen.cpu(0): no tick, which would come very often
    event = gen.grace_period()
    at(env, 1e15, gen.cpu(0).offline)
    env.run(until=event)
    assert gen.stats().wait_latency.max_ns == 2**63


def test_an_event_that_nobody_yields_is_no_matter():
    env, gen = two_cpus()
    gone = weakref.ref(gen.grace_period())
    succeeded = gen.grace_period()
    succeeded.succeed("by somebody else")
    gen.cpu(1).drive(itertools.repeat(1))
    env.run(until=20)
    assert gen.generation == 3
    gc.collect()
    assert gone() is None
    assert succeeded.value == "by somebody else"


def test_continuous_increments_and_where_the_counters_start():
    for options, moment, generation in (({"continuous": True}, 12, 3), ({"increments": 1}, 4, 1), ({"first_generation": 2**64 - 1}, 8, 1)):
        env, gen = domain(1, first_switches=2**64 - 2, **options)
        gen.cpu(0).drive(itertools.repeat(1))
        fired = []
        asks(env, gen, 0, fired)
        env.run(until=20)
        assert fired == [(moment, generation)], options


# ---- the tick -------------------------------------------------------------------------------------------------------------------

def ticks(until, phases, *script, cpus=1, **options):
    """When CPU 0 ticks, while `script`, (when, what), happens to it."""
    env, gen = domain(cpus, phases=phases, **options)
    for moment, call in script:
        cpu = gen.cpu(0)
        at(env, moment, getattr(cpu, call) if isinstance(call, str) else lambda cpu=cpu, call=call: call(env, cpu))
    env.run(until=until)
    return [now for cpu, now in gen.ticked if cpu == 0]


def test_no_tick_while_idle_or_offline_and_the_grid_stays():
    assert ticks(22, 1) == [1, 5, 9, 13, 17, 21]
    for off, on in (("idle_enter", "idle_exit"), ("offline", "online")):
        assert ticks(22, 1, (6, off)) == [1, 5]
        assert ticks(22, 1, (6, off), (8, on)) == [1, 5, 9, 13, 17, 21]
        assert ticks(22, 1, (6, off), (10, on)) == [1, 5, 13, 17, 21]
        assert ticks(22, 1, (6, off), (16, on), (18, off), (19, on)) == [1, 5, 17, 21]
        assert ticks(14, 1, *((6 + i / 8, (off, on)[i % 2]) for i in range(20))) == [1, 5, 9, 13]
        assert ticks(22, 1, (6, off), (13, on)) == [1, 5, 13, 17, 21]           # it is back at the moment of a tick
        assert ticks(22, 1, (6, off), (6, on), (9, off), (9, on)) == [1, 5, 9, 13, 17, 21]
        assert ticks(22, 1, (6, off), (6.5, lambda env, cpu, on=on: at(env, 9, getattr(cpu, on)))) == [1, 5, 9, 13, 17, 21]
    assert ticks(22, 1, (6, "idle_enter"), (7, "offline"), (12, "online")) == [1, 5, 13, 17, 21]


def test_phases():
    for phases, firsts in ((None, [0, 1, 2, 3]), (0, [0] * 4), (3.5, [3.5] * 4), ([0, 3, 1, 2], [0, 3, 1, 2]), (iter([1] * 4), [1] * 4)):
        env, gen = domain(4, phases=phases)
        env.run(until=4)
        assert sorted(gen.ticked) == list(enumerate(firsts)), phases


def test_the_grid_begins_when_the_domain_is_made():
    env = simpy.Environment(100)
    gen = Watched(env, 2, unit=1e-3)
    env.run(until=107)
    assert gen.ticked == [(0, 100), (1, 102), (0, 104), (1, 106)]


@pytest.mark.parametrize("unit", [1, 1e-3, 1e-6, 1e-9])
@pytest.mark.parametrize("hz", [1, 100, 250, 1000])
def test_the_unit_of_time(hz, unit):
    whole = {1: 1, 1e-3: 1000, 1e-6: 10**6, 1e-9: 10**9}[unit]
    env = simpy.Environment()
    gen = Watched(env, 1, hz=hz, unit=unit)
    assert gen.period == whole / hz
    assert (gen.hz, gen.unit, gen.env) == (hz, unit, env)
    gen.cpu(0).drive(itertools.chain([gen.period / 2], itertools.repeat(gen.period)))
    env.run(until=gen.grace_period())
    assert env.now == 2 * whole / hz
    assert gen.stats().wait_latency.max_ns == 2 * 10**9 // hz


def test_roundings_do_not_add_up():
    env = simpy.Environment()
    gen = Watched(env, 1, hz=300)
    env.run(until=1000)
    assert len(gen.ticked) == 300_000
    assert all(abs(now - nr / 300) <= 1e-15 * now for nr, (_, now) in enumerate(gen.ticked))


# ---- the workload ---------------------------------------------------------------------------------------------------------------

def test_driven_by_delays():
    env, gen = domain(1)
    cpu = gen.cpu(0)
    driven = cpu.drive([1, 2, 0, 3.5])
    seen = {}
    for moment in (0.5, 1.5, 2.5, 3.5, 6, 7):
        at(env, moment, lambda moment=moment: seen.update({moment: cpu.switches}))
    env.run(until=8)
    assert seen == {0.5: 0, 1.5: 1, 2.5: 1, 3.5: 3, 6: 3, 7: 4}
    assert isinstance(driven, simpy.Process)
    assert not driven.is_alive


def test_no_switch_while_idle_or_offline():
    env, gen = domain(1)
    cpu = gen.cpu(0)
    cpu.drive(itertools.repeat(1))
    at(env, 3.5, cpu.idle_enter)            # the fourth
    at(env, 6.5, cpu.idle_exit)
    at(env, 8.5, cpu.offline)
    at(env, 10.5, cpu.online)
    env.run(until=12.5)
    assert cpu.switches == 3 + 1 + 2 + 2


def test_a_drive_that_is_interrupted_ends():
    env, gen = domain(1)
    driven = gen.cpu(0).drive(itertools.repeat(1))
    at(env, 3.5, driven.interrupt)
    env.run(until=10)
    assert gen.cpu(0).switches == 3
    assert driven.processed
    assert driven.ok


@pytest.mark.parametrize("delay", [-1, -1e-300, float("nan"), float("inf"), 1e300])
def test_a_delay_that_does_not_fit(delay):
    env, gen = domain(1)
    gen.cpu(0).drive([1, delay])
    with pytest.raises(ValueError, match=re.escape(f"delay={delay!r} is out of range: 0 to 4.39805e+12")):
        env.run(until=10)
    assert env.now == 1


# ---- callbacks ------------------------------------------------------------------------------------------------------------------

def test_callbacks_run_at_their_moment_before_the_events_that_ask_about_them():
    env, gen = two_cpus()
    log = []

    def updater():
        yield env.timeout(0.5)
        for name in "ab":
            gen.defer(lambda name: log.append((name, env.now)), name)
        yield gen.grace_period()
        log.append(("over", env.now))

    env.process(updater())
    moments(gen.cpu(0), [14])
    moments(gen.cpu(1), [13])
    env.run(until=30)
    assert log == [("a", 10), ("b", 14), ("over", 14)]
    assert (gen.nr_deferred, gen.nr_run) == (2, 2)


def test_a_callback_is_never_called_within_defer():
    env, gen = domain(1)
    gen.cpu(0).idle_enter()                 # it is over at once
    log = []

    def again():
        log.append(env.now)
        if len(log) < 3:
            gen.defer(again)
            assert len(log) < 3

    def updater():
        yield env.timeout(1)
        gen.defer(again)
        assert log == []

    env.process(updater())
    env.run(until=2)
    assert log == [1, 1, 1]


def test_what_is_retired_lives_until_then():
    env, gen = two_cpus()

    class Thing:
        pass

    thing = Thing()
    gone = []
    weakref.finalize(thing, lambda: gone.append(env.now))
    at(env, 0.5, lambda: gen.retire(things.pop()))
    things = [thing]
    del thing
    env.run(until=20)
    assert gone == [10]
    gen.cpu(0).idle_enter()
    gen.cpu(1).idle_enter()
    thing = Thing()
    weakref.finalize(thing, lambda: gone.append(env.now))
    gen.retire(thing)
    del thing
    env.run(until=21)
    assert gone == [10, 20]


def test_a_callback_that_raises(monkeypatch):
    raised, ran = [], []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: raised.append(what.exc_type))
    env, gen = domain(1)
    gen.cpu(0).drive(itertools.repeat(1))
    gen.defer(lambda: 1 // 0)
    gen.defer(lambda: ran.append(env.now))
    env.run(until=30)
    assert raised == [ZeroDivisionError]
    assert ran == [12]                      # the second joined: it takes the ticks at 4, 8 and 12


def test_max_pending():
    env, gen = domain(1, max_pending=2)
    gen.cpu(0).drive(itertools.repeat(1))
    gen.defer(print)
    gen.retire(None)
    with pytest.raises(mmgen.FullError, match="2 callbacks are pending"):
        gen.defer(print)
    env.run(until=20)
    assert gen.nr_run == 2


def test_no_thread_and_no_clock(monkeypatch):
    def read():
        raise AssertionError("a clock was read")

    threads = threading.active_count()
    env, gen = two_cpus()
    fired = []
    for clock in ("monotonic", "monotonic_ns", "time", "perf_counter"):
        monkeypatch.setattr(time, clock, read)
    asks(env, gen, 0.5, fired)
    at(env, 0.5, lambda: gen.defer(fired.append, "ran"))
    at(env, 0.5, lambda: (gen.wait(0), gen.cpu(0).wait(0), gen.wait_for(gen.start_poll(), 0)))
    at(env, 15, gen.close)
    env.run(until=20)
    assert len(fired) == 2
    assert threading.active_count() == threads


# ---- kicks ----------------------------------------------------------------------------------------------------------------------

def test_a_kick_when_the_patience_has_run_out():
    kicked = []

    def kick(holdouts):
        kicked.append((env.now, [holdout.index for holdout in holdouts]))
        for holdout in holdouts:
            gen.cpu(holdout.index).quiescent()

    env, gen = domain(2, kick=kick, patience=3)
    gen.cpu(0).drive(itertools.repeat(1))   # CPU 1, which ticks at 2, 6, 10, ..., never switches
    fired = []
    asks(env, gen, 0.5, fired)
    env.run(until=40)
    assert kicked == [(10, [1]), (22, [1])]             # in each generation after three ticks of CPU 1
    assert fired == [(22, 2)]
    assert gen.stats().kicks == 2


def test_expedited():
    env, gen = domain(3, kick=lambda holdouts: [gen.cpu(holdout.index).quiescent() for holdout in holdouts])
    fired = []
    asks(env, gen, 0.5, fired, expedite=True)
    env.run(until=2)
    assert fired == [(0.5, 2)]
    assert gen.wait_for(gen.start_poll(), 0, expedite=True)
    assert gen.wait(0, expedite=True)
    other = domain(1)[1]
    for call in (other.grace_period, lambda expedite: other.wait(0, expedite=expedite)):
        with pytest.raises(ValueError, match="needs a domain with a kick"):
            call(expedite=True)
    assert other.nr_waits == 0


# ---- the end, and what is refused -----------------------------------------------------------------------------------------------

def test_a_domain_that_is_closed_meanwhile():
    env, gen = two_cpus()
    gen.cpu(0).drive(itertools.repeat(1))
    log = []

    def waits(make):
        try:
            yield make()
        except mmgen.ClosedError as error:
            log.append((env.now, str(error)))

    env.process(waits(gen.grace_period))
    env.process(waits(lambda: gen.grace_period() | env.timeout(100)))
    env.process(waits(lambda: gen.grace_period() & env.timeout(1)))
    nobody = gen.grace_period()
    nobody.callbacks.append(lambda event: log.append((env.now, event.ok)))
    gen.grace_period().succeed()
    gen.defer(print)
    cookie = gen.start_poll()
    gen.grace_period(cookie)
    at(env, 5.5, gen.close)
    env.run()                               # it ends: no tick, no drive goes on
    assert env.now == 100                   # the timeout
    assert log == [(5.5, False)] + [(5.5, "the domain is closed")] * 3
    with pytest.raises(mmgen.ClosedError):
        gen.grace_period()
    with pytest.raises(mmgen.ClosedError):
        gen.grace_period(cookie)
    with pytest.raises(mmgen.ClosedError):
        gen.wait_for(cookie, 0)
    with pytest.raises(mmgen.ClosedError):
        gen.cpu(0).drive([])


def test_what_is_over_before_the_close_has_ended_well():
    env, gen = domain(1)
    gen.cpu(0).idle_enter()
    cookie, ran = gen.start_poll(), []
    gen.defer(ran.append, 1)
    over = gen.grace_period()
    assert gen.close() == []
    late = gen.grace_period(cookie)
    env.run()
    assert ran == [1]
    assert over.ok
    assert late.value is cookie
    assert gen.wait_for(cookie, 0)
    assert gen.close() == []
    _, gen = domain(1)
    untold = gen.grace_period()
    for _ in range(2):
        gen.switch(0)
        due = gen.tick(0)
    assert due                              # and no wake
    gen.close()
    assert untold.ok


def test_callbacks_that_never_ran_are_returned():
    _, gen = domain(1)
    gen.defer(print, 1)
    assert gen.close() == [(print, (1,))]


def test_what_would_sleep_is_refused():
    env, gen = domain(1)
    cookie = gen.start_poll()
    waits = gen.nr_waits
    for call in (gen.wait, lambda: gen.wait(5), lambda: gen.wait_for(cookie), lambda: gen.wait_for(cookie, 1e-3), gen.barrier,
                 lambda: gen.barrier(1), gen.cpu(0).wait, lambda: gen.cpu(0).wait(2), lambda: gen.close(None), lambda: gen.close(1),
                 lambda: asyncio.run(gen.wait_async()), lambda: asyncio.run(gen.wait_async(0))):
        with pytest.raises(RuntimeError, match="yield gen.grace_period"):
            call()
    with pytest.raises(RuntimeError, match=re.escape("wait_for() would block the simulation for ever: yield gen.grace_period(cookie)")):
        gen.wait_for(cookie)
    assert gen.nr_waits == waits            # and nothing was begun
    assert gen.cpu(0).switches == 0
    with pytest.raises(RuntimeError, match="yield gen.grace_period"):
        mmgen.mm_gen_wait(gen)
    with pytest.raises(RuntimeError, match="online"):
        gen.register()
    for call in (gen.wait, gen.barrier, gen.cpu(0).wait, gen.close, lambda timeout: gen.wait_for(cookie, timeout)):
        with pytest.raises(ValueError, match=r"timeout=-1 is out of range: 0 seconds"):
            call(-1)
    gen.defer(print)
    assert [gen.wait(0), gen.wait_for(cookie, 0), gen.barrier(0)] == [False] * 3
    gen.retire(None)
    gen.cpu(0).idle_enter()
    assert [gen.wait(0), gen.wait_for(cookie, 0)] == [True] * 2
    gen.cpu(0).idle_exit()
    assert gen.cpu(0).wait(0)
    gen.grace_period()
    assert gen.run_callbacks() == 2
    assert gen.barrier(0)
    env.run(until=1)


def test_only_its_own_cookies():
    _, gen = domain(1)
    with pytest.raises(ValueError, match="another domain's"):
        gen.grace_period(domain(1)[1].start_poll())


@pytest.mark.parametrize(("options", "says"), [
    ({"hz": 0}, "hz=0 is out of range: 0.001 to 1e+09"), ({"hz": -250}, "hz=-250 is out of range"),
    ({"hz": float("nan")}, "hz=nan is out of range"), ({"hz": float("inf")}, "hz=inf is out of range"),
    ({"unit": 0}, "unit=0 is out of range: 1e-15 to 1e+09"), ({"unit": float("nan")}, "unit=nan is out of range"),
    ({"phases": -1}, "phases: CPU 0: -1 is out of range: 0 to less than a tick, 4"),
    ({"phases": [0, 4]}, "phases: CPU 1: 4 is out of range"), ({"phases": float("nan")}, "phases: CPU 0: nan is out of range"),
    ({"phases": [0]}, "phases=[0] is not one for each of 2 CPUs"),
    ({"phases": itertools.count()}, "is not one for each of 2 CPUs"),
    ({"max_pending": 0}, "max_pending=0 is out of range: 1 or"), ({"increments": 0}, "increments=0 is out of range: 1 to"),
], ids=str)
def test_an_argument_that_does_not_fit(options, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        domain(2, **options)


def test_arguments_of_another_type():
    env, gen = domain(1)
    for call, says in ((lambda: SimMmGen(env, 1, hz="250"), "hz='250' is of type str, not a number"),
                       (lambda: SimMmGen(env, 1, phases="0"), "phases: CPU 0='0' is of type str"),
                       (lambda: SimMmGen(None, 1), "env=None is of type NoneType, not a simpy.Environment"),
                       (lambda: SimMmGen(env), "cpus"), (lambda: SimMmGen(env, 1, trace=8), "trace"),
                       (lambda: SimCpu(mmgen.MmGen(1), 0), "not a SimMmGen"), (lambda: gen.cpu(0).drive(5), "not iterable")):
        with pytest.raises(TypeError, match=re.escape(says)):
            call()
    for now in (float("nan"), float("inf"), -1e12, 1e12):
        with pytest.raises(ValueError, match=r"env\.now=.* is out of range: -4.39805e\+09 to"):
            SimMmGen(simpy.Environment(now), 1)
    with pytest.raises(IndexError, match="out of range"):
        gen.cpu(1)
    with pytest.raises(RuntimeError, match="called before"):
        gen.__init__(env, 1)


def test_at_the_end_of_time():
    env, gen = domain(1)
    gen.cpu(0).idle_enter()
    env.run(until=1e300)
    with pytest.raises(ValueError, match="env.now, in ticks"):
        gen.cpu(0).idle_exit()              # ticks would all be at one moment, for ever


def test_importing_mmgen_does_not_import_simpy(python):
    assert python("import sys, mmgen; print('simpy' in sys.modules, 'mmgen.simpy' in sys.modules)").stdout == "False False\n"


# ---- the same domain as without SimPy -------------------------------------------------------------------------------------------

class Domain:
    """The model: a plain MmGen, driven through the same moments by a loop of its own, and a list of who owes each grace period."""

    def __init__(self, cpus, online, phases, continuous):
        self.gen = mmgen.MmGen(cpus, online=online, continuous=continuous, reclaimer=False, stall_after=None)
        self.phases = phases
        self.asked = []                     # [cookie, who owes it still, when it was over], in the order of the asking
        self.deferred = []                  # when the callbacks ran
        self.now = 0

    def over(self):
        for one in self.asked:
            if one[2] is None and self.gen.poll(one[0]):
                assert not one[1], "over, and a CPU has not switched since"
                one[2] = self.now
        self.gen.run_callbacks()

    def does(self, cpu, what):
        """One thing that a script or a tick has a CPU do; whether it fits."""
        handle = self.gen.cpu(cpu)
        if what == "ask":
            running = {i for i in range(self.gen.cpus) if self.gen.cpu(i).mode is Mode.RUNNING}
            self.asked.append([self.gen.start_poll(), running, None])
        elif what == "defer":
            self.gen.defer(lambda: self.deferred.append(self.now))
        elif not fits(handle, what):
            return
        elif what == "tick":
            if handle.tick():
                self.gen.wake()
        else:
            getattr(handle, what)()
            if what in ("switch", "quiescent", "idle_enter", "offline"):
                for one in self.asked:
                    one[1].discard(cpu)
        self.over()

    def run(self, script, until):
        moments = [(when, cpu, what) for when, cpu, what in script]
        for cpu, phase in enumerate(self.phases):
            moments += [(phase + 4 * nr, cpu, "tick") for nr in range(until // 4)]
        for self.now, cpu, what in sorted(moments, key=lambda one: one[0]):
            self.does(cpu, what)


def fits(cpu, what):
    """Whether the CPU is in a mode for `what`."""
    needed = {"idle_exit": [Mode.IDLE], "online": [Mode.OFFLINE], "offline": [Mode.RUNNING, Mode.IDLE]}
    return cpu.mode in needed.get(what, [Mode.RUNNING])


def simulated(cpus, online, phases, continuous, script, until):
    """The same in SimPy: the domain, [[cookie, when it was over], ...], and when the callbacks ran."""
    env, gen = domain(cpus, online=online, phases=phases, continuous=continuous)
    asked, deferred = [], []

    def ask():
        event = gen.grace_period()
        one = [event, None]
        asked.append(one)
        event.callbacks.append(lambda event: one.__setitem__(1, env.now))

    def does(cpu, what):
        if what == "ask":
            ask()
        elif what == "defer":
            gen.defer(lambda: deferred.append(env.now))
        elif fits(gen.cpu(cpu), what):
            getattr(gen.cpu(cpu), what)()

    for when, cpu, what in script:          # one process each: in the order of their moments, whatever SimPy has else
        at(env, when, lambda cpu=cpu, what=what: does(cpu, what))
    env.run(until=until)
    return gen, asked, deferred


OPERATIONS = ["switch", "ask", "ask", "defer", "quiescent", "idle_enter", "idle_exit", "idle_exit", "offline", "online", "online"]


@st.composite
def scripts(draw):
    """CPUs and what they do when: at odd eighths and quarters, and ticks come at halves, so that no tick meets something else.

    Each switches at a pace of its own; what else happens is drawn one by one.
    """
    cpus = draw(st.integers(1, 4))
    phases = [half / 2 for half in draw(st.permutations(range(8)))[:cpus]]
    steps = draw(st.lists(st.tuples(st.integers(0, 12), st.integers(0, cpus - 1), st.sampled_from(OPERATIONS)), min_size=1, max_size=30))
    script, when = [], 0.25
    for delay, cpu, what in steps:
        when += delay / 2
        script.append((when, cpu, what))
    until = 4 * (int(when) // 4 + draw(st.integers(1, 6)))
    for cpu, pace in enumerate(draw(st.lists(st.sampled_from([1, 2, 3, 5, 9, until]), min_size=cpus, max_size=cpus))):
        script += [(moment + 0.625, cpu, "switch") for moment in range(0, until, pace)]
    online = draw(st.sampled_from([cpus, cpus, cpus, *range(cpus)]))
    return cpus, online, phases, draw(st.booleans()), sorted(script, key=lambda one: one[0]), until


@given(scripts())
@examples(300)
def test_agrees_with_the_model(drawn):
    """To the moment: no grace period ends before all who owed it have paid, and each does when the last generation opens."""
    cpus, online, phases, continuous, script, until = drawn
    model = Domain(cpus, online, phases, continuous)
    model.run(script, until)
    gen, asked, deferred = simulated(cpus, online, phases, continuous, script, until)
    for (event, moment), (cookie, _, over) in zip(asked, model.asked, strict=True):
        assert moment == over
        assert event.triggered == (over is not None)
        if event.triggered:
            assert event.value.generation == cookie.generation
    assert deferred == model.deferred
    assert gen.generation == model.gen.generation
    assert gen._counters() == model.gen._counters()
    assert [h.index for h in gen.holdouts()] == [h.index for h in model.gen.holdouts()]
    assert (gen.nr_waits, gen.nr_run, gen.nr_online) == (model.gen.nr_waits, model.gen.nr_run, model.gen.nr_online)


def test_the_model_finds_one_that_ends_too_early(monkeypatch):
    model = Domain(2, 2, [0, 2], False)
    model.gen = mmgen.MmGen(2, increments=1, reclaimer=False, stall_after=None)
    early = [(0.25, 0, "ask"), (1.25, 0, "switch"), (2.25, 1, "switch"), (5, 0, "switch"), (9, 0, "ask"), (11, 1, "switch")]
    with pytest.raises(AssertionError, match="has not switched since"):
        model.run(early, 20)


def history(seed):
    """All that happens to a machine of four CPUs, at random: every state, and when."""
    env, gen = domain(4, online=3)
    rng = random.Random(seed)
    seen = []

    def worker(cpu):
        while True:
            yield env.timeout(rng.expovariate(0.3))
            call = rng.choice(["switch"] * 5 + ["idle_enter", "idle_exit", "idle_exit", "online", "offline"])
            if fits(cpu, call):
                getattr(cpu, call)()
            seen.append((env.now, cpu.index, gen.generation, gen._counters()))

    def updater():
        while True:
            gen.defer(lambda: seen.append(("ran", env.now)))
            event = gen.grace_period()
            yield event | env.timeout(rng.expovariate(0.1))
            seen.append((env.now, event.triggered))
            yield env.timeout(0.1)          # where all idle it is over at once

    for cpu in range(4):
        env.process(worker(gen.cpu(cpu)))
        gen.cpu(cpu).drive(iter(lambda: rng.expovariate(0.5), None))
    env.process(updater())
    env.run(until=500)
    return seen, gen.ticked, gen.stats().wait_latency.buckets()


def test_the_same_seed_gives_the_same_history():
    assert history(1) == history(1)
    assert history(1) != history(2)


# ---- hostile arguments ----------------------------------------------------------------------------------------------------------

class World:
    """What ODD's values are made from."""

    def __init__(self):
        self.env, self.gen = domain(2, kick=lambda holdouts: None)
        self.registered = self.gen.cpu(1)
        self.cookie = self.gen.start_poll()

    def value(self, spec):
        return spec[1] if spec[0] == "is" else ODD[spec[1]](self)

    def works_on(self):
        """A grace period is over in 8 ticks, if nobody has closed the domain."""
        gen, env = self.gen, self.env
        if gen.closed:
            return
        for cpu in map(gen.cpu, range(2)):
            if cpu.mode is Mode.RUNNING:
                cpu.drive(itertools.repeat(1))
        over = gen.grace_period()
        env.run(until=env.now + 32)
        assert over.processed


CALLS = {
    "SimMmGen": lambda world, value, key: SimMmGen(world.env, **{"cpus": 2} | {key: value}),
    "env": lambda world, value, _: SimMmGen(value, 1),
    "SimCpu": lambda world, value, _: SimCpu(value, 0),
    "index": lambda world, value, _: world.gen.cpu(value),
    "drive": lambda world, value, _: world.gen.cpu(0).drive(value),
    "delay": lambda world, value, _: world.gen.cpu(0).drive([value]),
    "grace_period": lambda world, value, _: world.gen.grace_period(value),
    "expedite": lambda world, value, _: world.gen.grace_period(expedite=value),
    "wait": lambda world, value, _: world.gen.wait(value),
    "wait_for": lambda world, value, _: world.gen.wait_for(value, 0),
    "cpu.wait": lambda world, value, _: world.gen.cpu(0).wait(value),
    "barrier": lambda world, value, _: world.gen.barrier(value),
    "close": lambda world, value, _: world.gen.close(value),
    "defer": lambda world, value, _: world.gen.defer(value),
    "retire": lambda world, value, _: world.gen.retire(value),
    "run_callbacks": lambda world, value, _: world.gen.run_callbacks(value),
}
OPTIONS = ["cpus", "hz", "unit", "phases", "online", "continuous", "increments", "kick", "patience", "max_pending", "first_generation",
           "first_switches", "sideways"]
LARGEST = 2**16                     # of CPUs: more are only slow


def documented(error, value):
    """`error` is documented, and says what is wrong; or a hostile object raised it."""
    if isinstance(error, Hostile):
        return
    assert isinstance(error, TypeError | ValueError | IndexError | RuntimeError | MemoryError), repr(error)
    assert not isinstance(error, RecursionError)
    message = str(error)
    assert message.strip()
    if "out of range" in message and not isinstance(value, list | tuple | range) and type(value) in (int, float):
        assert shown(value) in message
        assert re.search(r"out of range: .*\d", message)


@pytest.mark.usefixtures("no_hang")
@pytest.mark.parametrize("call", sorted(CALLS))
def test_a_call_with_an_argument_that_does_not_fit(call, monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)      # what callbacks raise is their own affair

    @given(hostile, st.sampled_from(OPTIONS if call == "SimMmGen" else [""]))
    @examples(400 if call == "SimMmGen" else 150)
    def fuzz(spec, key):
        world = World()
        value = world.value(spec)
        if key == "cpus" and isinstance(value, int) and value > LARGEST:
            value = -value
        if call in ("drive", "delay") and spec[1] in ("endless", "range", "long"):
            value = itertools.islice(value, 5)                      # each a valid delay
        try:
            made = CALLS[call](world, value, key)
            if call in ("drive", "delay"):
                for cpu in range(2):
                    world.gen.cpu(cpu).idle_enter()                 # or they would tick, for as long as the delay
                world.env.run(until=made)
            elif isinstance(made, SimMmGen):
                made.close()
        except Exception as error:
            documented(error, value)
        world.works_on()
        with contextlib.suppress(RuntimeError):
            world.gen.close()

    fuzz()


@pytest.mark.parametrize("value", [*FLOATS, *INTS], ids=shown)
@pytest.mark.parametrize("key", ["hz", "unit", "phases"])
def test_a_number_fits_or_is_named(key, value):
    try:
        gen = domain(1, **{key: value})[1]
    except ValueError as error:
        documented(error, value)
    else:
        low, high = {"hz": (1e-3, 1e9), "unit": (1e-15, 1e9), "phases": (0, 4 - 1e-12)}[key]
        assert low <= value <= high
        assert gen.period > 0


# ---- batches and checkpoints

def test_a_batch_at_one_moment():
    env, gen = domain(2)
    fired = []

    def updater():
        yield gen.grace_period()
        fired.append(env.now)

    env.process(updater())
    env.run(until=1)
    assert gen.run(array.array("I", [0, Op.QUIESCENT, 1, Op.QUIESCENT] * 2)) == 2
    env.run(until=1.5)
    assert fired == [1]


def test_cpus_that_a_batch_brings_back_tick_again():
    env, gen = domain(2, phases=1.0)
    gen.cpu(0).idle_enter()
    gen.cpu(1).offline()
    env.run(until=10)
    event = gen.grace_period()
    gen.run(array.array("I", [0, Op.IDLE_EXIT, 1, Op.ONLINE, 0, Op.SWITCH, 1, Op.SWITCH]))
    gen.cpu(0).drive(itertools.repeat(1))
    gen.cpu(1).drive(itertools.repeat(1))
    env.run(until=30)
    assert event.processed
    with pytest.raises(IndexError, match="op 0: CPU 2 is out of range"):
        gen.run(array.array("I", [2, Op.SWITCH]))


def test_a_checkpoint_goes_on_as_the_simulation_does():
    def history(env, gen):
        found = []

        def updater():
            while True:
                found.append((env.now, gen.generation))
                yield gen.grace_period()

        gen.cpu(0).drive(itertools.repeat(3))
        gen.cpu(1).drive(itertools.repeat(5))
        env.process(updater())
        env.run(until=400)
        return found, gen.snapshot()

    env, gen = domain(2, phases=1.0)
    gen.cpu(0).switch()
    gen.start_poll()
    env.run(until=200)                                  # 50 ticks
    state = gen.snapshot()
    other = simpy.Environment(initial_time=200)
    restored = SimMmGen.restore(state, env=other, hz=gen.hz, unit=gen.unit, phases=1.0)
    assert restored.snapshot() == state
    assert history(other, restored) == history(env, gen)
    with pytest.raises(TypeError, match="patience is part of the state"):
        SimMmGen.restore(state, env=other, patience=1)
    with pytest.raises(TypeError, match="env=None is of type NoneType"):
        SimMmGen.restore(state)
    with pytest.raises(ValueError, match=r"its domain of 2 CPUs may grow to 3"):
        SimMmGen.restore(MmGen(2, max_cpus=3).snapshot(), env=other)


# ---- the example ----------------------------------------------------------------------------------------------------------------

def test_the_example_prints_what_its_readme_shows(python):
    code = (EXAMPLE / "machine.py").read_text()
    result = python(code)
    assert result.returncode == 0, result.stderr
    shows = re.findall(r"^```text\n(.*?)^```", (EXAMPLE / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert shows == [result.stdout]
    assert len(code.splitlines()) < 60


def test_the_example_finds_what_is_freed_too_early(python):
    code = (EXAMPLE / "machine.py").read_text()
    assert code.count("hz=HZ,") == 1
    result = python(code.replace("hz=HZ,", "hz=HZ, increments=1,"))
    assert result.returncode == 1
    assert "assert old not in holds" in result.stderr or "AssertionError" in result.stderr
