"""Files that nobody should give the readers: nothing but a TraceError with file and line comes of it; and what is written is read again."""
import gzip
import os
import re
import signal
import stat
from pathlib import Path

import numpy as np
import pytest
from hostile import examples, no_hang  # noqa: F401 - a fixture
from hypothesis import given
from hypothesis import strategies as st
from mmgen import mmtrace
from mmgen.lab.traces import Kind, Task, Trace, TraceError, read, write
from mmgen.lab.traces._columns import sorting
from mmgen.lab.traces.columns import COLUMNS
from trace_lines import SHAPES, Switch, exec_, exit_, fork, perf, teardown, tick

pytestmark = pytest.mark.usefixtures("no_hang")

HEAD = b"# mmtrace 1\tname=x\tcpus=2\thz=250\n# columns\n"
EVENTS = [Switch(1000, 0, 5, b"a b", 6, b"c"), tick(2000, 1), fork(3000, 0, 6, 7), exec_(4000, 0, 7), exit_(5000, 0, 7),
          teardown(6000, 0, 7)]
MMTRACE = b"# mmtrace 1"
SAMPLES = [HEAD + b"0\t0\tS\t1\t2\t0\t0\n5\t1\tT\n5\t0\tX\t1\n6\t0\tC\t1\t3\n7\t1\tM\t1\t2\n# task\t1\t1\tU\ta\n# cpu\t0\t4\n# note\thm\n",
           *(b"".join(line(event, {}) + b"\n" for event in EVENTS) for line, *_ in SHAPES.values()),
           b"# tracer: nop\n#\n# entries-in-buffer/entries-written: 1/2   #P:2\n"]
WORDS = [b"\n", b"\t", b" ", b"[0]", b"sched_switch: ", b"prev_comm=", b" prev_pid=", b"==>", b"# task\t", b"# cpu\t", b"1.5:", b"\0", b"#",
         b"-", b"/", b":", b"(", b"9" * 30, b"4194305", b"S", b"LOST ", b"PERF_RECORD_FORK(", b"\x1f\x8b\x08"]
MANY = b"".join(perf(Switch(i, 0, 5, b"a", 6, b"b")) + b"\n" for i in range(3000))


class Memory:
    """A file of no disk's."""

    def __init__(self):
        self.fd = os.memfd_create("trace")
        self.path = f"/proc/self/fd/{self.fd}"

    def holds(self, content):
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, content, 0)
        return self.path


@pytest.fixture(scope="module")
def memory():
    file = Memory()
    yield file
    os.close(file.fd)


def judged(path, content):
    """Read it: a trace that holds together, or a TraceError with file and line."""
    try:
        trace = read(path)
    except TraceError as error:
        assert re.match(re.escape(path) + r":[1-9]\d*: .", str(error), re.DOTALL), error
        return None
    assert len(trace) <= content.count(b"\n") + trace.made_up_ticks
    assert trace.bad_lines <= content.count(b"\n") + 1
    return trace


@given(st.one_of(st.binary(max_size=300), st.lists(st.sampled_from(WORDS), max_size=20).map(b"".join)), st.booleans())
@examples(150)
def test_arbitrary_bytes(memory, content, packed):
    judged(memory.holds(gzip.compress(content) if packed else content), content)


@st.composite
def mutated(draw, samples=SAMPLES, first=0):
    """One of the samples, with a few bytes changed from the `first` on."""
    content = bytearray(draw(st.sampled_from(samples)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(min(first, len(content)), len(content)))
        upto = at + draw(st.integers(0, 8))
        content[at:upto] = draw(st.one_of(st.binary(max_size=3), st.sampled_from(WORDS), st.just(bytes(content[:40]))))
    return bytes(content)


@given(mutated(), st.booleans())
@examples(300)
def test_mutated_recordings(memory, content, packed):
    judged(memory.holds(gzip.compress(content) if packed else content), content)


@given(st.sampled_from(SAMPLES), st.integers(0, 400), st.booleans())
@examples(100)
def test_truncated_recordings(memory, content, at, packed):
    whole = gzip.compress(content) if packed else content
    trace = judged(memory.holds(whole[:at]), content)
    assert trace is None or not packed or at >= len(whole) - 8


@given(mutated([sample for sample in SAMPLES if sample.startswith(MMTRACE)], len(MMTRACE)))
@examples(150)
def test_a_mmtrace_is_read_as_run_reads_it(memory, content):
    """The same events, or the same words about the same line; but for what only a column cannot hold, and remarks that are wrong."""
    path = memory.holds(content)
    try:
        events, error = mmtrace.read(path), None
    except TraceError as other:
        events, error = None, str(other)
    try:
        trace = read(path)
    except TraceError as own:
        assert error == str(own) or re.search(r"beyond 2147483647|no CPU with its|no 'tid tgid|from 0 to 4194304", str(own))
    else:
        assert error is None
        assert (trace.name, trace.cpus, trace.hz) == (events.name, events.cpus, events.hz)
        assert list(zip(trace.t_ns, trace.cpu, trace.kind, strict=True)) == [(e.t_ns, e.cpu, "STXCM".index(e.kind)) for e in events.events]


@pytest.mark.parametrize(("content", "says"), [
    (b"", r":1: the file is empty"), (gzip.compress(b""), r":1: the file is empty"),
    (b"hello\n" * 9, r":1: not perf script, an ftrace buffer, trace-cmd report or a \.mmtrace\.tsv: no line is an event"),
    (bytes(range(256)) * 50, r":1: a binary file"), (b"PERFILE2" + bytes(99), r":1: a perf\.data file: print it with perf script"),
    (b"\x17\x08Dtracing6\0", r":1: a trace-cmd file: print it with trace-cmd report"), (b"\xfd7zXZ\0\0", r":1: compressed by xz"),
    (perf(tick(1, 0)) + b"\n", r":1: there is no sched_switch in it: record with -e sched:sched_switch"),
    (b"# tracer: nop\n#\n", r":2: there is no sched_switch"),
    (gzip.compress(MANY)[:-9], r":3001: the file is cut short"),
    (gzip.compress(MANY)[:-8] + bytes(8), r":\d+: what was gzipped is damaged"),
    (perf(EVENTS[0]) + b"\n" + b"x" * 400_000, r":2: the line is too long"),
    (b"".join(perf(EVENTS[0]._replace(t_ns=t)) + b"\n" for t in (0, 2 * 10**18)), r":\d: the times span 2000000000000000000 ns"),
    (b"# mmtrace 2\n", r":1: not an mmtrace"), (b"# mmtrace 1" + b"\tx" * 999, r":1: the line is too long"),
    (HEAD + b"0\t0\tT\n1\t2\tT\n", r":4: CPU 2 is out of range"), (HEAD + b"5\t0\tT\n4\t0\tT\n", r":4: time goes back, from 5 to 4 ns"),
    (HEAD + b"0\t0\tX\t2147483648\n", r":3: 2147483648 is beyond 2147483647"), (HEAD + b"0\t0\tT", r":3: the line is cut short"),
    (HEAD + b"0\t0\tX\t" + b"9" * 100_000, r":3: the line is too long"), (HEAD + b"# cpu\t2\t7\n", r":3: '# cpu\\t2\\t7' is no CPU"),
    (HEAD + b"# task\t1\t2\tQ\n", r":3: '1 2 Q' is no 'tid tgid K'"),
])
def test_what_is_said_of_it(memory, content, says):
    with pytest.raises(TraceError, match="^" + re.escape(memory.path) + says):
        read(memory.holds(content))


def test_arguments(memory):
    path = memory.holds(SAMPLES[1])
    for hz, error in ((0, ValueError), (100_001, ValueError), ("x", TypeError)):
        with pytest.raises(error, match="hz"):
            read(path, hz=hz)
    with pytest.raises(TypeError, match="is no Task"):
        read(path, tasks={1: "x"})
    with pytest.raises(ValueError, match="tid=-1"):
        read(path, tasks={-1: Task(1, True, "")})
    with pytest.raises(TypeError):
        read(memory.fd)
    with pytest.raises(FileNotFoundError):
        read("/nonexistent/x")
    with pytest.raises(IsADirectoryError):
        read("/")


@pytest.mark.unsanitized("limits the address space, of which a sanitizer takes much")
@pytest.mark.parametrize("content", [b"\n" * (1 << 25), perf(EVENTS[0]) + b"\n" + b"x" * (1 << 25), HEAD + b"1" * (1 << 25)])
def test_what_unpacks_to_much_takes_no_memory(memory, content, python):
    """32 MB here, from a few KB; in a process that may have only 16 MB more than it has."""
    memory.holds(gzip.compress(content))
    script = ("import resource, sys\nfrom mmgen.lab.traces import read, TraceError\n"
              "size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize() + (16 << 20)\n"
              "resource.setrlimit(resource.RLIMIT_AS, (size, size))\n"
              "try: read(sys.argv[1])\nexcept TraceError as error: print(error)")
    result = python(script, f"/proc/{os.getpid()}/fd/{memory.fd}")
    assert result.returncode == 0, result.stderr
    assert re.search(r":\d+: (the line is too long|not perf script)", result.stdout)


@pytest.mark.parametrize("what", ["text", "gzip", "unsorted", "write"])
def test_ctrl_c(memory, what, tmp_path):
    """It ends what is under way, at once: less than all of it has been done by then."""
    n = 300_000
    order = range(n) if what != "unsorted" else np.random.default_rng(1).permutation(n)
    text = b"".join(b"a-1 [%d] %d.%06d: sched_switch: a:1 [1] S ==> b:2 [1]\n" % (i % 2, i // 1000, i % 1000) for i in order)
    trace = read(memory.holds(text)) if what == "write" else None
    path = memory.holds(gzip.compress(text, 1) if what == "gzip" else text)
    seen = []

    def interrupt(share, events):
        seen.append((share, events))
        if len(seen) == 1:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        if what == "write":
            write(trace, tmp_path / "o.gz", show=interrupt)
        else:
            alarm = signal.signal(signal.SIGALRM, signal.default_int_handler)
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.02)
                for _ in range(1000):
                    read(path)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, alarm)
    assert list(tmp_path.iterdir()) == []


# ---- writing -------------------------------------------------------------------------------------------------------------------

numbers = st.integers(0, 2**31 - 1)


@st.composite
def traces(draw):
    n, cpus = draw(st.integers(0, 12)), draw(st.integers(1, 4))
    kind = np.array(draw(st.lists(st.integers(0, 4), min_size=n, max_size=n)), np.uint8)
    columns = {name: np.array(draw(st.lists(numbers, min_size=n, max_size=n)), np.int64) for name in ("tid", "mm", "next_tid", "next_mm")}
    columns["tid"][kind == Kind.TICK] = 0
    columns["mm"][(kind != Kind.SWITCH) & (kind != Kind.TEARDOWN)] = 0
    columns["next_tid"][kind != Kind.SWITCH] = 0
    columns["next_mm"][(kind != Kind.SWITCH) & (kind != Kind.EXEC)] = 0
    word = st.text(st.characters(exclude_categories=["C", "Zl", "Zp", "Zs"]), max_size=6)
    return Trace(
        name=draw(word), cpus=cpus, hz=draw(st.integers(1, 100_000)), kind=kind,
        extra=tuple(draw(st.lists(word.map("x".__add__), max_size=3))),
        t_ns=np.array(sorted(draw(st.lists(st.integers(0, 10**18 - 1), min_size=n, max_size=n))), np.int64),
        cpu=np.array(draw(st.lists(st.integers(0, cpus - 1), min_size=n, max_size=n)), np.int32),
        cpu_ids=tuple(draw(st.lists(st.integers(0, 10**6), min_size=cpus, max_size=cpus))), notes=tuple(draw(st.lists(word, max_size=2))),
        tasks={tid: Task(*task) for tid, task in draw(st.dictionaries(st.integers(0, 1 << 22), st.tuples(
            st.integers(0, 1 << 22), st.booleans(), word), max_size=3)).items()},
        lost=draw(st.integers(0, 9)), bad_lines=draw(st.integers(0, 9)), made_up_ticks=draw(st.integers(0, 9)), **columns)


@given(traces(), st.booleans(), st.booleans())
@examples(100)
def test_what_is_written_is_read_again(tmp_path_factory, trace, packed, names):
    path = tmp_path_factory.getbasetemp() / ("round.tsv" + ".gz" * packed)
    write(trace, path, names)
    again = read(path)
    for field in ("name", "cpus", "hz", "cpu_ids", "extra", "lost", "bad_lines", "made_up_ticks", *(("tasks", "notes") if names else ())):
        assert getattr(again, field) == getattr(trace, field), field
    for column in COLUMNS:
        assert np.array_equal(getattr(again, column), getattr(trace, column)), column
    events = mmtrace.read(path)                         # as run reads it
    assert (len(events.events), events.cpus, events.hz) == (len(trace), trace.cpus, trace.hz)


def simple(**more):
    n = np.zeros(1, np.int64)
    return Trace(**({"name": "x", "cpus": 1, "hz": 250} | dict.fromkeys(COLUMNS, n) | more))


def test_names_that_do_not_fit_into_a_line(tmp_path):
    write(simple(tasks={1: Task(1, False, "a\tb\nc\x1b" + "d" * 99)}, notes=("x\ny" + "z" * 2000,)), tmp_path / "o", names=True)
    again = read(tmp_path / "o")
    assert again.tasks == {1: Task(1, False, ("a?b?c?" + "d" * 99)[:64])}
    assert again.notes[0].startswith("x?yzzz")
    for bad in ({"name": "a\tb"}, {"extra": ("a\nb",)}, {"name": "x" * 2000}, {"t_ns": np.full(1, 10**18)}):
        with pytest.raises(ValueError, match=r"a tab or a line's end|999 at most|10\*\*18"):
            write(simple(**bad), tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_a_file_is_replaced_when_the_new_one_is_whole(tmp_path, monkeypatch):
    path = tmp_path / "o.tsv"
    path.write_text("before")
    path.chmod(0o640)
    (tmp_path / "link").symlink_to(path)
    with monkeypatch.context() as patch:
        patch.setattr("mmgen.lab.traces.tsv.lines", lambda *_: (_ for _ in ()).throw(OSError("full")))
        with pytest.raises(OSError, match="full"):
            write(simple(), path)
    assert path.read_text() == "before"
    write(simple(), tmp_path / "link")
    assert (len(read(path)), stat.S_IMODE(path.stat().st_mode), (tmp_path / "link").is_symlink()) == (1, 0o640, True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "o.tsv"]
    write(simple(), "/dev/null")
    assert not Path("/dev/null").is_file()


@given(st.lists(st.integers(-9, 9), max_size=60))
@examples(100)
def test_sorting(values):
    values = np.array(values, np.int64)
    assert sorting(values).tolist() == np.argsort(values, kind="stable").tolist()


@pytest.mark.once
def test_sorting_much():
    random = np.random.default_rng(7)
    for values in (random.integers(0, 10**6, 300_000), np.arange(300_000)[::-1].copy(), np.arange(300_000) // 2 ^ 1):
        assert np.array_equal(sorting(values), np.argsort(values, kind="stable"))
