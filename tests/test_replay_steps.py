"""A recording's events as steps: as they are where none is missing, and mended where some are, or contradict each other."""
import dataclasses

import numpy as np
import pytest
from conftest import ALONE
from hypothesis import given, settings
from hypothesis import strategies as st
from mmgen import mmtrace
from mmgen.lab.replay.replay import RecordedCase, policies, run
from mmgen.lab.replay.steps import STEP, What, steps_of
from mmgen.lab.traces import Kind, read
from mmgen.workload import QUIET, Replay, Step
from recorded import COLUMNS, MACHINES, machines, recorded, trace_of

pytestmark = ALONE

S, T, X, C, M = Kind
TASKS = (What.USER, What.KTHREAD, What.IDLE)


def rows(steps, *columns):
    return [tuple(row) for row in steps[list(columns)].tolist()]


def consistent(steps):
    """Each step follows from those before it, as a machine's do: times are sorted, only who has an mm gives it up, the idle task has none,
    nobody has an mm that is torn down. What each CPU runs, at the end."""
    assert len(steps.first) == steps.trace.cpus
    assert (steps.first["what"] <= What.IDLE).all()
    assert (np.diff(steps.steps["t_ns"]) >= 0).all()
    assert steps.made_up == np.count_nonzero(steps.steps["made_up"])
    own = [int(mm) for mm in steps.first["mm"]]
    running = [int(tid) for tid in steps.first["tid"]]
    torn = set()
    for t, cpu, tid, mm, what, _, _ in [*steps.first.tolist(), *steps.steps.tolist()]:
        assert 0 <= t <= steps.trace.t_ns[-1]
        assert mm < steps.nr_mms
        if what in TASKS:
            assert (mm != 0) == (what == What.USER)
            assert (tid == 0) == (what == What.IDLE)
            running[cpu], own[cpu] = tid, mm
        elif what == What.TICK:
            assert mm == 0
        else:
            assert tid == running[cpu] or what == What.EXIT     # another CPU's teardown has a task give its mm up
            if what == What.EXIT:
                own[cpu] = 0
            elif what == What.EXEC:
                assert mm != 0 != tid
                own[cpu] = mm
            else:
                assert mm not in torn
                torn.add(mm)
        assert not torn & set(own)
    return running


def no_use_after_free(steps):
    trace = steps.trace
    for policy in policies():
        case = RecordedCase(cpus=trace.cpus, hz=trace.hz, seconds=1.0, policy=policy)
        assert run(steps, case, lambda ns: None).bad is None, policy


@settings(max_examples=200, deadline=None)
@given(st.one_of(machines(), machines(exits=True)))
def test_without_gaps_the_steps_are_the_events(trace):
    steps = steps_of(trace)
    assert (steps.made_up, steps.contradictions) == (0, 0)
    consistent(steps)
    no_use_after_free(steps)
    ours = steps.steps
    for kind, whats in ((S, TASKS), (T, (What.TICK,)), (M, (What.TEARDOWN,))):
        theirs = trace.kind == kind
        mine = ours[np.isin(ours["what"], whats)]
        assert np.array_equal(mine["t_ns"], trace.t_ns[theirs])
        assert np.array_equal(mine["cpu"], trace.cpu[theirs])
        if kind == S:
            assert np.array_equal(mine["tid"], trace.next_tid[theirs])
            assert np.array_equal(mine["mm"], trace.next_mm[theirs])
        elif kind == M:
            assert np.array_equal(mine["mm"], trace.mm[theirs])
    # An exit and an exec each change the mm once, at the first of the two events that tell of it.
    assert np.count_nonzero(ours["what"] == What.EXIT) == trace.counts["exit"]
    assert sorted(ours["mm"][ours["what"] == What.EXEC]) == sorted(trace.next_mm[trace.kind == C])
    for cpu in range(trace.cpus):
        mine = np.flatnonzero((trace.cpu == cpu) & (trace.kind != T))
        assert steps.first["tid"][cpu] == (trace.tid[mine[0]] if len(mine) else 0)


@settings(max_examples=200, deadline=None)
@given(machines(exits=True, most=60), st.data())
def test_with_gaps_they_follow_from_each_other(trace, data):
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=len(trace), max_size=len(trace))), bool)
    keep[-1] = True
    gaps = trace.replace(hz=data.draw(st.sampled_from([1, 10_000])), **{name: getattr(trace, name)[keep] for name in COLUMNS})
    steps = steps_of(gaps)
    running = consistent(steps)
    no_use_after_free(steps)
    for cpu in range(gaps.cpus):
        if (switches := np.flatnonzero((gaps.cpu == cpu) & (gaps.kind == S))).size and (gaps.kind[switches[-1]:][
                gaps.cpu[switches[-1]:] == cpu] <= T).all():
            assert running[cpu] == gaps.next_tid[switches[-1]]
    recorded_switches = steps.steps[np.isin(steps.steps["what"], TASKS) & (steps.steps["made_up"] == 0)]
    assert np.array_equal(recorded_switches["t_ns"], gaps.t_ns[gaps.kind == S])
    assert np.array_equal(recorded_switches["tid"], gaps.next_tid[gaps.kind == S])


garbage = st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 4), *[st.integers(0, 3)] * 4)


@settings(max_examples=300, deadline=None)
@given(st.lists(garbage, min_size=1, max_size=30), st.sampled_from([1, 10_000]))
def test_events_that_make_no_sense(events, hz):
    """Threads that run on several CPUs, mms of the idle task, used and torn down again: no policy is ever given what is torn down."""
    t = np.cumsum([event[0] * 40_000 for event in events])
    steps = steps_of(trace_of([(when, *event[1:]) for when, event in zip(t.tolist(), events, strict=True)], cpus=3, hz=hz))
    consistent(steps)
    no_use_after_free(steps)


def test_a_missing_switch_is_made_up_where_it_shows():
    steps = steps_of(trace_of([(0, 0, S, 1, 1, 2, 2), (50, 0, S, 3, 3, 4, 0)], cpus=1))
    assert rows(steps.first, "tid", "mm", "what") == [(1, 1, What.USER)]
    assert rows(steps.steps, "t_ns", "tid", "mm", "what", "made_up") == [
        (0, 2, 2, What.USER, 0), (50, 3, 3, What.USER, 1), (50, 4, 0, What.KTHREAD, 0)]
    assert steps.made_up == 1


TICK = 4_000_000


@pytest.mark.parametrize(("quiet", "idles_from"), [(3 * TICK, None), (3 * TICK + 1, TICK), (100 * TICK, TICK)])
@pytest.mark.parametrize("then", [(T, 0, 0, 0, 0), (S, 2, 2, 3, 3), (S, 0, 0, 3, 3), (X, 2, 0, 0, 0)])
def test_a_cpu_that_goes_idle_unseen_idles_from_when_it_should_have_ticked(quiet, idles_from, then):
    steps = steps_of(trace_of([(0, 0, S, 1, 1, 2, 2), (0, 1, T, 0, 0, 0, 0), (quiet, 0, *then)], cpus=2))
    idled = [t for t, what, made_up in rows(steps.steps, "t_ns", "what", "made_up") if what == What.IDLE and made_up]
    if then[0] == S and then[1] == 0:                   # that it idles is recorded, and only not since when
        idles_from = TICK
    assert idled == [idles_from] * (idles_from is not None)
    consistent(steps)


@pytest.mark.parametrize(("quiet", "idles"), [(3 * TICK, False), (3 * TICK + 1, True), (100 * TICK, True)])
def test_a_cpu_that_falls_silent_before_the_end_idles(quiet, idles):
    steps = steps_of(trace_of([(0, 0, S, 1, 1, 2, 2), (0, 1, S, 3, 3, 4, 0), (quiet, 1, T, 0, 0, 0, 0)], cpus=2))
    made_up = [(TICK, 1, What.IDLE, 1), (TICK, 0, What.IDLE, 1)] if idles else []      # CPU 1 until its tick, CPU 0 for good
    assert rows(steps.steps, "t_ns", "cpu", "what", "made_up") == [
        (0, 0, What.USER, 0), (0, 1, What.KTHREAD, 0), *made_up, (quiet, 1, What.TICK, 0)]


@pytest.mark.parametrize("late", [0, 1])
def test_a_live_replay_is_as_patient(late, tmp_path):
    """workload.Replay has the same number of periods, in Python."""
    quiet = QUIET * TICK + late
    path = tmp_path / "quiet.mmtrace.tsv"
    path.write_text(f"# mmtrace 1\tname=quiet\tcpus=1\thz=250\n# columns\n0\t0\tS\t1\t1\t2\t2\n{quiet}\t0\tT\n")
    live = list(zip(*Replay(mmtrace.read(path)).steps(0), strict=True))
    idled = [t for t, what, made_up in rows(steps_of(read(path)).steps, "t_ns", "what", "made_up") if what == What.IDLE and made_up]
    assert idled == [t for t, step in live if step == Step.IDLE] == [TICK] * late


def test_where_ticks_were_not_recorded_their_lack_tells_nothing():
    steps = steps_of(trace_of([(0, 0, S, 1, 1, 2, 2), (10**12, 0, S, 2, 2, 3, 3)], cpus=1))
    assert steps.made_up == 0
    steps = steps_of(trace_of([(0, 0, S, 1, 1, 2, 2), (10**12, 0, S, 0, 0, 3, 3)], cpus=1))
    assert rows(steps.steps, "t_ns", "what", "made_up") == [(0, What.USER, 0), (10**12, What.IDLE, 1), (10**12, What.USER, 0)]


@pytest.mark.parametrize("order", [(X, M), (M, X)])
def test_an_exit(order):
    """sched_process_exit comes after exit_mm, or before it: the mm is given up once, before it is torn down."""
    two = [(10 + i, 0, kind, 5, 1 if kind == M else 0, 0, 0) for i, kind in enumerate(order)]
    steps = steps_of(trace_of([(0, 0, S, 4, 9, 5, 1), *two, (20, 0, S, 5, 0, 6, 2)], cpus=1))
    assert rows(steps.steps, "t_ns", "what", "mm") == [
        (0, What.USER, 1), (10, What.EXIT, 0), (11 if order == (X, M) else 10, What.TEARDOWN, 1), (20, What.USER, 2)]
    assert (steps.made_up, steps.contradictions) == (0, 0)


def test_an_exec():
    """The old mm is torn down before the event of the exec; in between the thread is recorded with the old one's name."""
    steps = steps_of(trace_of([(0, 0, S, 4, 9, 5, 1), (10, 0, M, 5, 1, 0, 0), (11, 0, S, 5, 1, 6, 3), (12, 0, S, 6, 3, 5, 1),
                               (13, 0, C, 5, 0, 0, 2), (20, 0, S, 5, 2, 6, 3)], cpus=1))
    assert rows(steps.steps, "t_ns", "what", "mm") == [
        (0, What.USER, 1), (10, What.EXEC, 2), (10, What.TEARDOWN, 1), (11, What.USER, 3), (12, What.USER, 2), (20, What.USER, 3)]
    assert (steps.made_up, steps.contradictions) == (0, 0)


def test_an_exec_whose_old_mm_others_have():
    steps = steps_of(trace_of([(0, 0, S, 4, 9, 5, 1), (0, 1, S, 3, 9, 6, 1), (10, 0, C, 5, 0, 0, 2), (20, 1, S, 6, 1, 3, 9)]))
    assert rows(steps.steps, "t_ns", "cpu", "what", "mm") == [
        (0, 0, What.USER, 1), (0, 1, What.USER, 1), (10, 0, What.EXEC, 2), (20, 1, What.USER, 9)]
    assert steps.contradictions == 0


def test_an_mm_that_was_never_seen():
    """mm 0 is torn down by who was never seen with one: each time it is another, which nobody used."""
    steps = steps_of(trace_of([(0, 0, S, 4, 3, 5, 0), (10, 0, M, 5, 0, 0, 0), (20, 0, M, 5, 0, 0, 0)], cpus=1))
    assert rows(steps.steps[1:], "what", "mm") == [(What.TEARDOWN, 4), (What.TEARDOWN, 5)]
    assert (steps.nr_mms, steps.contradictions) == (6, 0)


@pytest.mark.parametrize("events", [
    [(30, 1, S, 8, 4, 6, 1)],                           # used by another thread
    [(30, 0, S, 5, 1, 6, 2), (31, 1, S, 6, 1, 8, 4)],   # by one that comes back from nowhere
    [(30, 0, M, 5, 1, 0, 0)],                           # torn down again
    [(30, 1, S, 8, 4, 6, 2), (31, 1, C, 6, 0, 0, 1)],   # an exec gives it
    [(30, 1, S, 8, 4, 6, 2), (31, 1, M, 6, 2, 0, 0), (32, 1, C, 6, 0, 0, 1)],
    [(30, 1, S, 0, 4, 6, 2)], [(30, 1, S, 8, 4, 0, 2)], [(30, 1, C, 0, 0, 0, 2)],              # the idle task's
    [(30, 1, C, 6, 0, 0, 0)],                           # an exec that gives none
])
def test_contradictions_are_counted_and_no_policy_sees_them(events):
    steps = steps_of(trace_of([(0, 0, S, 4, 9, 5, 1), (0, 1, S, 7, 9, 8, 4), (10, 0, M, 5, 1, 0, 0), *events, (5000, 1, T, 0, 0, 0, 0)]))
    assert steps.contradictions >= 1
    consistent(steps)
    no_use_after_free(steps)


def test_a_teardown_while_another_cpu_runs_it():
    steps = steps_of(trace_of([(0, 0, S, 4, 9, 5, 1), (0, 1, S, 7, 9, 6, 1), (10, 0, M, 5, 1, 0, 0), (20, 1, S, 6, 1, 7, 9)]))
    assert (10, 1, What.EXIT, 1) in rows(steps.steps, "t_ns", "cpu", "what", "made_up")
    assert steps.contradictions == 2                    # it is recorded with it afterwards, too
    no_use_after_free(steps)


@pytest.mark.parametrize(("name", "made_up"), [*zip(MACHINES, (1127, 39, 296), strict=True)])
def test_the_recorded_machines(name, made_up):
    trace = recorded(name)
    steps = steps_of(trace)
    assert (steps.made_up, steps.contradictions) == (made_up, 0)
    consistent(steps)
    assert np.count_nonzero(np.isin(steps.steps["what"], TASKS) & (steps.steps["made_up"] == 0)) == trace.counts["switch"]
    assert np.count_nonzero(steps.steps["what"] == What.TICK) == trace.counts["tick"]
    assert np.count_nonzero(steps.steps["what"] == What.TEARDOWN) == trace.counts["teardown"]


def test_large_numbers_of_threads_and_mms():
    """They take no more memory than small ones; threads keep their numbers."""
    most = 2**31 - 1
    steps = steps_of(trace_of([(0, 0, S, 4, most, most, most - 5), (10, 0, M, most, most - 5, 0, 0), (20, 0, C, 1 << 30, 0, 0, 7)], cpus=1))
    assert rows(steps.first, "tid", "mm") == [(4, 3)]
    assert rows(steps.steps, "tid", "mm", "what") == [
        (most, 2, What.USER), (most, 0, What.EXIT), (most, 2, What.TEARDOWN), (1 << 30, 0, What.KTHREAD), (1 << 30, 1, What.EXEC)]
    assert steps.nr_mms == 4
    no_use_after_free(steps)


def test_times_near_the_end_of_time():
    last = 2**63 - 1
    steps = steps_of(trace_of([(last - 9, 0, S, 1, 1, 2, 2), (last - 9, 0, T, 0, 0, 0, 0), (last, 0, S, 0, 0, 3, 3)], cpus=1, hz=1))
    assert steps.steps["t_ns"].tolist() == [last - 9, last - 9, last, last]


@pytest.mark.parametrize(("call", "error", "says"), [
    (lambda s: steps_of(None), TypeError, "trace=None is of type NoneType, not a Trace"),
    (lambda s: steps_of([(0, 0, S, 1, 1, 2, 2)]), TypeError, "is of type list, not a Trace"),
    (lambda s: steps_of(trace_of([])), ValueError, "the trace made has no events"),
    (lambda s: dataclasses.replace(s, steps=s.steps.view(np.uint8)), TypeError, "steps=.* is no array of STEP in one piece"),
    (lambda s: dataclasses.replace(s, steps=s.steps[::-1]), TypeError, "no array of STEP in one piece"),
    (lambda s: dataclasses.replace(s, steps=[]), TypeError, r"steps=\[\] is no array of STEP"),
    (lambda s: dataclasses.replace(s, first=s.first[:1]), ValueError, "first has not one step for each of 2 CPUs"),
    (lambda s: dataclasses.replace(s, first=s.first[[0, 0]]), ValueError, "first has not one step for each of 2 CPUs"),
    (lambda s: dataclasses.replace(s, nr_mms=3), ValueError, "steps has a mm that is out of range: 0 to 2"),
    (lambda s: dataclasses.replace(s, steps=changed(s.steps, "mm", -1)), ValueError, "steps has a mm that is out of range: 0 to 3"),
    (lambda s: dataclasses.replace(s, steps=changed(s.steps, "cpu", 2)), ValueError, "steps has a cpu that is out of range: 0 to 1"),
    (lambda s: dataclasses.replace(s, steps=changed(s.steps, "what", 7)), ValueError, "steps has a what that is out of range: 0 to 6"),
    (lambda s: dataclasses.replace(s, first=changed(s.first, "what", 3)), ValueError, "first has a what that is out of range: 0 to 2"),
    (lambda s: dataclasses.replace(s, steps=changed(s.steps, "t_ns", 99)), ValueError, "not in order of time, from 0 to 9 ns"),
    (lambda s: dataclasses.replace(s, steps=changed(s.steps, "t_ns", -1)), ValueError, "not in order of time, from 0 to 9 ns"),
])
def test_what_does_not_fit_is_refused(call, error, says):
    with pytest.raises(error, match=says):
        call(steps_of(trace_of([(0, 0, S, 1, 1, 2, 2), (5, 0, S, 2, 2, 3, 3), (9, 1, T, 0, 0, 0, 0)])))


def changed(steps, column, value):
    steps = steps.copy()
    steps[column][0] = value
    return steps


def test_steps_do_not_change_any_more():
    steps = steps_of(trace_of([(0, 0, S, 1, 1, 2, 2)]))
    with pytest.raises(ValueError, match="read-only"):
        steps.steps["cpu"] = 9
    assert STEP.itemsize == 24
