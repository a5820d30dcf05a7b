"""The lab's policies on a recorded machine: what they count is what plain Python counts, and a wait that arrives is a domain's."""
import dataclasses

import mmgen
import numpy as np
import pytest
from conftest import ALONE
from hypothesis import given, settings
from hypothesis import strategies as st
from mmgen.lab import Costs, Generation, Refcount, Shootdown
from mmgen.lab.replay.replay import RecordedCase, policies, replay, run
from mmgen.lab.replay.steps import What, steps_of
from mmgen.lab.simulate import result
from mmgen.lab.traces import Kind
from recorded import MACHINES, machines, recorded, trace_of

pytestmark = ALONE

S, T, X, C, M = Kind
FREE = Costs(line=0, atomic=0, fence=0, ipi=0, interrupt=0, look=0)


def machine(steps, policy):
    """The result."""
    case = RecordedCase(cpus=steps.trace.cpus, hz=steps.trace.hz, seconds=max(steps.trace.seconds, 1e-6), policy=policy, costs=FREE)
    return result(case, run(steps, case, lambda ns: None), 0.0)


def oracle(steps):
    """What refcount and a trimmed shootdown count, told from the steps alone: (atomics, {mm: freed after ns}, IPIs).

    Refcount: an atomic to take or drop a reference at each change between a task with an mm and one without, and one for each teardown; an
    mm is freed when it is torn down and nobody uses it. Shootdown: an IPI for each other CPU that uses what is torn down.
    """
    own = [int(mm) if what == What.USER else None for mm, what in zip(steps.first["mm"], steps.first["what"], strict=True)]
    active = [mm or 0 for mm in own]
    shot = list(active)                                 # the same under shootdown, which has CPUs leave what is torn down
    atomics = ipis = 0
    torn, freed = {}, {}

    def leave(mm, t):
        if mm in torn and mm not in active:
            freed[mm] = t - torn[mm]

    for t, cpu, _, mm, what, _, _ in steps.steps.tolist():
        before = own[cpu], active[cpu]
        if what in (What.USER, What.EXEC):
            own[cpu] = active[cpu] = shot[cpu] = mm
        elif what in (What.KTHREAD, What.IDLE, What.EXIT):
            own[cpu] = None
        elif what == What.TEARDOWN:
            atomics += 1
            torn[mm] = t
            leave(mm, t)
            ipis += sum(other != cpu and uses == mm for other, uses in enumerate(shot))
            shot = [0 if uses == mm else uses for uses in shot]
        if (before[0] is None) != (own[cpu] is None):
            atomics += 1
        if active[cpu] != before[1]:
            leave(before[1], t)
    return atomics, freed, ipis


def agrees(trace):
    """Refcount and shootdown count what the oracle does; nothing is used after it is freed, under any sound policy."""
    steps = steps_of(trace)
    atomics, freed, ipis = oracle(steps)
    refcount, trimmed = machine(steps, Refcount()), machine(steps, Shootdown(trim=True))
    assert (refcount.atomics, refcount.frees, refcount.ipis) == (atomics, len(freed), 0)
    assert (trimmed.ipis, trimmed.atomics) == (ipis, 0)
    for ns, width, n in refcount.latencies:
        assert n == sum(ns <= took < ns + width for took in freed.values())
    torn = int(np.count_nonzero(steps.steps["what"] == What.TEARDOWN))
    for policy in policies():
        r = machine(steps, policy)
        assert (r.exits, r.use_after_frees, r.frees + r.held) == (torn, 0, torn), policy
        assert r.switches == np.count_nonzero(steps.steps["what"] <= What.IDLE)
        assert r.ticks == np.count_nonzero(steps.steps["what"] == What.TICK)
    assert machine(steps, Shootdown()).ipis >= ipis     # CPUs that have used it, too
    assert machine(steps, Shootdown()).held == 0
    return ipis


@settings(max_examples=150, deadline=None)
@given(machines(exits=True))
def test_policies_count_what_plain_python_counts(trace):
    agrees(trace)


@pytest.mark.parametrize(("name", "ipis"), [("configure", 232), ("mixed", 0), ("idle", 1)])
def test_on_the_recorded_machines(name, ipis):
    trace = recorded(name)
    steps = steps_of(trace)
    atomics, freed, shot = oracle(steps)
    refcount = machine(steps, Refcount())
    assert (refcount.atomics, refcount.frees, refcount.use_after_frees) == (atomics, len(freed), 0)
    assert refcount.latency_percentiles_ns["max"] == max(freed.values())
    assert machine(steps, Shootdown(trim=True)).ipis == shot == ipis


def test_an_oracle_that_is_wrong_is_found(monkeypatch):
    trace = trace_of([(0, 0, S, 4, 9, 5, 1), (5, 0, S, 5, 1, 7, 0), (9, 0, S, 7, 0, 6, 2)], cpus=1)
    agrees(trace)
    right = oracle(steps_of(trace))
    monkeypatch.setitem(globals(), "oracle", lambda steps: (right[0] + 1, *right[1:]))
    with pytest.raises(AssertionError):
        agrees(trace)


def lazy_elsewhere():
    """CPU 1 keeps mm 1 lazily, in a kernel thread, while CPU 0 tears it down; later both run other mms, and tick."""
    events = [(0, 0, S, 4, 9, 5, 1), (1, 1, S, 3, 9, 6, 1), (2, 1, S, 6, 1, 8, 0), (3, 0, X, 5, 0, 0, 0), (4, 0, M, 5, 1, 0, 0),
              (5, 0, S, 5, 0, 7, 2)]
    for t in range(10, 60, 10):
        events += [(t, 0, T, 0, 0, 0, 0), (t + 1, 0, S, 7, 2, 7, 2), (t + 2, 1, T, 0, 0, 0, 0)]
    return [*events, (60, 1, S, 8, 0, 9, 3), (61, 1, T, 0, 0, 0, 0), (62, 0, T, 0, 0, 0, 0), (70, 1, S, 9, 3, 9, 3), (71, 1, T, 0, 0, 0, 0),
            (72, 0, T, 0, 0, 0, 0), (80, 0, T, 0, 0, 0, 0)]


def idle_elsewhere():
    """As lazy_elsewhere(), but CPU 1 idles, until it runs another mm."""
    return [(t, cpu, kind, 0 if tid == 8 else tid, mm, 0 if next_tid == 8 else next_tid, next_mm)
            for t, cpu, kind, tid, mm, next_tid, next_mm in lazy_elsewhere()]


@pytest.mark.parametrize(("events", "broken"), [
    (lazy_elsewhere, Refcount("no-grab")), (lazy_elsewhere, Shootdown(broken="no-ipi")),
    (lazy_elsewhere, Shootdown(trim=True, broken="no-ipi")),
    (idle_elsewhere, Refcount("no-grab")), (idle_elsewhere, Generation("drop", broken="idle-keeps"))])
def test_a_broken_policy_is_found(events, broken):
    trace = trace_of(events(), hz=1)
    agrees(trace)
    steps = steps_of(trace)
    found = machine(steps, broken)
    assert found.use_after_frees > 0
    assert found.first_use_after_free[0] == 1           # mm 1; without references on CPU 0 already, whose task has just exited
    assert found.first_use_after_free[1] == 1 - isinstance(broken, Refcount)
    assert machine(steps, dataclasses.replace(broken, broken=None)).use_after_frees == 0


@pytest.mark.parametrize("idle", ["hang", "drop", "kick"])
def test_a_wait_that_is_an_increment_short_is_found(idle):
    """CPU 1 has switched, runs mm 1, and keeps it lazily from then on; both tick, which is all that one generation needs."""
    events = [(0, 0, S, 4, 9, 5, 2), (0, 1, S, 3, 9, 6, 1), (1, 1, S, 6, 1, 8, 0), (2, 0, M, 5, 1, 0, 0), (3, 0, T, 0, 0, 0, 0),
              (4, 1, T, 0, 0, 0, 0), (5, 0, T, 0, 0, 0, 0), (1000, 0, S, 5, 2, 5, 2)]
    steps = steps_of(trace_of(events, hz=1))
    assert machine(steps, Generation(idle, broken="one-increment")).use_after_frees > 0
    assert machine(steps, Generation(idle)).use_after_frees == 0


def test_a_replay_tells_of_a_use_after_free():
    trace = trace_of([(1000 * t, *rest) for t, *rest in lazy_elsewhere()], hz=1)
    found = replay(trace, policies=[Refcount("no-grab"), Refcount()])
    assert [r.use_after_frees > 0 for r in found.results] == [True, False]
    assert found.waits == found.arrivals == ()
    assert found.lazy_teardowns == 1


# ---- waits that arrive ---------------------------------------------------------------------------------------------------------

def by_hand(steps, arrivals, drops):
    """When waits that begin at `arrivals` are over (-1: not): an MmGen whose CPUs this thread drives, step by step."""
    gen = mmgen.MmGen(steps.trace.cpus, reclaimer=False)
    cpus = [gen.cpu(i) for i in range(steps.trace.cpus)]
    idle = [False] * len(cpus)

    def switch(cpu, what):
        if idle[cpu]:
            cpus[cpu].idle_exit()
            idle[cpu] = False
        if what == What.USER:
            cpus[cpu].switch()
        if what == What.IDLE and drops:
            cpus[cpu].idle_enter()
            idle[cpu] = True

    def tick(cpu):
        if cpus[cpu].tick():
            gen.wake()

    cookie = gen.start_poll()                           # somebody has waited, and every CPU has switched since
    while not gen.poll(cookie):
        for cpu in cpus:
            cpu.switch()
            tick(cpu.index)
    for cpu, what in zip(cpus, steps.first["what"].tolist(), strict=True):
        cpu.switch()
        switch(cpu.index, what)
    ends, begun = [-1] * len(arrivals), []
    left = list(enumerate(arrivals))

    def look(now):
        for number, one in list(begun):
            if gen.poll(one):
                ends[number] = now
                begun.remove((number, one))

    for t, cpu, _, _, what, _, _ in steps.steps.tolist():
        while left and left[0][1] <= t and left[0][1] < steps.trace.t_ns[-1]:
            number, now = left.pop(0)
            begun.append((number, gen.start_poll()))
            look(now)
        if what == What.TICK:
            if not idle[cpu]:
                tick(cpu)
        elif what <= What.IDLE:
            switch(cpu, what)
        elif what == What.EXEC:
            cpus[cpu].switch()
        look(t)
    gen.close()
    return ends


@settings(max_examples=150, deadline=None)
@given(st.one_of(machines(most=60), machines(most=60, exits=True)), st.booleans(), st.data())
def test_waits_that_arrive_are_a_domains(trace, drops, data):
    steps = steps_of(trace)
    arrivals = sorted(data.draw(st.lists(st.integers(0, int(trace.t_ns[-1])), max_size=8)))
    case = RecordedCase(cpus=trace.cpus, hz=1, seconds=1.0, policy=Generation("drop" if drops else "hang"), costs=FREE)
    ran = run(steps, case, lambda ns: None, arrivals=np.array(arrivals, np.int64), exits=False)
    ours = np.frombuffer(ran.ends, np.int64).tolist()
    assert ours == by_hand(steps, arrivals, drops)
    opened = [t for t, _, _ in ran.openings]
    assert opened == sorted(opened)
    assert np.all(np.diff([generation for _, generation, _ in ran.openings]) == 1)


@pytest.mark.parametrize("name", MACHINES)
def test_on_the_recorded_machines_they_are_a_domains(name):
    steps = steps_of(recorded(name))
    arrivals = np.arange(10_000_000, int(steps.trace.t_ns[-1]), 97_000_000)
    for idle in "hang", "drop":
        case = RecordedCase(cpus=2, hz=250, seconds=steps.trace.seconds, policy=Generation(idle), costs=FREE)
        ran = run(steps, case, lambda ns: None, arrivals=arrivals, exits=False)
        ends = np.frombuffer(ran.ends, np.int64).tolist()
        assert ends == by_hand(steps, arrivals.tolist(), idle == "drop")
        assert max(ends) > 0 or (name, idle) == ("idle", "hang")
