"""`mmgen lab sweep`, as a user runs it: its table, signals at any time, and SIGKILL."""
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time

import pytest
from mmgen.lab import Case, Generation, Grid, Load, Refcount, Shootdown, read
from test_cli import HERE, MMGEN, mmgen

SWEEP = ["lab", "sweep"]
SHORT = ["--seconds", 0.005, "--workers", 0]
pytestmark = pytest.mark.unsanitized("starts processes, and what is compiled is simulate()'s, which other tests run")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "s.jsonl"


def test_a_sweep(path):
    out = mmgen(*SWEEP, "--cpus", "2,3", "--hz", "100,250", "--switch-us", "10,tick", "--idle-rule", "hang,kick", "--patience", "2,5",
                "--idle", "0.1", "--seed", "1,2", "--cost", "line=50", *SHORT, "-o", path)
    assert (out.returncode, out.stderr) == (0, "")
    grid = Grid(cpus=[2, 3], hz=[100, 250], switch_us=[10, None], idle=0.1, seed=[1, 2], seconds=0.005, costs=read(path)[0].case.costs,
                policy=[Refcount(), Shootdown(), Generation(idle="hang"), Generation(idle="kick", patience=2),
                        Generation(idle="kick", patience=5)])
    assert read(path)[0].case.costs.line == 50
    assert [r.case for r in read(path, grid)] == list(grid)
    lines = out.stdout.splitlines()
    assert lines[0].split() == ["policy", "cpus", "hz", "switch_us", "seed", "switches/s", "atomics/s", "lines/s", "IPIs/s", "ns/switch",
                                "held", "p50", "p99"]
    assert lines[-2] == "... and 40 more"
    assert re.fullmatch(rf"{path}: 80 cases run in .* s", lines[-1])
    first = read(path, grid)[0]
    assert lines[1].split()[:6] == ["refcount", "2", "100", "10", "1", f"{first.rates['switches_per_s']:,.0f}"]
    assert len({len(line) for line in lines[:-2]}) == 1
    out = mmgen(*SWEEP, "--policy", "refcount", "--cpus", "2,5", "--hz", 100, "--switch-us", "10", "--idle", "0.1", "--seed", "1",
                "--cost", "line=50", *SHORT, "-o", path)
    assert re.search(": 1 cases run in .* s, 1 were there before$", out.stdout)
    assert len(out.stdout.splitlines()) == 4


@pytest.mark.once
def test_by_default_it_is_the_three_policies(tmp_path):
    out = mmgen(*SWEEP, "--seconds", 0.001, cwd=tmp_path)
    assert (out.returncode, out.stderr) == (0, "")
    assert [r.case for r in read(tmp_path / "sweep.jsonl", Grid(seconds=0.001, policy=[Refcount(), Shootdown(), Generation()]))] == [
        Case(seconds=0.001, policy=policy) for policy in (Refcount(), Shootdown(), Generation())]
    assert read(tmp_path / "sweep.jsonl")[0].case.load == Load()


@pytest.mark.once
def test_a_use_after_free_is_status_1(path):
    out = mmgen(*SWEEP, "--policy", "refcount", "--broken", "no-grab", "--cpus", 8, "--idle", 0.3, "--exits", 0.1, "--seconds", 0.05,
                "-o", path)
    assert out.returncode == 1
    assert out.stdout.splitlines()[0].endswith("used after free")
    sound, broken = read(path, Grid(policy=[Refcount(), Refcount(broken="no-grab")], cpus=8, idle=0.3, exits=0.1, seconds=0.05))
    assert (sound.use_after_frees, broken.use_after_frees > 0) == (0, True)


@pytest.mark.once
def test_a_case_that_fails_is_status_1(path):
    """Of more memory than there may be: the others are run."""
    limited = [sys.executable, "-c", "import resource, sys; from mmgen import lab; from mmgen.cli import main; "
               "resource.setrlimit(resource.RLIMIT_AS, (3 * 10**8,) * 2); sys.exit(main())"]
    out = subprocess.run([*limited, *SWEEP, "--cpus", "2,65536", "--mms", "64", "--policy", "shootdown", *map(str, SHORT), "-o", str(path)],
                         capture_output=True, text=True, cwd=HERE, timeout=60)
    assert out.returncode == 1, out.stderr
    assert "FAILED shootdown, 65536 CPUs, 250 Hz, seed 0: MemoryError: no memory for a virtual machine of 65536 CPUs" in out.stdout
    assert re.search(": 1 cases run in .* s, 1 failed$", out.stdout)
    assert [r.case.cpus for r in read(path)] == [2]


@pytest.mark.once
@pytest.mark.parametrize(("args", "says"), [
    (["--cpus", "2,0"], "cpus=0 is out of range: 1 to 65536"),
    (["--cpus", "2,,4"], "argument --cpus: invalid int value: '2,,4'"),
    (["--idle", "0.1,x"], "argument --idle: invalid float value: '0.1,x'"),
    (["--switch-us", "10,tock"], "--switch-us 'tock' is out of range: 0.001 to 1e\\+09, or 'tick'"),
    (["--policy", "refcount,hope"], "--policy='hope' is none of refcount, shootdown, generation"),
    (["--policy", ""], "--policy='' is none of refcount"),
    (["--policy", "refcount", "--idle-rule", "kick"], "--idle-rule goes with --policy generation"),
    (["--policy", "refcount", "--trim"], "--trim goes with --policy shootdown"),
    (["--patience", "3"], "--patience goes with --idle-rule kick"),
    (["--idle-rule", "kick,sleep"], "--idle-rule='sleep' is none of hang, drop, kick"),
    (["--policy", "refcount", "--broken", "no-ipi"], "--broken='no-ipi' is none of no-grab"),
    (["--kind", "threads", "--exits", "0,0.1"], "exits and migrate go with kind='processes'"),
    (["--workers", "x"], "--workers 'x' is out of range: 0 to 4096"),
    (["--workers", "2", "--dask", "tcp://127.0.0.1:1"], "--workers goes without --dask"),
    (["-o", "/nowhere/x"], ".*No such file"), (["-o", "/dev/null"], "/dev/null: is not a regular file"), (["-o", "/"], ".*Is a directory"),
])
def test_a_bad_argument_is_one_line_and_status_2(args, says, tmp_path):
    out = mmgen(*SWEEP, *args, cwd=tmp_path)
    assert (out.returncode, out.stdout) == (2, "")
    assert len(out.stderr.splitlines()) == 1
    assert re.search(f"^mmgen lab sweep: {says}", out.stderr)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.once
def test_without_distributed_it_says_so(tmp_path):
    script = "import sys; sys.modules['distributed'] = None; from mmgen.cli import main; sys.exit(main())"
    out = subprocess.run([sys.executable, "-c", script, *SWEEP, "--dask", "tcp://127.0.0.1:1"], capture_output=True, text=True,
                         cwd=tmp_path, timeout=60)
    assert (out.returncode, out.stdout) == (2, "")
    assert re.fullmatch(r"mmgen lab sweep: --dask needs distributed, which is not here \(.*\): pip install 'mmgen-grace\[dask\]'\n",
                        out.stderr)


@pytest.mark.once
def test_two_at_once(path):
    first = started("--seed", "0,1", "--seconds", "100000", "-o", path)
    until(path.exists)
    end = time.monotonic() + 30
    while (out := mmgen(*SWEEP, *SHORT, "-o", path)).returncode == 0 and time.monotonic() < end:
        pass                                            # the first has made it, and not locked it yet
    assert out.returncode == 2
    assert f"another sweep is writing to it: '{path}'" in out.stderr
    assert ended(first, signal.SIGTERM)[0] == 130


# Signals.

def started(*args, **options):
    return subprocess.Popen([*MMGEN, *SWEEP, *map(str, args)], **{
        "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": HERE, "start_new_session": True} | options)


def ended(process, number, group=False):
    (os.killpg if group else os.kill)(process.pid, number)
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


def until(holds, seconds=30):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def nr_lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def group(process):
    """The processes of its session that are left, but the resource tracker, which ends by itself."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as file:
                state, _, _, session = file.read().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(session) == process.pid and state != "Z":
            found.append(int(pid))
    return found


needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs Linux's /proc")


@needs_proc
@pytest.mark.parametrize(("number", "to_all"), [(signal.SIGINT, False), (signal.SIGINT, True), (signal.SIGTERM, False)],
                         ids=["Ctrl-C", "Ctrl-C to all", "SIGTERM"])
def test_a_signal_keeps_what_has_ended(path, number, to_all):
    """Of 3 short cases and 2 that take hours; a terminal sends Ctrl-C to the workers, too."""
    process = started("--policy", "refcount", "--seed", "0,1,2", "--seconds", "0.005,100000", "--workers", 2, "-o", path)
    until(lambda: nr_lines(path) == 3)
    status, out, err = ended(process, number, to_all)
    assert (status, err) == (130, "")
    assert re.fullmatch(rf"{path}: 3 cases run in .* s, 3 not run\n", out)
    until(lambda: not group(process))
    assert len(read(path)) == 3


@pytest.mark.once
@needs_proc
def test_ctrl_c_while_its_workers_start(path):
    process = started("--seconds", "100000", "--workers", 2, "-o", path)
    until(path.exists)
    status, _, err = ended(process, signal.SIGINT, True)
    assert (status, err) == (130, "")
    until(lambda: not group(process))


@pytest.mark.once
@needs_proc
def test_it_is_killed_again_and_again(path):
    """And each time it goes on from where it was: nothing is lost, nothing is run twice, nobody lingers."""
    grid = ["--cpus", "2,4,8,16", "--seed", ",".join(map(str, range(10))), "--exits", "0.1", "--seconds", "0.2", "--workers", 2, "-o", path]
    kept = b""

    def killed():
        enough = nr_lines(path) + 5
        process = started(*grid)
        until(lambda: nr_lines(path) > enough or process.poll() is not None)
        process.kill()
        process.communicate()
        until(lambda: not group(process))

    for _ in range(3):
        killed()
        text = path.read_bytes()
        assert text.startswith(kept)
        kept = text[:text.rfind(b"\n") + 1]
    had = kept.count(b"\n")
    out = mmgen(*SWEEP, *grid)
    assert out.returncode == 0, out.stderr
    assert re.search(rf": {120 - had} cases run in .* s, {had} were there before$", out.stdout)
    lines = path.read_bytes().splitlines()
    assert len(lines) == len({json.loads(line)["key"] for line in lines}) == 120
    assert path.read_bytes().startswith(kept)


@pytest.mark.once
def test_ctrl_c_in_the_command_itself(path):
    process = started("--seconds", "0.005,100000", "--workers", 0, "-o", path)
    until(lambda: nr_lines(path) == 3)
    assert ended(process, signal.SIGINT)[::2] == (130, "")
    assert len(read(path)) == 3


@pytest.mark.once
def test_progress_on_a_terminal(path):
    ours, theirs = pty.openpty()
    process = started("--seconds", "0.005,100000", "--workers", 1, "-o", path, stderr=theirs,
                      env=os.environ | {"TERM": "xterm", "COLUMNS": "100"})
    os.close(theirs)
    shown = b""
    while not re.search(rb"[1-3] cases, [\d.e+-]+ a second", shown):
        shown += os.read(ours, 65536)
    process.send_signal(signal.SIGINT)
    try:
        while os.read(ours, 65536):
            pass
    except OSError:
        pass
    process.communicate(timeout=20)
    os.close(ours)
    assert process.returncode == 130


@pytest.mark.once
def test_pictures(path, tmp_path):
    """One for each figure that is drawn, with the CPUs and the policies in words."""
    pytest.importorskip("matplotlib")
    out = mmgen(*SWEEP, "--cpus", "2,4,8", "--exits", "0.1", "--policy", "refcount,generation", "--hz", 1000, *SHORT, "-o", path,
                "--seconds", 0.02, "--pictures", tmp_path / "p")
    assert (out.returncode, out.stderr) == (0, "")
    drawn = {file.name: file.read_text() for file in (tmp_path / "p").iterdir()}
    assert drawn.keys() == {f"{name}.svg" for name in ("switches_per_s", "overhead_ns_per_switch", "atomics_per_s", "ipis_per_s",
                                                       "held_mean", "p50")}
    for text in drawn.values():
        assert text.startswith("<svg ")
        assert {"<!-- refcount -->", "<!-- generation drop -->", "<!-- CPUs -->"} <= set(re.findall("<!-- .* -->", text))
