"""The virtual machine against a slow one in plain Python, on random small machines; invariants; the same seed; the short way."""
import dataclasses

import pytest
from conftest import ALONE
from hostile import examples
from hypothesis import given
from hypothesis import strategies as st
from lab_oracle import Oracle
from mmgen._latency import Latency
from mmgen.lab import Case, Costs, Generation, Load, Refcount, Shootdown, simulate
from mmgen.lab.simulate import run

# No Python in what they look at, nor a second thread.
pytestmark = [pytest.mark.once, *ALONE]

SHARES = st.sampled_from([0.0, 0.0, 0.1, 0.5])
SOUND = st.one_of(
    st.just(Refcount()), st.builds(Shootdown, trim=st.booleans()),
    st.builds(Generation, idle=st.sampled_from(["hang", "drop", "kick"]), patience=st.integers(1, 3), continuous=st.booleans()))
BROKEN = st.one_of(
    st.just(Refcount("no-grab")), st.builds(Shootdown, trim=st.booleans(), broken=st.sampled_from(Shootdown.BROKEN)),
    st.builds(Generation, idle=st.sampled_from(["hang", "drop", "kick"]), broken=st.sampled_from(Generation.BROKEN)))


@st.composite
def loads(draw):
    threads, idle = draw(st.integers(0, 4)) == 0, draw(st.sampled_from([0.0, 0.0, 0.3, 0.5, 1.0]))
    return Load(
        kind="threads" if threads else "processes", mms=draw(st.integers(1, 3)),
        switch_us=draw(st.sampled_from([None, None, 0.5, 10.0, 100.0])),
        distribution=draw(st.sampled_from(["fixed", "exponential", "bursty"])), burst=3, pause_us=300, idle=idle,
        idle_us=draw(st.sampled_from([0.3, 10.0, 1000.0])), kthread=0 if idle == 1 else draw(st.sampled_from([0.0, 0.0, 0.2])),
        kthread_us=draw(st.sampled_from([5.0, 500.0])), exits=0 if threads else draw(SHARES), migrate=0 if threads else draw(SHARES),
        waiters=draw(st.sampled_from([0, 1, 3])), waiter_us=draw(st.sampled_from([0.0, 50.0])),
        hotplug_per_s=draw(st.sampled_from([0.0, 0.0, 1000.0, 5000.0])), unplug_us=draw(st.sampled_from([0.0, 100.0])),
        offline_us=draw(st.sampled_from([0.0, 300.0])))


@st.composite
def cases(draw, policies):
    return Case(cpus=draw(st.integers(1, 9)), hz=draw(st.sampled_from([250, 1000, 3000, 10_000])), seed=draw(st.integers(0, 2**64 - 1)),
                seconds=draw(st.sampled_from([0.0003, 0.002])), policy=draw(policies), load=draw(loads()),
                costs=Costs(line=draw(st.sampled_from([0, 100, 1000])), look=draw(st.sampled_from([0, 10])),
                            switch=draw(st.sampled_from([0, 50]))))


def fields(r):
    names = {field.name for field in dataclasses.fields(r) if field.compare} - {"case", "seconds", "real"}
    return {name: getattr(r, name) for name in names}


def expected(case):
    """What the oracle says of `case`, under the names of a Result."""
    oracle = Oracle(case).run()
    latency = Latency()
    for ns in oracle.latencies:
        latency.record(ns)
    generation = isinstance(case.policy, Generation)
    bad = oracle.uses_after_free
    return oracle.n | {
        "held": oracle.held, "held_peak": oracle.held_peak, "held_mean": oracle.held_ns / oracle.now,
        "generations": oracle.policy.gen.generation if generation else 0, "grace_periods": oracle.n["frees"] if generation else 0,
        "held_series": oracle.series(),
        "use_after_frees": len(bad), "first_use_after_free": bad[0] if bad else None, "latencies": tuple(latency.buckets()),
        "latency_percentiles_ns": {f"p{percent}": latency.percentile_ns(percent) for percent in (50, 90, 99)}
        | {"max": max(oracle.latencies, default=None)},
    }


def agree(case):
    want = expected(case)
    for fast in (True, False):
        assert fields(run(case, True, lambda *_: None, fast)) == want
    return want


@examples(1000)
@given(cases(SOUND))
def test_all_policies_agree_with_the_oracle(case):
    assert agree(case)["use_after_frees"] == 0


@examples(300)
@given(cases(BROKEN))
def test_the_broken_ones_too(case):
    agree(case)


@examples(200)
@given(cases(SOUND).filter(lambda case: case.load.switch_us is None), st.integers(0, 2))
def test_the_short_way_leads_to_the_same(case, idle_rule):
    """Where every CPU switches at each tick: also where a line is asked for faster than it can be handed on."""
    load = dataclasses.replace(case.load, kind="processes", idle=0, kthread=0, exits=0, migrate=0, hotplug_per_s=0, waiters=2)
    policy = Generation(idle=("hang", "drop", "kick")[idle_rule], patience=1)
    costs = dataclasses.replace(case.costs, line=case.costs.line * 100)
    agree(dataclasses.replace(case, load=load, policy=policy, costs=costs))


@examples(200)
@given(cases(SOUND))
def test_the_same_seed_gives_the_same_result(case):
    first, second = simulate(case), simulate(case)
    assert first == second
    assert first.case is second.case


def test_another_seed_gives_another_result():
    assert simulate(cpus=4, seconds=0.01, seed=1) != simulate(cpus=4, seconds=0.01, seed=2)


@examples(200)
@given(cases(SOUND))
def test_every_exited_mm_is_freed_once_or_held(case):
    case = dataclasses.replace(case, cpus=case.cpus * 20, seconds=case.seconds * 2)
    r = simulate(case)                                  # raises where one is freed in use, or twice
    assert r.exits == r.frees + r.held
    assert r.held <= r.held_peak <= r.exits
    assert sum(number for _, _, number in r.latencies) == r.frees
    assert 0 <= r.held_mean <= r.held_peak


@pytest.mark.parametrize("policy", [Refcount(), Shootdown(), Generation(), Generation(idle="kick", patience=2)], ids=str)
def test_nothing_leaks(policy):
    """What exits long before the end is freed by then, on a machine all of whose CPUs go on switching."""
    r = simulate(cpus=50, hz=1000, seconds=0.4, policy=policy, load=Load(exits=0.1, migrate=0.2, idle=0.2, idle_us=500, kthread=0.05))
    assert r.exits > 5000
    assert r.held < 0.1 * r.exits
    assert r.latency_percentiles_ns["max"] < 100_000_000


@pytest.mark.parametrize("part", ["fenced", "look", "credit", "wake"])
def test_an_oracle_that_is_off_is_found(monkeypatch, part):
    case = Case(cpus=3, seconds=0.002, load=Load(exits=0.1, switch_us=10, waiters=1), policy=Generation(), hz=1000)
    agree(case)
    monkeypatch.setattr(Oracle, "fork", lambda self, cpu, fork=Oracle.fork: fork(self, 0))
    monkeypatch.setattr(f"lab_oracle.Waited.{part}", lambda *_: None)
    case = dataclasses.replace(case, load=dataclasses.replace(case.load, idle=0.5))
    with pytest.raises(AssertionError):
        agree(case)
