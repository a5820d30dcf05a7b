"""What a wait takes that begins at any moment of a recording: told in one pass, and by a domain in which it begins, moment by moment."""

import numpy as np
import pytest
from conftest import ALONE
from hypothesis import given, settings
from hypothesis import strategies as st
from mmgen.lab import Costs, Generation
from mmgen.lab.replay.replay import RecordedCase, run
from mmgen.lab.replay.steps import steps_of
from mmgen.lab.replay.waits import NEVER, NOW, by_what, holdouts, longest, waits
from mmgen.lab.traces import Kind
from recorded import machines, recorded, trace_of

pytestmark = ALONE

FREE = Costs(line=0, atomic=0, fence=0, ipi=0, interrupt=0, look=0)


def alone(steps, policy, t, costs=FREE):
    """What a domain says: when a wait that begins at t, and no other, is over; None: it is not."""
    trace = steps.trace
    case = RecordedCase(cpus=trace.cpus, hz=trace.hz, seconds=1.0, policy=policy, costs=costs)
    machine = run(steps, case, lambda ns: None, arrivals=np.array([t], np.int64), exits=False)
    end = int(np.frombuffer(machine.ends, np.int64)[0])
    return None if end < 0 else end


def differences(found, policy):
    """The moments from which a domain under `policy` does not say what `found` does."""
    for t in range(int(found.steps.trace.t_ns[-1])):    # at a moment of a step a wait begins before it
        over = alone(found.steps, policy, t)
        if found.latency_ns([t])[0] != (float("inf") if over is None else over - t):
            yield t


@settings(max_examples=100, deadline=None)
@given(st.one_of(machines(), machines(exits=True)), st.sampled_from(["hang", "drop", "kick"]), st.integers(1, 4))
def test_a_domain_says_the_same_from_every_moment(trace, idle, patience):
    found = waits(steps_of(trace), idle, patience=patience)
    assert list(differences(found, Generation(idle, patience))) == []
    end = int(trace.t_ns[-1])
    assert found.ns == end
    if end:
        unfinished = [found.latency_ns([t])[0] == float("inf") for t in range(1, end + 1)]
        assert found.unfinished == pytest.approx(sum(unfinished) / end)


@pytest.mark.parametrize(("idle", "policy"), [
    ("hang", Generation("hang", broken="one-increment")), ("hang", Generation("hang", continuous=True)), ("hang", Generation("drop")),
    ("drop", Generation("hang")), ("kick", Generation("kick", 2)), ("hang", Generation("kick", 1))])
def test_what_is_not_the_same_is_found(idle, policy):
    """A wait that is an increment short, one of a domain that counts all the time, another idle rule, another patience."""
    events = [(0, cpu, Kind.SWITCH, 1 + cpu, 1 + cpu, 11, 11) for cpu in range(2)]
    for t in range(1, 30):                              # CPU 1 idles a third of the time, and has a long task
        events.append((3 * t, 0, Kind.SWITCH, 10 + t, 10 + t, 11 + t, 11 + t))
        events.append((3 * t + 1, 0, Kind.TICK, 0, 0, 0, 0))
        if t % 9 in (2, 5):
            events.append((3 * t + 2, 1, Kind.SWITCH, *([11, 11, 0, 0] if t % 9 == 2 else [0, 0, 11, 11])))
        elif not 2 < t % 9 < 5:
            events.append((3 * t + 2, 1, Kind.TICK, 0, 0, 0, 0))
    found = waits(steps_of(trace_of(events, hz=1)), idle)
    assert list(differences(found, policy))
    assert not list(differences(found, Generation(idle)))


@pytest.mark.parametrize("patience", [1, 3, 29, 30, 31, 2**31 - 1, 2**32 - 1])
def test_a_patience_beyond_all_ticks_is_none(patience):
    trace = trace_of([(t, 0, Kind.TICK, 0, 0, 0, 0) for t in range(1, 31)], hz=1)
    found = waits(steps_of(trace), "kick", patience=patience)
    assert (found.kicked > 0) == (patience < 30)
    assert not list(differences(found, Generation("kick", patience)))


def test_ipis_take_time():
    """A wait ends with them, unless a holdout has paid while one was on its way."""
    steps, ipi = steps_of(recorded("configure")), 10_600
    found, at_once = waits(steps, "kick", ipi_ns=ipi), waits(steps, "kick")
    assert found.longest_ns == at_once.longest_ns + ipi
    for t in np.random.default_rng(1).integers(0, found.ns * 9 // 10, 60).tolist():
        over = alone(steps, Generation("kick"), t, Costs(ipi=ipi))
        assert 0 <= found.latency_ns([t])[0] - (over - t) <= 2 * ipi


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


ONE = trace_of([(0, 0, Kind.SWITCH, 1, 1, 2, 2), (1000, 0, Kind.TICK, 0, 0, 0, 0)], cpus=1)


@pytest.mark.parametrize(("call", "error", "says"), [
    (lambda w: waits(None), TypeError, "steps=None is of type NoneType, not Steps"),
    (lambda w: waits(w.steps, "sleep"), ValueError, "idle='sleep' is none of hang, drop, kick"),
    (lambda w: waits(w.steps, ["hang"]), ValueError, "is none of hang"),
    (lambda w: waits(w.steps, patience=0), ValueError, "patience=0 is out of range: 1 to 4294967295"),
    (lambda w: waits(w.steps, patience=2**32), ValueError, "patience=4294967296 is out of range"),
    (lambda w: waits(w.steps, patience=1.5), TypeError, "patience=1.5"),
    (lambda w: waits(w.steps, ipi_ns=-1), ValueError, "ipi_ns=-1 is out of range: 0 to 1000000000"),
    (lambda w: w.percentile_ns(-0.1), ValueError, "percent=-0.1 is out of range: 0 to 100"),
    (lambda w: w.percentile_ns(float("nan")), ValueError, "percent=nan"),
    (lambda w: w.percentile_ns("50"), TypeError, "percent='50'"),
    (lambda w: w.latency_ns([-1]), ValueError, r"times_ns=\[-1\] are not all in the recording"),
    (lambda w: w.latency_ns([1001]), ValueError, "not all in the recording"),
    (lambda w: w.latency_ns([2**70]), TypeError, "not whole numbers of ns"),
    (lambda w: w.latency_ns([0.5]), TypeError, "not whole numbers of ns"),
    (lambda w: w.latency_ns(["now"]), TypeError, "not whole numbers of ns"),
    (lambda w: w.latency_ns(np.array([2**64 - 1], np.uint64)), ValueError, "not all in the recording"),
    (lambda w: holdouts(w, -1), ValueError, "most=-1 is out of range"), (lambda w: longest(w, -1), ValueError, "most=-1 is out of range"),
])
def test_what_does_not_fit_is_refused(call, error, says):
    with pytest.raises(error, match=says):
        call(waits(steps_of(ONE)))


def test_a_recording_without_a_moment():
    found = waits(steps_of(trace_of([(0, 0, Kind.SWITCH, 1, 1, 2, 2)] * 3)))
    assert (found.ns, found.percentile_ns(50), found.longest_ns, found.unfinished) == (0, None, None, 0)
    assert (holdouts(found), longest(found)) == ([], [])
    assert found.latency_ns([]).tolist() == []
    with pytest.raises(ValueError, match="not all in the recording"):
        found.latency_ns([0])


@settings(max_examples=50, deadline=None)
@given(machines(exits=True, unit=2), st.sampled_from(["hang", "drop", "kick"]))
def test_shares(trace, idle):
    found = waits(steps_of(trace.replace(cpu_ids=tuple(range(7, 7 + trace.cpus)))), idle)
    took = found.latency_ns(np.arange(1, found.ns, 2))          # between the moments at which something happens
    everyone = holdouts(found, 10**9)
    if found.longest_ns or found.unfinished:
        assert sum(h.share for h in everyone) == pytest.approx(1)
        assert sum(by_what(found).values()) == pytest.approx(1)
    assert all(7 <= h.cpu < 7 + trace.cpus for h in everyone)           # as their machine numbers them
    assert [h.share for h in everyone] == sorted((h.share for h in everyone), reverse=True)
    assert found.at_once == pytest.approx(np.mean(took == 0) if len(took) else 0)
    rows = longest(found)
    assert all(sum(share for _, share in row.ran) <= 1 + 1e-9 for row in rows)
    assert len({(row.begin_ns + row.took_ns if row.took_ns is not None else None) for row in rows}) == len(rows)
    over = [row.took_ns for row in rows if row.took_ns is not None]
    if over:
        assert max(over) == found.longest_ns


def test_holdouts_of_a_machine_by_hand():
    """CPU 1, in thread 7, ticks last in each period, so most waits end with its second; CPU 0's ends those that begin between the two."""
    events = [(0, 1, Kind.SWITCH, 6, 1, 7, 2)]
    for t in range(200, 2200, 200):
        events += [(t, 0, Kind.SWITCH, 5, 3, 5, 3), (t + 2, 0, Kind.TICK, 0, 0, 0, 0), (t + 4, 1, Kind.SWITCH, 7, 2, 7, 2),
                   (t + 6, 1, Kind.TICK, 0, 0, 0, 0)]
    found = waits(steps_of(trace_of(events, hz=1)), "hang")
    assert found.latency_ns([200, 202, 204, 206, 208]).tolist() == [206, 204, 398, 396, 398]
    assert found.longest_ns == 406                      # from 0: the ticks at 206 and 406
    assert found.unfinished == pytest.approx((2006 - 1802) / 2006)
    begun = np.arange(1, 2006, 2)
    took = found.latency_ns(begun)
    by_1 = np.isin(begun + took, range(6, 2200, 200))
    total = np.minimum(took, 2006 - begun).sum()        # what is not over lasts until the end
    assert holdouts(found)[0] == (1, "task", "thread 7", pytest.approx(took[by_1].sum() / total))
    assert [(h.cpu, h.what, h.task) for h in holdouts(found)[1:]] == [(0, "task", "thread 5")]
    first = next(row for row in longest(found, 100) if row.took_ns == 406)
    assert (first.begin_ns, first.cpu, first.ran) == (0, 1, [("thread 7", 1.0)])
