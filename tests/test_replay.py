"""`mmgen replay`: the figures of the recorded machines, in every form in which they come; Ctrl-C; real threads agree."""
import itertools
import json
import os
import re
import signal
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from mmgen.lab import Costs, Generation, Refcount
from mmgen.lab.replay.aside import aside
from mmgen.lab.replay.command import text
from mmgen.lab.replay.replay import Arrivals, idealised, percentile, policies, replay, with_timelines
from mmgen.lab.replay.steps import steps_of
from mmgen.lab.replay.waits import waits
from mmgen.lab.traces import Kind, Trace, write
from recorded import COLUMNS, DATA, MACHINES, machines, recorded, trace_of
from test_cli import mmgen

S, T, X, C, M = Kind
TICK_NS = 4_000_000


@pytest.fixture(scope="module")
def replays():
    return {name: replay(recorded(name)) for name in MACHINES}


def tiled(trace, times):
    """`trace` again and again: with so many events that a replay lasts."""
    columns = {name: np.tile(getattr(trace, name), times) for name in COLUMNS}
    again = np.repeat(np.arange(times), len(trace))
    columns["t_ns"] = columns["t_ns"] + again * (int(trace.t_ns[-1]) + 1000)
    for name in "mm", "next_mm":
        columns[name] = np.where(columns[name], columns[name] + again * trace.nr_mms, 0)
    return Trace(name="long", cpus=trace.cpus, hz=trace.hz, **columns)


# ---- the figures ---------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "switches", "atomics_per_s", "teardowns", "lazy"), [
    ("configure", 7_786, 1_038, 2_322, 232), ("mixed", 96_487, 254, 145, 0), ("idle", 1_208, 39, 2, 1)])
def test_what_was_recorded(replays, name, switches, atomics_per_s, teardowns, lazy):
    """As who recorded them has counted (README.md of the recorded machines)."""
    said = replays[name].recorded
    assert (said["nr_switch"], said["nr_teardown"], said["teardowns_with_another_cpu_lazy"]) == (switches, teardowns, lazy)
    assert round(said["refcount_atomics_per_s"]) == atomics_per_s
    assert said["shootdown_ipis_per_s"] == lazy / said["seconds"]
    assert (said["contradictions"], said["lost_events"], said["made_up_ticks"]) == (0, 0, 0)


@pytest.mark.parametrize(("name", "ms"), [("configure", 23), ("mixed", 19), ("idle", None)])
def test_an_idealised_wait(replays, name, ms):
    ns = replays[name].idealised_ns
    assert (ns if ns is None else round(ns / 1e6)) == ms


def test_an_idealised_wait_by_hand():
    """One CPU: each increment takes a switch, and a tick after it; so a wait from t lasts until the second such tick after the generation
    that is then under way has opened: never one whose switch was before it."""
    events = [(t, 0, T if t % 20 else S, *([0] * 4 if t % 20 else [5, 1, 5, 1])) for t in range(10, 1010, 10)]
    # A generation opens at 30, 50, ..., 990; from t in (30, 50] a wait is over at 70: it takes 20 to 40.
    assert idealised(steps_of(trace_of(events, cpus=1, hz=1))) == pytest.approx(30, abs=1)
    assert idealised(steps_of(trace_of(events, cpus=2, hz=1))) is None          # CPU 1 never ticks
    assert idealised(steps_of(trace_of([(0, 0, S, 5, 1, 5, 1)], cpus=1))) is None
    only_ticks = [(t, 0, T, 0, 0, 0, 0) for t in range(0, 1000, 10)]
    assert idealised(steps_of(trace_of(only_ticks, cpus=1))) is None


@pytest.mark.parametrize("name", MACHINES)
def test_no_policy_uses_anything_after_it_is_freed(replays, name):
    results = replays[name].results
    assert [(r.case.policy.name, getattr(r.case.policy, "idle", None), getattr(r.case.policy, "trim", None)) for r in results] == [
        ("refcount", None, None), ("shootdown", None, False), ("shootdown", None, True), *(("generation", rule, None) for rule in
                                                                                          ("hang", "drop", "kick"))]
    for r in results:
        assert (r.use_after_frees, r.exits) == (0, replays[name].trace.counts["teardown"])
        assert r.frees + r.held == r.exits
    assert {r.switches for r in results} == {results[0].switches}
    assert results[2].ipis == replays[name].lazy_teardowns <= results[1].ipis


@pytest.mark.parametrize("name", MACHINES)
def test_waits(replays, name):
    found = {w.idle: w for w in replays[name].waits}
    assert list(found) == ["hang", "drop", "kick"]
    for w in found.values():
        assert sum(h.share for h in w.held_up) == pytest.approx(1)
        assert w.percentile_ns(0) <= w.percentile_ns(10)
        known = [ns for ns in map(w.percentile_ns, (50, 90, 99)) if ns is not None]
        assert known == sorted(known)
        assert max([*known, 0]) <= w.longest_ns
    # Who is waited for no more holds nobody up.
    assert found["drop"].unfinished <= found["hang"].unfinished
    assert found["drop"].at_once >= found["hang"].at_once == 0
    for one in replays[name].arrivals:
        assert len(one.took_ns) == int(97 * replays[name].trace.seconds) + replays[name].trace.counts["teardown"]
        assert (np.diff(one.begun_ns) >= 0).all()
        over = np.sort(one.took_ns)
        assert one.percentile_ns(50) in (over[(len(over) - 1) // 2], None)


def test_on_an_idle_machine_only_who_idles_without_an_mm_is_waited_for_no_more(replays):
    hang, drop, kick = replays["idle"].waits
    assert (hang.unfinished > 0.3, drop.at_once > 0.95, kick.kicked > 0.95) == (True, True, True)
    assert drop.longest_ns < 12 * TICK_NS
    assert {row.cpu for row in drop.held_up if row.what == "idle" and row.share > 0.5} == set()


def test_a_wait_alone_takes_no_more_than_one_that_joins_others(replays):
    """Two generations against up to three: so at the median, on a machine where some wait is always under way."""
    for name in "configure", "mixed":
        alone, arriving = replays[name].waits[0], replays[name].arrivals[0]
        assert alone.percentile_ns(50) < arriving.percentile_ns(50)


# ---- as JSON, and in words -----------------------------------------------------------------------------------------------------

def numbers_of(plain):
    return json.loads(json.dumps(plain, allow_nan=False))


@pytest.mark.parametrize("name", MACHINES)
def test_json_has_all_of_it(replays, name):
    r = numbers_of(replays[name].to_dict())
    assert set(r) == {"recorded", "waits_alone", "waits_arriving", "idealised_p50_ns", "results"}
    assert [one["idle"] for one in r["waits_alone"]] == [one["idle"] for one in r["waits_arriving"]] == ["hang", "drop", "kick"]
    for one in r["waits_alone"]:
        for figure in "p50_ns", "p90_ns", "p99_ns", "max_ns":
            assert figure in one
            assert f"teardown_{figure}" in one
        assert sum(one["holdout_shares"].values()) == pytest.approx(1)
        assert one["holdouts"][0]["share"] >= one["holdouts"][-1]["share"]
        assert all(row["took_ns"] is None or row["took_ns"] <= one["max_ns"] for row in one["longest"])
        assert any(share for row in one["longest"] for _, share in row["ran"])
    for result, now in zip(r["results"], replays[name].results, strict=True):
        assert result["case"]["trace"] == name
        assert {"load", "seed"}.isdisjoint(result["case"])
        assert (result["held_peak"], result["frees"]) == (now.held_peak, now.frees)
        assert result["held_bytes_peak"] == now.held_peak * 5504


@pytest.mark.parametrize("name", MACHINES)
def test_the_text_has_what_was_asked_for(replays, name):
    said = text(replays[name])
    for words in ("switches", "refcount atomics", "mms torn down", "alone, from any moment, p50", "alone, from any moment, max",
                  "alone, from a teardown, p99", "arriving, as in a run, p90", "Who held the waits up", "IPIs /s", "held, peak mms",
                  "An idealised wait"):
        assert words in said
    assert re.search(r"p50 .* ticks\)", said)
    if name == "idle":
        assert "would not be over at the median" in " ".join(said.split())
        assert "no time at 97.3 % of all moments" in " ".join(said.split())


def test_cpus_are_called_by_their_machines_numbers():
    found = replay(recorded("configure").replace(cpu_ids=(3, 8)), policies=[Generation("hang")])
    assert {int(cpu) for cpu in re.findall(r"CPU (\d+)", text(found))} == {3, 8}
    assert {row["cpu"] for row in found.to_dict()["waits_alone"][0]["longest"]} <= {3, 8}


@settings(max_examples=25, deadline=None)
@given(machines(exits=True, unit=1_000))
def test_every_machine_can_be_told_of(trace):
    found = replay(trace, rate=100_000)
    numbers_of(found.to_dict())
    assert text(found).startswith("made: ")


@pytest.mark.parametrize("trace", [
    trace_of([(0, 0, T, 0, 0, 0, 0), (1000, 0, T, 0, 0, 0, 0)], cpus=1), trace_of([(1000, 0, S, 0, 0, 0, 0)], cpus=1),
    trace_of([(1000, 0, S, 5, 1, 6, 2)], cpus=1), trace_of([(1000, 0, M, 5, 1, 0, 0)], cpus=1),
    trace_of([(1000, 1, S, 5, 1, 6, 2)], cpus=3000), trace_of([(0, 0, S, 5, 1, 6, 2), (10**10, 0, S, 6, 2, 5, 1)], cpus=2)],
    ids=["ticks only", "idle only", "one event", "one teardown", "thousands of CPUs", "no ticks"])
def test_machines_with_next_to_nothing(trace):
    found = replay(trace)
    numbers_of(found.to_dict())
    assert text(found)
    assert not any(r.use_after_frees for r in found.results)


# ---- arguments -----------------------------------------------------------------------------------------------------------------

SMALL = trace_of([(0, 0, S, 5, 1, 6, 2), (1000, 0, T, 0, 0, 0, 0)], cpus=1)


@pytest.mark.parametrize(("call", "error", "says"), [
    (lambda: replay(None), TypeError, "trace=None is of type NoneType, not a Trace"),
    (lambda: replay(SMALL, policies=[None]), TypeError, "policy=None is of type NoneType"),
    (lambda: replay(SMALL, rate=-1), ValueError, "rate=-1 is out of range: 0 to 1e.06"),
    (lambda: replay(SMALL, rate=float("nan")), ValueError, "rate=nan"),
    (lambda: replay(SMALL, rate="97"), TypeError, "rate='97'"),
    (lambda: replay(recorded("configure"), rate=1e6 + 1), ValueError, "rate=1000001.0 is out of range"),
    (lambda: replay(SMALL.replace(t_ns=np.array([0, 10**14])), rate=1000), ValueError, "rate times the trace's seconds"),
    (lambda: replay(SMALL, costs={}), TypeError, "costs={} is of type dict, not mmgen.lab.Costs"),
    (lambda: replay(SMALL, mm_bytes=-1), ValueError, "mm_bytes=-1 is out of range"),
    (lambda: replay(SMALL.replace(t_ns=np.array([0, 999]))), ValueError, "seconds=9.99e-07 is out of range"),
    (lambda: replay(SMALL.replace(cpus=65_537, cpu_ids=())), ValueError, "cpus=65537 is out of range: 1 to 65536"),
    (lambda: replay(trace_of([])), ValueError, "the trace made has no events"),
    (lambda: with_timelines(None, 0, 1), TypeError, "found=None is of type NoneType, not a Replay"),
    (lambda: with_timelines(replay(SMALL), 1, 0), ValueError, "timeline"),
    (lambda: with_timelines(replay(SMALL), -1, 0), ValueError, "timeline"),
    (lambda: policies(0), ValueError, "patience=0 is out of range: 1 to 4294967295"),
    (lambda: percentile(np.zeros(1), 101), ValueError, "percent=101 is out of range: 0 to 100"),
    (lambda: Arrivals("hang", np.zeros(0), np.zeros(0)).percentile_ns("half"), TypeError, "percent='half'"),
])
def test_what_does_not_fit_is_refused(call, error, says):
    with pytest.raises(error, match=says):
        call()


def test_any_patience_is_one_to_replay_with():
    assert replay(SMALL, policies=policies(2**32 - 1)).waits[2].kicked == 0


def test_no_policies():
    found = replay(SMALL, policies=())
    assert (found.results, found.waits, found.arrivals) == ((), (), ())
    numbers_of(found.to_dict())


def test_percentiles_of_arrivals():
    one = Arrivals("drop", np.arange(4), np.array([0.0, 1.0, 2.0, np.inf]))
    assert [one.percentile_ns(p) for p in (0, 25, 26, 50, 75, 76, 100)] == [0, 0, 1, 1, 2, None, None]
    assert one.to_dict() == {"idle": "drop", "waits": 4, "p50_ns": 1.0, "p90_ns": None, "p99_ns": None, "max_ns": 2.0,
                             "at_once_share": 0.25, "unfinished": 1}


def test_costs_and_bytes_are_those_given():
    free, dear = (replay(recorded("configure"), policies=[Refcount()], costs=Costs(line=0, atomic=ns, fence=0, ipi=0, look=0), mm_bytes=10)
                  for ns in (0, 7))
    assert free.results[0].overhead_ns == 0
    assert dear.results[0].overhead_ns >= 7 * dear.results[0].atomics           # some wait for another's
    assert dear.to_dict()["results"][0]["held_bytes_peak"] == 10 * dear.results[0].held_peak


# ---- Ctrl-C --------------------------------------------------------------------------------------------------------------------

def test_work_aside_is_left_alone():
    """A signal ends the wait for it, while it goes on."""
    go_on, ended = threading.Event(), threading.Event()

    def work():
        os.kill(os.getpid(), signal.SIGINT)
        go_on.wait()
        ended.set()

    with pytest.raises(KeyboardInterrupt):
        aside(work)
    assert not ended.is_set()
    go_on.set()
    assert ended.wait(60)


def test_work_aside_returns_and_raises():
    assert aside(lambda: threading.current_thread().name) == "mmgen-aside"
    assert aside(lambda: aside(lambda: threading.current_thread().name)) == "mmgen-aside"
    with pytest.raises(ZeroDivisionError):
        aside(lambda: 1 // 0)


@pytest.mark.once
def test_ctrl_c_wherever_it_is(python, tmp_path):
    """At moments spread over all of it, in a process of its own: nothing swallows it, or says so."""
    write(tiled(recorded("mixed"), 4), tmp_path / "long.tsv")
    script = """
import signal, time
from mmgen.lab.replay.command import text
from mmgen.lab.replay.replay import replay
from mmgen.lab.traces import read
trace = read("long.tsv")
signal.signal(signal.SIGALRM, signal.default_int_handler)
hits = 0
for number in range(24):
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001 * 1.3**number)
        found = replay(trace)
        found.to_dict(), text(found)
        time.sleep(60)
    except KeyboardInterrupt:
        hits += 1
print(hits)
"""
    out = python(script, timeout=240)
    assert (out.stdout, out.stderr) == ("24\n", "")


def test_from_the_end_back_to_the_beginning_at_one_go():
    """CPU 1 ticks once, at the beginning: from there the second generation asks for all of the recording's steps, more than are passed
    between two looks at signals."""
    n = 400_000
    trace = Trace(name="far", cpus=2, hz=1, t_ns=np.arange(n) + 1000, cpu=np.where(np.arange(n) < 2, np.arange(n), 0), kind=np.full(n, T),
                  **dict.fromkeys(("tid", "mm", "next_tid", "next_mm"), np.zeros(n, int)))
    steps = steps_of(trace)
    assert waits(steps, "hang").latency_ns([0, 999, 2000]).tolist() == [np.inf, np.inf, np.inf]
    # Its ticks count in the first; from its fourth in the second on, at 1005, patience is out.
    assert waits(steps, "kick").latency_ns([0, 999]).tolist() == [1005, 6]


# ---- the command ---------------------------------------------------------------------------------------------------------------

E2E = pytest.mark.unsanitized("starts processes, and what is compiled other tests run")


@E2E
@pytest.mark.once
def test_every_output_at_once(tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("perfetto")
    from test_lab_pictures import stands_alone  # noqa: PLC0415 - they need what may not be here
    from test_trace import ReadBack  # noqa: PLC0415
    out = mmgen("replay", DATA / "configure.perf-script.txt.gz", "--tasks", DATA / "configure.tasks.tsv.gz", "--json", "r.json",
                "--html", "r.html", "--pictures", "pictures", "--perfetto", "r.pftrace", "--from", 1, "--to", 1.5, "--idle-rule", "hang",
                cwd=tmp_path)
    assert (out.returncode, out.stderr) == (0, "")
    assert out.stdout.startswith("configure: 2 CPUs at 250 Hz for 5.005 s, 14,681 events\n")
    assert json.loads((tmp_path / "r.json").read_text())["recorded"]["nr_switch"] == 7786
    page = stands_alone((tmp_path / "r.html").read_text())
    assert "How long a wait takes" in page.text
    assert "mmgen replay configure" in page.text or "mmgen replay /" in page.text
    assert page.tags.count("svg") == len(list((tmp_path / "pictures").glob("replay-*.svg"))) >= 6
    items = ReadBack(tmp_path / "r.pftrace").items
    assert {"generations", "mms", "CPU 0", "CPU 1"} == set(items)
    for track in "generations", "CPU 0", "CPU 1":
        slices = sorted((item.begin, item.end) for item in items[track] if item.end > item.begin)
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(slices))
        assert slices[0][0] >= 10**9
        assert slices[-1][1] == 1.5e9
    trace = recorded("configure")
    inside = (trace.kind == S) & (trace.t_ns > 10**9) & (trace.t_ns < 1.5e9)
    for cpu in range(2):
        ran = [item for item in items[f"CPU {cpu}"] if "is" in item.notes]
        ran = [item for item in ran if "made up" not in item.notes and item.begin > 10**9]
        assert len(ran) == np.count_nonzero(inside & (trace.cpu == cpu))
        counted = [item for item in items[f"CPU {cpu}"] if item.name.startswith("counted in")]
        assert {item.notes["generation"] for item in counted} & {item.notes["generation"] for item in items["generations"]}
    torn = np.count_nonzero((trace.kind == M) & (trace.t_ns >= 10**9) & (trace.t_ns < 1.5e9))
    assert len(items["mms"]) == torn > 100


@E2E
@pytest.mark.once
def test_standard_output(tmp_path):
    path = DATA / "idle.mmtrace.tsv.gz"
    out = mmgen("replay", path, "--json", "-")
    assert (out.returncode, out.stderr) == (0, "")
    assert json.loads(out.stdout)["recorded"]["name"] == "idle"


@E2E
@pytest.mark.once
@pytest.mark.parametrize(("arguments", "says"), [
    (["missing"], "No such file"), (["bad"], r"bad:1: not "), (["good", "--from", "0.005", "--to", "0.002"], "it ends before it begins"),
    (["good", "--to", "99"], r"--to=99.0 is out of range: 0 to 0.008"), (["good", "--from", "nan"], "--from=nan"),
    (["good", "--rate", "-1"], "rate=-1.0 is out of range"), (["good", "--patience", "0"], "patience=0 is out of range"),
    (["good", "--cost", "ipi=x"], "ipi"), (["good", "--json", "none/x"], "No such file"),
    (["good", "--perfetto", "none/x"], "No such file"),
    (["good", "--json", "-", "--html", "-"], "one of them can have the standard output"), ([], "required: FILE")])
def test_what_goes_wrong_is_said_in_a_line(arguments, says, tmp_path):
    (tmp_path / "bad").write_bytes(b"rubbish\n")
    (tmp_path / "good").write_bytes(b"# mmtrace 1\tname=x\tcpus=1\thz=250\n#\n0\t0\tS\t1\t1\t2\t2\n8000000\t0\tT\n")
    out = mmgen("replay", *arguments, cwd=tmp_path)
    assert (out.returncode, out.stdout) == (2, "")
    assert len(out.stderr.splitlines()) == 1
    assert re.search(says, out.stderr)


@E2E
@pytest.mark.once
@pytest.mark.parametrize(("missing", "arguments", "says"), [
    ("numpy", [], r"needs numpy.*pip install 'mmgen-grace\[lab\]'"),
    ("perfetto.trace_builder.proto_builder", ["--perfetto", "x"], r"--perfetto needs .*pip install 'mmgen-grace\[trace\]'"),
    ("matplotlib", ["--html", "x"], r"matplotlib.*pip install 'mmgen-grace\[lab\]'"),
    ("matplotlib", ["--pictures", "x"], r"matplotlib.*pip install 'mmgen-grace\[lab\]'")])
def test_without_a_package(python, missing, arguments, says):
    out = python(f"import sys; sys.modules[{missing!r}] = None; from mmgen.cli import main; sys.exit(main())", "replay",
                 str(DATA / "idle.mmtrace.tsv.gz"), *arguments)
    assert (out.returncode, out.stdout) == (2, "")
    assert len(out.stderr.splitlines()) == 1
    assert re.search(says, out.stderr)


@E2E
@pytest.mark.once
def test_ctrl_c_of_the_command(python):
    """While it replays: 130, and nothing is said but what a shell says."""
    script = """
import os, signal, sys
import mmgen.lab.replay.command as command
signal.signal(signal.SIGINT, signal.default_int_handler)
replay = command.replay
def interrupted(*args, **more):
    os.kill(os.getpid(), signal.SIGINT)
    return replay(*args, **more)
command.replay = interrupted
from mmgen.cli import main
sys.exit(main())
"""
    out = python(script, "replay", str(DATA / "mixed.mmtrace.tsv.gz"))
    assert (out.returncode, out.stdout, out.stderr) == (130, "", "")


@E2E
@pytest.mark.long
def test_real_threads_agree(two_cores):
    """`mmgen run` waits at the same moments, on threads that do the same: medians within a tick of each other."""
    out = mmgen("run", DATA / "mixed.mmtrace.tsv.gz", "--json", "-")
    assert out.returncode == 0, out.stderr
    real = json.loads(out.stdout)
    if real["missed_ticks"]:
        pytest.skip(f"the machine had something else to do: {real['missed_ticks']} ticks came late")
    ours = next(one for one in replay(recorded("mixed")).arrivals if one.idle == "drop")
    assert len(ours.took_ns) == real["waits"]
    assert abs(ours.percentile_ns(50) / 1e6 - real["wait_p50_ms"]) < TICK_NS / 1e6
