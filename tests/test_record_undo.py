"""What `mmgen record` undoes, whatever ends it: a signal at any moment, SIGKILL and the next start, and a command that goes on."""
import contextlib
import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mmgen.lab import traces
from mmgen.lab.record import leftovers, mounts
from test_cli import HERE, MMGEN, mmgen
from test_record import can

pytestmark = [pytest.mark.skipif(sys.platform != "linux", reason="records Linux"), pytest.mark.once,
              pytest.mark.unsanitized("starts processes, and what is compiled are the readers, which other tests run")]


@pytest.fixture(params=["tracefs", "perf"], scope="module")
def recorder(request):
    if why := can(request.param):
        pytest.skip(f"records not on this machine: {why}")
    return request.param


@contextlib.contextmanager
def recording(recorder, folder, *argv, **options):
    """A `mmgen record` that has just been started: its process. Its files are in `folder`."""
    (folder / "tmp").mkdir(exist_ok=True)
    process = subprocess.Popen([*MMGEN, "record", "--with", recorder, "-o", folder / "o.tsv", *map(str, argv)], cwd=HERE, text=True,
                               stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | {"TMPDIR": str(folder / "tmp")}, **options)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def instances():
    """The names of the instances there are in tracefs, of mmgen's."""
    if (root := mounts.mounted()) is not None:
        return {name for name in os.listdir(root / "instances") if name.startswith("mmgen-")}
    descriptor = mounts.detached()
    try:
        return {name for name in os.listdir(f"/proc/self/fd/{descriptor}/instances") if name.startswith("mmgen-")}
    finally:
        os.close(descriptor)


def perfs(folder):
    """The processes of perf that record into `folder`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if words[0].endswith(b"perf") and any(word.startswith(os.fsencode(folder)) for word in words):
                found.append(int(path.parent.name))
    return found


def left(folder, pid):
    """What of process `pid` is still there."""
    return ([str(path) for path in (folder / "tmp").iterdir()] + [name for name in os.listdir(folder) if name.startswith(".")]
            + [name for name in instances() if name.startswith(f"mmgen-{pid}-")] + perfs(folder))


def under_way(process, folder, recorder):
    """Wait until it records."""
    for _ in range(2000):
        if process.poll() is not None:
            pytest.fail(process.communicate()[1])
        if recorder == "tracefs":
            if any((path / "pages").exists() for path in (folder / "tmp").iterdir()):
                break
        elif any((path / "perf.data").exists() for path in (folder / "tmp").iterdir()):
            break
        time.sleep(0.005)
    time.sleep(0.3)


@pytest.mark.parametrize("delay", [0.15, 0.25, 0.3, 0.35, 0.4, 0.5, 0.7])
def test_a_signal_at_any_moment(recorder, tmp_path, delay):
    mounted = mounts.mounted()
    with recording(recorder, tmp_path) as process:
        time.sleep(delay)
        process.terminate()
        _, said = process.communicate(timeout=30)
        # Before mmgen says what the signal is to do, it is the interpreter's.
        assert process.returncode in (143, -signal.SIGTERM), said
        assert left(tmp_path, process.pid) == []
        if (tmp_path / "o.tsv").exists():
            assert len(traces.read(tmp_path / "o.tsv")) > 0
    assert mounts.mounted() == mounted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_was_recorded_until_a_signal_is_written(recorder, tmp_path, number):
    with recording(recorder, tmp_path) as process:
        under_way(process, tmp_path, recorder)
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 128 + number, said
        assert traces.read(tmp_path / "o.tsv").counts["switch"] > 0
        assert left(tmp_path, process.pid) == []


def test_a_second_signal_gives_it_up(recorder, tmp_path):
    (tmp_path / "o.tsv").write_text("as it was")
    with recording(recorder, tmp_path) as process:
        under_way(process, tmp_path, recorder)
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            time.sleep(0.002)
        process.communicate(timeout=30)
        assert process.returncode in (130, -signal.SIGINT)
        assert left(tmp_path, process.pid) == []
        assert (tmp_path / "o.tsv").read_text() == "as it was" or len(traces.read(tmp_path / "o.tsv")) > 0


def test_what_a_sigkill_left_is_removed_by_the_next(recorder, tmp_path):
    with recording(recorder, tmp_path) as process:
        under_way(process, tmp_path, recorder)
        process.kill()
        process.wait()
        before = left(tmp_path, process.pid)
        assert before
        for _ in range(1000):
            if not perfs(tmp_path):
                break
            time.sleep(0.01)
        (tmp_path / f"{leftovers.PARTIAL}{process.pid}-1-o.tsv").write_text("half")
        out = mmgen("record", "--with", recorder, "-o", tmp_path / "o.tsv", "--seconds", "0.05",
                    env=os.environ | {"TMPDIR": str(tmp_path / "tmp")})
        assert out.returncode == 0, out.stderr
        assert re.search(rf"removed the temporary folder {tmp_path}/tmp/mmgen-record-{process.pid}-\d+-\w+, left behind", out.stderr)
        assert f"removed the half-written {tmp_path}/.mmgen-record-{process.pid}-1-o.tsv" in out.stderr
        if recorder == "tracefs":
            assert re.search(rf"removed the tracefs instance mmgen-{process.pid}-\d+, left behind", out.stderr)
        assert left(tmp_path, process.pid) == []


def test_one_that_lives_is_left_alone(recorder, tmp_path):
    with recording(recorder, tmp_path) as process:
        under_way(process, tmp_path, recorder)
        out = mmgen("record", "--with", recorder, "-o", tmp_path / "p.tsv", "--seconds", "0.05",
                    env=os.environ | {"TMPDIR": str(tmp_path / "tmp")})
        assert out.returncode == 0, out.stderr
        assert "removed" not in out.stderr
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 130, said
        assert traces.read(tmp_path / "o.tsv").seconds > 0.05


def test_ctrl_c_reaches_the_command_and_a_sigterm_is_passed_on(recorder, tmp_path):
    code = ("import signal, sys, time\ndef end(number, frame):\n    print('got', number, flush=True)\n    sys.exit(5)\n"
            "signal.signal(2, end); signal.signal(15, end); print('here', flush=True); time.sleep(60)")
    for number, send in ((2, lambda process: os.killpg(process.pid, signal.SIGINT)), (15, lambda process: process.terminate())):
        with recording(recorder, tmp_path, "--", sys.executable, "-c", code, start_new_session=True) as process:
            assert process.stdout.readline() == "here\n"
            send(process)
            out, said = process.communicate(timeout=30)
            assert (process.returncode, out) == (128 + number, f"got {number}\n"), said
            assert traces.read(tmp_path / "o.tsv").name == os.path.basename(sys.executable)
            assert left(tmp_path, process.pid) == []


def test_what_is_in_use_is_not_removed(tmp_path):
    for name, use in (("mmgen-record-1-1-used", True), ("mmgen-record-1-1-left", False), ("mmgen-record-1-1-link", False)):
        if name.endswith("link"):
            (tmp_path / name).symlink_to(tmp_path)
        else:
            (tmp_path / name).mkdir()
        if use:
            lock = os.open(tmp_path / name, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_SH)
    assert leftovers.clean_folders(tmp_path) == [f"the temporary folder {tmp_path}/mmgen-record-1-1-left"]
    assert sorted(os.listdir(tmp_path)) == ["mmgen-record-1-1-link", "mmgen-record-1-1-used"]
    os.close(lock)


def test_who_is_dead():
    me = leftovers.owner()
    assert not leftovers.dead(f"mmgen-{me}", "mmgen-")
    assert not leftovers.dead(f"mmgen-{me}-x", "mmgen-")
    assert leftovers.dead(f"mmgen-{os.getpid()}-1", "mmgen-")
    child = subprocess.Popen([sys.executable, "-c", ""])
    started = leftovers.started(child.pid)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert leftovers.dead(f"mmgen-{child.pid}-{started}", "mmgen-")         # a zombie does no more
    child.wait()
    for name in ("mmgen-", "mmgen-1", "mmgen-a-b", f"other-{os.getpid()}-1", f"mmgen-{os.getpid()}-1x", "mmgen-record-1-1-x"):
        assert not leftovers.dead(name, "mmgen-")
