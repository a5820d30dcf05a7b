"""Sweeps: the product of axes, the file, and resuming, whatever was left of the file."""
import dataclasses
import fcntl
import json
import os
import threading
import time
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor

import numpy as np
import pytest
from hostile import examples, no_hang  # noqa: F401 - a fixture
from hypothesis import given
from hypothesis import strategies as st
from mmgen.lab import Case, Costs, Generation, Grid, Load, Refcount, Result, Shootdown, columns, each, read, simulate, sweep
from mmgen.lab.results import Results, key
from mmgen.lab.simulate import MODEL

pytestmark = pytest.mark.usefixtures("no_hang")

GRID = Grid(cpus=[1, 3], policy=[Refcount(), Generation(), Generation(idle="hang")], switch_us=[50, None], exits=0.1, idle=0.2,
            seconds=0.005)

KEY = "c99884c10f9fb203ea686d5aeda9c8ca"
FIGURES = [
    (1639, 1163, 191, 0, 21426, 219, 4, 700206), (1721, 0, 0, 164, 1366800, 225, 2, 10600), (1639, 6978, 5457, 0, 182889, 221, 16, 2887938),
    (1639, 208, 201, 0, 21128, 105, 148, 40525000), (1597, 247, 310, 11, 53970, 129, 76, 17696462)]


class Counts:
    """An executor that does it at once, and counts what it is given."""

    def __init__(self):
        self.cases = []

    def submit(self, call, case, *rest):
        self.cases.append(case)
        future = Future()
        try:
            future.set_result(call(case, *rest))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The file of GRID, as bytes."""
    path = tmp_path_factory.mktemp("sweep") / "all.jsonl"
    sweep(GRID, path, Counts())
    return path.read_bytes()


# The product.

def test_a_grid_is_every_combination():
    cases = list(GRID)
    assert len(cases) == len(GRID) == len(set(map(key, cases))) == 12
    assert {(c.cpus, c.policy, c.load.switch_us) for c in cases} == {
        (n, p, us) for n in (1, 3) for p in (Refcount(), Generation(), Generation(idle="hang")) for us in (50.0, None)}
    assert all(c.load.exits == 0.1 and c.seconds == 0.005 for c in cases)
    assert [c.policy for c in cases[:3]] == [Refcount(), Generation(), Generation(idle="hang")]
    assert list(GRID) == cases
    assert list(Grid()) == [Case()]
    assert len(Grid(cpus=range(1, 1001), hz=range(1, 1001), seed=range(1000))) == 10**9


@pytest.mark.parametrize(("axes", "error", "says"), [
    ({"cpus": [2, 0]}, ValueError, "cpus=0 is out of range: 1 to 65536"),
    ({"cpus": []}, ValueError, r"cpus=\[\] is out of range: 1 to 1000000 values"),
    ({"seed": range(10**30)}, ValueError, r"seed=range\(0, 10+\) is out of range: 1 to 1000000 values"),
    (dict.fromkeys(("seed", "waiters", "mm_bytes", "cpus", "hz"), range(1, 9999)), ValueError,
     "cases are out of range: 1 to 9223372036854775807"),
    ({"cores": 2}, TypeError, "'cores' is a field neither of Case nor of Load: cpus, hz"),
    ({"kind": ["processes", "threads"], "exits": [0, 0.1]}, ValueError, "exits and migrate go with kind='processes'"),
    ({"load": Load(), "idle": 0.1}, TypeError, "load goes without idle"),
    ({"policy": "refcount"}, TypeError, "policy='refcount' is of type str"),
    ({"hz": "100"}, TypeError, "hz='100' is of type str, not a whole number"),
    ({"idle": [0.1, float("nan")]}, ValueError, "idle=nan is out of range: 0 to 1"),
])
def test_a_grid_that_is_none(axes, error, says):
    with pytest.raises(error, match=says):
        Grid(**axes)


# A case as JSON.

cases = st.builds(
    Case, cpus=st.integers(1, 65_536), hz=st.integers(1, 10_000), seconds=st.floats(1e-6, 1e5), seed=st.integers(0, 2**64 - 1),
    policy=st.one_of(st.builds(Refcount, broken=st.sampled_from([None, "no-grab"])), st.builds(Shootdown, trim=st.integers(0, 1)),
                     st.builds(Generation, idle=st.sampled_from(["hang", "drop", "kick"]), patience=st.integers(1, 9),
                               continuous=st.sampled_from([0, 1, "yes", ""]))),
    load=st.builds(Load, switch_us=st.one_of(st.none(), st.floats(0.001, 1e9)), idle=st.sampled_from([0, -0.0, 0.25, 1]),
                   distribution=st.sampled_from(["fixed", "bursty"])),
    costs=st.builds(Costs, line=st.integers(0, 10**9)))


@examples(200)
@given(case=cases)
def test_a_case_is_the_same_through_json(case):
    again = Case.from_dict(json.loads(json.dumps(case.to_dict())))
    assert again == case
    assert key(again) == key(case)


@examples(100)
@given(one=cases, other=cases)
def test_the_same_case_has_the_same_key_and_another_another(one, other):
    assert (key(one) == key(other)) == (one == other)
    assert key(one) == key(dataclasses.replace(one, load=dataclasses.replace(one.load, idle=one.load.idle + 0.0)))


@pytest.mark.parametrize(("plain", "error", "says"), [
    ([], TypeError, r"case=\[\] is of type list, not an object of fields"),
    ({"cores": 2}, ValueError, "case has a field 'cores', which is none of cpus, hz"),
    ({"cpus": 0}, ValueError, "cpus=0 is out of range"),
    ({"cpus": "2"}, TypeError, "cpus='2' is of type str"),
    ({"load": 3}, TypeError, "load=3 is of type int, not an object"),
    ({"load": {"rate": 3}}, ValueError, "load has a field 'rate', which is none of kind"),
    ({"costs": {"line": -1}}, ValueError, "line=-1 is out of range"),
    ({"policy": "refcount"}, ValueError, "policy's name='refcount' is none of refcount"),
    ({"policy": {}}, ValueError, "policy's name=None is none of refcount, shootdown, generation"),
    ({"policy": {"name": ["refcount"]}}, ValueError, r"policy's name=\['refcount'\] is none of"),
    ({"policy": {"name": "refcount", "trim": True}}, ValueError, "refcount has a field 'trim', which is none of broken"),
])
def test_json_that_is_no_case(plain, error, says):
    with pytest.raises(error, match=f"^{says}"):
        Case.from_dict(plain)


def test_a_result_is_the_same_through_json():
    for case in GRID:
        r = simulate(case, keep_going=True)
        assert Result.from_dict(json.loads(json.dumps(r.to_dict()))) == r


@pytest.mark.parametrize(("change", "error", "says"), [
    ({"switches": "many"}, TypeError, "switches='many' is of type str, not int"), ({"ticks": True}, TypeError, "ticks=True"),
    ({"held_mean": None}, TypeError, "held_mean=None is of type NoneType, not float"), ({"latencies": [[1, 2]]}, TypeError, "latencies="),
    ({"first_use_after_free": 3}, TypeError, "first_use_after_free=3"), ({"latency_percentiles_ns": {"p50": "x"}}, TypeError, "latency_p"),
    ({"case": None}, TypeError, "case=None"),
])
def test_json_that_is_no_result(change, error, says):
    plain = simulate(cpus=1, seconds=0.001).to_dict()
    with pytest.raises(error, match=says):
        Result.from_dict(plain | change)
    with pytest.raises(ValueError, match="the result has no switches"):
        Result.from_dict({name: value for name, value in plain.items() if name != "switches"})


def test_the_model_has_a_number():
    """Who changes what a case gives, or a case's fields, raises MODEL and writes here what it gives now: or a file that was kept would be
    taken for what it is not."""
    figures = [(r.switches, r.atomics, r.lines, r.ipis, r.overhead_ns, r.frees, r.held_peak, r.latency_percentiles_ns["max"]) for r in (
        simulate(cpus=8, hz=1000, seconds=0.05, policy=policy, load=Load(
            switch_us=100, distribution="fixed", idle=0.25, idle_us=700, exits=0.125, migrate=0.125, waiters=1, hotplug_per_s=100))
        for policy in (Refcount(), Shootdown(), Generation(), Generation(idle="hang"), Generation(idle="kick")))]
    assert (MODEL, key(Case()), figures) == (2, KEY, FIGURES)


# A sweep.

def test_what_is_read_is_what_simulate_gives(tmp_path):
    path = tmp_path / "s.jsonl"
    seen = []
    s = sweep(GRID, path, Counts(), show=lambda done, so_far: seen.append((done, so_far.ran)))
    assert (s.total, s.repeats, s.had, s.ran, s.failed, s.stopped, s.left) == (12, 0, 0, 12, (), None, 0)
    assert read(path, GRID) == [simulate(case, keep_going=True) for case in GRID]
    assert seen == sorted(seen)
    assert seen[-1] == (1.0, 12)
    backwards = list(GRID)[::-1]
    assert [r.case for r in read(path, backwards)] == backwards
    assert {key(r.case) for r in read(path)} == set(map(key, GRID))
    assert [r.case.cpus for r in read(path)] == [1] * 6 + [3] * 6
    assert [r.case.load.switch_us for r in read(path)] == 2 * [50, 50, 50, None, None, None]
    assert read(path, [Case(cpus=7)]) == []


def test_nothing_is_run_twice(tmp_path):
    path, executor = tmp_path / "s.jsonl", Counts()
    s = sweep([*GRID, *GRID], path, executor)
    assert (s.total, s.repeats, s.ran, len(executor.cases)) == (12, 12, 12, 12)
    s = sweep(iter(GRID), path, executor)
    assert (s.total, s.had, s.ran, len(executor.cases)) == (12, 12, 0, 12)
    s = sweep([*GRID, Case(cpus=2, seconds=0.001)], path, executor)
    assert (s.had, s.ran, len(executor.cases)) == (12, 1, 13)
    assert len(path.read_bytes().splitlines()) == 13


@examples(60)
@given(data=st.data())
def test_whatever_is_left_of_the_file_a_sweep_completes_it(swept, tmp_path_factory, data):
    """Cut at any byte: the whole lines are kept as they are, and what is missing is run, once."""
    cut = data.draw(st.integers(0, len(swept)))
    zeros = data.draw(st.sampled_from([0, 0, 7]))           # what a power failure may leave of what was not on the disk
    path = tmp_path_factory.mktemp("cut") / "s.jsonl"
    whole = swept[:cut].rpartition(b"\n")[0]
    kept = len(whole.splitlines())
    path.write_bytes(swept[:cut] + bytes(zeros))
    before = {r.case: r for r in each(path)}
    assert len(before) == kept
    executor = Counts()
    s = sweep(GRID, path, executor)
    assert (s.had, s.ran, len(executor.cases)) == (kept, 12 - kept, 12 - kept)
    assert path.read_bytes().startswith(whole)
    assert not before.keys() & set(executor.cases)
    assert len(path.read_bytes().splitlines()) == 12
    assert [r.case for r in read(path, GRID)] == list(GRID)


def other_model(lines):
    return [json.dumps(json.loads(lines[0]) | {"model": 99}).encode(), *lines[1:]]


@pytest.mark.parametrize(("damage", "line", "says"), [
    (lambda lines: [lines[0][:50], *lines[1:]], 1, "is no JSON: .*, at column 51"),
    (lambda lines: [*lines[:3], b"", *lines[3:]], 4, "is no JSON: Expecting value, at column"),
    (lambda lines: [*lines, b"\xff\xfe"], 13, "codec can't decode|invalid"),
    (lambda lines: [*lines, b"[" * 100_000], 13, "recursion|Recursion"),
    (lambda lines: [*lines, b"7"], 13, "is no object of key, model and result"),
    (lambda lines: [lines[0].replace(b'"cpus": 1', b'"cpus": 2'), *lines[1:]], 1, "key='[0-9a-f]{32}' is not its case's, [0-9a-f]{32}"),
    (lambda lines: [lines[0].replace(b'"cpus": 1', b'"cpus": ' + b"1" * 5000), *lines[1:]], 1, "integer string conversion|out of range"),
    (lambda lines: [lines[0].replace(b'"switches": ', b'"switches": -0.'), *lines[1:]], 1, "switches=-0.* is of type float, not int"),
    (lambda lines: [lines[0].replace(b'"hz"', b'"Hz"'), *lines[1:]], 1, "case has a field 'Hz'"),
    (lambda lines: [lines[0].replace(b'"model": 2', b'"model": "2"'), *lines[1:]], 1, "model='2' is no whole number"),
])
def test_a_damaged_line_is_named_and_nothing_is_touched(swept, tmp_path, damage, line, says):
    path = tmp_path / "s.jsonl"
    was = b"\n".join(damage(swept.splitlines())) + b"\n"
    path.write_bytes(was)
    executor = Counts()
    for call in (lambda: sweep(GRID, path, executor), lambda: read(path)):
        with pytest.raises(ValueError, match=f"^{path}:{line}: .*({says})"):
            call()
    assert path.read_bytes() == was
    assert executor.cases == []


def test_results_of_another_model_are_not_taken_for_these(swept, tmp_path):
    path = tmp_path / "s.jsonl"
    path.write_bytes(b"\n".join(other_model(swept.splitlines())) + b"\n")
    with pytest.raises(ValueError, match=f"^{path}:1: is of model 99, and this mmgen simulates model {MODEL}: sweep into another file"):
        sweep(GRID, path, Counts())
    assert len(read(path)) == 12                            # who reads it may see


def test_what_is_no_sweeps_file_is_left_alone(tmp_path):
    path = tmp_path / "thesis.txt"
    path.write_bytes(b"all of it, without a newline")
    with pytest.raises(ValueError, match=f"^{path}:1: is no line of a sweep: 'all of it"):
        sweep(GRID, path, Counts())
    assert path.read_bytes() == b"all of it, without a newline"
    os.mkfifo(tmp_path / "pipe")
    for call in sweep, lambda cases, path, _: read(path):
        with pytest.raises(ValueError, match="is not a regular file"):
            call(GRID, tmp_path / "pipe", Counts())
        with pytest.raises(OSError, match="Is a directory"):
            call(GRID, tmp_path, Counts())
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none")


def test_two_at_once_is_an_error(tmp_path):
    path = tmp_path / "s.jsonl"
    with Results(path), pytest.raises(BlockingIOError, match=f"another sweep is writing to it: '{path}'"):
        sweep(GRID, path, Counts())
    with open(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(BlockingIOError):
            sweep(GRID, path, Counts())
    assert sweep(GRID, path, Counts()).ran == 12


def test_files_may_be_put_together(swept, tmp_path):
    path = tmp_path / "s.jsonl"
    path.write_bytes(swept + swept)
    assert len(read(path)) == 12
    assert sweep(GRID, path, Counts()).ran == 0


def test_a_full_disk_leaves_whole_lines(swept, tmp_path, monkeypatch):
    path, write = tmp_path / "s.jsonl", os.pwrite
    room = [10_000]

    def full(file, text, at):
        part = bytes(text[:min(len(text), 1000, room[0])])
        room[0] -= len(part)
        if not part:
            raise OSError(28, "No space left on device")
        return write(file, part, at)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        sweep(GRID, path, Counts())
    assert path.read_bytes().endswith(b"\n")
    had = len(path.read_bytes().splitlines())
    assert 0 < had < 12
    monkeypatch.undo()
    assert sweep(GRID, path, Counts()).ran == 12 - had


@pytest.mark.parametrize("name", ["pwrite", "fsync", "ftruncate", "fstat"])
@pytest.mark.parametrize("after", [False, True])
def test_ctrl_c_in_the_middle_of_a_write_loses_nothing(tmp_path, monkeypatch, name, after):
    """Wherever it strikes, what has ended is in the file once."""
    path, real, armed = tmp_path / "s.jsonl", getattr(os, name), [False]

    def struck(*args):
        if not armed[0]:
            return real(*args)
        armed[0] = False
        if after:
            real(*args)
        elif name == "pwrite":
            real(args[0], args[1][:5], args[2])
        raise KeyboardInterrupt

    def show(done, so_far):
        armed[0] = so_far.ran == 5
        if armed[0] and name == "ftruncate":
            with open(path, "ab") as file:
                file.write(b'{"key": "')                    # else there is nothing to cut

    monkeypatch.setattr(os, name, struck)
    with pytest.raises(KeyboardInterrupt) as caught:
        sweep(GRID, path, Counts(), show=show)
    assert caught.value.args[0].ran == 6
    assert len(path.read_bytes().splitlines()) == len(read(path)) == 6
    executor = Counts()
    assert sweep(GRID, path, executor).ran == len(executor.cases) == 6


# Cases that fail, and executors that do.

class Fails(Counts):
    """Some of its cases raise, or are none."""

    def __init__(self, how, which=lambda case: case.cpus == 3):
        super().__init__()
        self.how, self.which = how, which

    def submit(self, call, case, *rest):
        if not self.which(case):
            return super().submit(call, case, *rest)
        return super().submit(self.how, case)


def dies(error):
    def call(case):
        raise error
    return call


@pytest.mark.parametrize(("how", "says"), [
    (dies(MemoryError("no memory for it")), "no memory for it"), (dies(BrokenExecutor("gone")), "gone"),
    (lambda case: None, "the executor has given None for Case"),
    (lambda case: simulate(cpus=2, seconds=0.001), "the executor has given Result"),
])
def test_a_case_that_fails_is_reported_and_run_again(tmp_path, how, says):
    path = tmp_path / "s.jsonl"
    s = sweep(GRID, path, Fails(how))
    assert (s.ran, s.left, s.stopped) == (6, 6, None)
    assert [case for case, _ in s.failed] == [case for case in GRID if case.cpus == 3]
    assert all(says in str(error) for _, error in s.failed)
    executor = Counts()
    s = sweep(GRID, path, executor)
    assert (s.had, s.ran, s.failed) == (6, 6, ())
    assert executor.cases == [case for case in GRID if case.cpus == 3]


def test_an_executor_that_takes_no_more(tmp_path):
    path, pool = tmp_path / "s.jsonl", ThreadPoolExecutor(1)

    def show(done, so_far):
        if so_far.ran >= 2:
            pool.shutdown(wait=False)

    s = sweep(GRID, path, pool, at_once=1, show=show)
    assert 2 <= s.ran == len(read(path)) < 12
    assert "after shutdown" in str(s.stopped)
    assert sweep(GRID, path, Counts()).ran == 12 - s.ran


def test_futures_that_are_cancelled(tmp_path):
    class Cancels(Counts):
        def submit(self, call, case, *rest):
            future = Future()
            future.cancel()
            return future

    s = sweep(GRID, tmp_path / "s.jsonl", Cancels())
    assert (s.ran, len(s.failed)) == (0, 12)


def test_a_use_after_free_is_a_result(tmp_path):
    path = tmp_path / "s.jsonl"
    grid = Grid(policy=Refcount(broken="no-grab"), idle=0.3, exits=0.1, seconds=0.05, cpus=8)
    assert sweep(grid, path, Counts()).ran == 1
    assert read(path)[0].use_after_frees > 0
    assert read(path)[0].first_use_after_free == simulate(*grid, keep_going=True).first_use_after_free


def test_so_many_at_once(tmp_path):
    """Of however many cases, the executor never has more than it may."""
    class Holds:
        def __init__(self):
            self.held, self.most, self.lock = [], 0, threading.Lock()
            self.over = threading.Event()
            self.thread = threading.Thread(target=self.work)
            self.thread.start()

        def submit(self, call, *args):
            future = Future()
            with self.lock:
                self.held.append((future, call, args))
                self.most = max(self.most, len(self.held))
            return future

        def work(self):
            while not self.over.wait(0.002):
                with self.lock:
                    held, self.held = self.held[:2], self.held[2:]
                for future, call, args in held:
                    future.set_result(call(*args))

    executor = Holds()
    try:
        assert sweep(Grid(cpus=1, seconds=0.0001, seed=range(40)), tmp_path / "s.jsonl", executor, at_once=5).ran == 40
    finally:
        executor.over.set()
        executor.thread.join()
    assert executor.most == 5


def test_threads(tmp_path):
    with ThreadPoolExecutor(2) as pool:
        assert sweep(GRID, tmp_path / "s.jsonl", pool).ran == 12
    assert read(tmp_path / "s.jsonl", GRID) == [simulate(case, keep_going=True) for case in GRID]


def test_after_ctrl_c_threads_leave_their_cases(tmp_path):
    """Each would take hours; the executor, which is not the sweep's, can be shut down."""
    def show(done, so_far):
        if so_far.ran == 1:
            raise KeyboardInterrupt

    with ThreadPoolExecutor(2) as pool:
        time.sleep(0)
        with pytest.raises(KeyboardInterrupt) as caught:
            sweep([Case(cpus=1, seconds=0.001), *Grid(seconds=1e5, cpus=[64, 65])], tmp_path / "s.jsonl", pool, show=show)
    assert caught.value.args[0].ran == 1
    assert len(read(tmp_path / "s.jsonl")) == 1


@pytest.mark.parametrize(("call", "error", "says"), [
    (lambda path: sweep(7, path), TypeError, "cases=7 is of type int, not an iterable of cases"),
    (lambda path: sweep([7], path, Counts()), TypeError, "cases has 7, of type int: not a mmgen.lab.Case"),
    (lambda path: sweep([], path, 7), TypeError, r"executor=7 is of type int, which has no submit\(\)"),
    (lambda path: sweep([], path, Counts(), workers=2), ValueError, "workers=2 goes without executor"),
    (lambda path: sweep([], path, workers=0), ValueError, "workers=0 is out of range: 1 to 4096"),
    (lambda path: sweep([], path, at_once=0), ValueError, "at_once=0 is out of range: 1 to 1000000"),
    (lambda path: sweep([], path / "no" / "where"), FileNotFoundError, "No such file"),
    (lambda path: sweep([], 7.5), TypeError, "str, bytes or os.PathLike"),
])
def test_bad_arguments(tmp_path, call, error, says):
    with pytest.raises(error, match=says):
        call(tmp_path / "s.jsonl")


def test_columns(tmp_path):
    path = tmp_path / "s.jsonl"
    sweep([*GRID, Case(cpus=2, seconds=0.001, policy=Shootdown(trim=True))], path, Counts())
    table = columns(read(path))
    assert {len(column) for column in table.values()} == {13}
    assert set(table["policy"]) == {"refcount", "generation", "shootdown"}
    assert set(table["policy_idle"]) == {"", "drop", "hang"}
    assert np.isnan(table["switch_us"]).sum() == 6
    assert table["switches"].dtype == np.int64
    assert table["cost_line"].tolist() == [100] * 13
    assert np.isnan(table["latency_p50_ns"][table["frees"] == 0]).all()
    one = table["switches_per_s"][(table["policy"] == "refcount") & (table["cpus"] == 3) & (table["switch_us"] == 50)]
    assert one == [simulate(next(case for case in GRID if case.cpus == 3 and case.policy == Refcount())).rates["switches_per_s"]]
    assert columns([]) == {}
