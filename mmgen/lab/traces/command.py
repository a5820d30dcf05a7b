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
    kinds = ", ".join(f"{number:,} {kind if number == 1 else plural(kind)}" for kind, number in trace.counts.items())
    what = f"{trace.seconds:.3f} s of {trace.cpus} CPUs at {trace.hz} Hz, {trace.nr_mms:,} mms, {len(trace.tasks):,} threads"
    lines = [f"{trace.name}: {what}", f"  {kinds}"]
    for number, what in ((trace.lost, "lost by the recorder"), (trace.bad_lines, "lines left out"), (trace.made_up_ticks, "ticks made up")):
        if number:
            lines.append(f"  {number:,} {what}")
    return "\n".join([*lines, *(f"  note: {note}" for note in trace.notes)])


def plural(word: str) -> str:
    """switches, ticks, exits, execs, teardowns."""
    return word + ("es" if word.endswith("ch") else "s")
