"""Every form of line: names with anything in them, times, what is lost, what is assumed, and whose mm it is by hand."""
import gzip
import os

import numpy as np
import pytest
from conftest import ALONE
from hostile import examples
from hypothesis import given
from hypothesis import strategies as st
from mmgen.lab.traces import Kind, Task, TraceError, read, write
from mmgen.lab.traces.tasks import text_of
from trace_lines import SHAPES, Other, Switch, exec_, exit_, fork, ftrace, perf, teardown, tick

pytestmark = ALONE

MS = 1_000_000
# What a name may do to who looks for its end.
PIECES = [b" prev_pid=1", b" next_pid=1", b"==> ", b" ==> n", b"[0] 1.5: e:", b":1 [120]", b" S", b"-12", b" 1/1 ", b"(12)", b" pid=7",
          b"[", b"]", b":", b" ", b"#", b"CPU:", b"<...", b"\xff", b"\t", b"a", b"=", b"child_pid=4"]
names = st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=4)), max_size=6).map(
    lambda parts: b"".join(parts).replace(b"\n", b"").replace(b"\0", b"").replace(b"\r", b"")[:15])
STEM = b"# a remark\n\n"


@pytest.fixture
def saved(tmp_path):
    def save(events, shape="perf", tgids=(), name="x.txt"):
        path = tmp_path / name
        line = SHAPES[shape][0] if isinstance(shape, str) else shape
        path.write_bytes(b"".join(event if isinstance(event, bytes) else line(event, dict(tgids)) + b"\n" for event in events))
        return path
    return save


def rows(trace):
    """Its events, without ticks that are made up."""
    return [("STXCM"[k], *rest) for k, *rest in
            zip(*(column.tolist() for column in (trace.kind, trace.tid, trace.mm, trace.next_tid, trace.next_mm)), strict=True)
            if not (trace.made_up_ticks and k == Kind.TICK)]


@pytest.mark.parametrize("shape", SHAPES)
def test_each_kind_in_each_form(saved, shape):
    _, tgids, ns, _ = SHAPES[shape]
    events = [Switch(10**9 + 1_234_567, 0, 0, b"swapper/0", 11, b"sh"), tick(10**9 + 2 * MS, 1), tick(10**9 + 2 * MS, 0),
              fork(10**9 + 3 * MS, 0, 11, 12),
              Switch(10**9 + 4 * MS, 0, 11, b"sh", 12, b"sh"), exec_(10**9 + 5 * MS, 0, 12, filename=b"/a b/ pid=3 old_pid=4 x"),
              tick(10**9 + 6 * MS, 1, function=b"hrtimer_wakeup"), exit_(10**9 + 6 * MS, 0, 12), teardown(10**9 + 7 * MS, 0, 12),
              Switch(10**9 + 8 * MS, 0, 12, b"ls", 21, b"kworker/0:1")]
    trace = read(saved(events, shape, {12: 12}))
    assert rows(trace) == [("S", 0, 0, 11, 1), ("T", 0, 0, 0, 0), ("T", 0, 0, 0, 0), ("S", 11, 1, 12, 2), ("C", 12, 0, 0, 3),
                           ("X", 12, 0, 0, 0), ("M", 12, 3, 0, 0), ("S", 12, 0, 21, 0)]
    first = 1_234_567 if ns else 1_234_000
    assert trace.t_ns.tolist() == [0, *(n * MS - first for n in (2, 2, 4, 5, 6, 7, 8))]
    assert trace.cpu.tolist() == [0, 1, 0, 0, 0, 0, 0, 0]
    assert (trace.bad_lines, trace.lost, trace.cpus, trace.hz) == (0, 0, 2, 250)
    assert trace.tasks[21] == Task(21, True, "kworker/0:1")
    assert trace.tasks[12] == Task(12, False, "ls")
    assert any("which process" in note for note in trace.notes) == (not tgids)


@given(st.sampled_from(sorted(SHAPES)), st.lists(st.tuples(names, names, names), min_size=1, max_size=4))
@examples(150)
def test_names_with_anything_in_them(shape, given_names):
    """tids, CPUs and times are right, whatever the threads are called, and so are the names, where they are told apart from blanks."""
    line, _, _, exact = SHAPES[shape]
    events = []
    for i, (a, b, c) in enumerate(given_names):
        t_ns, prev, following = (5 * i + 1) * 1000, 100 + 3 * i, 101 + 3 * i
        events += [Switch(t_ns, i % 3, prev, a, following, b), fork(t_ns + 1000, i % 3, following, 102 + 3 * i, b, c),
                   exit_(t_ns + 2000, i % 3, following, b), teardown(t_ns + 3000, i % 3, following, b)]
    path = f"/proc/self/fd/{(memory := os.memfd_create('x'))}"
    try:
        os.write(memory, b"".join(line(event, {}) + b"\n" for event in [Switch(0, 0, 1, b"init", 0, b"swapper/0"), *events]))
        trace = read(path)
    finally:
        os.close(memory)
    assert trace.bad_lines == 0, trace.notes
    kinds = trace.kind.tolist()[1:]
    assert [k for k in kinds if k != Kind.TICK] == [Kind.SWITCH, Kind.EXIT, Kind.TEARDOWN] * len(given_names)
    recorded = trace.kind != Kind.TICK
    assert trace.tid[recorded][1::3].tolist() == [100 + 3 * i for i in range(len(given_names))]
    assert trace.next_tid[recorded][1::3].tolist() == [101 + 3 * i for i in range(len(given_names))]
    assert trace.tid[recorded][2::3].tolist() == trace.tid[recorded][3::3].tolist() == [101 + 3 * i for i in range(len(given_names))]
    assert trace.t_ns[recorded][1::3].tolist() == [(5 * i + 1) * 1000 for i in range(len(given_names))]
    assert [trace.cpu_ids[cpu] for cpu in trace.cpu[recorded][1::3]] == [i % 3 for i in range(len(given_names))]
    for i, (a, b, c) in enumerate(given_names):
        for tid, name in ((100, a), (101, b), (102, c)):
            found = trace.tasks[tid + 3 * i].name
            if exact and name and not name.startswith(b"<..."):
                assert found == text_of(name)


def test_order_is_by_time_and_stable(saved):
    """Also where a CPU's events come a block later than another's, and at one time as they stand there."""
    n = 40_000
    one = [Switch(2 * i * 1000, 0, 5, b"a", 0, b"swapper/0") for i in range(n)]
    two = [Switch((2 * i + i % 2) * 1000, 1, 6, b"b", 0, b"swapper/1") for i in range(n)]
    trace = read(saved([*one, *two]))
    expected = sorted([*one, *two], key=lambda event: event.t_ns)
    assert trace.t_ns.tolist() == [event.t_ns for event in expected]
    assert trace.tid.tolist() == [event.prev for event in expected]
    assert trace.hz == 250


def test_cpus_keep_their_own_numbers(saved, tmp_path):
    trace = read(saved([Switch(0, 7, 1, b"a", 0, b"i"), Switch(1, 3, 2, b"a", 0, b"i"), Switch(2, 900_000, 2, b"a", 0, b"i")]))
    assert (trace.cpus, trace.cpu_ids, trace.cpu[trace.kind == Kind.SWITCH].tolist()) == (3, (3, 7, 900_000), [1, 0, 2])
    write(trace, tmp_path / "o.tsv")
    assert read(tmp_path / "o.tsv").cpu_ids == (3, 7, 900_000)


# ---- whose mm ------------------------------------------------------------------------------------------------------------------

def test_threads_share_their_process_s_mm_until_it_execs(saved):
    """The leader is in no event until late; another thread than the leader makes the exec, and is the leader from then on."""
    tgids = {31: 30, 32: 30}
    trace = read(saved([Switch(1, 0, 31, b"t", 32, b"t"), Switch(2, 1, 9, b"o", 32, b"t"), Switch(3, 0, 32, b"t", 31, b"t"),
                        exit_(4, 0, 30, b"t"), exec_(5, 0, 30, old=32, name=b"n"), Switch(6, 0, 30, b"n", 9, b"o")], tgids=tgids))
    assert rows(trace) == [("S", 31, 1, 32, 1), ("S", 9, 2, 32, 1), ("S", 32, 1, 31, 1), ("X", 30, 0, 0, 0), ("C", 30, 0, 0, 3),
                           ("S", 30, 3, 9, 2)]


def test_a_tid_that_comes_again_is_another_process(saved):
    lap = [fork(0, 0, 5, 50), Switch(1, 0, 5, b"sh", 50, b"x"), exit_(2, 0, 50, b"x"), Switch(3, 0, 50, b"x", 5, b"sh")]
    trace = read(saved([event._replace(t_ns=event.t_ns + 10 * i) for i in range(3) for event in lap]))
    assert [row[4] for row in rows(trace) if row[:2] == ("S", 5)] == [2, 3, 4]
    assert all(row[2] == 0 for row in rows(trace) if row[:2] == ("S", 50))


def test_a_fork_that_a_late_clock_puts_behind_its_child(saved):
    trace = read(saved([Switch(1, 1, 0, b"swapper", 50, b"x"), fork(2, 0, 5, 50), Switch(3, 1, 50, b"x", 0, b"swapper")]))
    assert [row[2:] for row in rows(trace)] == [(0, 50, 1), (1, 0, 0)]


def test_kernel_threads(saved):
    """By the list, as children of pid 2, and, without a list, by name, unless something says otherwise."""
    events = [fork(0, 0, 2, 60, b"kthreadd", b"kthreadd"), Switch(1, 0, 60, b"mine", 61, b"kworker/0:2"), fork(2, 0, 9, 62),
              Switch(3, 0, 62, b"kworker/u8:1", 63, b"rcu_preempt"), Switch(4, 0, 64, b"worker", 65, b"ksoftirqd/0"),
              exit_(5, 0, 65, b"ksoftirqd/0")]
    tgids = {65: 64}
    trace = read(saved(events, tgids=tgids))
    assert {tid for tid, task in trace.tasks.items() if task.kernel} == {2, 60, 61, 63}
    listed = read(saved(events, tgids=tgids), tasks={
        2: Task(2, True, ""), 64: Task(64, True, "w"), 61: Task(61, False, ""), 99: Task(98, False, "elsewhere")})
    assert {tid for tid, task in listed.tasks.items() if task.kernel} == {2, 60, 64}
    assert listed.tasks[99] == Task(98, False, "elsewhere")


def test_a_fork_is_surer_than_a_list(saved):
    """Of a tid that was a kernel thread's before, or after."""
    trace = read(saved([fork(0, 0, 9, 61), Switch(1, 0, 9, b"sh", 61, b"sh")]), tasks={61: Task(61, True, "kworker/0:2")})
    assert rows(trace) == [("S", 9, 1, 61, 2)]
    assert trace.tasks[61] == Task(61, False, "sh")


def test_perf_s_own_records_of_tasks(saved):
    """perf script --show-task-events is as good as a list."""
    head = b"         swapper     0/0     [000]     0.000000000: PERF_RECORD_FORK(%d:%d):(%d:%d)\n"
    trace = read(saved([head % (70, 70, 2, 2), head % (80, 81, 80, 80), head % (72, 72, 1, 1), Switch(1, 0, 70, b"mine", 81, b"u"),
                        Switch(2, 0, 72, b"kworker/x", 80, b"u")], "perf's default"))
    assert [trace.tasks[tid] for tid in (70, 81, 72)] == [Task(70, True, "mine"), Task(80, False, "u"), Task(72, False, "kworker/x")]
    assert rows(trace) == [("S", 70, 0, 81, 1), ("S", 72, 2, 80, 1)]


def test_an_id_that_perf_does_not_know(saved):
    one = b"  task3    -1/-1    [001]  2.732740663:         sched:sched_switch: prev_comm=cc1 prev_pid=17 prev_prio=120 prev_state=X " \
          b"==> next_comm=swapper/1 next_pid=0 next_prio=120\n"
    assert rows(read(saved([one, one.replace(b"-1/-1", b"18/-1")]))) == [("S", 17, 1, 0, 0)] * 2
    none = read(saved([one, b"   x -1/-1 [000] 2.9: mmap:exit_mmap: mt_mod 0x1, DESTROY\n"]))
    assert none.bad_lines == 1


# ---- what is lost, and what else there is ------------------------------------------------------------------------------------

@pytest.mark.parametrize(("shape", "line", "lost"), [
    ("ftrace", b"# entries-in-buffer/entries-written: 10/110   #P:1\n", 100), ("ftrace", b"CPU:0 [LOST 123 EVENTS]\n", 123),
    ("ftrace", b"CPU:0 [LOST EVENTS]\n", 1), ("trace-cmd", b"CPU:3 [12 EVENTS DROPPED]\n", 12),
    ("trace-cmd", b"CPU:3 [EVENTS DROPPED]\n", 1),
    ("perf", b"            perf     1/1     [000]     1.000000: PERF_RECORD_LOST lost 55\n", 55), ("perf", b"LOST 12 events!\n", 12),
    ("perf", b"LOST 999999999999999 events!\n" * 200, 10**17),
    ("ftrace", b"# entries-in-buffer/entries-written: 10/10   #P:1\n", 0)])
def test_lost_events(saved, shape, line, lost):
    trace = read(saved([line, Switch(1, 0, 1, b"a", 0, b"i"), line.replace(b"written: 10/110", b"written: 1/1")], shape))
    assert trace.lost == (lost if b"written" in line else min(2 * lost, 10**17))
    assert trace.bad_lines == 0
    assert any(f"lost {trace.lost} events" in note for note in trace.notes) == bool(lost)


def test_what_is_no_event_and_no_fault(saved):
    chain = b"\tffffffff821f8b58 __schedule+0x618 ([kernel.kallsyms])\n\t           ee137 x (/usr/lib/libc.so)\n\n"
    trace = read(saved([b"# captured on: yesterday\n", Switch(1, 0, 1, b"a", 0, b"i"), chain]))
    assert (trace.bad_lines, len(trace)) == (0, 1)
    trace = read(saved([b"version = 6\n", b"CPU 1 is empty\n", b"cpus=4\n", Switch(1, 0, 1, b"a", 0, b"i"),
                        b"##### CPU 1 buffer started ####\n",
                        Other(2, 0, 1, b"a", b"sched_wakeup", b"comm=b pid=2 prio=120 target_cpu=001")], "ftrace"))
    assert (trace.bad_lines, len(trace)) == (0, 1)
    assert "3 of 4 CPUs have no event" in trace.notes


def test_lines_that_cannot_be_read_are_counted_and_three_are_shown(saved):
    good = Switch(1, 0, 1, b"a", 0, b"i")
    bad = [b"rubbish %d\n" % i for i in range(5)]
    path = saved([good, *bad, good, perf(good)[:-30] + b"\n", perf(good)])
    trace = read(path)
    assert (trace.bad_lines, len(trace)) == (7, 2)                      # the last has no end: who knows whether it is whole
    assert [note for note in trace.notes if "could not be read" in note] == [
        *(f"{path}:{i + 2} could not be read: 'rubbish {i}'" for i in range(3)), "7 lines could not be read: the first 3 are above"]


def test_a_timer_whose_function_has_no_name(saved):
    trace = read(saved([Switch(1, 0, 1, b"a", 0, b"i"), tick(2, 0, function=b"0xffffffff81000000"),
                        tick(3, 0, function=b"tick_sched_timer/0x0")]))
    assert trace.counts["tick"] == 1
    assert any(note.startswith("1 timers have no function's name") for note in trace.notes)


@pytest.mark.parametrize("function", [b"tick_nohz_handler", b"tick_sched_timer", b"tick_nohz_highres_handler", b"tick_periodic"])
def test_ticks(saved, function):
    events = [Switch(0, 0, 1, b"a", 2, b"b"), *(tick(i * 1_000_100, 0, function=function) for i in range(10))]
    trace = read(saved(events))
    assert (trace.counts["tick"], trace.hz, trace.made_up_ticks) == (10, 1000, 0)
    assert read(saved(events), hz=250).hz == 250


def test_the_tasks_of_a_file(saved, tmp_path):
    path = saved([Switch(1, 0, 11, b"a", 12, b"b")], "ftrace")
    (tmp_path / "tasks").write_bytes(gzip.compress(b"# tid tgid\n11\t10\tU\tA name\n12\t12\tK\n13\t13\tU\tx\ty\n"))
    with pytest.raises(TraceError, match=r"tasks:4: '13 13 U x y' is no 'tid tgid K' or"):
        read(path, tasks=tmp_path / "tasks")
    (tmp_path / "tasks").write_bytes(b"11\t10\tU\tA name\n12\t12\tK\n20\t20\tU\tA\x1bB")
    trace = read(path, tasks=tmp_path / "tasks")
    assert trace.tasks == {11: Task(10, False, "a"), 12: Task(12, True, "b"), 20: Task(20, False, "A?B")}
    assert rows(trace) == [("S", 11, 1, 12, 0)]
    for bad in (b"1\t2\n", b"x\t1\tU\n", b"1\t9999999\tU\n", b"1\t1\tX\n", b"1" * 2000):
        (tmp_path / "tasks").write_bytes(bad)
        with pytest.raises(TraceError, match="tasks:1: "):
            read(path, tasks=tmp_path / "tasks")


def test_an_instance_s_name_is_no_thread_s(saved):
    event = teardown(2, 0, 5, b"a b")
    trace = read(saved([Switch(1, 0, 1, b"a", 0, b"i"), ftrace(event, width=21, prefix=b"mine: ") + b"\n"], "ftrace"))
    assert trace.tasks[5].name == "a b"


def test_progress(saved):
    calls = []
    n = 60_000
    read(saved([Switch(i, 0, 1, b"a", 0, b"i") for i in range(n)]), show=lambda *what: calls.append(what))
    assert all(0 <= share <= 1 and 0 <= events <= n for share, events in calls)
    assert calls == sorted(calls)


def test_columns_are_numpy_s_and_read_only(saved):
    trace = read(saved([Switch(1, 0, 1, b"a", 0, b"i")]))
    assert trace.t_ns.dtype == np.int64
    with pytest.raises(ValueError, match="read-only"):
        trace.t_ns[0] = 1
