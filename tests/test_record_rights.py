"""What `mmgen record` says where it may not, or cannot, record: why, for each recorder, and the command that changes it."""
import os
import subprocess
import sys
import tempfile
import textwrap

import pytest
from mmgen import cli
from mmgen.lab.record import mounts, rights, tracefs
from recording import perf
from test_cli import HERE

pytestmark = [pytest.mark.skipif(sys.platform != "linux", reason="records Linux"),
              pytest.mark.unsanitized("starts processes, and what is compiled are the readers, which other tests run")]


@pytest.fixture
def without(monkeypatch, tmp_path):
    """A user without rights, on a machine whose tracefs is mounted nowhere."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(mounts, "mounted", lambda: None)
    monkeypatch.setattr(mounts, "offered", lambda: True)

    def detached():
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(mounts, "detached", detached)
    monkeypatch.setattr(sys, "argv", ["/opt/bin/mmgen", "record", "-o", "a b"])
    return lambda *argv: cli.main(["record", "-o", str(tmp_path / "o.tsv"), "--seconds", "0.01", *argv])


def test_why_not_and_what_gives_the_right(without, monkeypatch, tmp_path, capfd):
    perf(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert without() == 2
    assert capfd.readouterr().err == textwrap.dedent("""\
        mmgen record: cannot record here
          tracefs: tracefs is not mounted, and only root may do so: sudo /opt/bin/mmgen record -o 'a b'
          perf: perf finds its events in tracefs, which is not mounted: sudo mount -t tracefs -o mode=750,gid=GID nodev /sys/kernel/tracing
        """).replace("GID", str(os.getgid()))
    monkeypatch.setattr(mounts, "offered", lambda: False)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert without() == 2
    said = capfd.readouterr().err
    assert "  tracefs: this kernel has no tracing (CONFIG_TRACING)\n" in said
    assert "  perf: there is no perf in PATH: install perf" in said
    assert without("--with", "tracefs") == 2
    assert "perf" not in capfd.readouterr().err
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(mounts, "offered", lambda: True)
    assert without("--with", "tracefs") == 2
    assert "root may not do so here (Operation not permitted)" in capfd.readouterr().err


def test_a_tracefs_that_may_not_be_written(without, monkeypatch, tmp_path, capfd):
    def make(instance):
        raise PermissionError(13, "Permission denied", str(instance))

    monkeypatch.setattr(mounts, "mounted", lambda: tmp_path)
    monkeypatch.setattr(tracefs, "make", make)
    assert without("--with", "tracefs") == 2
    assert (f"  tracefs: {tmp_path}/instances cannot be written (Permission denied) and this is not root: sudo /opt/bin/mmgen record"
            in capfd.readouterr().err)


@pytest.mark.parametrize(("level", "said", "says"), [
    (2, "Error:\nAccess to performance monitoring is limited", "perf_event_paranoid=2 lets only root record all CPUs: "
     "sudo sysctl kernel.perf_event_paranoid=-1\n"),
    (-1, "Error: No permissions to read", "the events in ROOT may not be read: sudo mount -t tracefs -o mode=750,gid=GID nodev "
     "/sys/kernel/tracing\n"),
    (1, "Error: No permissions to read", "perf_event_paranoid=1 lets only root record all CPUs, and the events in ROOT may not be read: "
     "sudo sysctl kernel.perf_event_paranoid=-1 && sudo mount -t tracefs -o mode=750,gid=GID nodev /sys/kernel/tracing\n"),
    (-1, "Error: something new", "perf record: Error: something new: sudo /opt/bin/mmgen record -o 'a b'\n")])
def test_why_perf_does_not_work(without, monkeypatch, tmp_path, capfd, level, said, says):
    if "ROOT" not in says:
        (tmp_path / "events" / "sched" / "sched_switch").mkdir(parents=True)
        (tmp_path / "events" / "sched" / "sched_switch" / "id").write_text("372\n")
    perf(tmp_path, refuse=[(said, "sched:sched_switch")])
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(mounts, "mounted", lambda: tmp_path)
    (tmp_path / "level").write_text(f"{level}\n")
    monkeypatch.setattr(rights, "PARANOID", tmp_path / "level")
    assert without("--with", "perf") == 2
    assert f"  perf: {says}".replace("ROOT", str(tmp_path)).replace("GID", str(os.getgid())) in capfd.readouterr().err


@pytest.mark.once
def test_without_rights_on_this_machine():
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    code = ("import os, sys; import mmgen.lab.record.command; from mmgen.cli import main; os.setgroups([]); os.setgid(65534); "
            "os.setuid(65534); os.environ['TMPDIR'] = sys.argv[-1]; os.chdir(sys.argv[-1]); "
            "sys.exit(main(['record', '-o', 'x.tsv', '--seconds', '0.05']))")
    with tempfile.TemporaryDirectory(dir=HERE) as folder:
        os.chmod(folder, 0o777)
        out = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, cwd=HERE, timeout=60)
        left = os.listdir(folder)
    if out.returncode == 0:
        pytest.skip("everybody may record here")
    assert out.returncode == 2, out.stderr
    assert "mmgen record: cannot record here\n  tracefs: " in out.stderr
    assert "sudo" in out.stderr
    assert left == []
