"""The trace reader under atheris, guided by what it covers.

    python tests/fuzz_mmtrace.py SECONDS CORPUS [--broken]      CORPUS: a directory of traces, to which those that cover more are added

Ends with status 0 after SECONDS if whatever it was given was read or refused as documented. --broken seeds a defect, which it must find.
"""
import gzip
import os
import re
import sys
import tempfile
import zlib

WORDS = [b"# mmtrace 1", b"name=", b"cpus=", b"hz=", b"\t", b"\n", b"S", b"T", b"X", b"C", b"M", b"999999999999999999", b"\x1f\x8b\x08"]


def lines_of(data):
    """The lines of a trace's bytes, or None where they are not whole."""
    try:
        text = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (OSError, EOFError, zlib.error):
        return None
    return text.split(b"\n")


def written(trace):
    """A trace's bytes."""
    lines = ["\t".join(map(str, (event.t_ns, event.cpu, event.kind, *event.operands))) for event in trace.events]
    return "\n".join([f"# mmtrace 1\tname={trace.name}\tcpus={trace.cpus}\thz={trace.hz}", *lines, ""]).encode()


def judge(mmtrace, path, data):
    """Read `data` from the file `path`: a trace that is what the bytes say, or a TraceError with file and line."""
    with open(path, "wb") as file:
        file.write(data)
    lines = lines_of(data)
    try:
        trace = mmtrace.read(path)
    except mmtrace.TraceError as error:
        where = re.match(re.escape(path) + r":(\d+): .", str(error), re.DOTALL)
        assert where, f"{error} names no file and line"
        assert int(where[1]) >= 1
        assert lines is None or int(where[1]) <= len(lines), f"{error}: there are {len(lines)} lines"
        return
    assert lines is not None
    assert len(trace.events) == sum(line != b"" and line[:1] != b"#" for line in lines[1:])
    assert 1 <= trace.cpus <= mmtrace.MOST_CPUS
    assert 1 <= trace.hz <= mmtrace.MOST_HZ
    assert all(0 <= event.cpu < trace.cpus and len(event.operands) == mmtrace.OPERANDS[event.kind] for event in trace.events)
    assert [event.t_ns for event in trace.events] == sorted(event.t_ns for event in trace.events)
    assert trace.seconds >= 0
    if len(trace.name) < mmtrace.LONGEST_LINE // 8:         # else what cannot be decoded is longer when it is written again
        with open(path, "wb") as file:
            file.write(written(trace))
        assert mmtrace.read(path) == trace


def file_in_memory(home):
    """A path to write inputs to: on a disk most of the time would go there."""
    return f"/proc/self/fd/{os.memfd_create('trace')}" if hasattr(os, "memfd_create") else os.path.join(home, "trace")


def main(seconds, corpus, *options):
    import atheris  # noqa: PLC0415 - who imports judge() need not have it
    with atheris.instrument_imports(include=["mmgen.mmtrace"]):
        from mmgen import mmtrace  # noqa: PLC0415
    if "--broken" in options:
        whole_line = mmtrace.whole_line

        def broken(line):
            whole_line(line)
            if line == b"\n":
                raise KeyError("a blank line")

        mmtrace.whole_line = broken
    with tempfile.TemporaryDirectory() as home:
        words = os.path.join(home, "words")
        with open(words, "w") as file:
            file.writelines('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in WORDS)
        path = file_in_memory(home)
        atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", "-max_len=2000", "-rss_limit_mb=1024", "-timeout=60", f"-dict={words}",
                       f"-artifact_prefix={home}/", corpus], lambda data: judge(mmtrace, path, data))
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
