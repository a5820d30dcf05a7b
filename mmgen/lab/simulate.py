"""One case in virtual time, and its result."""
import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from mmgen._arguments import shown, whole
from mmgen._latency import Latency
from mmgen.lab._real import Real
from mmgen.lab._virtual import Machine, Virtual
from mmgen.lab.costs import Costs
from mmgen.lab.load import Load, interval
from mmgen.lab.policies import POLICIES, Generation, Policy
from mmgen.lab.timeline import Timeline, made, window

# Raised whenever a case may give another result than before: what a sweep has kept is then of another model.
MODEL = 2
PERCENTILES = {"p50": 50, "p90": 90, "p99": 99}
# What __mmdrop gives back at last: struct mm_struct (some 1,400 bytes) and the top page of the page tables.
MM_BYTES = 1_408 + 4_096

Show = Callable[[float, float], object]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is simulated. ValueError for what is out of range, TypeError for what is of a wrong type."""

    cpus: int = 64
    """1 to 65,536"""
    hz: int = 250
    """ticks a second on each CPU that is not idle, 1 to 10,000; their phases are spread over the period"""
    seconds: float = 1.0
    """of virtual time, 10**-6 to 10**5"""
    policy: Policy = field(default_factory=Generation)
    load: Load = field(default_factory=Load)
    costs: Costs = field(default_factory=Costs)
    seed: int = 0
    """of numpy's PCG64, 0 to 2**64 - 1: the same seed, the same result"""
    mm_bytes: int = MM_BYTES
    """what an mm that is not freed yet takes, for the figures of memory held; 0 to 10**9"""

    def __post_init__(self) -> None:
        for name, least, most in (("cpus", 1, 65_536), ("hz", 1, 10_000), ("seed", 0, 2**64 - 1), ("mm_bytes", 0, 10**9)):
            object.__setattr__(self, name, whole(getattr(self, name), name, least, most))
        object.__setattr__(self, "seconds", interval(self.seconds, "seconds", 1e-6, 1e5))
        for name, kinds in (("policy", tuple(POLICIES.values())), ("load", Load), ("costs", Costs)):
            value = getattr(self, name)
            if not isinstance(value, kinds):
                raise TypeError(f"{name}={shown(value)} is of type {type(value).__name__}: not one of mmgen.lab's")

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return dataclasses.asdict(self) | {"policy": {"name": self.policy.name} | dataclasses.asdict(self.policy)}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Self:
        """What to_dict() gave, a Case again; a field that is not there has its default. ValueError, TypeError: that is no case."""
        fields = entries(plain, "case", cls)
        if "load" in fields:
            fields["load"] = Load(**entries(fields["load"], "load", Load))
        if "costs" in fields:
            fields["costs"] = Costs(**entries(fields["costs"], "costs", Costs))
        if "policy" in fields:
            fields["policy"] = policy_of(fields["policy"])
        return cls(**fields)


def policy_of(plain: Any) -> Policy:
    """The policy of a case's JSON."""
    name = plain.get("name") if isinstance(plain, dict) else plain
    if not isinstance(name, str) or name not in POLICIES or name is plain:
        raise ValueError(f"policy's name={shown(name)} is none of {', '.join(POLICIES)}")
    own = {key: value for key, value in plain.items() if key != "name"}
    return POLICIES[name](**entries(own, name, POLICIES[name]))


def entries(plain: Any, name: str, kind: type) -> dict[str, Any]:
    """`plain`, a JSON object, as the fields of `kind`. TypeError where it is none, ValueError for what is no field."""
    if not isinstance(plain, dict):
        raise TypeError(f"{name}={shown(plain)} is of type {type(plain).__name__}, not an object of fields")
    known = [f.name for f in dataclasses.fields(kind)]
    for key in plain:
        if key not in known:
            raise ValueError(f"{name} has a field {shown(key)}, which is none of {', '.join(known)}")
    return dict(plain)


class UseAfterFree(Exception):  # noqa: N818 - it is what it is called
    """An mm was freed while a CPU used it, or used after: which mm (as they were forked, from 0: init_mm), which CPU, when."""

    def __init__(self, mm: int, cpu: int, ns: int) -> None:
        super().__init__(mm, cpu, ns)
        self.mm, self.cpu, self.ns = mm, cpu, ns

    def __str__(self) -> str:
        return f"mm {shown(self.mm)} was freed while CPU {shown(self.cpu)} uses it, at {shown(self.ns)} ns"


@dataclass(frozen=True)
class Result:
    """What came of a case, simulated or measured. Rates are of virtual seconds, times virtual ns, but those that say wall."""

    case: Case
    seconds: float
    """virtual, that were simulated"""
    switches: int
    """context switches, to kernel threads and the idle task too"""
    ticks: int
    events: int
    """what else happened: tasks and idle spells that ended, IPIs, exits, hotplug"""
    atomics: int
    """of the policy, on mm_count or in the domain"""
    lines: int | None
    """cache lines that came from another CPU for that; None on a real machine, which does not say"""
    ipis: int
    overhead_ns: int
    """what all that took, on all CPUs together"""
    exits: int
    """processes whose last task exited"""
    frees: int
    """mms freed"""
    held: int
    """mms of exited processes, not freed at the end"""
    held_peak: int
    held_mean: float
    hotplugs: int
    generations: int
    grace_periods: int
    """waits that ended: under a generation policy, the frees"""
    use_after_frees: int
    first_use_after_free: tuple[int, int, int] | None
    """(mm, CPU, ns)"""
    latencies: tuple[tuple[int, int, int], ...]
    """from exit to free, a histogram: (least ns, width, number)"""
    latency_percentiles_ns: dict[str, int | None]
    """p50, p90, p99 to 1/64 of themselves, max exactly"""
    wall_s: float = field(compare=False)
    """how long it took, with its beginning and end"""
    real: bool = False
    """measured, on real threads: then what is said to be virtual is not"""
    looks: int | None = None
    """CPUs whose lines the domain fetched to see whether they idle, or owe; None on a real machine"""
    held_series: tuple[tuple[int, float, int], ...] = ()
    """the mms held over time, in 256 equal buckets: (virtual ns at which one begins, the mean in it, the most in it)"""
    timeline: Timeline | None = field(default=None, compare=False)
    """if it was asked for"""

    @property
    def rates(self) -> dict[str, float]:
        """A second, on all CPUs together; without lines_per_s where `lines` is None."""
        names = ("switches", "atomics", "lines", "ipis", "exits", "frees", "generations", "grace_periods")
        known = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return {f"{name}_per_s": n / self.seconds if self.seconds else 0.0 for name, n in known.items()}

    @property
    def overhead_ns_per_switch(self) -> float:
        """What the policy took, for each switch."""
        return self.overhead_ns / self.switches if self.switches else 0.0

    @property
    def speed(self) -> dict[str, float]:
        """The simulation's own: CPU-ticks, and events of all kinds, in a second of wall time."""
        wall = self.wall_s or float("inf")
        return {"cpu_ticks_per_wall_s": self.ticks / wall, "events_per_wall_s": (self.ticks + self.events) / wall}

    def histogram(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The latencies as an array of rows (least ns, width, number)."""
        return np.array(self.latencies, dtype=np.int64).reshape(-1, 3)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it: every figure under its name, and those that follow from others."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("case", "timeline")}
        if self.timeline is not None:
            plain["timeline"] = self.timeline.to_dict()
        held = {f"held_bytes{which}": getattr(self, f"held{which}") * self.case.mm_bytes for which in ("", "_peak", "_mean")}
        more = {"lines_per_s": None} | self.rates | {"overhead_ns_per_switch": self.overhead_ns_per_switch} | held | self.speed
        return {"case": self.case.to_dict()} | plain | more

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Self:
        """What to_dict() gave, a Result again: what follows from other figures is worked out anew. ValueError, TypeError: that is none."""
        if not isinstance(plain, dict):
            raise TypeError(f"result={shown(plain)} is of type {type(plain).__name__}, not an object of figures")
        table: dict[str, Any] = {}
        for f in dataclasses.fields(cls):
            if f.name == "timeline":
                continue                                # only pictures of a case that has just run need it
            if f.name not in plain:
                raise ValueError(f"the result has no {f.name}")
            value = plain[f.name]
            if f.type in (int, float) and (isinstance(value, bool) or not isinstance(value, int if f.type is int else int | float)):
                raise TypeError(f"{f.name}={shown(value)} is of type {type(value).__name__}, not {f.type.__name__}")
            table[f.name] = value
        first, rows, percentiles = table["first_use_after_free"], table["latencies"], table["latency_percentiles_ns"]
        if not (first is None or whole_numbers(first)) or not isinstance(rows, list | tuple) or not all(map(whole_numbers, rows)):
            raise TypeError(f"first_use_after_free={shown(first)} or latencies={shown(rows)} are not of three whole numbers each")
        if not isinstance(percentiles, dict) or not all(ns is None or type(ns) is int for ns in percentiles.values()):
            raise TypeError(f"latency_percentiles_ns={shown(percentiles)} are not whole numbers")
        series = table["held_series"]
        if not isinstance(series, list | tuple) or not all(map(numbers, series)):
            raise TypeError(f"held_series={shown(series)} are not of three numbers each")
        return cls(**table | {"case": Case.from_dict(table["case"]), "latencies": tuple(map(tuple, rows)),
                              "held_series": tuple(map(tuple, series)),
                              "first_use_after_free": first if first is None else tuple(first)})


def numbers(row: Any, kinds: tuple[type, ...] = (int, float)) -> bool:
    """Whether it is three of them."""
    return isinstance(row, list | tuple) and len(row) == 3 and all(type(number) in kinds for number in row)


def whole_numbers(row: Any) -> bool:
    """Whether it is three of them."""
    return numbers(row, (int,))


def simulate(case: Case | None = None, /, *, keep_going: bool = False, show: Show = lambda done, seconds: None,
             timeline: tuple[float, float] | None = None, **fields: Any) -> Result:
    """Simulate `case`, or Case(**fields); its result.

    keep_going: count uses after free; without it the first is raised, as UseAfterFree.
    show(share that is done, virtual seconds) is called every 10 ms or so. Ctrl-C raises KeyboardInterrupt within 50 ms, with the result so
    far as its argument.
    timeline: (begin, end) in virtual seconds: note what each CPU does then, 100,000 marks at most, in Result.timeline. The figures are the
    same; it takes longer.
    Raises MemoryError; ValueError and TypeError as Case. Thread-safety: as many at a time as you like.
    """
    if case is not None and (fields or not isinstance(case, Case)):
        raise TypeError(f"case={shown(case)}: a mmgen.lab.Case and nothing else, or a Case's fields")
    return run(Case(**fields) if case is None else case, keep_going, show, timeline=timeline)


def run(case: Case, keep_going: bool, show: Show, fast: bool = True, timeline: tuple[float, float] | None = None) -> Result:
    """As simulate(). fast: take the short way where there is one, to the same result."""
    end_ns = round(case.seconds * 1e9)
    marked = window(timeline)
    begin = time.perf_counter()
    machine = Virtual(case.cpus, 10**9 // case.hz, end_ns, case.costs.plan(), case.load.plan(), case.policy.plan(),
                      np.random.PCG64(case.seed), keep_going, fast, marked)
    try:
        while not machine.go_on():
            show(machine.now_ns / end_ns, machine.now_ns / 1e9)
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(result(case, machine, time.perf_counter() - begin, marked[0] if marked else 0)) from interrupt
    if machine.bad and not keep_going:
        raise UseAfterFree(*machine.bad)
    return result(case, machine, time.perf_counter() - begin, marked[0] if marked else 0)


def result(case: Case, machine: Machine | Real, wall_s: float, begin_ns: int = 0) -> Result:
    """The figures of `machine`."""
    ran_ns = machine.ran_ns if isinstance(machine, Real) else machine.now_ns
    counts = machine.counts
    latency: Latency = machine.latencies
    held, held_peak, held_ns = machine.held
    return Result(
        case=case, seconds=ran_ns / 1e9, switches=counts["switches"], ticks=counts["ticks"], events=counts["events"],
        atomics=counts["atomics"], lines=counts["lines"], ipis=counts["ipis"], overhead_ns=counts["overhead_ns"], exits=counts["exits"],
        frees=counts["frees"], held=held, held_peak=held_peak, held_mean=held_ns / ran_ns if ran_ns else 0.0,
        hotplugs=counts["hotplugs"], generations=machine.generation,
        grace_periods=counts["frees"] if isinstance(case.policy, Generation) else 0, use_after_frees=counts["use_after_frees"],
        first_use_after_free=machine.bad, real=isinstance(machine, Real), latencies=tuple(latency.buckets()),
        latency_percentiles_ns={name: latency.percentile_ns(percent) for name, percent in PERCENTILES.items()}
        | {"max": latency.max_ns if latency.count else None}, wall_s=wall_s, looks=counts.get("looks"),
        held_series=() if isinstance(machine, Real) else tuple(machine.series),
        timeline=None if isinstance(machine, Real) else made(machine.marks, begin_ns))
