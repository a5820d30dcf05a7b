"""Read a recorded machine, whatever printed it: what a file is, is told by what is in it, and not by its name."""
import os
from pathlib import PurePath

from mmgen._arguments import whole
from mmgen.lab.traces.blocks import BLOCK, Blocks
from mmgen.lab.traces.columns import Trace
from mmgen.lab.traces.kernel import FORM, Looks, Show, Where, read_kernel
from mmgen.lab.traces.tasks import Tasks, known, printable
from mmgen.lab.traces.tsv import MAGIC, read_tsv
from mmgen.mmtrace import LONGEST_LINE, MOST_HZ, TraceError

# What else a file may begin with, and what to do about it.
OTHERS = ((b"PERFILE2", "a perf.data file: print it with perf script --ns -F comm,pid,tid,cpu,time,event,trace -i FILE"),
          (b"\x17\x08Dtracing", "a trace-cmd file: print it with trace-cmd report -i FILE"),
          (b"\x28\xb5\x2f\xfd", "compressed by zstd: unpack it first"), (b"\xfd7zXZ\0", "compressed by xz: unpack it first"),
          (b"BZh", "compressed by bzip2: unpack it first"))


def read(path: str | os.PathLike[str], *, tasks: Tasks = None, hz: int | None = None, skew: bool = False,
         show: Show = lambda done, so_far: None) -> Trace:
    """Read a recording: what perf script, ftrace (its trace and trace_pipe) or trace-cmd report printed, or a .mmtrace.tsv; any gzipped.

    tasks: the machine's threads, by tid, or the name of a file that lists them. A thread's process, and whether it is a kernel
    thread, is taken from there where the recording does not say. hz: ticks a second; by default what the ticks themselves say.
    skew: of ticks that are made up, as in ticks.add_ticks().
    show: called every 0.05 s with the share of the file that is read, 0.0 to 1.0, and the number of events so far.

    What had to be assumed, and what is missing, is said in the trace's `notes`; where a recording has no ticks they are made up
    (ticks.add_ticks()). A .mmtrace.tsv is taken as it is. Raises TraceError, whose message begins with file and line, for a file that
    is damaged, that is none of these, or that has no sched_switch; OSError for one that cannot be read; TypeError or ValueError for the
    arguments. The work is done without the GIL; Ctrl-C ends it within some ms.
    """
    name = os.fspath(path)                              # not a number: open() would read, and close, whatever file that is
    if hz is not None:
        hz = whole(hz, "hz", 1, MOST_HZ)
    threads = known(tasks)
    shown_name, where, looks = os.fsdecode(name), Where(), Looks(show)
    try:
        with Blocks(name) as blocks:
            first = beginning(blocks)
            if first.startswith(MAGIC):
                return read_tsv(blocks, first, threads, hz, looks, where)
            for magic, what in OTHERS:
                if first.startswith(magic):
                    raise ValueError(what)
            if not first:
                raise ValueError("the file is empty")
            if b"\0" in first:
                raise ValueError(f"a binary file, not {FORM}")
            return read_kernel(blocks, first, stem(shown_name), shown_name, threads, tasks is not None, hz, skew, looks, where)
    except ValueError as error:
        raise TraceError(f"{shown_name}:{where.line}: {error}") from error


def beginning(blocks: Blocks) -> bytes:
    """Enough of the file to tell what it is, and how a .mmtrace.tsv begins: a pipe may give a few bytes at a time."""
    first = blocks.read(BLOCK)
    while 0 < len(first) < LONGEST_LINE and b"\n" not in first and (more := blocks.read(BLOCK - len(first))):
        first += more
    return first


def stem(path: str) -> str:
    """What a recording is called: the file's name up to its first dot."""
    return printable(PurePath(path).name.split(".")[0]) or "unnamed"


