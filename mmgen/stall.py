"""What holds up a wait that takes too long: who owes a switch, what it did meanwhile, and what to do about it."""
import logging
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmgen._cookie import Cookie
from mmgen._domain import Mode

if TYPE_CHECKING:
    from mmgen.domain import MmGen

logger = logging.getLogger("mmgen")

MOST_NAMED = 16                 # CPUs that the log names; the report has them all

Counters = list[tuple[int, int, int, int, int]]


@dataclass(frozen=True, slots=True)
class StalledCpu:
    """A CPU that owes, while somebody waits for long."""

    index: int
    mode: Mode
    behind: int
    """generations that are still to end before the wait does"""
    ticks: int
    """its ticks since the wait began, or at most 10 ms after"""
    switches: int
    """its switches since then"""
    thread: str | None
    """the name of its thread, where a Machine or register() knows it"""
    core: int | None
    """the core that its thread is pinned to, if it is to one"""
    reason: str
    """what keeps it, and what to do"""


@dataclass(frozen=True, slots=True)
class StallReport:
    """A wait that has lasted longer than stall_after."""

    seconds: float
    """how long it has lasted"""
    generation: int
    """the generation under way"""
    target: int
    """the generation that ends the wait"""
    cpus: tuple[StalledCpu, ...]

    def __str__(self) -> str:
        lines = [f"a grace period has not ended for {self.seconds:.1f} s: generation {self.generation} of {self.target}; it waits for "
                 f"{len(self.cpus)} CPU{'s' * (len(self.cpus) != 1)}"]
        for cpu in self.cpus[:MOST_NAMED]:
            who = f" ({cpu.thread}{f' on core {cpu.core}' if cpu.core is not None else ''})" if cpu.thread else ""
            lines.append(f"  CPU {cpu.index}{who}: {cpu.mode.name}, {cpu.behind} generations behind, {cpu.ticks} ticks and "
                         f"{cpu.switches} switches since the wait began: {cpu.reason}")
        if len(self.cpus) > MOST_NAMED:
            lines.append(f"  ... and {len(self.cpus) - MOST_NAMED} more")
        return "\n".join(lines)


def report(gen: "MmGen", cookie: Cookie, before: Counters, seconds: float) -> StallReport:
    """Who holds up `cookie`; `before` is what _counters() said when the wait had just begun, `seconds` ago."""
    generation = gen.generation
    behind = 0 if gen.poll(cookie) else (cookie.generation - generation) % 2**64
    owing = gen._owing()
    now = gen._counters()                               # second: it has every CPU that owes, though the domain may just grow
    cpus = []
    for index, mode, _ in owing:
        _, switches, ticks, _, _ = before[index] if index < len(before) else (0, 0, 0, 0, 0)
        thread = gen.threads.get(index)
        made = (now[index][1] - switches) % 2**64
        ticked = (now[index][2] - ticks) % 2**64
        cpus.append(StalledCpu(index, Mode(mode), behind, ticked, made, thread.name if thread else None, core(thread),
                               reason(Mode(mode), ticked, made, thread)))
    return StallReport(seconds, generation, cookie.generation, tuple(cpus))


def reason(mode: Mode, ticks: int, switches: int, thread: threading.Thread | None) -> str:
    """Why a CPU owes."""
    if mode is not Mode.RUNNING:
        return "it idles, and is about to be credited"
    if thread is not None and not thread.is_alive():
        return "its thread has ended without offline()"
    if ticks == 0:
        return ("no tick seen since the wait began: its own thread must call tick() now and then, idle_enter() before it sleeps, and "
                "offline() before it ends")
    if switches == 0:
        return "it ticks but has not switched: its thread calls switch() where it holds no reference; a kick can make it"
    return "it switches and ticks, but slowly"


def core(thread: threading.Thread | None) -> int | None:
    """The one core that `thread` may run on, or None."""
    if thread is None or thread.native_id is None or not thread.is_alive() or not hasattr(os, "sched_getaffinity"):
        return None
    try:
        cores = os.sched_getaffinity(thread.native_id)
    except OSError:
        return None                                     # it has just ended
    return min(cores) if len(cores) == 1 else None
