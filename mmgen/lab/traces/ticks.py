"""Ticks: how many a second a recording has, and those that it should have had."""
from typing import Any

import numpy as np
from mmgen._arguments import whole
from mmgen.lab.traces._columns import sorting
from mmgen.lab.traces.columns import COLUMNS, Column, Kind, Trace
from mmgen.mmtrace import MOST_HZ

USUAL_HZ = (100, 250, 300, 1000)        # what a Linux may be configured to
NEAR = 0.03                             # a tick is late now and then, and its handler takes a time
MOST_EVENTS = 1 << 25


def likely_hz(trace: Trace) -> int | None:
    """What the distances between a CPU's ticks say: that of USUAL_HZ to which most of them fit. None if none fits any.

    A CPU that idles leaves ticks out, so that a distance may be any number of periods; the commonest is one.
    """
    fits = dict.fromkeys(USUAL_HZ, 0)
    ticks = np.flatnonzero(trace.kind == Kind.TICK)
    by_cpu = ticks[np.argsort(trace.cpu[ticks], kind="stable")]
    distances = np.diff(trace.t_ns[by_cpu])[np.diff(trace.cpu[by_cpu]) == 0]
    for hz in USUAL_HZ:
        fits[hz] = int(np.count_nonzero(np.abs(distances * hz / 1e9 - 1) < NEAR))
    best = max(USUAL_HZ, key=lambda hz: fits[hz])
    return best if fits[best] else None


def add_ticks(trace: Trace, *, hz: int | None = None, skew: bool = False, origin_ns: int = 0) -> Trace:
    """The trace, and on each CPU that has no tick those that it would have had: `hz` a second (the trace's own by default), none while it
    idles, and the first after that at the next multiple of the period, as Linux has it.

    skew: each CPU has its own phase, half a period over all of them (skew_tick=1); by default all tick at once. origin_ns: the
    trace's beginning, by the clock whose multiples of a period the ticks are at. The trace itself, if every CPU has ticks or none would
    have had one; otherwise a note and `made_up_ticks` say what was done. ValueError for an hz out of range, or if there would be too many.
    """
    hz = trace.hz if hz is None else whole(hz, "hz", 1, MOST_HZ)
    period = 1_000_000_000 // hz
    without = np.flatnonzero(np.bincount(trace.cpu[trace.kind == Kind.TICK], minlength=trace.cpus) == 0)
    made = {int(cpu): on_cpu(trace, int(cpu), period, (period // 2 // trace.cpus * int(cpu) if skew else 0) - origin_ns)
            for cpu in without} if len(trace) else {}
    number = sum(len(ticks) for ticks in made.values())
    if number == 0:
        return trace
    t_ns = np.concatenate([trace.t_ns, *made.values()])
    by = sorting(t_ns)
    cpus = np.repeat(np.fromiter(made, np.int32), [len(ticks) for ticks in made.values()])
    columns: dict[str, Any] = {"t_ns": t_ns[by], "cpu": np.concatenate([trace.cpu, cpus])[by]}
    for name, dtype in COLUMNS.items():
        if name not in columns:
            rest = np.full(number, Kind.TICK if name == "kind" else 0, dtype)
            columns[name] = np.concatenate([getattr(trace, name), rest])[by]
    which = "there are no ticks in it" if len(without) == trace.cpus else f"{len(without)} of {trace.cpus} CPUs have no ticks"
    note = f"{which}: {number} were made up, {hz} a second on a CPU that does not idle, {'skewed' if skew else 'on all at the same time'}"
    return trace.replace(hz=hz, notes=(*trace.notes, note), made_up_ticks=trace.made_up_ticks + number, **columns)


def on_cpu(trace: Trace, cpu: int, period: int, phase: int) -> Column:
    """When that CPU would have ticked: at `phase` and all multiples of the period from there, while it did not idle."""
    events = trace.on_cpu(cpu)
    if not len(events):
        return np.empty(0, np.int64)                    # nothing ran there: it idled
    t_ns, switch = trace.t_ns[events], trace.kind[events] == Kind.SWITCH
    # It runs from an event on unless that is a switch to the idle task; before its first, unless that is a switch from it.
    idle = np.concatenate([[switch[0] and trace.tid[events[0]] == 0], switch & (trace.next_tid[events] == 0)])
    begins = np.concatenate([[0], t_ns])
    ends = np.concatenate([t_ns, [trace.t_ns[-1] + 1]])
    first = -((phase - begins) // period)               # of the multiples, the first at or after the interval's beginning
    number = np.where(idle, 0, -((phase - ends) // period) - first)
    total = int(number.sum())
    if total > MOST_EVENTS:
        raise ValueError(f"CPU {cpu} would have had {total} ticks in {trace.seconds:.9g} s: more than {MOST_EVENTS}")
    within = np.arange(total) - np.repeat(np.cumsum(number) - number, number)
    ticks: Column = (np.repeat(first, number) + within) * period + phase
    return ticks
