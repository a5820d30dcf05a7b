"""A domain of CPUs and its grace periods: the thin Python layer over the protocol.

    gen = mmgen.MmGen(2)            # two CPUs; each is driven by one thread, which calls through its own handle
    cpu = gen.cpu(0)
    cpu.switch()                    # on that thread, per mm switch; then, per tick:
    if cpu.tick():
        gen.wake()

    gen.wait()                      # any other thread: returns when both CPUs have switched since the call
"""
import os
import threading
import time
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self, cast

from mmgen import _domain
from mmgen._domain import INTERRUPTED, TIMED_OUT, ClosedError, DriverlessError, Mode
from mmgen._latency import Latency

__all__ = [
    "ClosedError", "Cpu", "DriverlessError", "Holdout", "MmGen", "Mode", "mm_gen_tick", "mm_gen_wait", "mm_gen_wake",
]

# How long the main thread sleeps at a time, in ns. A signal wakes a futex at once; the slice is for the one that arrives just
# before the thread falls asleep, and for systems without a futex: Ctrl-C is noticed within 50 ms all the same.
SLICE_NS = 40_000_000


@dataclass(frozen=True, slots=True)
class Holdout:
    """A CPU that owes the generation under way a switch."""

    index: int
    mode: Mode
    switches: int
    """its mm switches so far"""


class Cpu(_domain.Cpu):
    """The handle of one CPU of a domain, for the one thread that is this CPU: Cpu(gen, index), or gen.cpu(index).

    Thread-safety: one thread per CPU. index, switches, opened and mode may be read by any thread.
    """

    __slots__ = ()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait, on this CPU's own thread, for a full grace period; as MmGen.wait(), which would wait for its caller here.

        The CPU counts as idle meanwhile: the wait drops every reference that the thread holds to what others publish.
        Raises RuntimeError unless the CPU is RUNNING, and what MmGen.wait() raises.
        """
        timeout_ns = to_ns(timeout)
        gen = cast(MmGen, self.gen)
        if self.mode is not Mode.RUNNING:
            self.idle_enter()                           # raises what there is to raise
        try:
            self.idle_enter()                           # in here, where an interrupt right after it is seen to
            return gen._sleep(gen._start_poll(), timeout_ns)
        finally:
            self._leave_idle()


class MmGen(_domain.MmGen):
    """A domain of `cpus` CPUs (1 to 2**20) whose mm switches are counted: 64 bytes a CPU.

    online: which CPUs are up at the start: None for all, an int for the first so many, or their indices.
    continuous: count generations also while nobody waits, as the sketch of 2020 does; a wait then takes three of them, always.
    increments: how many generations a wait takes, for study only: fewer than the protocol takes release waiters too early.
    first_generation, first_switches: where the counters start (0 to 2**64 - 1), for tests near a wrap.

    Raises ValueError, TypeError or IndexError for an argument that does not fit, MemoryError.

    Thread-safety: what names a CPU (switch, tick, and a Cpu's methods) is called by the one thread that is that CPU, the tick
    too: a ticker thread of its own frees what a CPU still uses. Everything else may be called by any thread at any time.
    """

    wait_latency: Latency
    """how long the waits that ended have taken, those of wait() and Cpu.wait()"""

    def __init__(self, cpus: int, *, online: int | Iterable[int] | None = None, continuous: bool = False,
                 increments: int | None = None, first_generation: int = 0, first_switches: int = 0) -> None:
        self.wait_latency = Latency()
        with registry:
            domains.add(self)

    def cpu(self, index: int, /) -> Cpu:
        """The handle of CPU `index`, for the thread that is that CPU. IndexError if the domain has no such CPU."""
        return Cpu(self, index)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until every CPU that is online and not idle now has switched, or gone idle or offline: a full grace period.

        timeout: seconds, None for ever. True: the grace period has passed; False: the time ran out.
        Raises ClosedError when the domain is closed, also meanwhile; DriverlessError in a forked child; ValueError for a timeout
        that is negative or not a number. A signal's handler runs within 50 ms; what it raises ends the wait.
        A thread that is a CPU of the domain itself would wait for itself here: it calls Cpu.wait().
        """
        timeout_ns = to_ns(timeout)
        return self._sleep(self._start_poll(), timeout_ns)

    def _sleep(self, cookie: int, timeout_ns: int) -> bool:
        begin = now = time.monotonic_ns()
        in_main = threading.current_thread() is threading.main_thread()
        while True:
            left = -1 if timeout_ns < 0 else max(begin + timeout_ns - now, 0)
            # Between two slices the interpreter runs the handlers of the signals that came.
            err = self._wait_for(cookie, min(left, SLICE_NS) if in_main and left >= 0 else SLICE_NS if in_main else left)
            now = time.monotonic_ns()
            if err == 0:
                self.wait_latency.record(now - begin)
                return True
            if err == TIMED_OUT and 0 <= timeout_ns <= now - begin:
                return False
            assert err in (TIMED_OUT, INTERRUPTED)

    def holdouts(self) -> list[Holdout]:
        """The CPUs that owe the generation under way a switch, as they are at a glance: any of them may be paying just now."""
        return [Holdout(index, Mode(mode), switches) for index, mode, switches in self._owing()]

    def close(self) -> None:
        """End the domain: every waiter, now and later, gets ClosedError, and so does who drives a CPU. Closing twice is fine."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{self.nr_online} online"
        return f"<mmgen.MmGen of {self.cpus} CPUs, {state}, generation {self.generation}>"


def to_ns(timeout: float | None) -> int:
    """`timeout` seconds in nanoseconds, -1 for None and for what exceeds 292 years."""
    if timeout is None:
        return -1
    if not timeout >= 0:
        raise ValueError(f"timeout={timeout} is out of range: 0 seconds or more, or None")
    return int(timeout * 1e9) if timeout < 2**63 / 1e9 else -1


# The sketch's names: the same functions.
mm_gen_tick = MmGen.tick
mm_gen_wake = MmGen.wake
mm_gen_wait = MmGen.wait

# What a fork or the interpreter's exit must find, and the lock for it; a fork waits for the lock, so that a child finds the set whole.
registry = threading.RLock()
domains: "weakref.WeakSet[MmGen]" = weakref.WeakSet()


def _after_fork() -> None:
    for gen in domains:
        gen._after_fork()
    registry.release()


os.register_at_fork(before=registry.acquire, after_in_parent=registry.release, after_in_child=_after_fork)
