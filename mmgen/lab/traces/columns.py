"""A recorded machine in memory: its events as numpy columns, sorted by time, whatever text they came from."""
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple, Self

import numpy as np
from mmgen._arguments import shown, whole
from mmgen.mmtrace import MOST_CPUS, MOST_HZ

Column = np.ndarray[Any, np.dtype[Any]]


class Kind(IntEnum):
    """What an event is; the letters of a .mmtrace.tsv in their order there."""

    SWITCH, TICK, EXIT, EXEC, TEARDOWN = range(5)


LETTERS = "STXCM"


class Task(NamedTuple):
    """A thread of the recorded machine: its process (tgid), whether it is a kernel thread, its name when it was last seen."""

    tgid: int
    kernel: bool
    name: str


COLUMNS = {"t_ns": np.int64, "cpu": np.int32, "kind": np.uint8, "tid": np.int32, "mm": np.int32, "next_tid": np.int32, "next_mm": np.int32}


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """A recorded machine. Each column has an entry for each event, 29 bytes an event in all; they are sorted by time, and read-only.

    ValueError for columns of different lengths, times that go back, CPUs or kinds out of range; TypeError for what is no array of numbers.
    """

    name: str
    cpus: int
    """1 to 2**20; they are numbered from 0 without gaps, whatever numbers they had"""
    hz: int
    """ticks a second on a CPU that does not idle"""
    t_ns: Column
    """int64: ns from the first event"""
    cpu: Column
    """int32: on which CPU"""
    kind: Column
    """uint8: a Kind"""
    tid: Column
    """int32: SWITCH: who leaves the CPU (0: the idle task); EXIT, EXEC, TEARDOWN: whose event it is; TICK: 0"""
    mm: Column
    """int32: SWITCH: that thread's mm; TEARDOWN: which one; else 0. Mms are numbered from 1 in the order of their first use; 0: none"""
    next_tid: Column
    """int32: SWITCH: who comes; else 0"""
    next_mm: Column
    """int32: SWITCH: that thread's mm; EXEC: the new one; else 0"""
    cpu_ids: tuple[int, ...] = ()
    """the number that each CPU had on its machine; (): the same"""
    tasks: Mapping[int, Task] = field(default_factory=dict)
    """by tid, those of which more is known than the number"""
    extra: tuple[str, ...] = ()
    """what the first line of a .mmtrace.tsv has beside name, cpus and hz, as it stands there"""
    notes: tuple[str, ...] = ()
    """what had to be assumed to read it, and what is missing, a sentence each"""
    lost: int = 0
    """events that the recorder itself says it has lost"""
    bad_lines: int = 0
    """lines that could not be read, and were left out"""
    made_up_ticks: int = 0
    """ticks that were not recorded"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "cpus", whole(self.cpus, "cpus", 1, MOST_CPUS))
        object.__setattr__(self, "hz", whole(self.hz, "hz", 1, MOST_HZ))
        object.__setattr__(self, "cpu_ids", tuple(self.cpu_ids) or tuple(range(self.cpus)))
        if len(self.cpu_ids) != self.cpus:
            raise ValueError(f"cpu_ids has {len(self.cpu_ids)} CPUs: cpus={self.cpus}")
        for name, dtype in COLUMNS.items():
            object.__setattr__(self, name, column(getattr(self, name), name, dtype))
            if len(getattr(self, name)) != len(self.t_ns):
                raise ValueError(f"{name} has {len(getattr(self, name))} events: t_ns has {len(self.t_ns)}")
        if len(self) == 0:
            return
        if (back := np.flatnonzero(np.diff(self.t_ns) < 0)).size or self.t_ns[0] < 0:
            at = int(back[0]) + 1 if back.size else 0
            raise ValueError(f"t_ns[{at}]={self.t_ns[at]} is before {self.t_ns[at - 1] if at else 0}")
        for name, most in (("cpu", self.cpus - 1), ("kind", max(Kind)), ("tid", 2**31 - 1), ("mm", 2**31 - 1), ("next_tid", 2**31 - 1),
                           ("next_mm", 2**31 - 1)):
            values = getattr(self, name)
            if (bad := np.flatnonzero((values < 0) | (values > most))).size:
                raise ValueError(f"{name}[{bad[0]}]={values[bad[0]]} is out of range: 0 to {most}")

    def __len__(self) -> int:
        return len(self.t_ns)

    @property
    def seconds(self) -> float:
        """From the first event to the last."""
        return float(self.t_ns[-1]) / 1e9 if len(self) else 0.0

    @property
    def nr_mms(self) -> int:
        """The highest number of an mm."""
        return int(max(self.mm.max(), self.next_mm.max())) if len(self) else 0

    @property
    def counts(self) -> dict[str, int]:
        """How many events there are of each kind, by its name in lower case."""
        numbers = np.bincount(self.kind, minlength=len(Kind))
        return {kind.name.lower(): int(numbers[kind]) for kind in Kind}

    def on_cpu(self, cpu: int) -> Column:
        """The indices of the events on `cpu`. IndexError if there is no such CPU."""
        if not 0 <= cpu < self.cpus:
            raise IndexError(f"CPU {shown(cpu)} is out of range: the trace has {self.cpus} (0 to {self.cpus - 1})")
        return np.flatnonzero(self.cpu == cpu)

    def task_name(self, tid: int) -> str:
        """What the thread is called, with its number; the idle task by that name."""
        if tid == 0:
            return "idle"
        return f"{self.tasks[tid].name}-{tid}" if tid in self.tasks and self.tasks[tid].name else f"thread {tid}"

    def replace(self, **fields: Any) -> Self:
        """Another, with other fields."""
        return dataclasses.replace(self, **fields)


def column(values: Any, name: str, dtype: type) -> Column:
    """`values` as a read-only array of `dtype`, without a copy if it is one. TypeError unless they are whole numbers."""
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise TypeError(f"{name} is no array of whole numbers of one dimension: {array.dtype} of shape {array.shape}")
    if array.dtype != dtype:
        limits = np.iinfo(dtype)
        if array.size and (array.min() < limits.min or array.max() > limits.max):
            raise ValueError(f"{name} has numbers beyond {limits.dtype}: {array.min()} to {array.max()}")
        array = array.astype(dtype)
    array = array.view()
    array.flags.writeable = False
    return np.ascontiguousarray(array)
