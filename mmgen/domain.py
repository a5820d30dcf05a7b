"""A domain of CPUs and its grace periods: the thin Python layer over the protocol.

    gen = mmgen.MmGen(2)            # two CPUs; each is driven by one thread, which calls through its own handle
    cpu = gen.cpu(0)
    cpu.switch()                    # on that thread, per mm switch; then, per tick:
    if cpu.tick():
        gen.wake()

    gen.wait()                      # any other thread: returns when both CPUs have switched since the call
"""
import asyncio
import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mmgen import _batch, _capi, _domain, _snapshot
from mmgen._arguments import shown, to_ns, whole
from mmgen._batch import Op
from mmgen._cookie import Cookie
from mmgen._cpu import Cpu
from mmgen._domain import INTERRUPTED, TIMED_OUT, ClosedError, DriverlessError, FullError, Mode, WrongThreadError
from mmgen._latency import Latency
from mmgen.callbacks import Callback, Reclaimer, Resolve
from mmgen.registered import RegisteredCpu, of_thread
from mmgen.stall import StallReport, logger, report
from mmgen.stats import CpuCounters, DomainStats, Holdout

if TYPE_CHECKING:
    from mmgen.capi import Interface
    from typing_extensions import Buffer

__all__ = [
    "Callback", "ClosedError", "Cookie", "Cpu", "CpuCounters", "DomainStats", "DriverlessError", "FullError", "Holdout", "MmGen", "Mode",
    "Op", "RegisteredCpu", "WrongThreadError", "mm_gen_tick", "mm_gen_wait", "mm_gen_wake",
]

# How long the main thread sleeps at a time, in ns. A signal wakes a futex at once; the slice is for the one that arrives just
# before the thread falls asleep, and for systems without a futex: Ctrl-C is noticed within 50 ms all the same.
SLICE_NS = 40_000_000
STALL_S = 21.0                  # Linux: CONFIG_RCU_CPU_STALL_TIMEOUT
# What a snapshot says of a domain, and restore() is not to be told.
IN_STATE = ("cpus", "online", "continuous", "increments", "max_cpus", "patience", "first_generation", "first_switches")
# A wait looks at every CPU's counters, for a stall report, only when it has lasted so long, in ns: most are over by then.
SETTLE_NS = 10_000_000


class MmGen(_domain.MmGen):
    """A domain of `cpus` CPUs (1 to 2**20) whose mm switches are counted: 64 bytes a CPU.

    online: which CPUs are up at the start: None for all, an int for the first so many, or their indices.
    continuous: count generations also while nobody waits, as the sketch of 2020 does; a wait then takes three of them, always.
    increments: how many generations a wait takes, for study only: fewer than the protocol takes release waiters too early.
    max_cpus: how many CPUs register() may let it grow to (default: it does not grow).
    checked: raise WrongThreadError where a second thread uses a CPU, or a thread that is a running CPU calls wait().
    kick: called with a list of Holdouts that are to switch and tick, when a CPU's `patience` (ticks in one generation) has run out
        (default: never), or at once for wait(expedite=True); in a thread that ticks or waits. What it raises goes to
        sys.unraisablehook.
    max_pending, when_full: how many callbacks may be pending (default: any number), and whether defer() then blocks ("block") or
        raises FullError ("raise").
    reclaimer: whether a thread runs the callbacks; else run_callbacks() does, when it is called.
    stall_after, on_stall: report a wait that lasts longer than so many seconds (None: never), once, to the "mmgen" logger and to
        on_stall(StallReport), in the thread that waits.
    trace: how many events to keep for each CPU (rounded up to a power of two; 0: none), for export_trace().
    first_generation, first_switches: where the counters start (0 to 2**64 - 1), for tests near a wrap.

    Raises ValueError, TypeError or IndexError for an argument that does not fit, MemoryError.

    Thread-safety: what names a CPU (switch, tick, and a Cpu's methods) is called by the one thread that is that CPU, the tick
    too: a ticker thread of its own frees what a CPU still uses. Everything else may be called by any thread at any time.
    """

    wait_latency: Latency
    """how long the waits that ended have taken"""
    threads: dict[int, threading.Thread]
    """the thread of each CPU that a Machine or register() knows"""

    def __init__(self, cpus: int, *, online: int | Iterable[int] | None = None, continuous: bool = False,
                 increments: int | None = None, max_cpus: int | None = None, checked: bool = False,
                 kick: Callable[[list[Holdout]], object] | None = None, patience: int | None = None, max_pending: int | None = None,
                 when_full: str = "block", reclaimer: bool = True, stall_after: float | None = STALL_S,
                 on_stall: Callable[[StallReport], object] | None = None, trace: int = 0, first_generation: int = 0,
                 first_switches: int = 0) -> None:
        if hasattr(self, "_reclaimer"):
            raise RuntimeError("MmGen.__init__() was called before")
        if on_stall is not None and not callable(on_stall):
            raise TypeError(f"on_stall={shown(on_stall)} is not callable")
        self.wait_latency = Latency()
        self.threads = {}
        self._reclaimer = Reclaimer(max_pending, when_full, reclaimer)
        self._stall_ns = to_ns(stall_after, "stall_after")
        self._on_stall = on_stall
        self._stalled: int | None = None                # the last generation whose stall was reported
        self._nr_stalls = 0
        self._stall_lock = threading.Lock()
        with registry:
            domains.add(self)

    # ---- CPUs

    def cpu(self, index: int, /) -> Cpu:
        """The handle of CPU `index`, for the thread that is that CPU. IndexError if the domain has no such CPU."""
        return Cpu(self, index)

    def register(self) -> RegisteredCpu:
        """Make the calling thread a CPU: one that is offline is brought online for it, or the domain grows.

        `with gen.register() as cpu:` takes it offline again; else cpu.leave() does, or the thread's end. Raises FullError where
        every CPU is online and the domain cannot grow; ClosedError.
        """
        index = self._register()
        cpu = RegisteredCpu(self, index)
        self.threads[index] = threading.current_thread()
        of_thread.registered.add(cpu)
        return cpu

    def holdouts(self) -> list[Holdout]:
        """The CPUs that owe the generation under way a switch, as they are at a glance: any of them may be paying just now."""
        return [Holdout(index, Mode(mode), switches) for index, mode, switches in self._owing()]

    def run(self, ops: "Buffer", /) -> int:
        """Apply an array of operations in order, without the GIL; how many generations have opened meanwhile.

        ops: pairs of unsigned 32-bit ints, a CPU and an Op: an array of numpy.dtype([("cpu", "u4"), ("op", "u4")]), or of shape (n, 2),
            or array.array("I", [cpu, op, cpu, op, ...]), or their bytes; any buffer. A tick wakes, if it is due.
        Raises, and has applied nothing, IndexError for a CPU the domain does not have, ValueError for what is no operation,
        RuntimeError for one that its CPU's mode does not allow then: each names its position. ValueError for another format;
        WrongThreadError in a checked domain; ClosedError. What a signal's handler raises carries a note how many were applied.

        Thread-safety: the calling thread is all of the CPUs that `ops` names.
        """
        return _batch.run(self, ops)

    # ---- waiting

    def wait(self, timeout: float | None = None, *, expedite: bool = False) -> bool:
        """Wait until every CPU that is online and not idle now has switched, or gone idle or offline: a full grace period.

        timeout: seconds, None for ever. expedite: have the kick make the holdouts switch at once (ValueError without a kick).
        True: the grace period has passed; False: the time ran out.
        Raises ClosedError when the domain is closed, also meanwhile; DriverlessError in a forked child; ValueError for a timeout
        that is negative or not a number. A signal's handler runs within 50 ms; what it raises ends the wait.
        A thread that is a CPU of the domain itself would wait for itself here: it calls Cpu.wait().
        """
        timeout_ns = to_ns(timeout)
        self._check_waiter()
        if expedite:
            self._check_kick()
        cookie = self.start_poll()
        if expedite:
            self._expedite(cookie)
        return self._sleep(cookie, timeout_ns)

    def wait_for(self, cookie: Cookie, timeout: float | None = None, *, expedite: bool = False) -> bool:
        """Wait, as wait() does, for the grace period that `cookie` stands for. ValueError for another domain's cookie."""
        timeout_ns = to_ns(timeout)
        self._check_waiter()
        if expedite:
            self._expedite(cookie)
        return self._sleep(cookie, timeout_ns)

    async def wait_async(self, timeout: float | None = None) -> bool:
        """Wait, as wait() does, without a thread: any number of awaits share one. Cancelling it is free.

        The reclaimer thread ends the await (or run_callbacks(), in a domain without one), after the callbacks deferred before it.
        """
        timeout_ns = to_ns(timeout)
        begin = time.monotonic_ns()
        resolve = Resolve()
        self._reclaimer.defer(self, resolve, (), bounded=False)
        try:
            async with asyncio.timeout(None if timeout_ns < 0 else timeout_ns / 1e9):
                await resolve.future
        except TimeoutError:
            return False
        self.wait_latency.record(time.monotonic_ns() - begin)
        return True

    def _sleep(self, cookie: Cookie, timeout_ns: int, record: bool = True) -> bool:
        """Wait for `cookie` for `timeout_ns` (-1: for ever), and report it if it stalls. record: it is a user's wait."""
        begin = time.monotonic_ns()

        def until(ns: int) -> int:
            left = ns if ns < 0 else max(begin + ns - time.monotonic_ns(), 0)
            return self._in_slices(lambda slice_ns: self._wait_for(cookie, slice_ns), left)

        err = TIMED_OUT
        if self._stall_ns >= 0 and not 0 <= timeout_ns <= self._stall_ns:
            err = until(min(SETTLE_NS, self._stall_ns))
            if err == TIMED_OUT:
                before = self._counters()
                err = until(self._stall_ns)
            if err == TIMED_OUT:
                self._report_stall(cookie, before, (time.monotonic_ns() - begin) / 1e9)
        if err == TIMED_OUT:
            err = until(timeout_ns)
        if err == TIMED_OUT:
            return False
        if record:
            self.wait_latency.record(time.monotonic_ns() - begin)
        return True

    def _in_slices(self, sleep: Callable[[int], int], timeout_ns: int) -> int:
        """Call sleep(ns) until it returns 0 or `timeout_ns` (-1: none) have passed; between two calls signal handlers run."""
        end = time.monotonic_ns() + timeout_ns
        in_main = threading.current_thread() is threading.main_thread()
        while True:
            left = -1 if timeout_ns < 0 else max(end - time.monotonic_ns(), 0)
            err = sleep(SLICE_NS if in_main and not 0 <= left < SLICE_NS else left)
            if err == 0 or (err == TIMED_OUT and timeout_ns >= 0 and time.monotonic_ns() >= end):
                return err
            assert err in (TIMED_OUT, INTERRUPTED)

    def _report_stall(self, cookie: Cookie, before: list[tuple[int, int, int, int, int]], seconds: float) -> None:
        with self._stall_lock:
            if self._stalled == self.generation or self.poll(cookie):
                return                                  # another waiter has said it; it has just ended
            self._stalled = self.generation
            self._nr_stalls += 1
        stall = report(self, cookie, before, seconds)
        logger.warning("%s", stall)
        if self._on_stall is not None:
            try:
                self._on_stall(stall)
            except Exception:
                logger.exception("on_stall raised")

    # ---- for embedders

    @property
    def capsule(self) -> Any:
        """A capsule for C: of a struct mmgen_domain (mmgen.h), the domain and its functions. It keeps the domain alive. ClosedError."""
        self._check_open()
        return _capi.capsule(self)

    @property
    def ctypes(self) -> "Interface":
        """The C interface for ctypes and numba: Interface(address, api, domain). ClosedError."""
        self._check_open()
        from mmgen.capi import interface  # noqa: PLC0415 - ctypes takes longer to import than all else
        return interface(self)

    def snapshot(self) -> bytes:
        """The domain's state, for restore(): 128 bytes, and 64 for each CPU, the same for the same operations on every machine.

        Raises RuntimeError while callbacks are pending, which are not part of it, and where it sees that a thread is in a call of a
        CPU, or owes a wake(); ClosedError.

        Thread-safety: of any thread, while those that are the domain's CPUs make no calls. Who waits is not part of it; a cookie is, by
        its generation (cookie()).
        """
        return _snapshot.snapshot(self)

    @classmethod
    def restore(cls, state: "Buffer", /, **options: Any) -> Self:
        """A new domain in the state that snapshot() gave; it continues identically.

        options: MmGen's, but those that are part of the state (online, continuous, increments, max_cpus, patience, first_generation,
            first_switches): TypeError.
        Raises ValueError for what is no snapshot, truncated, damaged, another version's, or contradicts itself; MemoryError.
        """
        words, cpus, max_cpus, first_switches = saved(state, options)
        gen = cls(cpus, online=0, max_cpus=max_cpus, first_switches=first_switches, **options)
        _snapshot.load(gen, words)
        return gen

    # ---- callbacks

    def defer(self, fn: Callable[..., object], /, *args: Any) -> None:
        """Run fn(*args) after a grace period, in the order of the calls: on the reclaimer thread, or in run_callbacks().

        What it raises goes to sys.unraisablehook, and the rest still runs. All that is deferred in one generation shares a grace
        period. Where max_pending are pending it raises FullError, or blocks until there is room; in a callback, which would wait for
        itself, it raises. Raises ClosedError; TypeError; WrongThreadError where it would block a running CPU of a checked domain.
        """
        if not callable(fn):
            raise TypeError(f"{shown(fn)} is not callable")
        self._reclaimer.defer(self, fn, args)

    def retire(self, obj: object, /) -> None:
        """Keep `obj` alive until a grace period has passed: every CPU that found it before has then switched. As defer()."""
        self._reclaimer.defer(self, None, (obj,))

    def run_callbacks(self, limit: int | None = None) -> int:
        """Run the callbacks whose grace period is over, at most `limit`; how many. One thread at a time: meanwhile another runs none."""
        if limit is not None:
            limit = whole(limit, "limit", 0, 2**63 - 1, "0 or more, or None")
        return self._reclaimer.run(self, limit)

    def barrier(self, timeout: float | None = None) -> bool:
        """Wait until every callback that was deferred before has run; False if `timeout` seconds ran out before.

        Without a reclaimer thread it runs them itself. Raises RuntimeError in a callback, and as wait() does.
        """
        timeout_ns = to_ns(timeout)
        self._check_waiter()
        return self._reclaimer.barrier(self, timeout_ns)

    # ---- figures

    def stats(self) -> DomainStats:
        """The domain's figures so far. It goes on meanwhile: two of them may be some switches apart."""
        cpus = tuple(CpuCounters(i, Mode(mode), *rest) for i, (mode, *rest) in enumerate(self._counters()))
        return DomainStats(generation=self.generation, nr_online=self.nr_online, waits=self.nr_waits, wait_latency=self.wait_latency,
                           deferred=self.nr_deferred, run=self.nr_run, kicks=sum(cpu.kicks for cpu in cpus), stalls=self._nr_stalls,
                           cpus=cpus)

    def export_trace(self, path: str | os.PathLike[str]) -> None:
        """Write the events kept so far as a Perfetto trace, for ui.perfetto.dev. ValueError unless the domain was made with trace=.

        Needs the package `perfetto`, which the extra `trace` installs: ImportError without it. OSError as open().
        """
        events = self._events()
        if events is None:
            raise ValueError("the domain keeps no events: MmGen(..., trace=N) keeps N for each CPU")
        from mmgen.perfetto import write  # noqa: PLC0415 - needs an extra
        write(path, events)

    # ---- the end

    def _after_fork(self) -> None:
        super()._after_fork()
        self._reclaimer.after_fork()
        self._stall_lock = threading.Lock()

    def close(self, timeout: float | None = 0.0) -> list[Callback]:
        """End the domain: every waiter, now and later, gets ClosedError, and so does who drives a CPU. Closing twice is fine.

        Pending callbacks run if their grace period ends within `timeout` seconds (None: however long it takes). Those that never
        ran are returned, in order, and logged as a warning; awaits among them raise ClosedError.
        """
        timeout_ns = to_ns(timeout)
        try:
            if timeout_ns and not self.closed and not self._reclaimer.in_callback():
                with contextlib.suppress(ClosedError):          # somebody else has closed it meanwhile
                    self._reclaimer.barrier(self, timeout_ns)
        finally:
            self._close()
        self._reclaimer.join()
        self.run_callbacks()
        self._reclaimer.abandon(self)
        lost, self._reclaimer.lost = self._reclaimer.lost, []
        if lost:
            logger.warning("a domain was closed before %d callbacks could run, the first %r", len(lost), lost[0])
        return lost

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{self.nr_online} online"
        return f"<mmgen.MmGen of {self.cpus} CPUs, {state}, generation {self.generation}>"


def saved(state: "Buffer", options: Iterable[str]) -> tuple[bytes, int, int, int]:
    """(what is to be restored, cpus, max_cpus, first_switches). TypeError if `options` names what is part of it, ValueError."""
    if given := [option for option in options if option in IN_STATE]:
        raise TypeError(f"{given[0]} is part of the state, not an option of restore()")
    try:
        words = state if type(state) is bytes else memoryview(state).tobytes()
    except TypeError:
        raise TypeError(f"state={shown(state)} has no buffer: the bytes that snapshot() gave") from None
    return (words, *_snapshot.shape(words))


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
