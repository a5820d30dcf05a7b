"""Which threads a recorded machine had: lists of them, as files and as read() takes them."""
import os
from collections.abc import Iterator, Mapping

from mmgen._arguments import shown, whole
from mmgen.lab.traces.blocks import BLOCK, Blocks
from mmgen.lab.traces.columns import Task
from mmgen.mmtrace import LONGEST_LINE, TraceError

MOST_TID = 1 << 22              # the kernel's own limit (PID_MAX_LIMIT)
LONGEST_NAME = 64               # bytes; a worker's in /proc is longer than the 15 that others have

Tasks = str | os.PathLike[str] | Mapping[int, Task] | None


def known(tasks: Tasks) -> dict[int, Task]:
    """`tasks`, a file's name or what columns.Trace.tasks has, as the latter. TraceError, TypeError, ValueError, OSError."""
    if tasks is None:
        return {}
    if not isinstance(tasks, Mapping):
        return read_tasks(tasks)
    found = {}
    for tid, task in tasks.items():
        if not isinstance(task, tuple) or len(task) != len(Task._fields) or not isinstance(task[2], str):
            raise TypeError(f"tasks[{shown(tid)}]={shown(task)} is no Task")
        found[whole(tid, "tid", 0, MOST_TID)] = Task(whole(task[0], "tgid", 0, MOST_TID), bool(task[1]), printable(task[2]))
    return found


def read_tasks(path: str | os.PathLike[str]) -> dict[int, Task]:
    """The list of threads in a file, plain or gzipped: lines of `tid tgid K|U` and perhaps a name, with tabs between; # begins a remark.

    TraceError for a line that is none, OSError for a file that cannot be read.
    """
    found, line_nr = dict[int, Task](), 0
    name = os.fspath(path)
    try:
        with Blocks(name) as blocks:
            for line in lines(blocks):
                line_nr += 1
                if line and line[:1] != b"#":
                    tid, task = parse(line.split(b"\t"))
                    found[tid] = task
    except ValueError as error:
        raise TraceError(f"{os.fsdecode(name)}:{line_nr or 1}: {error}") from error
    return found


def lines(blocks: Blocks) -> Iterator[bytes]:
    """The lines of a file, without their ends. ValueError for one that is too long."""
    rest = b""
    while piece := blocks.read(BLOCK):
        *whole_lines, rest = (rest + piece).split(b"\n")
        for line in whole_lines:
            check(line)
            yield line
        check(rest)
    if rest:
        yield rest


def check(line: bytes) -> None:
    if len(line) >= LONGEST_LINE:
        raise ValueError("the line is too long")


def parse(fields: list[bytes]) -> tuple[int, Task]:
    """`tid tgid K|U`, and perhaps a name, as bytes. ValueError."""
    if len(fields) not in (3, 4) or fields[2] not in (b"K", b"U"):
        raise ValueError(f"{shown(b' '.join(fields).decode(errors='replace'))} is no 'tid tgid K' or 'tid tgid U' with tabs between")
    for text in fields[:2]:
        if not text.isdigit() or len(text) > 7 or int(text) > MOST_TID:
            raise ValueError(f"{text.decode(errors='replace')!r} is not a whole number from 0 to {MOST_TID}")
    return int(fields[0]), Task(int(fields[1]), fields[2] == b"K", text_of(fields[3]) if len(fields) == 4 else "")


def text_of(name: bytes) -> str:
    """A thread's name, whatever bytes it has."""
    return printable(name.decode(errors="replace"))


def printable(name: str) -> str:
    """`name` in one line, without what a terminal or a field of a file would take for something else, and no longer than names are."""
    return "".join(c if c.isprintable() else "?" for c in name[:LONGEST_NAME])
