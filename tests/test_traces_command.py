"""`mmgen convert`, as a user runs it."""
import gzip
import os
import pty
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from mmgen.lab.traces import read
from test_cli import HERE, MMGEN, mmgen
from trace_lines import Switch, perf

DATA = Path(__file__).parent / "data"
pytestmark = pytest.mark.unsanitized("starts processes, and what is compiled other tests run")


def test_convert(tmp_path):
    out = mmgen("convert", DATA / "configure.perf-script.txt.gz", "--tasks", DATA / "configure.tasks.tsv.gz", "-o", tmp_path / "c.tsv.gz")
    assert (out.returncode, out.stderr) == (0, "")
    assert out.stdout.splitlines() == [
        "configure: 5.005 s of 2 CPUs at 250 Hz, 2,674 mms, 1,558 threads",
        "  7,786 switches, 1,910 ticks, 1,444 exits, 1,219 execs, 2,322 teardowns"]
    ours, theirs = (gzip.decompress(path.read_bytes()) for path in (tmp_path / "c.tsv.gz", DATA / "configure.mmtrace.tsv.gz"))
    assert ours.split(b"\n", 2)[2] == theirs.split(b"\n", 2)[2]
    out = mmgen("run", tmp_path / "c.tsv.gz", "--seconds", 0.05)
    assert out.returncode == 0, out.stderr


def test_without_a_list_with_names_and_notes(tmp_path):
    text = tmp_path / "mine.txt"
    lines = [perf(Switch(t * 10**6, t % 2, t % 2 * 5, b"a b", 5 - t % 2 * 5, b"swapper")) for t in range(9)]
    text.write_bytes(b"\n".join([*lines, b"junk", b""]))
    out = mmgen("convert", text, "--names", "--skew", "--hz", 100, "-o", text)             # onto itself
    assert (out.returncode, out.stderr) == (0, "")
    assert [line.partition(":")[0] for line in out.stdout.splitlines()] == [
        "mine", "  9 switches, 1 tick, 0 exits, 0 execs, 0 teardowns", "  1 line left out", "  1 tick made up", *["  note"] * 8]
    trace = read(text)
    assert (trace.hz, trace.bad_lines, trace.tasks[5].name) == (100, 1, "swapper")
    assert [f"  note: {note}" for note in trace.notes] == out.stdout.splitlines()[4:]


@pytest.mark.parametrize(("arguments", "says"), [
    (["bad", "-o", "bad"], r"bad:1: not perf script"), (["none", "-o", "x"], "No such file"),
    (["good", "-o", "-"], "-o -: the output must be a file"),
    (["good", "-o", "none/x"], "No such file"), (["good", "--tasks", "bad", "-o", "good"], "bad:1: 'rubbish' is no 'tid tgid K'"),
    (["good", "--hz", "0", "-o", "good"], "hz=0 is out of range: 1 to 100000"), (["good"], "required: -o"),
    (["good", "-o", "/dev/full"], "No space")])
def test_what_goes_wrong_is_said_and_destroys_nothing(arguments, says, tmp_path):
    files = {"bad": b"rubbish\n", "good": perf(Switch(0, 0, 1, b"a", 0, b"i")) + b"\n"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    out = mmgen("convert", *arguments, cwd=tmp_path)
    assert (out.returncode, out.stdout) == (2, "")
    assert re.search(says, out.stderr)
    assert len(out.stderr.splitlines()) == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files


@pytest.mark.once
@pytest.mark.parametrize("terminal", [False, True])
def test_ctrl_c_in_a_long_read(tmp_path, terminal):
    """With the progress bar, too: status 130, and no file."""
    line = perf(Switch(0, 0, 1, b"a", 0, b"i")) + b"\n"
    os.mkfifo(tmp_path / "fifo")
    ours, theirs = pty.openpty()
    p = subprocess.Popen([*MMGEN, "convert", str(tmp_path / "fifo"), "-o", str(tmp_path / "o")], cwd=HERE,
                         stderr=theirs if terminal else subprocess.DEVNULL)
    os.close(theirs)
    try:
        with open(tmp_path / "fifo", "wb") as feed:
            until = time.monotonic() + 0.5
            while time.monotonic() < until:             # faster than it can read
                feed.write(line * 1000)
            feed.flush()
            p.send_signal(signal.SIGINT)                # it waits for more by then, or soon
            assert p.wait(60) == 130
    except BrokenPipeError:
        assert p.wait(60) == 130                        # it has ended, before the last of it was written
    finally:
        p.kill()
        os.close(ours)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fifo"]
