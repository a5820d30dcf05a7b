"""`mmgen lab simulate`, as a user runs it."""
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_cli import HERE, MMGEN, mmgen

SIMULATE = ["lab", "simulate"]


def test_the_report():
    out = mmgen(*SIMULATE, "--cpus", 8, "--seconds", 0.2, "--hz", 1000, "--exits", 0.1, "--idle", 0.2, "--hotplug-per-s", 100)
    assert (out.returncode, out.stderr) == (0, "")
    assert out.stdout.startswith(
        "generation (idle drop, patience 4): 8 CPUs at 1000 Hz for 0.2 s, processes that run 100 us (exponential), seed 0\n")
    for line in ("context switches", "atomics", "line transfers", "IPIs", "overhead", "exits", "mms held", "exit to free", "generations",
                 "hotplug"):
        assert re.search(rf"^  {line} .*\d", out.stdout, re.MULTILINE)
    assert re.search(r"simulated in .* s: [\d.,]+ M CPU-ticks and [\d.,]+ M events a second$", out.stdout)


def test_the_json_report(tmp_path):
    path = tmp_path / "r.json"
    arguments = ["--policy", "shootdown", "--trim", "--cpus", 4, "--seconds", 0.01, "--seed", 3, "--switch-us", 10, "--cost", "ipi=5",
                 "--cost", "line=7", "--mms", 1, "--mm-bytes", 10]
    out = mmgen(*SIMULATE, *arguments, "--json", path)
    assert out.stdout.startswith("shootdown (trim True): 4 CPUs")
    r = json.loads(path.read_text())
    assert r["case"]["policy"] == {"name": "shootdown", "trim": True, "broken": None}
    assert (r["case"]["costs"]["ipi"], r["case"]["costs"]["line"], r["case"]["costs"]["atomic"]) == (5, 7, 2)
    assert (r["case"]["load"]["switch_us"], r["case"]["load"]["mms"], r["case"]["seed"], r["case"]["mm_bytes"]) == (10, 1, 3, 10)
    same = json.loads(mmgen(*SIMULATE, *arguments, "--json", "-").stdout)
    walls = {"wall_s", "cpu_ticks_per_wall_s", "events_per_wall_s"}
    assert {name: same[name] for name in same.keys() - walls} == {name: r[name] for name in r.keys() - walls}


def test_every_figure_is_documented():
    r = json.loads(mmgen(*SIMULATE, "--seconds", 0.001, "--json", "-").stdout)
    page = (Path(__file__).parents[1] / "docs" / "lab.md").read_text()
    fields = re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\| (.*?) \|", page, re.MULTILINE)))
    for field in r.keys() - {"case"}:
        assert field in fields, field
    for field in r["case"]["load"].keys() | r["case"]["costs"].keys():
        assert f"`{field}`" in page, field


def test_a_use_after_free_is_status_1():
    out = mmgen(*SIMULATE, "--policy", "refcount", "--broken", "no-grab", "--idle", 0.2, "--exits", 0.1, "--seconds", 0.05)
    assert out.returncode == 1
    assert re.search(r"USE AFTER FREE, [\d,]+ times; the first: mm \d+ was freed while CPU \d+ uses it, at \d+ ns", out.stdout)


@pytest.mark.parametrize(("args", "says"), [
    (["--cpus", "0"], "cpus=0 is out of range: 1 to 65536"),
    (["--cpus", "x"], "argument --cpus: invalid int value: 'x'"),
    (["--hz", "0"], "hz=0 is out of range: 1 to 10000"),
    (["--seconds", "-1"], r"seconds=-1\.0 is out of range: 1e-06 to 100000"),
    (["--switch-us", "tock"], r"--switch-us 'tock' is out of range: 0\.001 to 1e\+09, or 'tick'"),
    (["--switch-us", "nan"], "switch_us=nan is out of range"),
    (["--policy", "hope"], "argument --policy: invalid choice: 'hope'"),
    (["--policy", "refcount", "--patience", "3"], "--patience goes with --policy generation"),
    (["--policy", "refcount", "--trim"], "--trim goes with --policy shootdown"),
    (["--policy", "shootdown", "--idle-rule", "kick"], "--idle-rule goes with --policy generation"),
    (["--policy", "refcount", "--broken", "no-ipi"], "broken='no-ipi' is none of no-grab"),
    (["--kind", "threads", "--exits", "0.1"], "exits and migrate go with kind='processes'"),
    (["--cost", "line"], "--cost 'line' is none of NAME=NS: line, atomic, fence, ipi, interrupt, look, switch, 0 to 1000000000"),
    (["--cost", "line=2000000000"], "line=2000000000 is out of range: 0 to 1000000000"),
    (["--json", "/nowhere/x"], ".*No such file"),
])
def test_a_bad_argument_is_one_line_and_status_2(args, says):
    out = mmgen(*SIMULATE, *args)
    assert (out.returncode, out.stdout) == (2, "")
    assert len(out.stderr.splitlines()) == 1
    assert re.search(f"^mmgen lab simulate: {says}", out.stderr)


def test_without_numpy_it_says_so():
    script = "import sys; sys.modules['numpy'] = None; from mmgen.cli import main; sys.exit(main())"
    out = subprocess.run([sys.executable, "-c", script, *SIMULATE], capture_output=True, text=True, cwd=HERE, timeout=60)
    assert (out.returncode, out.stdout) == (2, "")
    assert re.fullmatch(r"mmgen lab simulate: needs numpy, which is not here \(.*\): pip install 'mmgen-grace\[lab\]'\n", out.stderr)
    help_text = subprocess.run([sys.executable, "-c", script, *SIMULATE, "--help"], capture_output=True, text=True, cwd=HERE, timeout=60)
    assert "--idle-rule" in help_text.stdout


def test_numpy_is_needed_for_the_lab_alone(python):
    out = python("import sys; sys.modules['numpy'] = None; import mmgen, mmgen.cli; print(mmgen.MmGen(1).cpus)")
    assert out.stdout == "1\n", out.stderr


def test_ctrl_c_reports_what_there_is():
    process = subprocess.Popen([*MMGEN, *SIMULATE, "--seconds", "100000", "--json", "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, cwd=HERE)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "")
    assert 0 < json.loads(out)["seconds"] < 100_000


def test_costs_from_a_file(tmp_path):
    path = tmp_path / "costs.json"
    out = mmgen("calibrate", "--rounds", 3, "-o", path)
    assert (out.returncode, out.stderr) == (0, "")
    table = json.loads(path.read_text())
    names = ["line", "atomic", "fence", "ipi", "interrupt", "look", "switch"]
    assert list(table["costs"]) == list(table["how"]) == names
    assert re.findall(r"^  (\w+) +[\d,]+ ns  \w", out.stdout, re.MULTILINE) == names
    r = json.loads(mmgen(*SIMULATE, "--seconds", 0.001, "--costs", path, "--cost", "line=7", "--json", "-").stdout)
    assert r["case"]["costs"] == table["costs"] | {"line": 7}


@pytest.mark.parametrize("text", ["", "3", "[" * 99_999, '{"costs": 1}', '{"line": 1.5}', '{"lime": 1}', '{"line": -1}', " " * 200_000])
def test_a_bad_file_of_costs(text, tmp_path):
    (tmp_path / "c").write_text(text)
    out = mmgen(*SIMULATE, "--costs", tmp_path / "c")
    assert (out.returncode, out.stdout, len(out.stderr.splitlines())) == (2, "", 1)
    assert re.search("has no table of costs|is none of line, atomic|line=-1 is out of range", out.stderr)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs to pin itself")
def test_calibrate_with_one_core():
    out = subprocess.run([sys.executable, "-c", "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
                          "from mmgen.lab import Costs, calibrate\nc = calibrate(3)\n"
                          "assert (c.costs.line, c.costs.ipi, c.costs.look) == (Costs().line, Costs().ipi, Costs().look)\nprint(c.how)"],
                         capture_output=True, text=True, cwd=HERE, timeout=60)
    assert out.returncode == 0, out.stderr
    assert out.stdout.count("the default: two cores are needed") == 4


def test_progress_on_a_terminal():
    ours, theirs = pty.openpty()
    process = subprocess.Popen([*MMGEN, *SIMULATE, "--seconds", "100000"], stdout=subprocess.PIPE, stderr=theirs, text=True, cwd=HERE,
                               env=os.environ | {"TERM": "xterm", "COLUMNS": "100"})
    os.close(theirs)
    shown = b""
    while not re.search(rb"\d s of virtual time", shown):
        shown += os.read(ours, 65536)
    process.send_signal(signal.SIGINT)
    try:
        while os.read(ours, 65536):                     # or it could not write, and would not end
            pass
    except OSError:
        pass
    out, _ = process.communicate(timeout=20)
    os.close(ours)
    assert process.returncode == 130
    assert out.startswith("generation (idle drop")
    assert b"\x1b[" in shown
