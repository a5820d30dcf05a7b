"""What happened when: the marks of a window and the series of held mms, against the oracle's, and on machines worked out by hand."""
import json

import pytest
from conftest import ALONE
from hostile import examples
from hypothesis import given
from hypothesis import strategies as st
from lab_oracle import Oracle
from mmgen.lab import Generation, Load, Shootdown, simulate
from mmgen.lab import timeline as timelines
from test_lab_oracle import SOUND, cases

# No Python in what they look at, nor a second thread.
pytestmark = [pytest.mark.once, *ALONE]


@examples(150)
@given(cases(SOUND), st.sampled_from([(0, 1), (0, 0.5), (0.3, 0.7)]))
def test_marks_agree_with_the_oracle(case, shares):
    window = tuple(case.seconds * share for share in shares)
    with_it = simulate(case, timeline=window)
    assert with_it == simulate(case)                    # bit-identical figures
    begin, end = (round(1e9 * s) for s in window)
    oracle = Oracle(case).run()
    found = with_it.timeline
    assert (found.begin_ns, found.end_ns) == (begin, end)
    # What the window begins with comes first: a state of each CPU.
    states = dict.fromkeys(range(case.cpus), "user")
    for ns, cpu, what, _ in oracle.marks:
        if ns < begin and what in timelines.STATES:
            states[cpu] = what
    want = [(begin, cpu, what, 0) for cpu, what in states.items()]
    want += [mark for mark in oracle.marks if begin <= mark[0] < end]
    assert sorted(map(tuple, found.marks)) == sorted(want)
    assert [mark.ns for mark in found.marks] == sorted(mark.ns for mark in found.marks)


@examples(100)
@given(cases(SOUND))
def test_the_series_adds_up(case):
    r = simulate(case)
    begins, means, peaks = zip(*r.held_series, strict=True)
    ends = [*begins[1:], round(case.seconds * 1e9)]
    assert len(begins) <= 256
    assert max(peaks) == r.held_peak
    area = sum(mean * (end - begin) for begin, end, mean in zip(begins, ends, means, strict=True))
    assert area / ends[-1] == pytest.approx(r.held_mean)
    assert all(mean <= peak for mean, peak in zip(means, peaks, strict=True))


def test_what_a_cpu_did():
    """Two CPUs that tick at 0 and 500 us of each ms, and switch with each tick; one mm that exits after another."""
    r = simulate(cpus=2, hz=1000, seconds=0.01, timeline=(0, 0.01), policy=Generation(idle="hang"),
                 load=Load(switch_us=None, waiters=1, distribution="fixed"))
    paid, opened = r.timeline.of("paid"), r.timeline.of("opened")
    assert [mark.number for mark in opened] == list(range(1, r.generations + 1))
    assert {(mark.ns, mark.cpu) for mark in opened} <= {(mark.ns, mark.cpu) for mark in paid}
    for mark in opened[1:]:                             # each generation but the first, by both CPUs, once
        assert sorted(paying.cpu for paying in paid if paying.number == mark.number - 1) == [0, 1]
    assert len(r.timeline.of("exited")) == r.exits
    assert len(r.timeline.of("freed")) == r.frees
    assert r.timeline.spells("user") == [(0, 0, 10_000_000), (1, 0, 10_000_000)]
    assert r.timeline.spells("idle") == []
    assert json.loads(json.dumps(r.to_dict()))["timeline"]["marks"][0] == [0, 0, "user", 0]
    assert "timeline" not in simulate(cpus=1, seconds=0.001).to_dict()


def test_ipis_are_marked():
    r = simulate(cpus=4, seconds=0.02, timeline=(0, 1), policy=Shootdown(), load=Load(exits=0.2, migrate=0.5))
    assert 0 < len(r.timeline.of("interrupted")) <= r.ipis
    assert r.timeline.end_ns == 20_000_000


def test_no_more_marks_than_there_is_room_for():
    r = simulate(cpus=64, hz=1000, seconds=3, timeline=(0.5, 3), load=Load(switch_us=None, waiters=1))
    assert 99_000 < len(r.timeline.marks) <= 100_065
    assert r.timeline.begin_ns == 500_000_000 < r.timeline.end_ns < 3_000_000_000
    assert r.timeline.marks[-1].ns < r.timeline.end_ns
    assert r == simulate(r.case)


@pytest.mark.parametrize(("timeline", "says"), [
    ((1, 1), r"timeline=\(1, 1\) is out of range: it ends at 1 s, and begins at 1 s or later"),
    ((-1, 1), r"timeline's begin=-1 is out of range: 0 to 100000"), (5, r"timeline=5 is no \(begin, end\), in seconds"),
    ((0, float("nan")), "timeline's end=nan is out of range"),
])
def test_no_window(timeline, says):
    with pytest.raises(ValueError, match=f"^{says}"):
        simulate(cpus=1, timeline=timeline)


def test_no_kind():
    r = simulate(cpus=1, seconds=0.001, timeline=(0, 1))
    with pytest.raises(ValueError, match="kind='busy' is none of user, kthread"):
        r.timeline.of("busy")
    with pytest.raises(ValueError, match="kind='busy' is none of user, kthread"):
        r.timeline.spells("busy")
