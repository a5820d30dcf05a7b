"""Whether the virtual machine says what a real one does: three workloads on 2 CPUs, on both, and `mmgen lab validate`."""
import argparse
import dataclasses
import json
import statistics
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmgen._arguments import shown, whole
from mmgen.lab.calibrate import calibrate
from mmgen.lab.command import costs as costs_of
from mmgen.lab.command import describe_real, given
from mmgen.lab.costs import Costs
from mmgen.lab.load import Load, interval
from mmgen.lab.policies import Generation, Policy, Refcount, Shootdown, name_of
from mmgen.lab.real import cores, measure
from mmgen.lab.simulate import Case, Result, Show, simulate
from mmgen.output import report_to
from mmgen.progress import progress

BEYOND = 1              # the status
CPUS = 2
WITHIN = 0.15
FLOOR_NS = 5_000        # a median that is less on both is of a few looks at the clock, and of which came first
FEW = 100               # counted in all rounds: of fewer, chance alone is a tenth and more
CALM = 0.01             # the share of its time that a round's threads may wait for a core
AGAIN = 2               # times as many rounds more, at most, for those that were disturbed
LONGER = 5              # times that the virtual one runs as long: its own chance is to add nothing
RATES = ("switches", "atomics", "ipis", "frees")
MEDIAN = "median exit-to-free"
USED = "uses after free"


@dataclass(frozen=True)
class Workload:
    """What both machines are given, and under which policies each mm is freed at last."""

    name: str
    hz: int
    load: Load
    policies: tuple[Policy, ...]


EVERY = (Refcount(), Shootdown(), Generation("hang"), Generation("drop"), Generation("kick"))
WORKLOADS = (
    Workload("exits", 1000, Load(switch_us=100, idle=0.3, idle_us=100, exits=0.1, migrate=0.3), EVERY),
    Workload("idle threads", 1000, Load(kind="threads", mms=1, switch_us=50, idle=1, idle_us=50, waiters=1), EVERY),
    # Idle spells short and few enough that two runs of the virtual machine, too, agree: long ones are a matter of chance within a second.
    Workload("kernel threads", 250, Load(switch_us=300, idle=0.03, idle_us=4000, kthread=0.1, kthread_us=1500, exits=0.05, migrate=0.2,
                                         waiters=2), EVERY),
)


@dataclass(frozen=True)
class Row:
    """One figure of one workload and policy, on both machines: a rate per second, or ns."""

    workload: str
    policy: str
    figure: str
    virtual: float | None
    real: float | None
    """the median of the rounds"""
    compared: bool
    """whether there is enough of it"""

    @property
    def ratio(self) -> float | None:
        """Of virtual to real; None where there is none."""
        return self.virtual / self.real if self.real and self.virtual is not None else None

    @property
    def beyond(self) -> bool:
        """Whether they differ by more than 15 % of the real one. Zero agrees with zero, and with nothing else; a use after free never."""
        if not self.compared or self.figure == USED:
            return self.compared
        return self.virtual is None or self.real is None or abs(self.virtual - self.real) > WITHIN * self.real


@dataclass(frozen=True)
class Validation:
    """What both machines said, and the costs that the virtual one was given."""

    costs: Costs
    rows: tuple[Row, ...]
    waited: float | None
    """the share of its time that the most disturbed round's threads waited for a core, as far as was seen; None: the system does not say"""

    @property
    def beyond(self) -> tuple[Row, ...]:
        """The figures that are beyond 15 %."""
        return tuple(row for row in self.rows if row.beyond)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"costs": dataclasses.asdict(self.costs), "within": WITHIN, "waited": self.waited,
                "rows": [dataclasses.asdict(row) | {"ratio": row.ratio, "beyond": row.beyond} for row in self.rows]}


def validate(costs: Costs | None = None, *, rounds: int = 3, seconds: float = 1.0, seed: int = 0,
             show: Show = lambda done, seconds: None) -> Validation:
    """Run three workloads on 2 CPUs under each policy, on real threads and in virtual time, and compare rates and medians.

    costs: of this machine; None: calibrate() first. The real side is measured `rounds` times (1 to 1000) for `seconds` (0.001 to 1000)
    each, with seeds from `seed` (0 to 2**64 - 1) on, and medians taken; a round that other work disturbs is measured again, up to twice as
    many. The virtual side runs for 5 times `rounds` times `seconds`. Compared is what was counted 100 times on either side, and medians
    from 5 us. show(share that is done, seconds of them) is called every 50 ms. Ctrl-C raises KeyboardInterrupt within 50 ms.
    Raises ValueError, also with fewer than 2 cores, TypeError, MemoryError and MachineError.
    Thread-safety: any thread may call it, but what else runs on those cores is measured, too.
    """
    rounds = whole(rounds, "rounds", 1, 1000)
    seconds = interval(seconds, "seconds", 0.001, 1000)
    seed = whole(seed, "seed", 0, 2**64 - 1)
    if costs is not None and not isinstance(costs, Costs):
        raise TypeError(f"costs={shown(costs)} is of type {type(costs).__name__}: not one of mmgen.lab's")
    if len(cores()) < CPUS:
        raise ValueError(f"cores={len(cores())} is out of range: validation needs {CPUS} that this process may use")
    costs = calibrate().costs if costs is None else costs
    cases = [(workload, policy) for workload in WORKLOADS for policy in workload.policies]
    rows: list[Row] = []
    waited: list[float | None] = []
    for number, (workload, policy) in enumerate(cases):
        def tell(done: float, so_far: float, before: int = number) -> None:
            show((before + done) / len(cases), rounds * seconds * before + so_far)
        case = Case(cpus=CPUS, hz=workload.hz, seconds=seconds, policy=policy, load=workload.load, costs=costs, seed=seed)
        virtual = simulate(dataclasses.replace(case, seconds=min(LONGER * rounds * seconds, 1e5)), keep_going=True)
        real = calmest(case, rounds, tell)
        rows += compared(workload.name, virtual, [result for _, result in real])
        waited += (share for share, _ in real)
    known = [share for share in waited if share is not None]
    return Validation(costs, tuple(rows), max(known) if known else None)


def calmest(case: Case, rounds: int, show: Show) -> list[tuple[float | None, Result]]:
    """Results of as many rounds, and the share that each one's threads waited: the least disturbed, of more if there were such."""
    kept: list[tuple[float | None, Result]] = []
    for turn in range(rounds * (1 + AGAIN)):
        waits: list[float | None] = [None]

        def tell(done: float, so_far: float, before: int = turn, waits: list[float | None] = waits) -> None:
            waits[0] = waited_ns()
            show(min((before + done) / rounds, 1.0), min(before * case.seconds + so_far, rounds * case.seconds))
        result = measure(dataclasses.replace(case, seed=(case.seed + turn) % 2**64), keep_going=True, show=tell)
        kept.append((None if waits[0] is None else waits[0] / (case.cpus * case.seconds * 1e9), result))
        if sum((share or 0) <= CALM for share, _ in kept) >= rounds:
            break
    return sorted(kept, key=lambda one: one[0] or 0)[:rounds]


def waited_ns() -> float | None:
    """How long the CPUs' threads have been kept waiting for a core, although they could run. None where the system does not say."""
    total = 0
    for thread in threading.enumerate():
        if thread.name.startswith("mmgen-lab-cpu"):
            try:
                total += int(Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text().split()[1])
            except (OSError, ValueError, IndexError):       # no Linux, or it has just ended
                return None
    return total


def compared(workload: str, virtual: Result, real: list[Result]) -> Iterator[Row]:
    """The rows of one case: its figures on the virtual machine, and the medians of those on the real one."""
    policy = name_of(virtual.case.to_dict()["policy"])
    longer = virtual.seconds / sum(r.seconds for r in real)
    for name in RATES:
        counts = getattr(virtual, name), sum(getattr(r, name) for r in real)
        both = virtual.rates[f"{name}_per_s"], statistics.median(r.rates[f"{name}_per_s"] for r in real)
        yield Row(workload, policy, f"{name}/s", *both, max(counts[0] / longer, counts[1]) >= FEW or not any(counts))
    medians = [r.latency_percentiles_ns["p50"] for r in real]
    there = [ns for ns in medians if ns is not None]
    both_ns = virtual.latency_percentiles_ns["p50"], statistics.median(there) if there else None
    enough = max(virtual.frees / longer, sum(r.frees for r in real)) >= FEW
    yield Row(workload, policy, MEDIAN, *both_ns, enough and max(ns or 0 for ns in both_ns) >= FLOOR_NS)
    bad = virtual.use_after_frees, sum(r.use_after_frees for r in real)
    if any(bad):
        yield Row(workload, policy, USED, *bad, True)


# ---- the command -------------------------------------------------------------------------------------------------------------------

def run(o: argparse.Namespace) -> int:
    """`mmgen lab validate`. 0; 1: something is beyond 15 %. Raises as validate(), and OSError."""
    table = costs_of(o.cost, o.costs) if o.cost or o.costs else None
    with report_to(o.json) as out:
        with progress(describe_real) as show:
            found = validate(table, show=show, **given(o, Case, ("rounds", "seconds", "seed")))
        if out is not None:
            json.dump(found.to_dict(), out, indent=1)
            out.write("\n")
    if o.json != "-":
        print(text(found))
    return BEYOND if found.beyond else 0


def number_text(row: Row, value: float | None) -> str:
    """A figure: whole, or a time in us."""
    if value is None:
        return "-"
    return f"{value / 1e3:,.1f} us" if row.figure == MEDIAN else f"{value:,.0f}"


def text(found: Validation) -> str:
    """A table, for a terminal."""
    cells = [["workload", "policy", "figure", "virtual", "real", "ratio", ""]]
    cells += ([row.workload, row.policy, row.figure, number_text(row, row.virtual), number_text(row, row.real),
               "-" if row.ratio is None else f"{row.ratio:.2f}", "BEYOND 15 %" if row.beyond else "" if row.compared else "not compared"]
              for row in found.rows)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join([*(word.ljust(width) for word, width in zip(line[:3], widths, strict=False)),
                        *(word.rjust(width) for word, width in zip(line[3:6], widths[3:], strict=False)), line[6]]).rstrip()
             for line in cells]
    many = sum(row.compared for row in found.rows)
    lines += ["", "costs: " + ", ".join(f"{name} {ns:,}" for name, ns in dataclasses.asdict(found.costs).items()) + " ns",
              f"{many - len(found.beyond)} of {many} figures that are compared agree within {100 * WITHIN:.0f} %"]
    if found.waited is not None:
        lines.append(f"the real machine's CPUs waited for their cores {100 * found.waited:.1f} % of the time, at most"
                     f"{': other work runs there, and what differs may be its doing' if found.waited > CALM else ''}")
    return "\n".join(lines)
