"""The mmgen command, as a user runs it."""
import gzip
import json
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from mmgen import mmtrace
from mmgen.run import percentile, ranges

HERE = tempfile.gettempdir()            # not the checkout, which a command there would import
MMGEN = [sys.executable, "-c", "import sys; from mmgen.cli import main; sys.exit(main())"]


def mmgen(*args, timeout=60, **options):
    options = {"capture_output": True, "text": True, "timeout": timeout, "check": False, "cwd": HERE} | options
    return subprocess.run([*MMGEN, *map(str, args)], **options)


def report(*args):
    result = mmgen("run", "--json", "-", *args)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return json.loads(result.stdout)


@pytest.fixture
def idle_machine(tmp_path):
    """Two CPUs that idle for a second, but for one moment: the case that the sketch hangs on."""
    events = ["0\t0\tS\t5\t1\t0\t0", "0\t1\tS\t6\t2\t0\t0", "500000000\t0\tS\t0\t0\t5\t1", "501000000\t0\tT", "502000000\t0\tM\t5\t1",
              "503000000\t0\tS\t5\t1\t0\t0", "1000000000\t1\tX\t6"]
    path = tmp_path / "idle.mmtrace.tsv.gz"
    path.write_bytes(gzip.compress(("# mmtrace 1\tname=quiet\tcpus=2\thz=250\n" + "\n".join(events) + "\n").encode()))
    return path


def test_without_arguments_it_replays_the_bundled_machine(tmp_path):
    path = tmp_path / "report.json"
    result = mmgen("run", "--json", path)
    assert result.returncode == 0
    assert result.stderr == ""
    assert result.stdout.startswith("replay of configure: 2 CPUs for 5.0")
    assert result.stdout.rstrip().endswith(".")
    r = json.loads(path.read_text())
    assert r["waits_at_teardown"] == 2322
    assert r["waits"] == r["waits_begun"] == 2322 + 485
    assert r["waits"] == r["waits_timed"] + r["waits_idle_only"] + r["waits_cut"]
    assert 0 < r["wait_p50_ms"] <= r["wait_p90_ms"] <= r["wait_p99_ms"] <= r["wait_max_ms"]
    assert r["wait_p50_ticks"] == pytest.approx(r["wait_p50_ms"] / 4)
    assert r["switches"] == sum(
        event.kind == "C" or (event.kind == "S" and event.operands[3] != 0) for event in mmtrace.read(mmtrace.bundled()).events)
    assert r["generations"] >= 100
    assert r["verdict"] in result.stdout


def test_every_field_is_documented():
    r = report("--workload", "busy", "--seconds", 0.1)
    page = (Path(__file__).parents[1] / "docs" / "run.md").read_text()
    fields = set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE))
    assert fields == set(r) | set(r["per_cpu"][0])


def test_an_idle_machine_ends_by_itself(idle_machine):
    r = report(idle_machine)
    assert r["workload"] == "replay of quiet"
    assert r["waits"] == r["waits_begun"] == 97 + 1
    assert r["waits_idle_only"] >= 90
    assert r["waits_at_teardown"] == 1


def test_busy_and_idle_workloads():
    r = report("--workload", "busy", "--switch-us", 50, "--distribution", "fixed", "--seed", 3, "--cpus", 3, "--hz", 500, "--seconds", 0.5,
               "--rate", 40)
    assert (r["cpus"], r["hz"], r["waits"], r["waits_idle_only"]) == (3, 500, 20, 0)
    assert len(r["per_cpu"]) == 3
    r = report("--workload", "idle", "--seconds", 0.3, "--continuous")
    assert r["continuous"]
    assert r["waits"] == r["waits_idle_only"] + r["waits_timed"] == 29          # a wait may meet a CPU that is just awake
    assert r["waits_idle_only"] > r["waits_timed"]
    r = report("--workload", "busy", "--hz", "none", "--seconds", 0.3)
    assert (r["hz"], r["wait_p50_ticks"]) == (None, None)
    assert r["wait_p50_ms"] > 0


def test_no_waits():
    r = report("--workload", "busy", "--rate", 0, "--seconds", 0.1)
    assert r["waits"] == 0
    assert r["verdict"].startswith("No wait ended, so there is nothing to say about what one costs")


@pytest.mark.unsanitized("reads arguments: no domain is ever made")
@pytest.mark.parametrize(("args", "says"), [
    (["run", "none.tsv"], r"run: .*No such file.*none\.tsv"),
    (["run", "--cpus", "0"], r"run: cpus=0 is out of range: 1 to 8192"),
    (["run", "--cpus", "x"], r"run: argument --cpus: invalid int value: 'x'"),
    (["run", "--workload", "busy", "--cpus", "0"], "run: cpus=0 is out of range: 1 to 8192"),
    (["run", "--workload", "busy", "--cpus", str(2**80)], "out of range"),
    (["run", "--workload", "busy", "--hz", "0"], "run: argument --hz: 0 is out of range: 1 to 10000, or 'none'"),
    (["run", "--workload", "busy", "--hz", "1e3"], "--hz: 1e3 is out of range"),
    (["run", "--hz", "100"], "--hz goes with --workload busy or idle: a replayed machine ticks as it was recorded"),
    (["run", "--seed", "1"], "--seed goes with --workload busy or idle, not with a trace"),
    (["run", "--seconds", "0"], "--seconds .*0.* is out of range"),
    (["run", "--seconds", "nan"], "--seconds .*nan is out of range"),
    (["run", "--rate", "-1"], "--rate .*-1.* is out of range"),
    (["run", "--workload", "busy", "--switch-us", "-1"], "switch_us=-1.0 is out of range"),
    (["run", "x", "--workload", "idle"], "a trace does not go with --workload idle"),
    (["run", "--increments", "0"], "increments=0 is out of range"),
    (["run", "--workload", "lazy"], "argument --workload: invalid choice: 'lazy'"),
    (["run", "--json", "/nowhere/x"], "No such file"),
    (["walk"], "invalid choice: 'walk'"),
    ([], "the following arguments are required: COMMAND"),
])
def test_a_bad_argument_is_one_line_and_status_2(args, says):
    result = mmgen(*args)
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("mmgen")
    assert re.search(says, result.stderr)


def test_a_broken_trace_is_one_line_and_status_2(tmp_path):
    path = tmp_path / "broken.tsv"
    path.write_text("# mmtrace 1\tcpus=2\thz=250\n#\n0\t0\tT\n1\t7\tT\n")
    result = mmgen("run", path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"mmgen run: {path}:4: CPU 7 is out of range: the trace has 2 (0 to 1)\n"


def test_ctrl_c_reports_what_there_is():
    process = subprocess.Popen([*MMGEN, "run", "--workload", "busy", "--seconds", "60"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, cwd=HERE)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err == ""
    assert re.search(r"waits +\d+ ended of \d+ begun", out)


@pytest.mark.parametrize("with_rich", [True, False])
def test_progress_on_a_terminal(with_rich):
    """A bar, or a line a second; both on standard error, and only where that is a terminal."""
    main = MMGEN[-1] if with_rich else f"import sys; sys.modules['rich'] = sys.modules['rich.console'] = None; {MMGEN[-1]}"
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", main, "run", "--workload", "busy", "--seconds", "2.5"],
                               stdout=subprocess.PIPE, stderr=theirs, text=True, cwd=HERE,
                               env=os.environ | {"TERM": "xterm", "COLUMNS": "100"})
    os.close(theirs)
    shown = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:
            break
        if not chunk:
            break
        shown += chunk
    out, _ = process.communicate(timeout=20)
    os.close(ours)
    assert process.returncode == 0
    assert out.startswith("Busy(")
    assert re.search(rb"\d+ waits of 242", shown)
    assert (b"\x1b[" in shown) == with_rich


def test_help_and_version():
    assert "replay the recorded machine" in " ".join(mmgen("run", "--help").stdout.split())
    assert re.fullmatch(r"mmgen \d+\.\d+\.\d+\n", mmgen("--version").stdout)


def test_ranges_and_percentiles():
    assert ranges([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"
    assert ranges([]) == ""
    assert [percentile([1, 2, 3, 4], p) for p in (0, 25, 50, 51, 100)] == [1, 1, 2, 3, 4]
    assert percentile([], 50) is None
