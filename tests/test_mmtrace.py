"""The trace reader: what it reads, and what it says of what it cannot."""
import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmgen import mmtrace
from mmgen.mmtrace import Event, TraceError

HEAD = b"# mmtrace 1\tname=x\tcpus=2\thz=250\n# columns\n"


def write(tmp_path, text, name="x.mmtrace.tsv"):
    path = tmp_path / name
    path.write_bytes(text)
    return path


def test_the_bundled_machine():
    trace = mmtrace.read(mmtrace.bundled())
    assert (trace.name, trace.cpus, trace.hz) == ("configure", 2, 250)
    assert trace.seconds == pytest.approx(5.0, abs=0.01)
    assert sum(event.kind == "S" for event in trace.events) == 7786
    assert len(trace.teardowns_ns()) == 2322


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_every_kind(tmp_path, pack):
    text = HEAD + b"0\t0\tS\t1\t2\t0\t0\n5\t1\tT\n\n# a remark\n5\t0\tX\t1\n6\t0\tC\t1\t3\n7\t1\tM\t1\t2\n"
    trace = mmtrace.read(write(tmp_path, pack(text)))
    assert trace.events == [
        Event(0, 0, "S", (1, 2, 0, 0)), Event(5, 1, "T", ()), Event(5, 0, "X", (1,)), Event(6, 0, "C", (1, 3)), Event(7, 1, "M", (1, 2))]
    assert trace.seconds == 7e-9


def test_no_events(tmp_path):
    trace = mmtrace.read(write(tmp_path, HEAD))
    assert (trace.events, trace.seconds) == ([], 0.0)


@pytest.mark.parametrize(("text", "line", "says"), [
    (b"", 1, "not an mmtrace"),
    (b"hello\n", 1, "not an mmtrace"),
    (bytes(range(256)) * 100, 1, "not an mmtrace"),
    (b"# mmtrace 2\tcpus=2\thz=250\n", 1, "not an mmtrace"),
    (b"# mmtrace 1\thz=250\n", 1, r"cpus=\(missing\) in the first line is not a number from 1 to 1048576"),
    (b"# mmtrace 1\tcpus=0\thz=250\n", 1, "cpus=0 in the first line"),
    (b"# mmtrace 1\tcpus=\xd9\xa1\thz=250\n", 1, "cpus=\u0661 in the first line"),
    (b"# mmtrace 1\tcpus=2\thz=1e3\n", 1, "hz=1e3 in the first line"),
    (HEAD + b"0\t0\tT\n1\t0\tQ\n", 4, "'Q' is no kind of event"),
    (HEAD + b"\n0\n", 4, "'' is no kind of event"),
    (HEAD + b"0\t0\tT\t1\n", 3, "T takes 0 numbers, not 1"),
    (HEAD + b"0\t0\tS\t1\t2\t3\n", 3, "S takes 4 numbers, not 3"),
    (HEAD + b"0\t0\tX\t-1\n", 3, "'-1' is not a whole number"),
    (HEAD + b"0\t0\tX\t" + b"9" * 19 + b"\n", 3, "is not a whole number"),
    (HEAD + b"0\t2\tT\n", 3, r"CPU 2 is out of range: the trace has 2 \(0 to 1\)"),
    (HEAD + b"5\t0\tT\n4\t0\tT\n", 4, "time goes back, from 5 to 4 ns"),
    (HEAD + b"0\t0\tT\n1\t0\tT", 4, "the line is cut short"),
    (HEAD + b"0\t0\tX\t" + b"9" * 100_000, 3, "the line is too long"),
    (gzip.compress(HEAD + b"0\t0\tT\n" * 10_000)[:-20], None, "the file is cut short"),
    (b"\x1f\x8b", 1, "the file is cut short"),
    (b"\x1f\x8b" + b"\0" * 100, 1, "Unknown compression method"),
    (gzip.compress(HEAD)[:10] + b"\xff" * 40, 1, "Error -3"),
    (gzip.compress(b"\x00" * 1_000_000), 1, "not an mmtrace"),
])
def test_a_broken_trace_is_named_by_file_and_line(tmp_path, text, line, says):
    path = write(tmp_path, text)
    with pytest.raises(TraceError, match=rf"x\.mmtrace\.tsv:{line or '[0-9]+'}: .*{says}"):
        mmtrace.read(path)


@given(st.binary(max_size=300), st.booleans())
def test_whatever_the_bytes_it_reads_or_raises(tmp_path_factory, text, headed):
    path = tmp_path_factory.mktemp("fuzz") / "x"
    path.write_bytes((HEAD if headed else b"") + text)
    try:
        mmtrace.read(path)
    except TraceError as error:
        assert str(error).startswith(f"{path}:")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        mmtrace.read(tmp_path / "none")
