"""What the CPUs of a recorded machine did, step by step: a recording, mended where it contradicts itself."""
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any

import numpy as np
from mmgen._arguments import shown
from mmgen.lab.replay._steps import Mender
from mmgen.lab.replay.aside import aside
from mmgen.lab.traces.columns import Kind, Trace

Array = np.ndarray[Any, np.dtype[Any]]

# One step: 24 bytes, as _step.pxd has it.
STEP = np.dtype([("t_ns", "<i8"), ("cpu", "<u4"), ("tid", "<i4"), ("mm", "<i4"), ("what", "u1"), ("made_up", "u1"), ("pad", "<u2")])
# Higher numbers of threads, and of mms where they are more than twice the events as well, are replaced: there is memory for each number.
MOST_TIDS = 1 << 24                 # the kernel's own limit is 2**22
FEW_MMS = 1 << 16


class What(IntEnum):
    """What a step is: a switch to a task with an mm, to one without, to the idle task; a tick; the CPU's task gives up its mm; it gets
    another; an mm is torn down."""

    USER, KTHREAD, IDLE, TICK, EXIT, EXEC, TEARDOWN = range(7)


@dataclass(frozen=True, eq=False)
class Steps:
    """What each CPU did when, and what had to be made up for that. TypeError, ValueError for what steps_of() would not have made."""

    trace: Trace
    steps: Array
    """of dtype STEP, by time: t_ns; cpu; tid, the thread that comes, or whose step it is; mm, the CPU's task's own from here on, or which
    is torn down; what, a What; made_up, whether it was not recorded. Mms have the trace's numbers, or, where it has some beyond FEW_MMS
    and twice its events, those of their order"""
    first: Array
    """of dtype STEP, one for each CPU: what it runs at the beginning"""
    nr_mms: int
    """one more than the highest number of an mm"""
    made_up: int
    """steps that were not recorded: a switch that must have happened, since another thread runs"""
    contradictions: int
    """how often an mm was used, or torn down, that was torn down before; or was the idle task's, or an exec gave none"""

    def __post_init__(self) -> None:
        # What runs over them looks at no bound.
        for name, steps, most in ("steps", self.steps, What.TEARDOWN), ("first", self.first, What.IDLE):
            if not isinstance(steps, np.ndarray) or steps.dtype != STEP or steps.ndim != 1 or not steps.flags.c_contiguous:
                raise TypeError(f"{name}={shown(steps)} is no array of STEP in one piece")
            for column, limit in ("what", most), ("cpu", self.trace.cpus - 1), ("mm", self.nr_mms - 1):
                if len(steps) and not 0 <= int(steps[column].min()) <= int(steps[column].max()) <= limit:
                    raise ValueError(f"{name} has a {column} that is out of range: 0 to {limit}")
            steps.flags.writeable = False
        if not np.array_equal(self.first["cpu"], np.arange(self.trace.cpus)):
            raise ValueError(f"first has not one step for each of {self.trace.cpus} CPUs")
        times = self.steps["t_ns"]
        if len(times) and not (times[0] >= 0 and times[-1] <= self.trace.t_ns[-1] and (times[1:] >= times[:-1]).all()):
            raise ValueError(f"steps are not in order of time, from 0 to {self.trace.t_ns[-1]} ns")

    def __len__(self) -> int:
        return len(self.steps)

    @cached_property
    def by_cpu(self) -> tuple[Array, Array]:
        """The indices of the switches, CPU by CPU, and where those of each CPU begin."""
        def sort() -> tuple[Array, Array]:
            switches = np.flatnonzero(self.steps["what"] < What.TICK)
            switches = switches[np.argsort(self.steps["cpu"][switches], kind="stable")]
            return switches, np.searchsorted(self.steps["cpu"][switches], np.arange(self.trace.cpus + 1))
        return aside(sort)

    def switches_of(self, cpu: int) -> tuple[Array, Array]:
        """(since when, ns; the switch's index in `steps`) of each thing that `cpu` ran; first, since -2**63: -1, for what `first` says."""
        switches, bounds = self.by_cpu
        mine = switches[bounds[cpu]:bounds[cpu + 1]]
        return np.concatenate(([np.iinfo(np.int64).min], self.steps["t_ns"][mine])), np.concatenate(([-1], mine))


def steps_of(trace: Trace) -> Steps:
    """The steps of `trace`. TypeError for what is no Trace; ValueError for one that has no event. Ctrl-C: within 50 ms."""
    if not isinstance(trace, Trace):
        raise TypeError(f"trace={shown(trace)} is of type {type(trace).__name__}, not a Trace: mmgen.lab.traces.read() reads one")
    if not len(trace):
        raise ValueError(f"the trace {trace.name} has no events")
    events, tids = aside(lambda: dense(trace))
    execs, exec_mms = aside(lambda: execs_of(events))
    # What is never written to takes no memory.
    made, early, first = (np.empty(n, STEP) for n in (4 * len(events) + 1, len(events) + events.cpus, events.cpus))
    nr_tids = len(tids) if tids is not None else 1 + int(max(events.tid.max(), events.next_tid.max()))
    mender = Mender((events.t_ns, events.cpu, events.kind, events.tid, events.mm, events.next_tid, events.next_mm), execs, exec_mms,
                    made.view(np.uint8), first.view(np.uint8), early.view(np.uint8), events.cpus, nr_tids, 1 + events.nr_mms,
                    events.counts["teardown"], 10**9 // events.hz if events.counts["tick"] else 0)
    while not mender.go_on():
        pass

    def finish() -> Steps:
        both = merged(made[:mender.nr], early[:mender.nr_early])
        if tids is not None:
            for part in first, both:
                part["tid"] = tids[part["tid"]]
        return Steps(trace, both, first, mender.nr_mms, mender.made_up, mender.contradictions)

    return aside(finish)


def merged(steps: Array, early: Array) -> Array:
    """Both, sorted by time: `steps` is, and at one time comes first."""
    early = early[np.argsort(early["t_ns"], kind="stable")]
    return np.insert(steps, np.searchsorted(steps["t_ns"], early["t_ns"], side="right"), early) if len(early) else steps


def dense(trace: Trace) -> tuple[Trace, Array | None]:
    """`trace` with numbers of threads and mms that are no larger than they need be, and what each thread's was; None: as it is."""
    tids, changed = None, {}
    if max(trace.tid.max(), trace.next_tid.max()) >= MOST_TIDS:
        tids, changed["tid"], changed["next_tid"] = ranked(trace.tid, trace.next_tid)
    if trace.nr_mms > max(2 * len(trace), FEW_MMS):
        _, changed["mm"], changed["next_mm"] = ranked(trace.mm, trace.next_mm)
    return trace.replace(**changed) if changed else trace, tids


def ranked(one: Array, other: Array) -> tuple[Array, Array, Array]:
    """The numbers in both, and 0, in order; and both with each number's place there."""
    numbers, where = np.unique(np.concatenate((np.zeros(1, np.int32), one, other)), return_inverse=True)
    where = where.astype(np.int32)
    return numbers, where[1:1 + len(one)], where[1 + len(one):]


def execs_of(trace: Trace) -> tuple[Array, Array]:
    """The teardowns that are a part of an exec, by their indices, and the mm that each exec gives.

    An exec tears the old mm down before its own event; so does an exit on some kernels (before 6.16 sched_process_exit came after exit_mm).
    What comes next of the same thread tells which of them it is.
    """
    rare = np.flatnonzero(trace.kind >= Kind.EXIT)
    rare = rare[np.argsort(trace.tid[rare], kind="stable")]
    tid, kind = trace.tid[rare], trace.kind[rare]
    same = np.zeros(len(rare), bool)
    same[:-1] = (kind[:-1] == Kind.TEARDOWN) & (kind[1:] == Kind.EXEC) & (tid[:-1] == tid[1:])
    after = np.flatnonzero(same) + 1
    where, mms = rare[same], trace.next_mm[rare[after]]
    order = np.argsort(where)
    return where[order], mms[order].astype(np.int32)
