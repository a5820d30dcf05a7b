"""Recorded machines in the .mmtrace.tsv form, plain or gzipped: who switched to whom, on which CPU, and when.

The first line is `# mmtrace 1`, then tab-separated name=, cpus=, hz= and whatever else; the second begins with #. Each further
line is tab-separated `t_ns cpu KIND ...`, sorted by time: `S prev_tid prev_mm next_tid next_mm` a switch (tid 0 is the idle task,
mm 0 none), `T` a tick, `X tid` a thread gave up its mm, `C tid mm` exec took a new mm, `M tid mm` an mm was torn down.
"""
import gzip
import os
import zlib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import IO, NamedTuple, cast

# What follows t_ns, cpu and the kind: how many whole numbers.
OPERANDS = {"S": 4, "T": 0, "X": 1, "C": 2, "M": 2}
LONGEST_LINE = 1000
MOST_LINES = 1 << 22            # a GB of events; a few KB can be gzipped to hold any number
MOST_CPUS = 1 << 20             # as a domain
MOST_HZ = 100_000


class TraceError(ValueError):
    """A trace that cannot be read; the message begins with the file and the line."""


class Event(NamedTuple):
    """One line of a trace."""

    t_ns: int
    cpu: int
    kind: str
    operands: tuple[int, ...]


@dataclass(frozen=True)
class MmTrace:
    """A recorded machine: `cpus` CPUs whose tick came `hz` times a second, and its events, sorted by time."""

    name: str
    cpus: int
    hz: int
    events: list[Event]

    @property
    def seconds(self) -> float:
        """From the first event (t = 0) to the last."""
        return self.events[-1].t_ns / 1e9 if self.events else 0.0

    def teardowns_ns(self) -> list[int]:
        """When an mm was torn down, in ns."""
        return [event.t_ns for event in self.events if event.kind == "M"]


def bundled() -> Path:
    """The recorded `configure` machine that comes with the package: a large ./configure on 2 CPUs at 250 Hz, 5 seconds."""
    return Path(str(files("mmgen") / "data" / "configure.mmtrace.tsv.gz"))


def read(path: str | os.PathLike[str]) -> MmTrace:
    """Read a trace. Raises TraceError for one that is broken, naming file and line, and OSError for one that cannot be opened."""
    path = os.fspath(path)                              # not a number: open() would read, and close, whatever file that is
    line_nr = 1
    try:
        with open(path, "rb") as raw:
            text = cast(IO[bytes], gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == b"\x1f\x8b" else raw)
            name, cpus, hz = header(text)
            events: list[Event] = []
            last = 0
            while True:
                line_nr += 1
                line = text.readline(LONGEST_LINE)
                if not line:
                    break
                if line_nr > MOST_LINES:
                    raise ValueError(f"the trace is too long: more than {MOST_LINES} lines")
                whole_line(line)
                if line[:1] == b"#" or line == b"\n":
                    continue
                event = parse(line, cpus)
                if event.t_ns < last:
                    raise ValueError(f"time goes back, from {last} to {event.t_ns} ns")
                last = event.t_ns
                events.append(event)
    except (ValueError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        broken = "the file is cut short" if isinstance(error, EOFError) else str(error)
        raise TraceError(f"{os.fsdecode(path)}:{line_nr}: {broken}") from error
    return MmTrace(name, cpus, hz, events)


def header(text: IO[bytes]) -> tuple[str, int, int]:
    line = text.readline(LONGEST_LINE)
    first = line.rstrip(b"\n").split(b"\t")
    if first[0] != b"# mmtrace 1":
        raise ValueError("not an mmtrace: its first line does not begin with '# mmtrace 1' (mmgen convert makes one of other recordings)")
    whole_line(line)
    fields = dict(field.decode(errors="replace").partition("=")[::2] for field in first[1:])
    return fields.get("name", "unnamed"), number(fields, "cpus", MOST_CPUS), number(fields, "hz", MOST_HZ)


def number(fields: dict[str, str], key: str, most: int) -> int:
    value = fields.get(key, "")
    if not (value.isascii() and value.isdigit() and len(value) < 10 and 1 <= int(value) <= most):
        raise ValueError(f"{key}={value or '(missing)'} in the first line is not a number from 1 to {most}")
    return int(value)


def whole_line(line: bytes) -> None:
    """ValueError unless it has an end: what follows would be taken for a line of its own."""
    if line[-1:] != b"\n":
        raise ValueError("the line is too long" if len(line) >= LONGEST_LINE else "the line is cut short")


def parse(line: bytes, cpus: int) -> Event:
    fields = line[:-1].split(b"\t")
    kind = fields[2].decode(errors="replace") if len(fields) > 2 else ""
    if kind not in OPERANDS:
        raise ValueError(f"{kind!r} is no kind of event ({', '.join(OPERANDS)})")
    if len(fields) != 3 + OPERANDS[kind]:
        raise ValueError(f"{kind} takes {OPERANDS[kind]} numbers, not {len(fields) - 3}")
    numbers = fields[:2] + fields[3:]
    for text in numbers:
        if not text.isdigit() or len(text) > 18:
            raise ValueError(f"{text.decode(errors='replace')!r} is not a whole number below 10**18")
    t_ns, cpu, *operands = map(int, numbers)
    if cpu >= cpus:
        raise ValueError(f"CPU {cpu} is out of range: the trace has {cpus} (0 to {cpus - 1})")
    return Event(t_ns, cpu, kind, tuple(operands))
