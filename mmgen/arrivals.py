"""Waits that arrive at given times, however long those before them take.

An open loop: cheap waits cannot crowd out dear ones.
"""
import threading
from array import array
from collections.abc import Iterable
from typing import NamedTuple

from mmgen import _arrivals
from mmgen.domain import MmGen


class Wait(NamedTuple):
    """A wait that is over."""

    due_ns: int
    """when it arrived, in ns from the beginning"""
    took_ns: int
    """how long it took, in ns, from its call to when the thread that slept in it ran again"""
    at_once: bool
    """it was over when its call returned: every CPU online was idle, and was credited"""


def steady(rate: float, seconds: float) -> list[int]:
    """`rate` arrivals a second for `seconds`, evenly spaced, the first after half a space; in ns."""
    return [round((i + 0.5) / rate * 1e9) for i in range(int(rate * seconds))]


class Arrivals:
    """A wait in `gen` at each of `times_ns`: one thread begins them, a second sleeps until each is over."""

    def __init__(self, gen: MmGen, times_ns: Iterable[int]) -> None:
        self.loops = _arrivals.Arrivals(gen, array("q", sorted(times_ns)))
        self._threads: list[threading.Thread] = []

    @property
    def nr(self) -> int:
        """How many waits are to arrive."""
        return self.loops.nr

    @property
    def nr_begun(self) -> int:
        """How many have."""
        return self.loops.nr_begun

    @property
    def nr_over(self) -> int:
        """How many are over."""
        return self.loops.nr_over

    def start(self, begin_ns: int) -> None:
        """Let the waits arrive, counting from `begin_ns` of CLOCK_MONOTONIC."""
        self._threads = [threading.Thread(target=self.loops.begin, args=(begin_ns,), name="mmgen-arrivals", daemon=True),
                         threading.Thread(target=self.loops.finish, name="mmgen-waiter", daemon=True)]
        for thread in self._threads:
            thread.start()

    def join(self, timeout: float | None = None) -> bool:
        """Whether all are over, within `timeout` seconds."""
        for thread in self._threads:
            thread.join(timeout)
        return not any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """Let no more arrive; those under way end with their grace period, or with the domain."""
        self.loops.stop()

    def over(self, first: int = 0) -> list[Wait]:
        """The waits that are over, from the `first`, in the order in which they arrived."""
        return [Wait(*wait) for wait in self.loops.over(first)]
