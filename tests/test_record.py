"""`mmgen record`: what it asks of tracefs and of perf, what it says where neither works, and what it makes; and on this very machine."""
import ast
import gzip
import io
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import textwrap

import pytest
from conftest import SANITIZER
from mmgen import cli
from mmgen.lab import traces
from mmgen.lab.record import mounts, ticks, tracefs
from mmgen.lab.record.tasks import snapshot
from recording import event, page, payload, perf, switch
from recording import tracefs as fake_tracefs
from test_cli import HERE, MMGEN, mmgen

pytestmark = [pytest.mark.skipif(sys.platform != "linux", reason="records Linux"),
              pytest.mark.unsanitized("starts processes, and what is compiled are the readers, which other tests run")]
TICK = payload("timer/hrtimer_expire_entry", 0, 1, 99, 0x1234)
PAGES = {0: [page(10**9, event(0, switch(7, 0)), event(4_000_000, TICK), event(5, switch(0, 9)))],
         2: [page(10**9 + 100, event(0, switch(0, 7)), event(1, payload("mmap/exit_mmap", 7, 1, 2)),
                  event(1, payload("sched/sched_process_exit", 7, b"p7", 7, 120, 1)), event(1, TICK))]}


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A tracefs of plain files: its root."""
    root = fake_tracefs(tmp_path / "tracefs", PAGES)
    monkeypatch.setattr(mounts, "mounted", lambda: root)
    monkeypatch.setattr(tracefs, "make", lambda instance: shutil.copytree(root / "instance", instance))
    monkeypatch.setattr(tracefs, "remove", shutil.rmtree)
    monkeypatch.setattr(ticks, "addresses", lambda: {0x1234: "tick_nohz_handler"})
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    yield root
    assert list((tmp_path / "tmp").iterdir()) == []
    assert list((root / "instances").iterdir()) == []
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_through_a_tracefs(fake, tmp_path, capfd):
    out, raw, listed = tmp_path / "o.mmtrace.tsv.gz", tmp_path / "raw.txt.gz", tmp_path / "tasks.tsv.gz"
    assert cli.main(["record", "-o", str(out), "--raw", str(raw), "--tasks", str(listed), "--", sys.executable, "-c", "print('ran')"]) == 0
    said = capfd.readouterr()
    assert said.out == "ran\n"
    trace = traces.read(out)
    assert (trace.name, trace.cpus, trace.cpu_ids) == (os.path.basename(sys.executable), 2, (0, 2))
    assert trace.counts == {"switch": 3, "tick": 2, "exit": 1, "exec": 0, "teardown": 1}
    assert list(trace.t_ns) == [0, 100, 101, 102, 103, 4_000_000, 4_000_005]
    assert f"kernel={os.uname().release}" in trace.extra
    assert "recorder=tracefs" in trace.extra
    assert trace.tasks[os.getpid()].name
    assert trace.task_name(9) == "p9-9"
    text = gzip.open(raw, "rt").read()
    assert re.search(r"p7     5/7     \[002\] +1\.000000101: +mmap:exit_mmap:", text)                # from saved_tgids
    assert re.search(r"\[000\] +1\.004000000: timer:hrtimer_expire_entry: .* function=tick_nohz_handler now=99\n", text)
    assert f"{os.getpid()}\t{os.getpid()}\tU\t" in gzip.open(listed, "rt").read()
    assert re.search(r"^7 events: 3 switches, 2 ticks, 0 execs, 1 exits, 1 mms torn down$", said.err, re.MULTILINE)
    assert "note: 6 events were lost: more of --buffer-mb may keep them\n" in said.err
    assert "; 6 events lost" in said.err                  # 0 + 2 and 2 + 2 in the stats
    assert said.err.endswith(f"{out} is written; next: mmgen replay {out}\n")
    assert "there is no" not in said.err


def test_what_is_set(fake, tmp_path, monkeypatch, capfd):
    kept = {}

    def remove(instance):
        assert re.fullmatch(rf"mmgen-{os.getpid()}-\d+", instance.name)
        kept.update((str(path.relative_to(instance)), path.read_text()) for path in instance.rglob("*") if path.parent.name[:3] != "cpu"
                    and path.is_file())
        shutil.rmtree(instance)

    monkeypatch.setattr(tracefs, "remove", remove)
    assert cli.main(["record", "-o", str(tmp_path / "o.tsv"), "--seconds", "0.01", "--buffer-mb", "1.5"]) == 0
    settings = {"tracing_on": "0", "trace_clock": "mono", "buffer_size_kb": "1536", "buffer_percent": "25", "options/record-tgid": "1"}
    assert {name: kept[name].strip() for name in settings} == settings
    assert kept["events/timer/hrtimer_expire_entry/filter"] == "function == 0x1234\n"
    assert [kept[f"events/{name}/enable"] for name in ("sched/sched_switch", "mmap/exit_mmap", "timer/hrtimer_expire_entry")] == ["1\n"] * 3


@pytest.mark.once
def test_a_line_says_how_far_it_is(fake, tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("mmgen.progress.rich", None)
    for command, wanted in (([], ["recording: 1 s, 18 events"]), (["--", "sleep", "1.1"], [])):
        monkeypatch.setattr(sys, "stderr", Terminal())
        assert cli.main(["record", "-o", str(tmp_path / "o.tsv"), "--seconds", "1.1", *command]) == 0
        assert re.findall(r"\rrecording: .*?(?=\x1b)", sys.stderr.getvalue()) == [f"\r{line}" for line in wanted]


def test_a_kernel_without_exit_mmap_is_said(fake, tmp_path, capfd):
    shutil.rmtree(fake / "instance" / "events" / "mmap")
    assert cli.main(["record", "-o", str(tmp_path / "o.tsv"), "--seconds", "0.01"]) == 0
    assert "note: this kernel has no event mmap:exit_mmap\n" in capfd.readouterr().err
    assert "this kernel has no event mmap:exit_mmap" in traces.read(tmp_path / "o.tsv").notes


def test_who_may_not_see_addresses_has_ticks(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(ticks, "addresses", dict)
    assert cli.main(["record", "-o", str(tmp_path / "o.tsv"), "--seconds", "0.01", "--with", "tracefs"]) == 0
    assert traces.read(tmp_path / "o.tsv").counts["tick"] == 2


@pytest.mark.parametrize(("gone", "says"), [
    ("events/sched/sched_switch", "this kernel has no event sched:sched_switch"),
    ("trace_clock", "trace_clock: No such file or directory"), ("options", None)])
def test_what_a_tracefs_may_lack(fake, tmp_path, capfd, gone, says):
    path = fake / "instance" / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    status = cli.main(["record", "-o", str(tmp_path / "o.tsv"), "--seconds", "0.01", "--with", "tracefs"])
    assert status == (0 if says is None else 2)
    assert (says or "note: this kernel does not note tgids in an instance") in capfd.readouterr().err


@pytest.mark.parametrize(("argv", "status", "says"), [
    (["--seconds", "0"], 2, "--seconds"), (["--seconds", "nan"], 2, "--seconds"), (["--buffer-mb", "0"], 2, "--buffer-mb"),
    (["-o", "/"], 2, "-o / is a folder"), (["-o", "/dev/null"], 2, "-o /dev/null is not a regular file"),
    (["-o", "nonesuch/x"], 2, "No such file or directory: '.*nonesuch/x'"), (["--raw", "o.tsv"], 2, "two of -o, --raw and --tasks"),
    (["--tasks", "nonesuch/x"], 2, "nonesuch/x"), (["--", "no such program"], 127, "'no such program' is not found"),
    (["--", "./o.tsv"], 126, "'./o.tsv' cannot be run"), (["--with", "magic"], 2, "magic")])
def test_what_it_refuses_before_it_begins(fake, tmp_path, monkeypatch, capfd, argv, status, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "o.tsv").write_text("as it was")
    monkeypatch.setattr(tracefs, "make", lambda instance: pytest.fail("it began"))
    try:
        assert cli.main(["record", "-o", "o.tsv", *argv]) == status
    except SystemExit as end:
        assert end.code == status
    assert re.search(says, capfd.readouterr().err)
    assert (tmp_path / "o.tsv").read_text() == "as it was"


def test_elsewhere(monkeypatch, capfd):
    monkeypatch.setattr("sys.platform", "darwin")
    assert cli.main(["record", "-o", "x"]) == 2
    assert capfd.readouterr().err == "mmgen record: this records Linux's own tracing: there is none on darwin\n"


@pytest.mark.parametrize(("code", "status"), [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 137), ("", 0)])
def test_the_status_is_the_commands(fake, tmp_path, code, status):
    assert cli.main(["record", "-o", str(tmp_path / "o.tsv"), "--", sys.executable, "-c", code]) == status
    assert len(traces.read(tmp_path / "o.tsv")) == 7


def test_when_time_is_over_the_command_is_told(fake, tmp_path, capfd):
    code = "import signal, sys, time; signal.signal(15, lambda *a: (print('told'), sys.exit(1))); print('here', flush=True); time.sleep(60)"
    assert cli.main(["record", "-o", str(tmp_path / "o.tsv"), "--seconds", "1", "--", sys.executable, "-c", code]) == 0
    assert capfd.readouterr().out == "here\ntold\n"


def test_what_is_replaced_keeps_its_permissions_and_its_link(fake, tmp_path):
    (tmp_path / "real.tsv").write_text("old")
    (tmp_path / "real.tsv").chmod(0o600)
    (tmp_path / "link.tsv").symlink_to("real.tsv")
    assert cli.main(["record", "-o", str(tmp_path / "link.tsv"), "--seconds", "0.01"]) == 0
    assert (tmp_path / "link.tsv").is_symlink()
    assert (tmp_path / "real.tsv").stat().st_mode & 0o777 == 0o600
    assert len(traces.read(tmp_path / "real.tsv")) == 7


def test_a_recording_that_cannot_be_read_leaves_nothing(fake, tmp_path, capfd):
    (fake / "instance" / "per_cpu" / "cpu0" / "trace_pipe_raw").write_bytes(b"\xff" * 4096)
    (tmp_path / "o.tsv").write_text("as it was")
    assert cli.main(["record", "-o", str(tmp_path / "o.tsv"), "--raw", str(tmp_path / "raw"), "--seconds", "0.01"]) == 2
    assert "a page of CPU 0 says that it has" in capfd.readouterr().err
    assert (tmp_path / "o.tsv").read_text() == "as it was"
    assert not (tmp_path / "raw").exists()


def test_no_room_left(fake, tmp_path, monkeypatch, capfd):
    (fake / "instance" / "per_cpu" / "cpu0" / "trace_pipe_raw").write_bytes(PAGES[0][0] * 1000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def make(instance):
        shutil.copytree(fake / "instance", instance)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))

    monkeypatch.setattr(tracefs, "make", make)
    try:
        status = cli.main(["record", "--with", "tracefs", "-o", str(tmp_path / "o.tsv"), "--", "sh", "-c", "sleep 0.5; echo done"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    said = capfd.readouterr()
    assert status == 2
    assert re.search(r"no longer recording \(\[Errno \d+\] File too large: '.*pages'\); waiting for", said.err)
    assert said.out == "done\n"
    assert not (tmp_path / "o.tsv").exists()


def test_through_a_perf(monkeypatch, tmp_path, capfd):
    perf(tmp_path, refuse=[("event syntax error: 'mmap:exit_mmap'", "mmap:exit_mmap")])
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(ticks, "addresses", lambda: {0x1234: "tick_nohz_handler"})
    monkeypatch.setattr(mounts, "mounted", lambda: tmp_path)
    assert cli.main(["record", "-o", str(tmp_path / "o.tsv"), "--with", "perf", "--seconds", "0.1", "--buffer-mb", "3"]) == 0
    trace = traces.read(tmp_path / "o.tsv")
    assert trace.counts["switch"] == 2
    assert "recorder=perf" in trace.extra
    assert "this kernel has no event mmap:exit_mmap" in trace.notes
    assert "; 3 events lost" in capfd.readouterr().err
    assert trace.lost == 3
    _, record, script = map(ast.literal_eval, (tmp_path / "calls").read_text().splitlines())
    pages = (4 << 20) // os.sysconf("SC_PAGESIZE")      # 3 MB, rounded up to a power of 2
    assert record[:9] == ["record", "-a", "-k", "mono", "-B", "-N", "-m", str(pages), "-o"]
    assert record[-3:] == ["timer:hrtimer_expire_entry", "--filter", "function == 0x1234"]
    assert "mmap:exit_mmap" not in record
    assert script[3:6] == ["--ns", "-F", "comm,pid,tid,cpu,time,event,trace"]


def test_a_perf_script_that_fails(monkeypatch, tmp_path, capfd):
    perf(tmp_path, status=3)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert cli.main(["record", "-o", str(tmp_path / "o.tsv"), "--with", "perf", "--seconds", "0.05"]) == 2
    assert "mmgen record: perf script: " in capfd.readouterr().err
    assert not (tmp_path / "o.tsv").exists()


def test_the_ticks_function(tmp_path):
    (tmp_path / "kallsyms").write_text("ffffffff81000010 t __pfx_tick_nohz_handler\nffffffff81000020 t tick_nohz_handler\n"
                                       "ffffffff81000030 T tick_sched_timer_dying\n0000000000000000 t tick_sched_timer\t[m]\n")
    assert ticks.addresses(tmp_path / "kallsyms") == {0xffffffff81000020: "tick_nohz_handler"}
    assert ticks.addresses(tmp_path / "nonesuch") == {}
    assert ticks.filters({}) == [("function.function == tick_nohz_handler", "tick_nohz_handler"),
                                 ("function.function == tick_sched_timer", "tick_sched_timer")]
    assert ticks.filters({1: "a", 2: "b"})[0] == ("function == 0x1 || function == 0x2", "a")


def test_the_tasks_of_this_machine(tmp_path):
    found = snapshot(lambda: None)
    assert found[os.getpid()].tgid == os.getpid()
    assert not found[os.getpid()].kernel
    for pid, flags, comm in ((5, 0x00208040, b"kworker/0:1\n"), (6, 0, b"a\tb\xff\n")):
        (tmp_path / str(pid) / "task" / str(pid)).mkdir(parents=True)
        (tmp_path / str(pid) / "stat").write_bytes(b"%d (a) b) S 1 1 1 0 -1 %d 0 0\n" % (pid, flags))
        (tmp_path / str(pid) / "task" / str(pid) / "comm").write_bytes(comm)
    (tmp_path / "7").mkdir()                            # it has just ended
    assert snapshot(lambda: None, tmp_path) == {5: (5, True, "kworker/0:1"), 6: (6, False, "a?b\ufffd")}


def can(recorder):
    """Why it cannot record here; "" if it can."""
    if SANITIZER:
        return "not under a sanitizer"
    out = mmgen("record", "--with", recorder, "-o", os.path.join(HERE, f"can-{os.getpid()}.tsv"), "--seconds", "0.05")
    if out.returncode == 0:
        os.unlink(os.path.join(HERE, f"can-{os.getpid()}.tsv"))
    return "" if out.returncode == 0 else out.stderr


@pytest.fixture(params=["tracefs", "perf"], scope="module")
def recorder(request):
    if why := can(request.param):
        pytest.skip(f"records not on this machine: {why}")
    return request.param


@pytest.mark.once
def test_this_machine(recorder, tmp_path):
    mounted = mounts.mounted()
    out = mmgen("record", "--with", recorder, "-o", tmp_path / "o.mmtrace.tsv.gz", "--raw", tmp_path / "raw.txt", "--", "sh", "-c",
                "for i in 1 2 3 4 5; do ls / >/dev/null; sleep 0.05; done; exit 7")
    assert out.returncode == 7
    trace = traces.read(tmp_path / "o.mmtrace.tsv.gz")
    assert trace.counts["exec"] >= 11
    assert trace.counts["exit"] >= 10
    assert trace.counts["teardown"] >= 10
    assert trace.counts["tick"] > 0
    assert "sleep" in {task.name for task in trace.tasks.values()}
    assert trace.bad_lines == 0
    assert trace.lost == 0
    share = re.search(r"^([\d.]+) % of the [\d,]+ switches that the kernel counted", out.stderr, re.MULTILINE)
    assert 50 < float(share[1]) < 200
    again = traces.read(tmp_path / "raw.txt", tasks=trace.tasks)
    assert list(again.t_ns) == list(trace.t_ns)
    assert mounts.mounted() == mounted


@pytest.mark.once
def test_what_is_decoded_is_what_the_kernel_prints(tmp_path):
    """The same instance, read as text by the kernel before it is read as pages by us."""
    if why := can("tracefs"):
        pytest.skip(f"records not on this machine: {why}")
    code = textwrap.dedent("""\
        import subprocess, sys
        from pathlib import Path
        from mmgen.lab.record.signals import Signals
        from mmgen.lab.record.tracefs import Tracefs, put
        with Signals() as signals:
            recorder = Tracefs(Path(sys.argv[1]), 8, signals)
            try:
                recorder.prepare()
                recorder.start()
                subprocess.run(["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do ls / >/dev/null; sleep 0.02; done"], check=True)
                put(recorder.instance / "tracing_on", "0")
                Path(sys.argv[1], "kernel").write_text((recorder.instance / "trace").read_text())
                recorder.stop()
            finally:
                recorder.undo()
            Path(sys.argv[1], "ours").write_text("".join(recorder.text({})))
        """)
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=HERE, timeout=60)
    event_of = re.compile(r"\[(\d+)\].*? (\d+)\.(\d{6,9}): +(?:\w+:)?(\w+): (.*)$", re.MULTILINE)
    kernel, ours = ([found.groups() for found in event_of.finditer((tmp_path / name).read_text())] for name in ("kernel", "ours"))
    assert len(ours) > 50
    # Pointers are hashed there, and times rounded to us.
    stable = re.compile(r"0x\w+|\b[0-9a-f]{16}\b| group_dead=\w+")
    ours, kernel = (sorted((cpu, int(s) * 10**6 + round(int(part) / 10 ** (len(part) - 6)), kind, stable.sub("", rest))
                           for cpu, s, part, kind, rest in events) for events in (ours, kernel))
    assert [event[2:] for event in ours] == [event[2:] for event in kernel]
    assert max(abs(ours[i][1] - kernel[i][1]) for i in range(len(ours))) <= 1


@pytest.mark.once
def test_two_at_a_time(recorder, tmp_path):
    both = [subprocess.Popen([*MMGEN, "record", "--with", recorder, "-o", tmp_path / f"{i}.tsv", "--seconds", str(seconds)], cwd=HERE,
                             stderr=subprocess.PIPE, text=True) for i, seconds in enumerate((0.3, 1.0))]
    for process in both:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
        assert "removed" not in said
    assert traces.read(tmp_path / "1.tsv").seconds > traces.read(tmp_path / "0.tsv").seconds
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
