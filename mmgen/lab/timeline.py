"""What each CPU did when, in a window of virtual time: simulate(..., timeline=(begin, end))."""
from dataclasses import dataclass
from typing import Any, NamedTuple

from mmgen._arguments import shown
from mmgen.lab.load import interval

# By the number that _timeline.pxd gives them. The first five are states, which a CPU is in until its next.
KINDS = ("user", "kthread", "idle", "dying", "offline", "paid", "opened", "exited", "freed", "interrupted")
STATES = KINDS[:5]


class Mark(NamedTuple):
    """That something happened."""

    ns: int
    cpu: int
    what: str
    """a state, in which the CPU is from then on: "user", "kthread", "idle", "dying", "offline"; "paid": its tick counted; "opened": what it
    did opened a generation; "exited", "freed": an mm; "interrupted": an IPI arrived"""
    number: int
    """of the generation that was paid for or that opened, or of the mm; else 0"""


@dataclass(frozen=True)
class Timeline:
    """The marks of a window, by time. It begins with the state of every CPU; then there are 100,000 marks at most."""

    begin_ns: int
    end_ns: int
    """until when none is missing"""
    marks: tuple[Mark, ...]

    def of(self, *kinds: str) -> list[Mark]:
        """The marks of these kinds. ValueError for a kind that there is not."""
        for kind in kinds:
            if kind not in KINDS:
                raise ValueError(f"kind={shown(kind)} is none of {', '.join(KINDS)}")
        return [mark for mark in self.marks if mark.what in kinds]

    def spells(self, state: str) -> list[tuple[int, int, int]]:
        """(CPU, ns from, ns to) of each time that a CPU was in `state`, cut off where the window is. ValueError as of()."""
        spells, since = [], dict[int, int]()
        for mark in self.of(*STATES):
            if mark.cpu in since:
                spells.append((mark.cpu, since.pop(mark.cpu), mark.ns))
            if mark.what == state:
                since[mark.cpu] = mark.ns
        self.of(state)
        return spells + [(cpu, begin, self.end_ns) for cpu, begin in since.items() if begin < self.end_ns]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"begin_ns": self.begin_ns, "end_ns": self.end_ns, "marks": [list(mark) for mark in self.marks]}


def window(timeline: tuple[float, float] | None) -> tuple[int, int] | None:
    """(begin, end) of virtual seconds, in ns. ValueError where it is none."""
    if timeline is None:
        return None
    try:
        begin, end = timeline
    except (TypeError, ValueError):
        raise ValueError(f"timeline={shown(timeline)} is no (begin, end), in seconds") from None
    begin, end = interval(begin, "timeline's begin", 0, 1e5), interval(end, "timeline's end", 0, 1e5)
    if begin >= end:
        raise ValueError(f"timeline={shown(timeline)} is out of range: it ends at {end:g} s, and begins at {begin:g} s or later")
    return round(begin * 1e9), max(round(end * 1e9), round(begin * 1e9) + 1)


def made(found: tuple[list[tuple[int, int, int, int]], int] | None, begin_ns: int) -> Timeline | None:
    """From what the virtual machine has."""
    if found is None:
        return None
    marks, until = found
    # What takes time is marked at its end, before what happens meanwhile elsewhere.
    by_time = sorted((mark for mark in marks if mark[0] < until), key=lambda mark: mark[0])
    return Timeline(begin_ns, max(until, begin_ns), tuple(Mark(ns, cpu, KINDS[what], number) for ns, cpu, what, number in by_time))
