"""The torture: it passes, it fails on whatever is too weak or hangs, and it can be replayed."""
import gc
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import mmgen
import pytest
from mmgen import torture
from mmgen.torture import round as rounds
from mmgen.torture._pipe import Pipe
from mmgen.torture._reader import Reader
from mmgen.torture._updater import Updater
from mmgen.torture.conditions import draw, near

HERE = tempfile.gettempdir()            # not the checkout, which a command there would import
COMMAND = [sys.executable, "-c", "import sys; from mmgen.cli import main; sys.exit(main())", "torture"]
FINE, TOO_OLD, POISONED = 0, 1, 2
HANG_S = 120                            # of a loaded machine


def command(*args, timeout=300, **options):
    options = {"capture_output": True, "text": True, "timeout": timeout, "check": False, "cwd": HERE} | options
    return subprocess.run([*COMMAND, *map(str, args)], **options)


def calm(**changes):
    """Conditions without what delays: two busy CPUs that tick often, and two updaters in C."""
    chances = dict.fromkeys(Reader.CHANCES, 0) | {"tick": 20000, "tick_within": 4000, "lengthy": 500}
    whole = {"cpus": 2, "registers": False, "continuous": False, "slots": 1, "first_generation": 0, "first_switches": 0, "patience": None,
             "alone": False, "python_updaters": 0, "c_updaters": 2, "pause_us": 20, "spell_us": 2000, "chances": chances}
    return replace(draw(1, 1, None, 2), **whole | changes)


def until_it_fails(one):
    return one.run(60, lambda _: True)


# ---- what is checked at a use


def test_an_object_ages_by_each_grace_period_that_began_after_it_was_unpublished():
    pipe = Pipe(2, 1)
    first, second = pipe.replace(0), pipe.replace(1)
    assert first.use() == second.use() == (FINE, 1)
    first.over()                                        # a grace period begun before `second` was unpublished, as far as this knows
    assert first.use() == (POISONED, 2)
    assert second.use() == (FINE, 1)
    third = pipe.replace(0)
    third.over()
    assert first.use() == (POISONED, 3)
    assert second.use() == (TOO_OLD, 2)                 # not poisoned by anybody yet, and a failure all the same
    assert third.use() == (POISONED, 2)
    assert pipe.counts == (3, 2, 0)
    with pytest.raises(RuntimeError, match="object 1 is poisoned already"):
        first.over()
    with pytest.raises(IndexError, match="slot 2 is out of range: the pipe has 2"):
        pipe.replace(2)


def test_what_is_old_is_freed_unless_a_section_may_hold_it():
    pipe = Pipe(1, 1)
    deadline = time.monotonic() + HANG_S
    while pipe.counts[2] < 100 and time.monotonic() < deadline:
        pipe.replace(0).over()
        time.sleep(0.001)
    unpublished, over, freed = pipe.counts
    assert unpublished == over > freed >= 100
    named = pipe.replace(0)
    named.over()
    for _ in range(100):
        pipe.replace(0).over()
    assert named.use() == (POISONED, 102)               # kept for as long as it has a name
    del named, pipe
    gc.collect()


def test_nobody_makes_an_unpublished():
    with pytest.raises(TypeError, match=r"Pipe\.replace\(\) makes"):
        type(Pipe(1, 1).replace(0))()
    for slots, readers in ((0, 1), (1025, 1), (1, 0)):
        with pytest.raises(ValueError, match="out of range"):
            Pipe(slots, readers)
    with pytest.raises(IndexError, match="reader 1 is out of range"):
        Reader(mmgen.MmGen(1), Pipe(1, 1), 1, dict.fromkeys(Reader.CHANCES, 0), 1, 0)


@pytest.mark.parametrize("waits", [True, False])
def test_a_reader_meets_what_an_updater_poisons(waits):
    """The same updater: that does not wait must be found out, that does must not."""
    gen = mmgen.MmGen(1)
    pipe = Pipe(1, 1)
    chances = dict.fromkeys(Reader.CHANCES, 0) | {"tick": 20000, "lengthy": 4000}
    reader = Reader(gen, pipe, 0, chances, 1_000_000, 3)
    thread = threading.Thread(target=reader.run, daemon=True)
    thread.start()
    end = time.monotonic() + (0.5 if waits else HANG_S)
    while time.monotonic() < end and (waits or POISONED not in (failure[0] for failure in reader.failures)):
        old = pipe.replace(0)
        if waits:
            assert gen.wait(HANG_S)
        old.over()
    reader.stop()
    thread.join(HANG_S)
    assert not thread.is_alive()
    assert reader.counts["sections"] > 0
    if waits:
        assert reader.nr_failures == sum(reader.ages[2:]) == 0
        assert reader.failures == []
    else:
        assert reader.nr_failures > 0
        # An object ages first and is poisoned then: who looks in between finds it too old.
        assert POISONED in {failure[0] for failure in reader.failures} <= {POISONED, TOO_OLD}
        assert len(reader.failures) == min(reader.nr_failures, 8)


# ---- rounds


def test_a_calm_round_passes_and_its_figures_agree():
    one = rounds.Round(calm(python_updaters=1, patience=3))
    result = one.run(1.0, lambda _: True)
    assert result.failures == []
    assert result.nr_failures == 0
    assert set(result.grace_periods) == {"wait", "poll", "defer", "async", "expedite", "CPU wait",
                                         "C wait", "C poll", "C defer", "C expedite"}
    assert all(nr > 0 for kind, nr in result.grace_periods.items() if kind != "CPU wait")
    unpublished, over, _ = one.pipe.counts
    assert unpublished == over == result.grace_periods.total()
    assert result.events["uses"] == sum(result.ages) == sum(result.ages[:2])
    assert result.ages[1] > 0
    assert one.gen.closed


@pytest.mark.parametrize(("continuous", "increments"), [(False, 1), (True, 1), (True, 2)])
def test_too_few_increments_are_found_out(continuous, increments):
    """1 in either mode; and 2 where generations are counted all the time: the sketch's own."""
    result = until_it_fails(rounds.Round(calm(continuous=continuous), increments))
    assert result.nr_failures > 0
    assert any("poisoned, of age" in failure.what or "too old, of age" in failure.what for failure in result.failures)
    assert sum(result.ages[2:]) > 0


def test_two_increments_where_a_wait_joins_a_generation_are_found_out():
    """On demand 2 do where nobody waits; the waits of two updaters, and their callbacks, meet."""
    result = until_it_fails(rounds.Round(calm(cpus=3, c_updaters=3), increments=2))
    assert sum(result.ages[2:]) > 0


def test_a_grace_period_that_does_not_end_is_a_failure():
    one = rounds.Round(calm(python_updaters=1, c_updaters=1), hang_s=1.0)
    cpu = one.gen.register()                            # and never ticks
    result = until_it_fails(one)
    assert re.search(rf"has not ended for \d+\.\d s: generation \d+, which has moved by 0 in 20 ms; .*CPU {cpu.index} owes "
                     r"\(RUNNING, 0 switches and 0 ticks meanwhile\).*; updater \d waits by .* for \d+\.\d s; "
                     "threads alive: mmgen-torture-cpu0",
                     result.failures[0].what)
    assert f"in {one.conditions}" in str(result.failures[0])
    assert not any(thread.name.startswith("mmgen-torture") for thread in threading.enumerate())


def test_a_cpu_that_waits_in_vain_is_a_failure():
    chances = calm().chances | {"wait": 20000}
    one = rounds.Round(calm(c_updaters=0, chances=chances), hang_s=1.0)
    cpu = one.gen.register()
    assert re.search(r"that CPU \d waits for, idle, has not ended", until_it_fails(one).failures[0].what)
    assert cpu.index == 2


def test_a_call_that_is_refused_is_a_failure():
    one = rounds.Round(calm(registers=True, c_updaters=0))      # no updaters: their grace periods would not end
    others = [one.gen.register(), one.gen.register()]   # no room for the second reader, nor for the main thread
    result = until_it_fails(one)
    assert all(re.search("calls of CPU . were refused|in the main thread: FullError|cpu. ended before its time",
                         failure.what) for failure in result.failures)
    assert any("were refused" in failure.what for failure in result.failures)
    assert len(others) == 2


@pytest.mark.parametrize(("status", "says"), [(3, "could use its copy of the domain"), (4, "met another error"), (0, None),
                                              (None, "has not ended for")])
def test_what_a_forked_child_finds_is_looked_at(monkeypatch, status, says):
    def child(gen):
        if status is None:
            time.sleep(HANG_S)
        os._exit(status)

    monkeypatch.setattr(rounds, "child", child)
    one = rounds.Round(calm(), hang_s=60.0 if status is not None else 2.0)
    one._start()
    one._fork()
    one._reap(HANG_S)
    one._stop()
    assert [says in failure.what for failure in one.result.failures] == ([True] if says else [])


def test_a_thread_that_dies_is_a_failure():
    one = rounds.Round(calm(python_updaters=1))
    one.updaters[0]._wait = None
    one.updaters[0].ways = [None]
    result = until_it_fails(one)
    assert any(re.match("mmgen-torture-updater0 ended before its time: TypeError", failure.what) for failure in result.failures)


def test_outside_the_main_thread_it_sends_no_signals():
    reports = []
    thread = threading.Thread(target=lambda: reports.append(torture.torture(0.02, seed=5)))
    thread.start()
    thread.join(HANG_S)
    assert reports[0]["nr_failures"] == 0
    assert reports[0]["events"]["signals"] == 0
    assert reports[0]["grace_periods"] > 0


def test_an_updater_in_c_ends_when_its_domain_is_closed():
    gen = mmgen.MmGen(1)
    updaters = [Updater(gen, Pipe(1, 1), 0, seed) for seed in range(3)]
    threads = [threading.Thread(target=updater.run, daemon=True) for updater in updaters]
    for thread in threads:
        thread.start()
    while not all(updater.waiting for updater in updaters):
        time.sleep(0.01)
    assert updaters[0].waiting[0].startswith("C ")
    gen.close()
    for thread in threads:
        thread.join(HANG_S)
        assert not thread.is_alive()
    assert [updater.errors for updater in updaters] == [0, 0, 0]


# ---- conditions


def test_a_seed_gives_the_same_conditions_again():
    drawn = [draw(7, nr, None, 2) for nr in range(1, 200)]
    assert drawn == [draw(7, nr, None, 2) for nr in range(1, 200)]
    assert drawn != [draw(8, nr, None, 2) for nr in range(1, 200)]
    assert {c.continuous for c in drawn} == {c.registers for c in drawn} == {True, False}
    assert {c.patience for c in drawn} == {None, 3, 100}
    assert {c.cpus for c in drawn} == {2, 3, 4}
    assert all(c.python_updaters + c.c_updaters == 1 and c.chances["wait"] == 0 for c in drawn if c.alone)
    assert 20 < sum(c.alone for c in drawn) < 100
    for starts in ({near(c.first_generation).split()[0] for c in drawn}, {near(c.first_switches).split()[0] for c in drawn}):
        assert starts == {"0", "2**32", "2**64"}
    assert all(0 <= c.first_generation < 2**64 and set(c.chances) == set(Reader.CHANCES) for c in drawn)
    assert [c.cpus for c in (draw(7, nr, 5, 2) for nr in range(1, 20))] == [5] * 19
    # They are what they were when a seed was reported, on every Python: random() alone is promised to stay.
    assert str(draw(7, 1, None, 2)) == FIRST_OF_7


FIRST_OF_7 = (
    "round 1: 3 CPUs, continuous, going on and offline; generations from 2**64 - 3401, switches from 2**64 - 154; 1 slot; "
    "updaters: 1 in Python, 1 in C with pauses to 20 us; no kick; spells to 200 us; tick 2000, tick_within 16000, lengthy 64,"
    " idle 100, offline 200, wait 200, stall 0, rest 10000")


# ---- the command


def test_a_short_torture(tmp_path):
    path = tmp_path / "report.json"
    result = command("--minutes", 0.07, "--seed", 11, "--json", path)
    assert (result.returncode, result.stderr) == (0, ""), result.stdout
    lines = result.stdout.splitlines()
    assert lines[0] == "seed 11"
    r = json.loads(path.read_text())
    assert lines[1:1 + r["rounds"]] == r["conditions"]
    assert lines[-1] == r["verdict"]
    assert r["verdict"].startswith("No failure: ")
    assert r["nr_failures"] == sum(r["ages"][2:]) == 0
    assert r["uses"] == sum(r["ages"])
    assert r["ages"][1] > 0
    assert all(r["grace_periods_by_kind"][kind] for kind in ("wait", "poll", "defer", "async", "C wait", "C poll", "C defer"))
    assert r["grace_periods"] == sum(r["grace_periods_by_kind"].values())
    for event in ("forks", "signals", "kicks", "idles", "offlines", "stalls", "registrations", "interrupted waits", "wraps passed"):
        assert r["events"][event] > 0, event
    page = (Path(__file__).parents[1] / "docs" / "torture.md").read_text()
    assert set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE)) == set(r)


def test_a_weakened_torture_fails_and_says_how_to_see_it_again():
    result = command("--increments", 1, "--json", "-")
    assert result.returncode == 1
    r = json.loads(result.stdout)
    assert re.match(r"seed \d+\nround 1: ", result.stderr)
    assert r["nr_failures"] >= len(r["failures"]) > 0
    assert r["verdict"].startswith("FAILED, ")
    again = command("--increments", 1, "--seed", r["seed"])
    assert again.returncode == 1
    assert r["conditions"][0] in again.stdout
    assert re.search(r"FAILURE in round \d+: CPU \d+ found object \d+ \(slot \d+\) \w+.*, of age \d+, at use \d+", again.stdout)
    assert f"--seed {r['seed']}" in again.stdout
    assert "<- none may be" in again.stdout


@pytest.mark.unsanitized("reads arguments: no domain is ever made")
@pytest.mark.parametrize(("args", "says"), [
    (["--minutes", "0"], r"minutes=0\.0 is out of range"),
    (["--minutes", "nan"], "minutes=nan is out of range"),
    (["--minutes", "soon"], "argument --minutes: invalid float value: 'soon'"),
    (["--cpus", "0"], "cpus=0 is out of range: 1 to 256"),
    (["--increments", "0"], "increments=0 is out of range"),
    (["--seed", "x"], "argument --seed: invalid int value: 'x'"),
    (["--json", "/nowhere/x"], "No such file"),
    (["here"], "unrecognized arguments: here"),
])
def test_a_bad_argument_is_one_line_and_status_2(args, says):
    result = command(*args)
    assert (result.returncode, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert re.search(says, result.stderr)


def test_ctrl_c_reports_what_there_is():
    process = subprocess.Popen([*COMMAND, "--minutes", "10"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=HERE)
    first = process.stdout.readline(), process.stdout.readline()
    assert first[0].startswith("seed ")
    assert first[1].startswith("round 1: ")
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=HANG_S)
    assert (process.returncode, err) == (130, "")
    assert re.search(r"^torture, seed \d+: \d+ rounds?, \d+\.\d s, interrupted$", out, re.MULTILINE)
    assert "No failure" in out


def test_a_main_thread_that_is_stuck_is_told_of(monkeypatch):
    """As in a domain whose control lock is never released."""
    told = []
    over = threading.Event()

    def stuck(what):
        told.append(what)
        over.set()

    monkeypatch.setattr(rounds.Round, "_look", lambda one: over.wait(HANG_S))
    r = torture.torture(0.05, seed=3, cpus=2, hang_s=0.5, stuck=stuck)
    assert re.match(r"the torture's own thread is stuck for 2\.0 s: generation \d+, .*\n    in round \d+: 2 CPUs", told[0])
    assert len(told) == 1
    assert r["uses"] > 0


def test_the_command_ends_though_it_is_stuck():
    script = """
import sys, time
from mmgen import torture
from mmgen.torture import round
from mmgen.cli import main
round.Round._look = lambda one: time.sleep(1000)
torture.STUCK = 0.1
sys.exit(main(["torture"]))
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=HANG_S, cwd=HERE)
    assert result.returncode == 1
    assert result.stdout.startswith("seed ")
    assert result.stderr.startswith("FAILURE: the torture's own thread is stuck for 3.0 s: generation ")


def test_ctrl_c_does_not_wait_for_what_hangs():
    script = """
import sys
from mmgen import torture
from mmgen.torture import round
from mmgen.cli import main
begin = round.Round._start
def start(one):
    one.cpu = one.gen.register()        # and never ticks; before a reader is offline for a moment, whose CPU it would take
    begin(one)
round.Round._start = start
round.Round._register = lambda one: None
sys.exit(main(["torture", "--minutes", "10"]))
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=HERE)
    assert process.stdout.readline().startswith("seed ")
    assert process.stdout.readline().startswith("round 1: ")
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=HANG_S)        # what it says besides: that callbacks were lost
    assert process.returncode == 130
    assert "interrupted" in out


def test_what_it_says_when_nothing_was_tried():
    assert torture.report([], 1, None, True)["verdict"].startswith("Nothing was tried")


@pytest.mark.long
@pytest.mark.parametrize("args", [[], ["--cpus", 2], ["--cpus", 9]])
def test_a_long_torture(args):
    result = command("--minutes", 5, *args, timeout=1200)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.long
@pytest.mark.parametrize("seed", range(20))
def test_every_weakened_torture_fails(seed):
    assert command("--increments", 1, "--seed", seed).returncode == 1
