"""A recording of the kernel's events, as perf script, ftrace or trace-cmd print it, read into a Trace."""
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from mmgen._arguments import shown
from mmgen.lab.traces._kernel import KernelText
from mmgen.lab.traces._threads import Threads
from mmgen.lab.traces._whose import Whose
from mmgen.lab.traces.blocks import BLOCK, Blocks
from mmgen.lab.traces.columns import Column, Kind, Task, Trace
from mmgen.lab.traces.tasks import text_of
from mmgen.lab.traces.ticks import add_ticks, likely_hz

Show = Callable[[float, int], None]
LONGEST = 1 << 16               # bytes of a line: an exec's with the longest path has 5,000
MOST_EVENTS = 1 << 25           # a GB of columns; a few KB can be gzipped to hold any number
MOST_BEFORE = 1 << 24           # bytes before the first event
LOOK_S = 0.05
FORM = "perf script, an ftrace buffer, trace-cmd report or a .mmtrace.tsv"


class Looks:
    """Calls `show` every LOOK_S or so."""

    def __init__(self, show: Show) -> None:
        self.show, self.last = show, time.monotonic()

    def look(self, share: float, events: int) -> None:
        """Call it if it is time."""
        if (now := time.monotonic()) - self.last >= LOOK_S:
            self.last = now
            self.show(share, events)


class Where:
    """In which line a reader is, for what it says."""

    line = 1


def read_kernel(blocks: Blocks, first: bytes, name: str, shown_name: str, tasks: dict[int, Task], listed: bool, hz: int | None,
                skew: bool, looks: Looks, where: Where) -> Trace:
    """The recording whose first bytes are `first`, and `blocks` has the others. ValueError says what is wrong with it."""
    threads = Threads()
    for tid, task in tasks.items():
        threads.add(tid, task.tgid, task.kernel)
    text = scan(blocks, first, threads, looks, where)
    notes = [f"{shown_name}:{line} could not be read: {shown(bad.decode(errors='replace'))}" for line, bad in text.bad_lines()]
    if text.bad > len(notes):
        notes.append(f"{text.bad} lines could not be read: the first {len(notes)} are above")
    columns = text.columns
    columns.sort()
    whose = Whose(columns, threads, not listed)
    whose.tell()
    cpu_ids = whose.number_cpus()
    arrays: dict[str, Any] = columns.arrays()
    if not np.any(arrays["kind"] == Kind.SWITCH):
        raise ValueError("there is no sched_switch in it: record with -e sched:sched_switch")
    notes += remarks(text, whose, listed, len(cpu_ids), arrays)
    trace = Trace(name=name, cpus=len(cpu_ids), hz=250 if hz is None else hz, cpu_ids=cpu_ids, tasks=named(threads, tasks), lost=text.lost,
                  bad_lines=text.bad, **arrays)
    if hz is None:
        found = likely_hz(trace)
        if found is None:
            notes.append("how often it ticks cannot be told from its ticks: 250 a second are assumed")
        trace = trace.replace(hz=found or 250)
    trace = trace.replace(notes=tuple(notes))
    return add_ticks(trace, skew=skew, origin_ns=whose.begin_ns)


def scan(blocks: Blocks, first: bytes, threads: Threads, looks: Looks, where: Where) -> KernelText:
    """All of the file's lines."""
    text = KernelText(threads)
    buffer = bytearray(LONGEST + BLOCK)
    filled = read = 0
    piece = first
    while piece:
        buffer[filled:filled + len(piece)] = piece
        filled += len(piece)
        used = text.feed(buffer, filled)
        where.line = text.line + 1
        rest = buffer[used:filled]
        if len(rest) > LONGEST:
            raise ValueError("the line is too long")
        if used:
            buffer[:len(rest)] = rest
        filled = len(rest)
        if len(text.columns) > MOST_EVENTS:
            raise ValueError(f"the recording is too long: more than {MOST_EVENTS} events")
        read += used
        if text.form == 0 and read > MOST_BEFORE:
            break
        looks.look(blocks.share, len(text.columns))
        piece = blocks.read(BLOCK)
    text.feed(buffer, filled, True)
    where.line = max(text.line, 1)
    if text.form == 0:
        where.line = 1
        raise ValueError(f"not {FORM}: no line is an event with its CPU and its time in seconds")
    return text


def remarks(text: KernelText, whose: Whose, listed: bool, cpus: int, arrays: dict[str, Column]) -> list[str]:
    """What had to be assumed, and what is missing."""
    notes = []
    switches = int(np.count_nonzero(arrays["kind"] == Kind.SWITCH))
    assumed, by_name = whose.counts()
    if whose.assumed_switches:
        notes.append(f"nothing says which process {assumed} threads belong to: each is taken to have an mm of its own "
                     f"({whose.assumed_switches} of {switches} switches)")
    if not listed and (by_name or not text.told):
        notes.append(f"there is no list of tasks: {by_name} threads are taken for kernel threads by their names "
                     f"({whose.named_switches} of {switches} switches), others are children of pid 2")
    if text.lost:
        notes.append(f"the recorder has lost {text.lost} events")
    if text.online > cpus:
        notes.append(f"{text.online - cpus} of {text.online} CPUs have no event")
    if text.unnamed:
        notes.append(f"{text.unnamed} timers have no function's name: if they are ticks, they are missing")
    kinds = np.bincount(arrays["kind"], minlength=len(Kind))
    for missing, event in ((kinds[Kind.EXIT], "sched_process_exit"), (kinds[Kind.EXEC], "sched_process_exec"),
                           (kinds[Kind.TEARDOWN], "exit_mmap"), (text.forks, "sched_process_fork")):
        if not missing:
            notes.append(f"there is no {event} in it")
    return notes


def named(threads: Threads, listed: dict[int, Task]) -> dict[int, Task]:
    """What is known of each thread at the end; a name from the list counts, since it is no shorter."""
    found = {}
    for page in range(threads.nr_pages()):
        for tid, tgid, kernel, name in threads.seen(page):
            if tid:
                own = text_of(name)
                found[tid] = Task(tgid or tid, kernel, own if own or tid not in listed else listed[tid].name)
    return found
