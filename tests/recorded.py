"""Recorded machines to replay: made by hand, drawn, and those in tests/data."""
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from mmgen.lab.traces import Kind, Trace, read

DATA = Path(__file__).parent / "data"
MACHINES = ["configure", "mixed", "idle"]
COLUMNS = ("t_ns", "cpu", "kind", "tid", "mm", "next_tid", "next_mm")


def trace_of(events, cpus=2, **fields):
    """A Trace of (t_ns, cpu, kind, tid, mm, next_tid, next_mm)."""
    columns = np.array(events, np.int64).reshape(-1, 7).T
    return Trace(**{"name": "made", "cpus": cpus, "hz": 250} | dict(zip(COLUMNS, columns, strict=True)) | fields)


def recorded(name):
    """One of MACHINES."""
    return read(DATA / f"{name}.mmtrace.tsv.gz")


@st.composite
def machines(draw, most_cpus=3, most=40, exits=False, unit=1):
    """A recording without gaps: each CPU's tasks, idle spells and ticks, at moments of their own. exits: tasks exit and exec, too, and
    tear their mms down, before or after they give them up. unit: ns that all times are multiples of."""
    cpus = draw(st.integers(1, most_cpus))
    running, events = [None] * cpus, []
    t = 0

    def event(*what):
        nonlocal t
        t += draw(st.integers(1, 5)) * unit
        events.append((t, cpu, *what))

    for number in range(draw(st.integers(1, most))):
        cpu = draw(st.integers(0, cpus - 1))
        what = draw(st.sampled_from("UUKIITTT" + "XXCC" * exits)) if running[cpu] else draw(st.sampled_from("UKI"))
        tid, mm = running[cpu] or (1000 + cpu, 1 + cpu)
        if what == "T":
            event(Kind.TICK, 0, 0, 0, 0)
        elif what in "XC" and mm == 0:
            continue
        elif what == "X":
            both = [(Kind.EXIT, tid, 0, 0, 0), (Kind.TEARDOWN, tid, mm, 0, 0)]
            for one in draw(st.permutations(both)):
                event(*one)
            running[cpu] = tid, 0
        elif what == "C":
            event(Kind.TEARDOWN, tid, mm, 0, 0)
            running[cpu] = tid, 100 + number
            event(Kind.EXEC, tid, 0, 0, 100 + number)
        else:
            # A thread of this CPU's own: nobody else is ever said to run it.
            running[cpu] = {"U": (2000 + 10 * number + cpu, 10 + number), "K": (5000 + 10 * number + cpu, 0), "I": (0, 0)}[what]
            event(Kind.SWITCH, tid, mm, *running[cpu])
    # A tick period so long that no gap tells of idleness.
    return trace_of(events or [(1, 0, Kind.TICK, 0, 0, 0, 0)], cpus, hz=1)
