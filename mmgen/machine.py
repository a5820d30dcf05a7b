"""Real CPUs: one thread each, pinned to a core, that runs a workload and ticks.

    with mmgen.Machine(workload=mmgen.Busy(switch_us=50)) as machine:
        machine.gen.wait()
        print(machine.stats().cpus[0].switches)
"""
import atexit
import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from mmgen._arguments import shown, whole
from mmgen._latency import Latency
from mmgen._machine import Driver, supply_kick
from mmgen.domain import MmGen, Mode, registry
from mmgen.mmtrace import MOST_HZ
from mmgen.workload import Busy, Calls, Idle, Replay, Workload

__all__ = ["CpuStats", "Machine", "MachineError", "MachineStats"]

MOST_CPUS = 8192                # a thread and 16 KB each; as many as Linux can be built for (NR_CPUS on x86)
START_NS = 2_000_000            # from when every thread is up to when the first begins
START_S = 60.0                  # how long the threads may take to come up
STOP_S = 10.0                   # how long a thread may take to end


class MachineError(RuntimeError):
    """A machine that cannot run, or did not run to its end: a thread that drove a CPU died."""


@dataclass(frozen=True)
class CpuStats:
    """One CPU of a machine, since its start."""

    index: int
    core: int | None
    """the real core that its thread is pinned to; None where the system cannot pin a thread"""
    mode: Mode
    switches: int
    """of the workload; that a CPU drops its mm to idle is not counted, but of a Calls workload, whose every switch is its own"""
    ticks: int
    """while it ran; an idle CPU has none"""
    missed_ticks: int
    """how many whole tick periods its ticks were late, together"""
    lateness: Latency
    """of its ticks; empty where they are unpaced"""
    opened: int
    """generations that its tick opened: those for which it was the last to switch"""
    idle_s: float
    """how long it idled, in seconds"""


@dataclass(frozen=True)
class MachineStats:
    """A machine, since its start."""

    seconds: float
    generations: int
    waits: int
    """that began, in whatever way"""
    wait_latency: Latency
    """of those that ended, of MmGen.wait() and Cpu.wait()"""
    cpus: tuple[CpuStats, ...]


class Machine:
    """`cpus` CPUs, each a thread pinned to a core, round robin where there are more CPUs than cores the process may use.

    cpus: 1 to 8192; None for a replayed trace's own number, else one a core. A CPU more than a replayed trace has idles.
    hz: ticks a second, 1 to 10,000 (above 1,000 expect missed ticks), staggered between the CPUs as the kernel's skew_tick does;
        None: unpaced, a tick after every switch. A replayed CPU ticks when the recorded one did.
    workload: "busy", "idle", or a Busy, an Idle, a Replay or a Calls.
    domain: further arguments of its MmGen, but for online and kick: a machine's kick makes a CPU switch and tick at once, woken if it
        sleeps.

    It runs from start() to close(), or as a context manager. When one of its threads dies its domain is closed, so that every wait
    ends with ClosedError, and close() raises MachineError. An interpreter that exits closes its machines; a forked child has none.
    Raises ValueError for an argument out of range. Thread-safety: any thread may call anything but start() and close().
    """

    def __init__(self, cpus: int | None = None, hz: int | None = 250, workload: str | Workload = "busy",
                 **domain: Any) -> None:
        if hasattr(self, "gen"):
            raise RuntimeError("Machine.__init__() was called before")
        for name in ("online", "kick"):
            if name in domain:
                raise TypeError(f"a machine takes no {name}=: its own threads bring its CPUs up, and answer its own kick")
        if isinstance(workload, str):
            if workload not in ("busy", "idle"):
                raise ValueError(f"workload={workload!r} is neither 'busy' nor 'idle', nor a Busy, an Idle, a Replay or a Calls")
            workload = Busy() if workload == "busy" else Idle()
        elif not isinstance(workload, Workload):
            raise TypeError(f"workload={shown(workload)} is of type {type(workload).__name__}, not a Busy, an Idle, a Replay or a Calls")
        if hz is not None:
            hz = whole(hz, "hz", 1, 10_000, "1 to 10000 ticks a second, or None")
        if cpus is not None:
            cpus = whole(cpus, "cpus", 1, MOST_CPUS)
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [None] * (os.cpu_count() or 1)
        if isinstance(workload, Replay):
            if cpus is not None and cpus < workload.trace.cpus:
                raise ValueError(f"cpus={cpus} is out of range: the trace {workload.trace.name} has {workload.trace.cpus}")
            hz = whole(workload.trace.hz, "the trace's hz", 1, MOST_HZ)
            cpus = cpus or whole(workload.trace.cpus, "the trace's cpus", 1, MOST_CPUS)
        elif cpus is None:
            cpus = len(cores)
        self.gen = MmGen(cpus, **domain)
        self.hz = hz
        self.workload = workload
        self.cores = [cores[cpu % len(cores)] for cpu in range(cpus)]
        self.error: MachineError | None = None
        """why the machine ended, if a thread of it died"""
        self._first_generation = self.gen.generation
        self._first_switches = self.gen.cpu(0).switches
        self._drivers = [Driver(self.gen, cpu, round(1e9 / hz) if hz else 0) for cpu in range(cpus)]
        supply_kick(self.gen, self._drivers)
        self._threads: list[threading.Thread] = []
        self._up = threading.Barrier(cpus + 1)
        self._go = threading.Event()
        self._forked = False
        self._ended = 0
        self.begin = 0
        """when the CPUs began, or begin, in ns of CLOCK_MONOTONIC; 0 before start()"""
        with registry:
            machines.add(self)

    @property
    def cpus(self) -> int:
        """How many CPUs it has."""
        return len(self._drivers)                       # register() may have let the domain grow past them

    def start(self) -> None:
        """Start every CPU. Raises MachineError if a thread cannot be started or pinned, RuntimeError the second time.

        In a child that was forked since, DriverlessError.
        """
        if self._threads or self._ended:
            raise RuntimeError("a machine starts once")
        self.gen._check_open()
        try:
            for driver, core in zip(self._drivers, self.cores, strict=True):
                thread = threading.Thread(target=self._drive, args=(driver, core), name=f"mmgen-cpu{driver.cpu}", daemon=True)
                thread.start()
                self._threads.append(thread)
                self.gen.threads[driver.cpu] = thread
            self._up.wait(START_S)
            self.begin = time.monotonic_ns() + START_NS
            self._go.set()
        except threading.BrokenBarrierError:
            self.close()
            raise self.error or MachineError(f"the CPUs' threads did not come up within {START_S:g} s") from None
        except BaseException as error:
            self._fail(f"only {len(self._threads)} of {self.cpus} threads could be started", error)
            self._stop()
            if isinstance(error, RuntimeError):
                assert self.error is not None
                raise self.error from error
            raise

    def _drive(self, driver: Driver, core: int | None) -> None:
        try:
            if core is not None:
                os.sched_setaffinity(0, {core})
            driver.claim()
            run = self._program(driver)
            self._up.wait(START_S)
            self._go.wait()
            run(self.begin)                             # also when told to stop by now: it takes the CPU offline
            if not driver.stopping:
                raise MachineError("its loop ended by itself")
        except threading.BrokenBarrierError:
            pass                                        # another thread's failure
        except BaseException as error:
            self._fail(f"the thread of CPU {driver.cpu} died: {error!r}", error)

    def _program(self, driver: Driver) -> Callable[[int], None]:
        """What runs the workload on `driver`, given when to begin; whatever takes long is done before."""
        cpu, load = driver.cpu, self.workload
        if isinstance(load, Replay):
            times, steps = load.steps(cpu)
            return lambda begin: driver.replay(begin, times, steps)
        if isinstance(load, Calls):
            return lambda begin: self._call(driver, load, begin)
        exponential, seed = load.distribution == "exponential", (load.seed + cpu) % 2**64
        if isinstance(load, Idle):
            return lambda begin: driver.idle(begin, float(load.switch_ms) * 1e6, exponential, seed)
        return lambda begin: driver.busy(begin + self._skew(cpu), begin, float(load.switch_us) * 1e3, exponential, seed)

    def _call(self, driver: Driver, load: Calls, begin: int) -> None:
        cpu = self.gen.cpu(driver.cpu)
        due = begin + self._skew(driver.cpu)
        if not driver.pause(begin):
            while (due := driver.between(due)) >= 0:
                load.fn(cpu)
        driver.leave()

    def _skew(self, cpu: int) -> int:
        return round(1e9 / self.hz) * cpu // self.cpus if self.hz else 0

    def _fail(self, what: str, error: BaseException) -> None:
        if self.error is None:
            self.error = MachineError(what)
            self.error.__cause__ = error
        self._up.abort()
        self.gen._close(what)
        for driver in self._drivers:
            driver.stop()

    def _stop(self) -> None:
        for driver in self._drivers:
            driver.stop()
        if not self._go.is_set():                       # an abort would reach threads that are just leaving the barrier
            self._up.abort()
            self._go.set()
        deadline = time.monotonic() + STOP_S
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.01))
            if thread.is_alive():
                raise MachineError(f"{thread.name} did not end within {STOP_S:g} s")

    def close(self) -> None:
        """Take every CPU offline, which ends the waits under way, end the threads, and close the domain. Twice is fine.

        Raises MachineError, the first time, if a thread died before, and whenever a thread does not end. Interrupted, it has closed
        the domain all the same, and can be called again.
        """
        first, self._ended = not self._ended, self._ended or time.monotonic_ns()
        try:
            if not self._forked:
                self._stop()
        finally:
            self.gen.close()
        if first and self.error is not None:
            raise self.error

    def stats(self) -> MachineStats:
        """What has happened since the start. The CPUs run on meanwhile: two figures may be some switches apart."""
        return MachineStats(
            seconds=max((self._ended or time.monotonic_ns()) - self.begin, 0) / 1e9 if self.begin else 0.0,
            generations=(self.gen.generation - self._first_generation) % 2**64,
            waits=self.gen.nr_waits,
            wait_latency=self.gen.wait_latency,
            cpus=tuple(
                CpuStats(index=cpu.index, core=core, mode=cpu.mode, ticks=driver.ticks,
                         switches=(cpu.switches - self._first_switches) % 2**64 if isinstance(self.workload, Calls) else driver.switches,
                         missed_ticks=driver.missed, lateness=driver.late, opened=cpu.opened, idle_s=driver.idle_ns / 1e9)
                for driver, core in zip(self._drivers, self.cores, strict=True) for cpu in [self.gen.cpu(driver.cpu)]),
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.close()
        except MachineError:
            if error is None:
                raise                                   # else what was raised inside says it, or matters more


machines: "weakref.WeakSet[Machine]" = weakref.WeakSet()


def _close_all() -> None:
    with registry:
        running = list(machines)
    for machine in running:
        with contextlib.suppress(MachineError):         # it was said to whoever waited
            machine.close()


def _after_fork() -> None:                              # within domain's, which holds the registry
    for machine in machines:
        machine._forked = True


atexit.register(_close_all)
os.register_at_fork(after_in_child=_after_fork)
