"""The trace reader with traces that were damaged, or made to harm: read, or refused by file and line, in bounded memory."""
import functools
import gzip
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from fuzz_mmtrace import file_in_memory, judge
from hostile import examples, no_hang  # noqa: F401 - the fixture
from hypothesis import given
from hypothesis import strategies as st
from mmgen import mmtrace

pytestmark = pytest.mark.usefixtures("no_hang")

HARNESS = Path(__file__).with_name("fuzz_mmtrace.py")


@functools.cache
def seeds():
    """Small traces cut from the recorded machine, with every kind of event."""
    lines = gzip.decompress(mmtrace.bundled().read_bytes()).split(b"\n")
    kinds = {line.split(b"\t")[2]: nr for nr, line in enumerate(lines[2:], 2) if line.count(b"\t") >= 2}
    assert set(kinds) == {kind.encode() for kind in mmtrace.OPERANDS}
    return [b"\n".join([*lines[:2], *lines[max(nr - 5, 2):nr + 1], b""]) for nr in kinds.values()]


ODD_FIELDS = [b"", b"0", b"-1", b"\xff\xfe", b"\0", b"9" * 18, b"9" * 19, b"9" * 5000, b"1e3", b"0x1", b" 1",
              "\u0661".encode(), b"+1", b"1_0", b"S", b"T", b"X", b"C", b"M", b"#", b"\r",
              b"cpus=1", b"cpus=0", b"hz=0", b"hz=250\r", b"name=\r\n", b"cpus=" + b"1" * 990]


@st.composite
def damaged(draw):
    """A trace's bytes, some of which are not what they were."""
    lines = draw(st.sampled_from(seeds())).split(b"\n")
    for _ in range(draw(st.integers(0, 4))):
        nr = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(["field", "drop", "double", "swap", "bytes", "crlf", "remark", "blank", "number"])):
            case "field" | "number" as what:
                fields = lines[nr].split(b"\t")
                odd = st.integers(0, 10**19).map(lambda n: str(n).encode()) if what == "number" else st.sampled_from(ODD_FIELDS)
                fields[draw(st.integers(0, len(fields) - 1))] = draw(odd)
                lines[nr] = b"\t".join(fields)
            case "drop":
                del lines[nr]
            case "double":
                lines.insert(nr, lines[nr])
            case "swap":
                lines[nr], lines[-1] = lines[-1], lines[nr]
            case "bytes":
                at = draw(st.integers(0, len(lines[nr])))
                lines[nr] = lines[nr][:at] + draw(st.binary(max_size=5)) + lines[nr][at:]
            case "crlf":
                lines[nr] += b"\r"
            case "remark":
                lines.insert(nr, b"#" + b"-" * draw(st.sampled_from([0, 5, 997, 998, 999, 1000, 2000])) + b"\t0\tT")
            case "blank":
                lines.insert(nr, b"")
        lines = lines or [b""]
    data = b"\n".join(lines)
    for _ in range(draw(st.integers(0, 2))):
        match draw(st.sampled_from(["plain", "gzip", "cut", "flip", "twice", "after"])):
            case "gzip":
                data = gzip.compress(data, 1)
            case "cut":
                data = data[:draw(st.integers(0, len(data)))]
            case "flip" if data:
                at = draw(st.integers(0, len(data) - 1))
                data = data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1:]
            case "twice":
                data += data
            case "after":
                data += draw(st.binary(min_size=1, max_size=20))
    return data


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return file_in_memory(tmp_path_factory.mktemp("damaged"))


@given(data=damaged())
@examples(600)
def test_a_damaged_trace(path, data):
    judge(mmtrace, path, data)


@pytest.mark.parametrize(("name", "says"), [
    ("/nowhere", "Errno"), (1, "int"), (True, "bool"), (None, "NoneType"), (b"/nowhere", "nowhere"), ("a\0b", "null"), ("\udc80", "Errno"),
    ("", "Errno"), ("/", "directory"), (1.5, "float"), ("x" * 5000, "too long"),
])
def test_what_is_not_a_file(name, says):
    with pytest.raises((OSError, ValueError, TypeError), match=says):
        mmtrace.read(name)
    os.fstat(1)                                         # still open


BOMB = """
import gzip, resource, sys
from mmgen import mmtrace
most, raw, count = int(sys.argv[1]), sys.argv[2].encode().decode("unicode_escape").encode("latin1"), int(sys.argv[3])
head = b"# mmtrace 1\\tname=x\\tcpus=1\\thz=250\\n"
with gzip.open("bomb", "wb", 1) as file:
    file.write(head)
    for _ in range(100):
        file.write(raw * (count // 100))
mmtrace.MOST_LINES = most or mmtrace.MOST_LINES
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
limit = used + int(sys.argv[4]) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    mmtrace.read("bomb")
except mmtrace.TraceError as error:
    print(error)
"""
BOMBS = [(r"0\t0\tT\n", "the trace is too long"), (r"#\n", "the trace is too long"), (r"\n", "the trace is too long"),
         (r"\0", "the line is too long"), (r"#", "the line is too long"), (r"0\t", "the line is too long"),
         (r"0\t0\tS\t1\t2\t3\t4\n", "the trace is too long")]


@pytest.mark.unsanitized("limits the address space, of which a sanitizer takes terabytes for itself")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits its memory as Linux does")
@pytest.mark.parametrize(("line", "says"), BOMBS)
def test_a_bomb_does_not_eat_the_memory(python, line, says):
    result = python(BOMB, "50000", line, str(3_000_000), "64")
    assert result.returncode == 0, result.stderr
    assert says in result.stdout


@pytest.mark.unsanitized("limits the address space, of which a sanitizer takes terabytes for itself")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits its memory as Linux does")
def test_a_bomb_that_goes_off_is_found(python):
    result = python(BOMB, str(10**9), BOMBS[0][0], str(1_000_000), "20")
    assert result.returncode != 0
    assert "MemoryError" in result.stderr


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits its memory as Linux does")
def test_the_longest_trace_takes_less_than_two_gigabytes(python):
    result = python(BOMB, "0", BOMBS[-1][0], str(5_000_000), "2000", timeout=600)
    assert result.returncode == 0, result.stderr
    assert "more than 4194304 lines" in result.stdout


@pytest.fixture
def atheris(tmp_path):
    """Run the harness for some seconds on a corpus without a blank line; its result, and how many traces it found worth keeping."""
    if not find_spec("atheris"):
        pytest.skip("atheris is not installed: it has no wheels for this Python, or system (pyproject.toml, group fuzz)")

    def run(seconds, *options):
        corpus = tmp_path / "corpus"
        corpus.mkdir()
        for nr, seed in enumerate(seeds()):
            *_, event = [line for line in seed.splitlines() if line]
            text = b"# mmtrace 1\tcpus=2\thz=250\n" + event + b"\n"
            (corpus / f"{nr}").write_bytes(text)
            (corpus / f"{nr}.gz").write_bytes(gzip.compress(text))
        before = len(list(corpus.iterdir()))
        result = subprocess.run([sys.executable, HARNESS, str(seconds), corpus, *options], cwd=tmp_path, capture_output=True, text=True,
                                errors="replace", timeout=seconds + 120, check=False)
        return result, len(list(corpus.iterdir())) - before

    return run


@pytest.mark.parametrize("seconds", [4, pytest.param(300, marks=pytest.mark.long)])
def test_under_atheris(atheris, seconds):
    result, kept = atheris(seconds)
    assert result.returncode == 0, result.stderr[-5000:]
    assert kept > 10, result.stderr[-5000:]             # it was guided: these covered more


def test_atheris_finds_a_defect(atheris):
    result, _ = atheris(60, "--broken")
    assert result.returncode != 0
    assert "a blank line" in result.stdout + result.stderr


def test_a_stray_error_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(mmtrace, "header", lambda text: {}["header"])
    with pytest.raises(KeyError):
        judge(mmtrace, str(tmp_path / "x"), seeds()[0])


@pytest.mark.parametrize("event", [mmtrace.Event(0, 2, "T", ()), mmtrace.Event(0, 0, "T", (1,))])
def test_a_misread_trace_is_found(tmp_path, monkeypatch, event):
    monkeypatch.setattr(mmtrace, "parse", lambda line, cpus: event)
    with pytest.raises(AssertionError):
        judge(mmtrace, str(tmp_path / "x"), seeds()[0])
