"""How long waits take on a recorded machine: one that begins at any moment, alone; and whose CPU holds it up, doing what."""
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from mmgen._arguments import real, shown, whole
from mmgen.lab.policies import IDLE_RULES, one_of
from mmgen.lab.replay._waits import LookBack
from mmgen.lab.replay.aside import aside
from mmgen.lab.replay.steps import Steps, What

Array = np.ndarray[Any, np.dtype[Any]]

# As _waits.pyx has it.
SPELL = np.dtype([("begin_ns", "<i8"), ("end_ns", "<i8"), ("first_ns", "<i8"), ("over_ns", "<i8"), ("first_cpu", "<i4"),
                  ("last_cpu", "<i4"), ("kicked", "<i4"), ("pad", "<i4")])
NOW, NEVER = -1, np.iinfo(np.int64).max
PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0}


@dataclass(frozen=True, eq=False)
class Waits:
    """Waits that begin at any moment of a recording, each as if it were the only one: what it would take under one idle rule."""

    steps: Steps
    idle: str
    """the idle rule: "hang", "drop" or "kick", as Generation has it"""
    spells: Array
    """of dtype SPELL, in order of time: waits that begin from begin_ns to end_ns are over at over_ns, NOW: at once, NEVER: not before the
    recording ends; the first of the two generations that they take opens at first_ns. first_cpu, last_cpu: who opens them, or would have
    to (-1: nobody need); kicked: 1, 2 or 3: the first, the second or both opened since the CPUs that owed were interrupted"""

    @cached_property
    def ns(self) -> int:
        """How many ns of moments there are."""
        return int((self.spells["end_ns"] - self.spells["begin_ns"]).sum())

    def share(self, which: Array) -> float:
        """How many of all moments are in those of the spells."""
        return float((self.spells["end_ns"] - self.spells["begin_ns"])[which].sum() / self.ns) if self.ns else 0.0

    @property
    def at_once(self) -> float:
        """The share of the moments at which a wait takes no time."""
        return self.share(self.spells["over_ns"] == NOW)

    @property
    def unfinished(self) -> float:
        """The share of the moments from which a wait lasts beyond the end of the recording."""
        return self.share(self.spells["over_ns"] == NEVER)

    @property
    def kicked(self) -> float:
        """The share of the moments from which a wait needs a kick."""
        return self.share(self.spells["kicked"] != 0)

    @cached_property
    def distribution(self) -> tuple[Array, Array]:
        """(ns, how many ns of moments have waits that take no longer), both float64, both ascending; from piece to piece it is linear.

        Each spell's waits take from over - end to over - begin, evenly: the sum of these is exact. Unfinished ones are in no piece.
        """
        return aside(self._distribution)

    def _distribution(self) -> tuple[Array, Array]:
        over = self.spells[(self.spells["over_ns"] != NOW) & (self.spells["over_ns"] != NEVER)]
        least = np.maximum(over["over_ns"] - over["end_ns"], 0)
        most = np.maximum(over["over_ns"] - over["begin_ns"], 0)
        edges = np.concatenate((least, most))
        slopes = np.concatenate((np.ones(len(over)), -np.ones(len(over))))
        order = np.argsort(edges, kind="stable")
        edges, slopes = edges[order].astype(np.float64), np.cumsum(slopes[order])
        heights = np.concatenate(([0.0], np.cumsum(np.diff(edges) * slopes[:-1]))) if len(edges) else np.zeros(0)
        return np.concatenate(([0.0], edges)), np.concatenate(([0.0], heights)) + self.at_once * self.ns

    @cached_property
    def held_up(self) -> "list[Holdout]":
        """Who held up the waiting time, CPU by CPU and task by task, the most first."""
        return aside(lambda: held_up(self))

    def percentile_ns(self, percent: float) -> float | None:
        """How long a wait takes that is longer than those from `percent` % of all moments; None: it is not over when the recording ends.

        ValueError unless percent is from 0 to 100.
        """
        wanted = real(percent, "percent") / 100
        if not 0 <= wanted <= 1:
            raise ValueError(f"percent={shown(percent)} is out of range: 0 to 100")
        ns, below = self.distribution
        if not self.ns or wanted > 1 - self.unfinished + 1e-12 or self.unfinished == 1:
            return None
        if wanted <= self.at_once and self.at_once:
            return 0.0
        at = min(int(np.searchsorted(below, wanted * self.ns, side="left" if wanted else "right")), len(below) - 1)
        rise = below[at] - below[at - 1]
        return float(ns[at - 1] + (ns[at] - ns[at - 1]) * min((wanted * self.ns - below[at - 1]) / rise, 1.0)) if rise else float(ns[at])

    @property
    def longest_ns(self) -> int | None:
        """How long the longest wait takes that is over before the recording ends; None: there is none."""
        over = self.spells[self.spells["over_ns"] != NEVER]
        return int(np.where(over["over_ns"] == NOW, 0, over["over_ns"] - over["begin_ns"]).max()) if len(over) else None

    def latency_ns(self, times_ns: Sequence[int] | Array) -> Array:
        """How long a wait takes that begins at each of `times_ns`: float64, inf where it is not over when the recording ends.

        ValueError for a time that is not in the recording, TypeError for what is none.
        """
        times = np.asarray(times_ns)
        if times.size and times.dtype.kind not in "iu":
            raise TypeError(f"times_ns={shown(times_ns)} are not whole numbers of ns")
        if times.size and (not self.ns or times.min() < 0 or times.max() > self.spells["end_ns"][-1]):
            raise ValueError(f"times_ns={shown(times_ns)} are not all in the recording")
        return aside(lambda: self._latency_ns(times.astype(np.int64)))

    def _latency_ns(self, times: Array) -> Array:
        # At the moment of a step a wait begins before it.
        over = self.spells["over_ns"][np.searchsorted(self.spells["end_ns"], times)] if times.size else times
        return np.where(over == NOW, 0.0, np.where(over == NEVER, np.inf, (over - times).astype(np.float64)))

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "idle": self.idle, **{f"{name}_ns": self.percentile_ns(percent) for name, percent in PERCENTILES.items()},
            "max_ns": self.longest_ns, "at_once_share": self.at_once, "unfinished_share": self.unfinished, "kicked_share": self.kicked,
            "holdout_shares": by_what(self), "holdouts": [holdout._asdict() for holdout in holdouts(self)],
            "longest": [wait._asdict() for wait in longest(self)],
        }


def waits(steps: Steps, idle: str = "hang", *, patience: int = 4, ipi_ns: int = 0,
          show: Callable[[], object] = lambda: None) -> Waits:
    """What a wait would take that begins at any moment of `steps`, with nobody else waiting, under the idle rule `idle`.

    patience: ticks, 1 to 2**32 - 1, of `kick`; ipi_ns: from the last of them until the interrupted CPUs have answered, 0 to 10**9.
    A holdout that pays by itself while an IPI is on its way is not looked at: a wait may take up to ipi_ns less for each kick.
    show() is called every 10 ms or so. ValueError, TypeError. Ctrl-C: within 50 ms. Thread-safety: as many at a time as you like.
    """
    if not isinstance(steps, Steps):
        raise TypeError(f"steps={shown(steps)} is of type {type(steps).__name__}, not Steps: steps_of() makes them")
    one_of(idle, "idle", IDLE_RULES)
    patience, ipi_ns = whole(patience, "patience", 1, 2**32 - 1), whole(ipi_ns, "ipi_ns", 0, 10**9)
    back = LookBack(steps.trace.cpus, steps.steps.view(np.uint8), steps.first.view(np.uint8), int(steps.trace.t_ns[-1]),
                    IDLE_RULES.index(idle), patience, ipi_ns)
    while not back.go_on():
        show()
    return Waits(steps, idle, np.frombuffer(back.spells(), SPELL)[::-1])


class Holdout(NamedTuple):
    """Who has held up waits, and with what."""

    cpu: int
    """its number on its machine"""
    what: str
    """"idle", "kernel thread" or "task": what the CPU ran when the generation began that it was the last to pay"""
    task: str
    """which, by name and number; "" for the idle task"""
    share: float
    """of all the time that waits take, from all moments together"""


class Long(NamedTuple):
    """A wait that took long."""

    begin_ns: int
    took_ns: int | None
    """None: it was not over when the recording ended"""
    cpu: int
    """whose payment was the last; its number on its machine"""
    ran: list[tuple[str, float]]
    """what that CPU ran meanwhile: (the task, the share of the time), most first"""


def by_what(found: Waits) -> dict[str, float]:
    """The share of the waiting time that was for a CPU that idled, for one in a kernel thread, and for one in a task with an mm."""
    shares = dict.fromkeys(("idle", "kernel thread", "task"), 0.0)
    for holdout in found.held_up:
        shares[holdout.what] += holdout.share
    return shares


def holdouts(found: Waits, most: int = 8) -> list[Holdout]:
    """Who held up the most of the waiting time: CPU by CPU and task by task, `most` at most."""
    return found.held_up[:whole(most, "most", 0, 2**63 - 1)]


def held_up(found: Waits) -> list[Holdout]:
    """All of them, the most first."""
    spells, steps = found.spells, found.steps
    end = int(steps.trace.t_ns[-1])
    over = np.where(spells["over_ns"] == NEVER, end, spells["over_ns"])
    width = (spells["end_ns"] - spells["begin_ns"]).astype(np.float64)
    took = np.where(spells["over_ns"] == NOW, 0.0, width * (over - (spells["begin_ns"] + spells["end_ns"]) / 2))
    begun = np.where((spells["first_ns"] == NOW) | (spells["first_ns"] == NEVER), spells["begin_ns"], spells["first_ns"])
    total = float(took.sum())
    rows: list[tuple[float, int, int, int]] = []
    for cpu in np.unique(spells["last_cpu"][took > 0]).tolist():
        mine = np.flatnonzero((spells["last_cpu"] == cpu) & (took > 0))
        since, which = steps.switches_of(cpu)
        at = which[np.searchsorted(since, begun[mine], side="right") - 1]
        tids = np.where(at < 0, steps.first["tid"][cpu], steps.steps["tid"][at])
        whats = np.where(at < 0, steps.first["what"][cpu], steps.steps["what"][at])
        kinds, where = np.unique(tids.astype(np.int64) * len(What) + whats, return_inverse=True)
        ns = np.bincount(where, took[mine])
        rows += [(float(n), cpu, *divmod(kind, len(What))) for n, kind in zip(ns.tolist(), kinds.tolist(), strict=True)]
    words = {What.USER: "task", What.KTHREAD: "kernel thread", What.IDLE: "idle"}
    return [Holdout(steps.trace.cpu_ids[cpu], words[What(what)], steps.trace.task_name(tid) if tid else "", ns / total)
            for ns, cpu, tid, what in sorted(rows, key=lambda row: -row[0])]


def longest(found: Waits, most: int = 5) -> list[Long]:
    """The longest waits, `most` at most, each of another end: with what the last CPU ran while they lasted."""
    most = whole(most, "most", 0, 2**63 - 1)
    return aside(lambda: longest_of(found, most))


def longest_of(found: Waits, most: int) -> list[Long]:
    """As longest()."""
    spells, steps = found.spells, found.steps
    end = int(steps.trace.t_ns[-1])
    over = np.where(spells["over_ns"] == NEVER, end, np.where(spells["over_ns"] == NOW, spells["begin_ns"], spells["over_ns"]))
    took = over - spells["begin_ns"]
    seen: set[int] = set()
    rows: list[Long] = []
    for i in np.argsort(-took, kind="stable"):
        if len(rows) == most or took[i] <= 0:
            break
        if int(over[i]) in seen:
            continue
        seen.add(int(over[i]))
        begin, cpu = int(spells["begin_ns"][i]), int(spells["last_cpu"][i])
        ns = None if spells["over_ns"][i] == NEVER else int(took[i])
        rows.append(Long(begin, ns, steps.trace.cpu_ids[cpu], shares(steps, cpu, begin, int(over[i]))))
    return rows


def shares(steps: Steps, cpu: int, begin: int, end: int, most: int = 3) -> list[tuple[str, float]]:
    """What `cpu` ran from `begin` to `end` (ns): (the task, the share of the time), most first, `most` at most."""
    since, which = steps.switches_of(cpu)
    first = int(np.searchsorted(since, begin, side="right")) - 1
    last = int(np.searchsorted(since, end, side="left"))
    edges = np.clip(np.append(since[first:last], end), begin, end)
    tids = np.where(which[first:last] < 0, steps.first["tid"][cpu], steps.steps["tid"][which[first:last]])
    names, where = np.unique(tids, return_inverse=True)
    ns = np.bincount(where, np.diff(edges).astype(np.float64))
    order = np.argsort(-ns, kind="stable")[:most]
    return [(steps.trace.task_name(int(names[i])), float(ns[i] / max(end - begin, 1))) for i in order if ns[i] > 0]
