"""`mmgen convert`: read a recording, write a .mmtrace.tsv, and say what was in it."""
import argparse

from mmgen.lab.traces.columns import Trace
from mmgen.lab.traces.read import read
from mmgen.lab.traces.tsv import write
from mmgen.mmtrace import MOST_LINES
from mmgen.progress import progress


def convert(o: argparse.Namespace) -> int:
    """Convert as `o` says; 0. Raises TraceError, ValueError, OSError. OUT may be IN: it is replaced only once all of it is written."""
    if o.output == "-":
        raise ValueError("-o -: the output must be a file: what was read is told on standard output")
    with progress(lambda events: f"{events:,} events") as show:
        trace = read(o.recording, tasks=o.tasks, hz=o.hz, skew=o.skew, show=lambda done, events: show(0.7 * done, events))
        write(trace, o.output, o.names, show=lambda done, events: show(0.7 + 0.3 * done, events))
    print(text(trace))
    if len(trace) + 2 > MOST_LINES:
        print(f"  note: mmgen run reads no more than {MOST_LINES:,} lines: this has more")
    return 0


def text(trace: Trace) -> str:
    """What a trace has, in a few lines."""
    what = f"{trace.seconds:.3f} s of {counted(trace.cpus, 'CPU')} at {trace.hz} Hz"
    lines = [f"{trace.name}: {what}, {counted(trace.nr_mms, 'mm')}, {counted(len(trace.tasks), 'thread')}",
             "  " + ", ".join(counted(number, kind) for kind, number in trace.counts.items())]
    for number, thing, happened in ((trace.lost, "event", "lost by the recorder"), (trace.bad_lines, "line", "left out"),
                                    (trace.made_up_ticks, "tick", "made up")):
        if number:
            lines.append(f"  {counted(number, thing)} {happened}")
    return "\n".join(in_a_line(line) for line in [*lines, *(f"  note: {note}" for note in trace.notes)])


def in_a_line(text: str) -> str:
    """`text` without what a terminal would obey, whatever a file's name or a trace's has in it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def counted(number: int, thing: str) -> str:
    """So many things, in words."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}{'es' if thing.endswith('ch') else 's'}"
