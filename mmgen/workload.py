"""What the CPUs of a machine do: switch at a rate, idle, replay a recorded machine, or call a function."""
import math
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from mmgen._arguments import integer, real, shown, whole
from mmgen.domain import Cpu
from mmgen.mmtrace import Event, MmTrace

# So many tick periods without a tick or anything else, and a CPU did not run: ticks come late, but not by more than one. The same in
# lab/replay/_steps.pyx, which is C: tests/test_replay_steps.py holds both to it.
QUIET = 3


@dataclass(frozen=True)
class Busy:
    """Every CPU runs all the time, and switches its mm once in `switch_us` microseconds.

    distribution: "fixed", or "exponential" with that mean, drawn from `seed` (the CPU's index added). switch_us=0: without pause.
    A rate that a core cannot keep up is not made up for later than a tick.
    """

    switch_us: float = 100.0
    distribution: str = "exponential"
    seed: int = 0

    def __post_init__(self) -> None:
        interval("switch_us", self.switch_us, 0, 1e12)
        known(self.distribution)
        whole(self.seed, "seed", 0, 2**64 - 1)


@dataclass(frozen=True)
class Idle:
    """Every CPU idles without a tick, and once in `switch_ms` milliseconds wakes, switches its mm and idles again."""

    switch_ms: float = 100.0
    distribution: str = "exponential"
    seed: int = 0

    def __post_init__(self) -> None:
        interval("switch_ms", self.switch_ms, 0.001, 1e9)
        known(self.distribution)
        whole(self.seed, "seed", 0, 2**64 - 1)


@dataclass(frozen=True)
class Replay:
    """Each CPU does what a recorded one did, when it did it: its switches, its ticks, its idle spells; then it idles.

    A switch to a task with an mm counts as one, and so does an exec; a switch to a kernel thread does not (the CPU keeps the mm, lazily);
    a switch to the idle task drops the mm and idles, without a tick, until the CPU switches to anything else. A CPU that is not said to
    idle, and of which nothing was recorded for three tick periods, has idled: recorders miss switches.
    """

    trace: MmTrace

    def __post_init__(self) -> None:
        if not isinstance(self.trace, MmTrace):
            raise TypeError(f"trace={shown(self.trace)} is of type {type(self.trace).__name__}, not an MmTrace: mmtrace.read() reads one")

    def steps(self, cpu: int) -> tuple["array[int]", "array[int]"]:
        """When CPU `cpu` does what, in ns from the trace's beginning, and what (a Step). TypeError unless `cpu` is a whole number."""
        cpu = integer(cpu, "cpu")
        times, steps = array("q"), array("q")
        quiet_ns = QUIET * 10**9 // self.trace.hz if any(event.kind == "T" for event in self.trace.events) else math.inf
        running = False
        for event in self.trace.events:
            if event.cpu == cpu and (step := step_of(event)) is not None:
                if not times and event.kind == "S" and event.operands[0] == 0:
                    times.append(0)                     # the CPU idled when the recording began
                    steps.append(Step.IDLE)
                elif running and event.t_ns - times[-1] > quiet_ns:
                    times.append(times[-1] + 10**9 // self.trace.hz)            # it would have ticked
                    steps.append(Step.IDLE)
                    running = False
                times.append(event.t_ns)
                steps.append(step)
                if step is not Step.TICK:
                    running = step is not Step.IDLE
        return times, steps


class Step(IntEnum):
    """One thing that a replayed CPU does; _machine.pyx knows them by these numbers."""

    SWITCH, KERNEL, IDLE, TICK = range(4)


def step_of(event: Event) -> Step | None:
    """What `event` has its CPU do; None for what concerns an mm alone."""
    if event.kind == "T":
        return Step.TICK
    if event.kind == "C":
        return Step.SWITCH                              # exec's activate_mm
    if event.kind != "S":
        return None
    _, _, next_tid, next_mm = event.operands
    return Step.SWITCH if next_mm else Step.KERNEL if next_tid else Step.IDLE


@dataclass(frozen=True)
class Calls:
    """Every CPU calls `fn(cpu)`, with its own handle, again and again; between two calls it ticks, where a tick is due.

    The calls switch: cpu.switch() where the CPU holds no reference. A call that sleeps does so in `with cpu.idle():`. What a call
    raises ends the machine.
    """

    fn: Callable[[Cpu], object]

    def __post_init__(self) -> None:
        if not callable(self.fn):
            raise TypeError(f"{shown(self.fn)} is not callable")


Workload = Busy | Idle | Replay | Calls


def interval(name: str, value: float, least: float, most: float) -> None:
    """ValueError unless least <= value <= most, TypeError unless it is a number."""
    if not least <= real(value, name) <= most:
        raise ValueError(f"{name}={shown(value)} is out of range: {least:g} to {most:g}")


def known(distribution: str) -> None:
    """ValueError unless it is the name of one."""
    if distribution not in ("fixed", "exponential"):
        raise ValueError(f"distribution={shown(distribution)} is neither 'fixed' nor 'exponential'")
