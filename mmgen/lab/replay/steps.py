"""What the CPUs of a recorded machine did, step by step: a recording, mended where it contradicts itself."""
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any

import numpy as np
from mmgen._arguments import shown
from mmgen.lab.replay._steps import Mender
from mmgen.lab.traces.columns import Kind, Trace

Array = np.ndarray[Any, np.dtype[Any]]

# One step: 24 bytes, as _step.pxd has it.
STEP = np.dtype([("t_ns", "<i8"), ("cpu", "<u4"), ("tid", "<i4"), ("mm", "<i4"), ("what", "u1"), ("made_up", "u1"), ("pad", "<u2")])
EVENTS_A_SLICE = 1 << 19            # between two looks at signals: some 10 ms


class What(IntEnum):
    """What a step is: a switch to a task with an mm, to one without, to the idle task; a tick; the CPU's task gives up its mm; it gets
    another; an mm is torn down."""

    USER, KTHREAD, IDLE, TICK, EXIT, EXEC, TEARDOWN = range(7)


@dataclass(frozen=True, eq=False)
class Steps:
    """What each CPU did when, and what had to be made up for that."""

    trace: Trace
    steps: Array
    """of dtype STEP, by time: t_ns; cpu; tid, the thread that comes, or whose step it is; mm, the CPU's task's own from here on, or which
    is torn down; what, a What; made_up, whether it was not recorded"""
    first: Array
    """of dtype STEP, one for each CPU: what it runs at the beginning"""
    nr_mms: int
    """one more than the highest number of an mm"""
    made_up: int
    """steps that were not recorded: a switch that must have happened, since another thread runs"""
    contradictions: int
    """how often an mm was used, or torn down, that was torn down before"""

    def __len__(self) -> int:
        return len(self.steps)

    @cached_property
    def by_cpu(self) -> tuple[Array, Array]:
        """The indices of the switches, CPU by CPU, and where those of each CPU begin."""
        switches = np.flatnonzero(self.steps["what"] < What.TICK)
        switches = switches[np.argsort(self.steps["cpu"][switches], kind="stable")]
        return switches, np.searchsorted(self.steps["cpu"][switches], np.arange(self.trace.cpus + 1))

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
    tid, next_tid, names = trace.tid, trace.next_tid, None
    if (nr_tids := 1 + int(max(tid.max(), next_tid.max()))) > 1 << 24:
        # The kernel's own limit is 2**22. The numbers in their order, 0 being 0, are as good as they are.
        names, dense = np.unique(np.concatenate((np.zeros(1, np.int32), tid, next_tid)), return_inverse=True)
        tid, next_tid = (part.astype(np.int32) for part in np.split(dense[1:], 2))
        nr_tids = len(names)
    execs, exec_mms = execs_of(trace)
    counts = trace.counts
    # What is never written to takes no memory.
    made, early, first = (np.empty(n, STEP) for n in (4 * len(trace) + 1, len(trace) + 1, trace.cpus))
    mender = Mender((trace.t_ns, trace.cpu, trace.kind, tid, trace.mm, next_tid, trace.next_mm), execs, exec_mms, made.view(np.uint8),
                    first.view(np.uint8), early.view(np.uint8), trace.cpus, nr_tids, 1 + trace.nr_mms, counts["teardown"],
                    10**9 // trace.hz if counts["tick"] else 0)
    while not mender.go_on(EVENTS_A_SLICE):
        pass
    made = merged(made[:mender.nr], early[:mender.nr_early])
    if names is not None:
        for part in first, made:
            part["tid"] = names[part["tid"]]
    return Steps(trace, made, first, mender.nr_mms, mender.made_up, mender.contradictions)


def merged(steps: Array, early: Array) -> Array:
    """Both, sorted by time: `steps` is, and at one time comes first."""
    if not len(early):
        return steps
    early = early[np.argsort(early["t_ns"], kind="stable")]
    where = np.searchsorted(steps["t_ns"], early["t_ns"], side="right")
    both = np.empty(len(steps) + len(early), STEP)
    for begin in range(0, len(steps) + 1, EVENTS_A_SLICE):
        end = min(begin + EVENTS_A_SLICE, len(steps) + 1)
        first, last = np.searchsorted(where, (begin, end))
        both[begin + first:min(end, len(steps)) + last] = np.insert(steps[begin:end], where[first:last] - begin, early[first:last])
    return both


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
