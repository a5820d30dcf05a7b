"""What a wait takes that begins at any moment of a recording: told in one pass, and by a domain in which it begins, moment by moment."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmgen.lab import Costs, Generation
from mmgen.lab.replay.replay import RecordedCase, run
from mmgen.lab.replay.steps import steps_of
from mmgen.lab.replay.waits import NEVER, NOW, waits
from mmgen.lab.traces import Kind, Trace

FREE = Costs(line=0, atomic=0, fence=0, ipi=0, interrupt=0, look=0)


def trace_of(events, cpus=2, **fields):
    """A Trace of (t_ns, cpu, kind, tid, mm, next_tid, next_mm)."""
    columns = np.array(events, np.int64).reshape(-1, 7).T
    names = ("t_ns", "cpu", "kind", "tid", "mm", "next_tid", "next_mm")
    return Trace(**{"name": "made", "cpus": cpus, "hz": 250} | dict(zip(names, columns, strict=True)) | fields)


@st.composite
def machines(draw, most_cpus=3, most=40):
    """A recording without gaps: each CPU's tasks, idle spells and ticks, at moments of their own."""
    cpus = draw(st.integers(1, most_cpus))
    running, events = [None] * cpus, []
    t = 0
    for number in range(draw(st.integers(1, most))):
        t += draw(st.integers(1, 5))
        cpu = draw(st.integers(0, cpus - 1))
        what = draw(st.sampled_from("UUKIITTT")) if running[cpu] else draw(st.sampled_from("UKI"))
        if what == "T":
            events.append((t, cpu, Kind.TICK, 0, 0, 0, 0))
            continue
        prev = running[cpu] or (1000 + cpu, 1 + cpu)
        # A thread of this CPU's own: nobody else is ever said to run it.
        running[cpu] = {"U": (2000 + 10 * number + cpu, 10 + number), "K": (5000 + 10 * number + cpu, 0), "I": (0, 0)}[what]
        events.append((t, cpu, Kind.SWITCH, *prev, *running[cpu]))
    # A tick period so long that no gap tells of idleness.
    return trace_of(events, cpus, hz=1)


def alone(steps, policy, t):
    """What a domain says: when a wait that begins at t, and no other, is over; None: it is not."""
    trace = steps.trace
    case = RecordedCase(cpus=trace.cpus, hz=trace.hz, seconds=1.0, policy=policy, costs=FREE)
    machine = run(steps, case, lambda ns: None, arrivals=np.array([t], np.int64), exits=False)
    end = int(np.frombuffer(machine.ends, np.int64)[0])
    return None if end < 0 else end


@settings(max_examples=200, deadline=None)
@given(machines(), st.sampled_from(["hang", "drop", "kick"]), st.integers(1, 4))
def test_a_domain_says_the_same_from_every_moment(trace, idle, patience):
    steps = steps_of(trace)
    found = waits(steps, idle, patience=patience)
    policy = Generation(idle, patience)
    end = int(trace.t_ns[-1])
    for t in range(end):                                # at a moment of a step a wait begins before it
        over = alone(steps, policy, t)
        assert found.latency_ns([t])[0] == (float("inf") if over is None else over - t), t
    assert found.ns == end
    if end:
        unfinished = [found.latency_ns([t])[0] == float("inf") for t in range(1, end + 1)]
        assert found.unfinished == pytest.approx(sum(unfinished) / end)


@settings(max_examples=100, deadline=None)
@given(machines(), st.sampled_from(["hang", "drop", "kick"]))
def test_percentiles_are_those_of_all_moments(trace, idle):
    found = waits(steps_of(trace), idle)
    parts = 20                                          # of each ns: the later in it a wait begins, the less it takes
    took = [np.zeros(0)]
    for spell in found.spells:
        begun = np.arange(spell["begin_ns"] * parts, spell["end_ns"] * parts) / parts
        took.append(np.full(len(begun), {NOW: 0.0, NEVER: np.inf}.get(int(spell["over_ns"]), -1.0)))
        if took[-1].size and took[-1][0] < 0:
            took[-1] = spell["over_ns"] - begun
    took = np.sort(np.concatenate(took))
    for percent in (0, 10, 50, 90, 99, 100) if len(took) else ():
        ns = found.percentile_ns(percent)
        around = took[[max(int(len(took) * percent / 100) - 2, 0), min(int(len(took) * percent / 100) + 1, len(took) - 1)]]
        assert around[0] - 0.1 <= (np.inf if ns is None else ns) <= around[1] + 0.1
