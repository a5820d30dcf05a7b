"""The .mmtrace.tsv form as a Trace, read and written: mmgen/mmtrace.py's, with more in remarks, which that leaves out.

Remarks at the file's end: `# cpu NUMBER ID`, where CPUs had other numbers on their machine, `# task TID TGID K|U NAME`, and `# note TEXT`,
with tabs between.
"""
import io
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from mmgen._arguments import shown
from mmgen.lab.traces._tsv import TsvText, lines
from mmgen.lab.traces.blocks import BLOCK, Blocks
from mmgen.lab.traces.columns import COLUMNS, Task, Trace
from mmgen.lab.traces.kernel import MOST_EVENTS, Looks, Where
from mmgen.lab.traces.tasks import parse, printable
from mmgen.mmtrace import LONGEST_LINE, header, whole_line
from mmgen.mmtrace import parse as parse_event

MAGIC = b"# mmtrace"
SECOND = "# t_ns cpu S prev_tid prev_mm next_tid next_mm | T tick | X tid exit(mm->NULL) | C tid exec new_mm | M tid exit_mmap mm"
COUNTS = ("lost", "bad_lines", "made_up_ticks")
MOST_REMARKS = 1 << 22          # as many threads as a machine may have
EVENTS_A_PIECE = 1 << 15        # that are written between two looks for a signal
_, REMARK, WRONG, BACK = range(4)               # _tsv.pyx


class Remarks:
    """What the lines of # say."""

    def __init__(self, cpus: int) -> None:
        self.cpu_ids, self.tasks, self.notes, self.nr = dict[int, int](), dict[int, Task](), list[str](), 0
        self.cpus = cpus

    def take(self, line: bytes) -> None:
        """One of them. One that says nothing of those things is a remark only. ValueError."""
        fields = line.split(b"\t")
        self.nr += fields[0] in (b"# cpu", b"# task", b"# note")
        if self.nr > MOST_REMARKS:
            raise ValueError(f"the trace is too long: more than {MOST_REMARKS} remarks")
        if fields[0] == b"# task" and len(fields) in (4, 5):
            tid, task = parse(fields[1:])
            self.tasks[tid] = task
        elif fields[0] == b"# note" and len(fields) == 2:
            self.notes.append(fields[1].decode(errors="replace"))
        elif fields[0] == b"# cpu" and len(fields) == 3:
            if not all(field.isdigit() and len(field) < 10 for field in fields[1:]) or int(fields[1]) >= self.cpus:
                raise ValueError(f"{shown(line.decode(errors='replace'))} is no CPU with its number on its machine")
            self.cpu_ids[int(fields[1])] = int(fields[2])


def read_tsv(blocks: Blocks, first: bytes, tasks: dict[int, Task], hz: int | None, looks: Looks, where: Where) -> Trace:
    """The trace whose first bytes are `first`, and `blocks` has the others. ValueError says what is wrong with it."""
    begin = min(first.find(b"\n") + 1 or LONGEST_LINE, LONGEST_LINE)
    name, cpus, own_hz = header(io.BytesIO(first[:begin]))
    counts, extra = head_fields(first[:begin])
    text, remarks = TsvText(cpus, LONGEST_LINE - 1), Remarks(cpus)
    buffer = bytearray(LONGEST_LINE + BLOCK)
    filled = 0
    piece = first[begin:] or blocks.read(BLOCK)
    while piece:
        buffer[filled:filled + len(piece)] = piece
        filled += len(piece)
        used = 0
        while True:
            used = text.feed(buffer, used, filled)
            where.line = text.line
            if not text.stopped:
                break
            end = buffer.index(b"\n", used)
            line = bytes(buffer[used:end + 1])
            whole_line(line[:LONGEST_LINE])
            if text.stopped != REMARK:
                refuse(line, cpus, text)
            remarks.take(line[:-1])
            used = end + 1
        rest = buffer[used:filled]
        if len(rest) >= LONGEST_LINE:
            where.line += 1
            raise ValueError("the line is too long")
        buffer[:len(rest)] = rest
        filled = len(rest)
        if len(text.columns) > MOST_EVENTS:
            raise ValueError(f"the trace is too long: more than {MOST_EVENTS} events")
        looks.look(blocks.share, len(text.columns))
        piece = blocks.read(BLOCK)
    if filled:
        where.line += 1
        whole_line(bytes(buffer[:filled]))
    ids = tuple(remarks.cpu_ids.get(cpu, cpu) for cpu in range(cpus)) if remarks.cpu_ids else ()
    columns: dict[str, Any] = counts | text.columns.arrays()
    return Trace(name=name, cpus=cpus, hz=own_hz if hz is None else hz, cpu_ids=ids, tasks=remarks.tasks | tasks, extra=extra,
                 notes=tuple(remarks.notes), **columns)


def head_fields(line: bytes) -> tuple[dict[str, int], tuple[str, ...]]:
    """What the first line counts, and whatever else it has beside name, cpus and hz."""
    counts, extra = dict[str, int](), []
    for field in line.rstrip(b"\n").split(b"\t")[1:]:
        text = field.decode(errors="replace")
        key, _, value = text.partition("=")
        if key in COUNTS and value.isascii() and value.isdigit() and len(value) < 19:
            counts[key] = int(value)
        elif key not in ("name", "cpus", "hz"):
            extra.append(text)
    return counts, tuple(extra)


def refuse(line: bytes, cpus: int, text: TsvText) -> None:
    """Say what is wrong with a line, in the words of mmgen/mmtrace.py. ValueError, always."""
    event = parse_event(line, cpus)
    if text.stopped == BACK:
        raise ValueError(f"time goes back, from {text.last_ns} to {event.t_ns} ns")
    raise ValueError(f"{max(event.operands)} is beyond {2**31 - 1}")


# ---- writing -------------------------------------------------------------------------------------------------------------------

def write(trace: Trace, path: str | os.PathLike[str], names: bool = False, show: Callable[[float, int], None] = lambda done, so_far: None,
          ) -> None:
    """Write `trace` as a .mmtrace.tsv, gzipped if `path` ends in .gz; read() gives an equal one.

    names: the threads and the notes, too, as remarks at the file's end. The file appears when it is complete: until then, and if
    anything is raised, what `path` was before stays. show: as read() calls it. Raises ValueError for a name or an extra field that does not
    fit into the first line, or a time of 10**18 ns or more; OSError.
    """
    path = Path(path)
    first = first_line(trace)
    if len(trace) and trace.t_ns[-1] >= 10**18:
        raise ValueError(f"the trace lasts {trace.t_ns[-1]} ns: 10**18 or more")
    if path.exists() and not path.is_file():            # a pipe, or /dev/null: there is nothing to keep, and it is not to be replaced
        with open(path, "wb") as out:
            put(out, trace, first, names, path.suffix == ".gz", show)
        return
    path = Path(os.path.realpath(path))                 # what a link names, and not the link
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
    try:
        with open(handle, "wb") as out:
            put(out, trace, first, names, path.suffix == ".gz", show)
            os.fchmod(out.fileno(), mode_of(path))
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def mode_of(path: Path) -> int:
    """The permissions that a new file at `path` has: those of the one that is there, else what anybody's files have."""
    if path.exists():
        return path.stat().st_mode & 0o7777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def first_line(trace: Trace) -> bytes:
    counts = [f"{key}={getattr(trace, key)}" for key in COUNTS if getattr(trace, key)]
    fields = [f"name={trace.name}", f"cpus={trace.cpus}", f"hz={trace.hz}", *trace.extra, *counts]
    for field in fields:
        if not all(c not in "\t\n" for c in field):
            raise ValueError(f"{shown(field)} has a tab or a line's end in it: it does not fit into a line")
    line = "\t".join(["# mmtrace 1", *fields, ""])[:-1].encode(errors="replace") + b"\n"
    if len(line) >= LONGEST_LINE:
        raise ValueError(f"the first line has {len(line)} bytes: {LONGEST_LINE - 1} at most")
    return line


def put(out: IO[bytes], trace: Trace, first: bytes, names: bool, packed: bool, show: Callable[[float, int], None]) -> None:
    """The whole of it, a piece at a time."""
    looks, n = Looks(show), max(len(trace), 1)
    packer = zlib.compressobj(6, zlib.DEFLATED, 31) if packed else None
    columns = [getattr(trace, name) for name in COLUMNS]
    out.write(pack(packer, first + SECOND.encode() + b"\n"))
    for begin in range(0, len(trace), EVENTS_A_PIECE):
        out.write(pack(packer, lines(*(column[begin:begin + EVENTS_A_PIECE] for column in columns))))
        looks.look(begin / n, begin)
    for piece in remarks_of(trace, names):
        out.write(pack(packer, piece.encode(errors="replace")))
    if packer is not None:
        out.write(packer.flush())


def pack(packer: Any, text: bytes) -> bytes:
    """`text` as it goes into the file: through a zlib compressor, if there is one."""
    return text if packer is None else bytes(packer.compress(text))


def remarks_of(trace: Trace, names: bool) -> Iterator[str]:
    """The lines at the end."""
    if trace.cpu_ids != tuple(range(trace.cpus)):
        for cpu, own in enumerate(trace.cpu_ids):
            yield f"# cpu\t{cpu}\t{own}\n"
    if names:
        for tid, task in sorted(trace.tasks.items()):
            yield f"# task\t{tid}\t{task.tgid}\t{'K' if task.kernel else 'U'}\t{printable(task.name)}\n"
        for note in trace.notes:
            yield f"# note\t{printable_note(note)}\n"


def printable_note(note: str) -> str:
    """In one line, no longer than a line may be."""
    return "".join(c if c.isprintable() else "?" for c in note)[:LONGEST_LINE // 4 - 10]
