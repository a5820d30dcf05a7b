"""What things cost on this machine: the table that the virtual machine is given, and `mmgen calibrate`."""
import argparse
import json
import os
import platform
import statistics
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from typing import Any

from mmgen._arguments import whole
from mmgen.lab._calibrate import Bench
from mmgen.lab.costs import Costs
from mmgen.lab.load import Load
from mmgen.lab.policies import Shootdown
from mmgen.lab.real import cores, measure
from mmgen.lab.simulate import Case
from mmgen.output import report_to

ROUNDS = 300
ALONE = "the default: two cores are needed to measure it"
NOT_LET = "the default: this system does not let a process interrupt its threads (membarrier)"
HOW = {
    "line": "an atomic on a line that a thread on another core has just written, less `atomic`",
    "atomic": "an atomic add, and a sub, of a line that is there",
    "fence": "a full fence",
    "ipi": "membarrier to another core, and a word, until the thread that runs there has answered",
    "interrupt": "the longest gap between two looks at the clock of that thread",
    "look": "a load of such a line, among others that do not wait for it",
    "switch": "what the real machine's loop takes for a switch that no policy has to do with",
}


@dataclass(frozen=True)
class Calibration:
    """Costs as they were measured, and each in words: in which way."""

    costs: Costs
    how: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it, and Costs.read() reads it."""
        return {"costs": asdict(self.costs), "how": self.how,
                "host": {"machine": platform.machine(), "kernel": f"{platform.system()} {platform.release()}", "cores": len(cores())}}


def calibrate(rounds: int = ROUNDS) -> Calibration:
    """Measure every cost, the median of `rounds` rounds (2 to 10**6): some 0.1 ms each. A pair of threads is pinned to the first two
    cores that this process may use; what needs two, with one, is left at its default, and said to be.

    Raises ValueError for `rounds`, MemoryError. Thread-safety: any thread may call it, but what else runs on those cores is measured, too.
    """
    rounds = whole(rounds, "rounds", 2, 10**6)
    with ThreadPoolExecutor(2) as threads:
        bench, mine = Bench(), cores()
        stop = threading.Event()
        partner = threads.submit(pinned, mine[1], bench.partner) if len(mine) > 1 else None
        try:
            found = threads.submit(pinned, mine[0], lambda: alone(bench, rounds, stop) | (pair(bench, rounds, mine[1], stop) if partner
                                                                                          else {}))
            medians = found.result()
        finally:
            stop.set()
            bench.leave()
    medians["switch"] = loop_ns()
    default = Costs()
    costs = Costs(**{field.name: round(medians[field.name]) if field.name in medians else getattr(default, field.name)
                     for field in fields(Costs)})
    missing = ALONE if partner is None else NOT_LET
    return Calibration(costs, {name: text if name in medians else missing for name, text in HOW.items()})


def pinned(core: int, call: Callable[[], Any]) -> Any:
    """What `call` returns, on that core."""
    if core >= 0:
        os.sched_setaffinity(0, {core})
    return call()


def median(call: Callable[[], float], rounds: int, stop: threading.Event) -> float:
    """Of the rounds, the first of which is left out; fewer, if told to stop."""
    call()
    taken = [call()]
    while len(taken) < rounds and not stop.is_set():
        taken.append(call())
    return statistics.median(taken)


def alone(bench: Bench, rounds: int, stop: threading.Event) -> dict[str, float]:
    """What one thread can measure."""
    return {"atomic": median(bench.atomic, rounds, stop), "fence": median(bench.fence, rounds, stop)}


def pair(bench: Bench, rounds: int, core: int, stop: threading.Event) -> dict[str, float]:
    """What takes two."""
    atomic = median(bench.atomic, rounds, stop)
    medians = {"line": max(median(lambda: bench.lines(True), rounds, stop) - atomic, 0.0),
               "look": median(lambda: bench.lines(False), rounds, stop)}
    if bench.interrupts:
        taken = [bench.ipi(core)]
        while len(taken) < rounds and not stop.is_set():
            taken.append(bench.ipi(core))
        for name, values in zip(("ipi", "interrupt"), zip(*taken, strict=True), strict=True):
            medians[name] = statistics.median(values)
    return medians


def loop_ns() -> float:
    """The real machine's own part of a switch."""
    load = Load(kind="threads", mms=1, switch_us=5, distribution="fixed")
    case = Case(cpus=1, hz=1, seconds=0.01, policy=Shootdown(), load=load)
    return statistics.median(measure(case).overhead_ns_per_switch for _ in range(5))


def run(o: argparse.Namespace) -> int:
    """`mmgen calibrate`."""
    whole(o.rounds, "rounds", 2, 10**6)
    with report_to(o.output) as out:
        table = calibrate(o.rounds)
        if out is not None:
            json.dump(table.to_dict(), out, indent=1)
            out.write("\n")
    if o.output != "-":
        for name, ns in asdict(table.costs).items():
            print(f"  {name:<10} {ns:>7,} ns  {table.how[name]}")
    return 0
