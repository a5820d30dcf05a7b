"""One case on real threads, and its result."""
import contextlib
import os
import threading
import time
from typing import Any

import numpy as np
from mmgen._arguments import shown
from mmgen.lab._real import Real
from mmgen.lab.simulate import Case, Result, Show, UseAfterFree, result
from mmgen.machine import MOST_CPUS, START_S, STOP_S, MachineError

MOST_MM_BYTES = 1_000_000
START_NS = 2_000_000            # from when every thread is up to when the first begins
SHOW_S = 0.05


def cores() -> list[int]:
    """The cores that this process may use; -1, for any, as often as there are some, where the system does not say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [-1] * (os.cpu_count() or 1)


def measure(case: Case | None = None, /, *, keep_going: bool = False, show: Show = lambda done, seconds: None, **fields: Any) -> Result:
    """Run `case`, or Case(**fields), on real threads, for case.seconds; its result. By default as many CPUs as this process has cores.

    The policy's code is simulate()'s, and so is what the tasks do, from the same seed. CPUs are threads, each pinned to a core (round
    robin where there are more than cores), mms are memory, the count is contended for, and IPIs interrupt. The case's costs are not used.
    keep_going: count uses after free; without it the first ends the run and is raised, as UseAfterFree.
    show(share that is done, seconds) is called every 50 ms. Ctrl-C raises KeyboardInterrupt within 50 ms, with the result so far as its
    argument.
    Raises ValueError for what a real machine cannot do: more than 8192 CPUs, hotplug, mm_bytes above 1,000,000. Besides MemoryError,
    TypeError and ValueError as Case, and MachineError if a thread cannot be started or dies. Thread-safety: any thread may call it, but
    two machines at a time share cores.
    """
    if case is not None and (fields or not isinstance(case, Case)):
        raise TypeError(f"case={shown(case)}: a mmgen.lab.Case and nothing else, or a Case's fields")
    case = Case(**{"cpus": len(cores())} | fields) if case is None else case
    check(case)
    return Threads(case, keep_going).measure(show)


def check(case: Case) -> None:
    """ValueError for what a real machine cannot do."""
    if case.cpus > MOST_CPUS:
        raise ValueError(f"cpus={case.cpus} is out of range: 1 to {MOST_CPUS} threads")
    if case.mm_bytes > MOST_MM_BYTES:
        raise ValueError(f"mm_bytes={case.mm_bytes} is out of range: 0 to {MOST_MM_BYTES} where they are really allocated")
    if case.load.hotplug_per_s:
        raise ValueError(f"hotplug_per_s={case.load.hotplug_per_s:g} is out of range: 0 on real threads, which are not unplugged")


class Threads:
    """The threads of one measurement."""

    def __init__(self, case: Case, keep_going: bool) -> None:
        mine = cores()
        self.case, self.keep_going = case, keep_going
        self.cores = [mine[cpu % len(mine)] for cpu in range(case.cpus)]
        self.machine = Real(case.cpus, self.cores, 10**9 // case.hz, round(case.seconds * 1e9), case.load.plan(), case.policy.plan(),
                            np.random.PCG64(case.seed).spawn(case.cpus), keep_going, case.mm_bytes, case.cpus > len(mine))
        self.threads: list[threading.Thread] = []
        self.up = threading.Barrier(case.cpus + 1)
        self.go = threading.Event()
        self.over = threading.Event()
        self.left = case.cpus
        self.lock = threading.Lock()
        self.error: MachineError | None = None

    def measure(self, show: Show) -> Result:
        """Run to the end."""
        begin = time.perf_counter()
        try:
            self.start()
            while not self.over.wait(SHOW_S):
                done = max(time.perf_counter() - begin, 0.0)
                show(min(done / self.case.seconds, 1.0), done)
            self.stop()
        except KeyboardInterrupt as interrupt:
            self.stop()
            if self.error is not None:
                raise
            raise KeyboardInterrupt(self.result(begin)) from interrupt
        except BaseException:
            self.stop()
            raise
        if self.error is not None:
            raise self.error
        if self.machine.failed:
            raise MemoryError("no memory for another mm")
        if self.machine.bad and not self.keep_going:
            raise UseAfterFree(*self.machine.bad)
        return self.result(begin)

    def result(self, begin: float) -> Result:
        """The figures, when the threads have ended."""
        return result(self.case, self.machine, time.perf_counter() - begin)

    def start(self) -> None:
        """Start the threads. MachineError if one cannot be started, or pinned."""
        try:
            for cpu in range(self.case.cpus):
                thread = threading.Thread(target=self.drive, args=(cpu,), name=f"mmgen-lab-cpu{cpu}", daemon=True)
                thread.start()
                self.threads.append(thread)
            self.up.wait(START_S)
        except threading.BrokenBarrierError:
            raise self.error or MachineError(f"the CPUs' threads did not come up within {START_S:g} s") from None
        except RuntimeError as error:
            raise MachineError(f"only {len(self.threads)} of {self.case.cpus} threads could be started") from error
        self.machine.begin(time.monotonic_ns() + START_NS)
        self.go.set()

    def drive(self, cpu: int) -> None:
        """What the thread of `cpu` does."""
        try:
            if self.cores[cpu] >= 0:
                os.sched_setaffinity(0, {self.cores[cpu]})
            self.up.wait(START_S)
            self.go.wait()
            self.machine.run(cpu)
        except threading.BrokenBarrierError:
            pass                                        # another thread's failure
        except BaseException as error:
            with self.lock:
                self.error = self.error or MachineError(f"the thread of CPU {cpu} died: {error!r}")
            self.up.abort()
            self.machine.abandon()
        finally:
            with self.lock:
                self.left -= 1
                if not self.left:
                    self.over.set()

    def stop(self) -> None:
        """End the threads. MachineError if one does not end."""
        if self.go.is_set():
            self.machine.stop()
        else:                                           # none has begun, and some may never
            self.machine.abandon()
            self.up.abort()
            self.go.set()
        deadline = time.monotonic() + STOP_S
        for thread in self.threads:
            with contextlib.suppress(RuntimeError):     # it was not started
                thread.join(max(deadline - time.monotonic(), 0.01))
            if thread.is_alive():
                raise MachineError(f"{thread.name} did not end within {STOP_S:g} s")
