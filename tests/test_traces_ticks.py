"""Ticks that a recording lacks: where they would have been, and how many a second a recording has."""
import numpy as np
import pytest
from conftest import ALONE
from hostile import examples
from hypothesis import given
from hypothesis import strategies as st
from mmgen.lab.traces import Kind, Trace, add_ticks
from mmgen.lab.traces.ticks import likely_hz

pytestmark = ALONE

MS = 1_000_000
SWITCH, TICK, EXIT, EXEC, TEARDOWN = Kind


def trace(events, cpus=1, hz=250, **more):
    """events: (t_ns, cpu, kind, tid, next_tid)."""
    t_ns, cpu, kind, tid, next_tid = np.array(events, np.int64).reshape(-1, 5).T
    none = np.zeros(len(t_ns), np.int64)
    return Trace(name="x", cpus=cpus, hz=hz, t_ns=t_ns, cpu=cpu, kind=kind, tid=tid, mm=none, next_tid=next_tid, next_mm=none, **more)


def ticks(trace, cpu=0):
    return trace.t_ns[(trace.kind == TICK) & (trace.cpu == cpu)].tolist()


def test_a_busy_cpu_ticks_at_all_multiples():
    made = add_ticks(trace([(0, 0, SWITCH, 1, 2), (17 * MS, 0, SWITCH, 2, 1)]))
    assert ticks(made) == [0, 4 * MS, 8 * MS, 12 * MS, 16 * MS]
    assert made.kind.tolist()[0] == SWITCH              # what was recorded comes first
    assert (made.made_up_ticks, len(made)) == (5, 7)
    assert made.notes == ("there are no ticks in it: 5 were made up, 250 a second on a CPU that does not idle, on all at the same time",)
    assert ticks(add_ticks(trace([(0, 0, SWITCH, 1, 2), (17 * MS, 0, SWITCH, 2, 1)]), hz=100)) == [0, 10 * MS]
    assert ticks(add_ticks(trace([(0, 0, SWITCH, 1, 2), (9 * MS, 0, SWITCH, 2, 1)]), origin_ns=10**18 + MS)) == [3 * MS, 7 * MS]


def test_an_idle_cpu_does_not_and_begins_again_at_a_multiple():
    made = add_ticks(trace([(1, 0, SWITCH, 1, 0), (9 * MS, 0, SWITCH, 0, 1), (13 * MS, 0, SWITCH, 1, 0), (30 * MS, 0, SWITCH, 0, 1)]))
    assert ticks(made) == [0, 12 * MS]
    # Before its first event a CPU idles if that is a switch from the idle task. What else it does shows that it runs.
    made = add_ticks(trace([(5 * MS, 0, SWITCH, 0, 1), (9 * MS, 0, SWITCH, 1, 0), (13 * MS, 0, EXIT, 1, 0), (18 * MS, 0, SWITCH, 1, 0)]))
    assert ticks(made) == [8 * MS, 16 * MS]


def test_skew():
    events = [(0, cpu, SWITCH, 1, 2) for cpu in range(4)] + [(8 * MS, cpu, SWITCH, 2, 1) for cpu in range(4)]
    made = add_ticks(trace(events, cpus=4), skew=True)
    assert [ticks(made, cpu) for cpu in range(4)] == [[MS // 2 * cpu, 4 * MS + MS // 2 * cpu] + [8 * MS] * (cpu == 0) for cpu in range(4)]
    assert "skewed" in made.notes[0]


def test_only_where_none_are():
    whole = trace([(0, 0, SWITCH, 1, 2), (1, 0, TICK, 0, 0)])
    assert add_ticks(whole) is whole
    some = add_ticks(trace([(0, 0, TICK, 0, 0), (0, 1, SWITCH, 1, 2), (5 * MS, 0, SWITCH, 1, 2)], cpus=3))
    assert [ticks(some, cpu) for cpu in range(3)] == [[0], [0, 4 * MS], []]
    assert some.notes[0].startswith("2 of 3 CPUs have no ticks: 2 were made up")
    none = trace([])
    assert add_ticks(none) is none
    idle = trace([(0, 0, SWITCH, 1, 0)])
    assert ticks(add_ticks(idle)) == []


def test_too_many():
    with pytest.raises(ValueError, match=r"CPU 0 would have had 10000000\d+ ticks in 1e\+09 s: more than 33554432"):
        add_ticks(trace([(0, 0, SWITCH, 1, 2), (10**18, 0, SWITCH, 1, 2)]), hz=1000)
    with pytest.raises(ValueError, match="hz=0"):
        add_ticks(trace([]), hz=0)


@st.composite
def machines(draw):
    cpus = draw(st.integers(1, 3))
    events = draw(st.lists(st.tuples(st.integers(0, 100 * MS), st.integers(0, cpus - 1), st.sampled_from([SWITCH, SWITCH, EXIT, EXEC]),
                                     st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=20))
    return trace(sorted(events), cpus=cpus)


@given(machines(), st.sampled_from([100, 250, 300, 1000]), st.booleans(), st.integers(0, 10**12))
@examples(100)
def test_ticks_are_on_their_grid_and_where_the_cpu_runs(machine, hz, skew, origin):
    """Against the rule told again, a tick at a time."""
    made = add_ticks(machine, hz=hz, skew=skew, origin_ns=origin)
    recorded = made.kind != TICK
    for column in ("t_ns", "cpu", "kind", "tid", "next_tid"):
        assert np.array_equal(getattr(made, column)[recorded], getattr(machine, column))
    period = 10**9 // hz
    for cpu in range(machine.cpus):
        mine = machine.on_cpu(cpu).tolist()
        phase = period // 2 // machine.cpus * cpu if skew else 0
        expected = []
        for t in range((phase - origin) % period, int(machine.t_ns[-1]) + 1, period):
            before = [i for i in mine if machine.t_ns[i] <= t]
            if before:
                idle = machine.kind[before[-1]] == SWITCH and machine.next_tid[before[-1]] == 0
            else:
                idle = not mine or (machine.kind[mine[0]] == SWITCH and machine.tid[mine[0]] == 0)
            expected += [] if idle else [t]
        assert ticks(made, cpu) == expected
    assert made.made_up_ticks == np.count_nonzero(~recorded)


@pytest.mark.parametrize("hz", [100, 250, 300, 1000])
def test_the_likely_hz(hz):
    period, random = 10**9 // hz, np.random.default_rng(3)
    events = [(i * period + int(random.integers(0, period // 80)), cpu, TICK, 0, 0) for i in range(200) for cpu in range(2)
              if cpu or random.random() < 0.5]          # CPU 0 idles half of the time
    assert likely_hz(trace(sorted(events), cpus=2)) == hz
    assert likely_hz(trace([(0, 0, TICK, 0, 0), (17 * MS, 0, TICK, 0, 0)])) is None
    assert likely_hz(trace([])) is None
