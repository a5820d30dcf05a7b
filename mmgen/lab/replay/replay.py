"""A recorded machine under every policy of the lab: what each would have cost there, and how long waits would have taken."""
import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmgen._arguments import real, shown
from mmgen.arrivals import steady
from mmgen.lab.compare import policies as lab_policies
from mmgen.lab.costs import Costs
from mmgen.lab.load import interval
from mmgen.lab.policies import POLICIES, Generation, Policy, Refcount, Shootdown
from mmgen.lab.replay._recorded import Recorded
from mmgen.lab.replay.aside import aside
from mmgen.lab.replay.steps import Steps, What, steps_of
from mmgen.lab.replay.waits import PERCENTILES, Array, Waits, waits
from mmgen.lab.simulate import MM_BYTES, Case, Result, Show, result
from mmgen.lab.timeline import window
from mmgen.lab.traces.columns import Kind, Trace

RATE = 97.0                             # waits a second, as `mmgen run` has them: no multiple of any tick's


@dataclass(frozen=True, kw_only=True)
class RecordedCase(Case):
    """A recorded machine under a policy: the case of a replay's result. There is no load and no seed in it."""

    trace: str = ""
    """the recording's name"""

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {name: value for name, value in super().to_dict().items() if name not in ("load", "seed")}


@dataclass(frozen=True)
class Arrivals:
    """Waits that begin at a steady rate, and one at each teardown, on one domain: they join each other's generations."""

    idle: str
    begun_ns: Array
    """int64, sorted"""
    took_ns: Array
    """float64; inf: not over when the recording ends"""

    def percentile_ns(self, percent: float) -> float | None:
        """As Waits has it; None, too, where there are none."""
        return percentile(self.took_ns, percent)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"idle": self.idle, "waits": len(self.took_ns), **{f"{name}_ns": self.percentile_ns(p) for name, p in PERCENTILES.items()},
                "max_ns": longest_ns(self.took_ns), "at_once_share": float(np.mean(self.took_ns == 0)) if len(self.took_ns) else 0.0,
                "unfinished": int(np.count_nonzero(np.isinf(self.took_ns)))}


@dataclass(frozen=True)
class Replay:
    """What came of it. Thread-safety: it is not changed any more."""

    trace: Trace
    steps: Steps
    results: tuple[Result, ...]
    """one for each policy, with every mm that was torn down freed by it"""
    waits: tuple[Waits, ...]
    """under each idle rule among the policies: a wait from any moment, alone"""
    arrivals: tuple[Arrivals, ...]
    """under the same rules: waits as `mmgen run` has them"""
    idealised_ns: float | None
    """the median of the idealised wait, see idealised()"""
    lazy: int
    """recorded switches and exits by which a CPU began to use an mm lazily, or ended that: each an atomic on mm_count"""
    lazy_teardowns: int
    """recorded teardowns with another CPU lazily on the mm"""

    @property
    def recorded(self) -> dict[str, Any]:
        """What the recording itself says, without what was made up."""
        counts, seconds = self.trace.counts, self.trace.seconds or float("inf")
        return {"name": self.trace.name, "cpus": self.trace.cpus, "hz": self.trace.hz, "seconds": self.trace.seconds,
                "events": len(self.trace), **{f"nr_{name}": n for name, n in counts.items()}, "switches_per_s": counts["switch"] / seconds,
                "refcount_atomics": self.lazy, "refcount_atomics_per_s": self.lazy / seconds,
                "teardowns_with_another_cpu_lazy": self.lazy_teardowns, "shootdown_ipis_per_s": self.lazy_teardowns / seconds,
                "made_up_switches": self.steps.made_up, "made_up_ticks": self.trace.made_up_ticks, "lost_events": self.trace.lost,
                "contradictions": self.steps.contradictions, "notes": list(self.trace.notes)}

    def at_teardowns(self, found: Waits) -> Array:
        """What a wait alone takes from each teardown, in ns: float64, inf where it is not over when the recording ends."""
        return found.latency_ns(self.trace.t_ns[self.trace.kind == Kind.TEARDOWN])

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it: every figure under its name."""
        alone = []
        for found in self.waits:
            at = self.at_teardowns(found)
            teardowns = {f"teardown_{name}_ns": percentile(at, percent) for name, percent in PERCENTILES.items()}
            alone.append(found.to_dict() | teardowns | {"teardown_max_ns": longest_ns(at)})
        return {"recorded": self.recorded, "waits_alone": alone, "waits_arriving": [one.to_dict() for one in self.arrivals],
                "idealised_p50_ns": self.idealised_ns, "results": [r.to_dict() for r in self.results]}


def percentile(took_ns: Array, percent: float) -> float | None:
    """Of times in ns; None for none, and for one that is not over when the recording ends. ValueError unless percent is 0 to 100."""
    wanted = real(percent, "percent")
    if not 0 <= wanted <= 100:
        raise ValueError(f"percent={shown(percent)} is out of range: 0 to 100")
    if not len(took_ns):
        return None
    ns = float(aside(lambda: np.percentile(took_ns, wanted, method="inverted_cdf")))
    return ns if np.isfinite(ns) else None


def longest_ns(took_ns: Array) -> float | None:
    """The longest that is over."""
    over = took_ns[np.isfinite(took_ns)]
    return float(over.max()) if len(over) else None


def policies(patience: int = 4) -> tuple[Policy, ...]:
    """What a recording is replayed under: refcount, shootdown with and without trim, generation under each idle rule."""
    plain = lab_policies(patience)
    return (plain[0], plain[1], Shootdown(trim=True), *plain[2:])


def replay(trace: Trace, *, policies: Sequence[Policy] = policies(), rate: float = RATE, costs: Costs | None = None,
           mm_bytes: int = MM_BYTES, show: Show = lambda done, seconds: None) -> Replay:
    """Replay `trace` under each of `policies`, and find out how long waits take under their idle rules.

    rate: waits a second, 0 to 10**6, in `Replay.arrivals`. costs: what atomics, lines and IPIs cost, for the results' overhead; they take
    no time from the recorded tasks.
    show(share that is done, seconds of the recording) is called every 10 ms or so.
    Raises TypeError for what is no Trace or policy; ValueError for a trace without events or shorter than 1 us, and what is out of range;
    MemoryError. Ctrl-C: KeyboardInterrupt within 50 ms. Thread-safety: as many at a time as you like.
    """
    chosen = tuple(policies)
    for policy in chosen:
        if not isinstance(policy, tuple(POLICIES.values())):
            raise TypeError(f"policy={shown(policy)} is of type {type(policy).__name__}: not one of mmgen.lab's")
    rate = interval(rate, "rate", 0, 1e6)
    interval(rate * trace.seconds if isinstance(trace, Trace) else 0, "rate times the trace's seconds", 0, 1e7)
    if costs is not None and not isinstance(costs, Costs):
        raise TypeError(f"costs={shown(costs)} is of type {type(costs).__name__}, not mmgen.lab.Costs")
    paid = costs or Costs()
    steps = steps_of(trace)
    first = RecordedCase(cpus=trace.cpus, hz=trace.hz, seconds=trace.seconds, policy=Refcount(), costs=paid, mm_bytes=mm_bytes,
                         trace=trace.name)
    cases = [dataclasses.replace(first, policy=policy) for policy in chosen]
    rules: dict[str, Generation] = {p.idle: p for p in chosen if isinstance(p, Generation) and not p.continuous and p.broken is None}
    parts = len(cases) + 2 * len(rules) + 1
    done = 0

    def far(ns: int = 0) -> None:
        show((done + ns / (trace.seconds * 1e9)) / parts, ns / 1e9)

    results = []
    for case in cases:
        begin = time.perf_counter()
        results.append(result(case, run(steps, case, far), time.perf_counter() - begin))
        done += 1
    alone, arriving = [], []
    due = aside(lambda: np.sort(np.concatenate((np.array(steady(rate, trace.seconds), np.int64),
                                                trace.t_ns[trace.kind == Kind.TEARDOWN])), kind="stable"))
    for rule, policy in rules.items():
        alone.append(waits(steps, rule, patience=policy.patience, ipi_ns=paid.plan()["ipi"], show=far))
        done += 1
        machine = run(steps, dataclasses.replace(first, policy=policy), far, arrivals=due)
        ends = np.frombuffer(machine.ends, np.int64)
        arriving.append(Arrivals(rule, due, np.where(ends < 0, np.inf, (ends - due).astype(np.float64))))
        done += 1
    # A CPU is in a trimmed mm_cpumask as long as it uses the mm: so many IPIs as CPUs use one lazily that is torn down elsewhere.
    trimmed = run(steps, dataclasses.replace(first, policy=Shootdown(trim=True)), far)
    return Replay(trace, steps, tuple(results), tuple(alone), tuple(arriving), aside(lambda: idealised(steps)),
                  aside(lambda: lazy_changes(trace)), trimmed.counts["ipis"])


def with_timelines(found: Replay, begin: float, end: float) -> Replay:
    """`found` with a timeline from `begin` to `end`, seconds of the recording, in each generation policy's result. Raises as replay()."""
    if not isinstance(found, Replay):
        raise TypeError(f"found={shown(found)} is of type {type(found).__name__}, not a Replay: replay() makes one")
    marked = window((begin, end))
    again = []
    for r in found.results:
        if marked is None or not isinstance(r.case.policy, Generation):
            again.append(r)
        else:
            start = time.perf_counter()
            machine = run(found.steps, r.case, lambda ns: None, timeline=marked)
            again.append(result(r.case, machine, time.perf_counter() - start, marked[0]))
    return dataclasses.replace(found, results=tuple(again))


def lazy_changes(trace: Trace) -> int:
    """Recorded switches from a task with an mm to one without or back, and exits: where a reference for lazy use is taken, or dropped."""
    switches = trace.kind == Kind.SWITCH
    return int(np.count_nonzero((trace.mm[switches] != 0) != (trace.next_mm[switches] != 0))) + trace.counts["exit"]


def run(steps: Steps, case: Case, show: Any, arrivals: Array | None = None, exits: bool = True,
        timeline: tuple[int, int] | None = None) -> Recorded:
    """The machine, at its end. show(ns) is called every 10 ms or so."""
    policy = case.policy
    machine = Recorded(case.cpus, steps.steps.view(np.uint8), steps.first.view(np.uint8), steps.nr_mms, int(steps.trace.t_ns[-1]),
                       case.costs.plan(), policy.plan(), isinstance(policy, Generation) and policy.idle == "drop", exits,
                       np.zeros(0, np.int64) if arrivals is None else arrivals, True, timeline)
    while not machine.go_on():
        show(machine.now_ns)
    return machine


def idealised(steps: Steps) -> float | None:
    """The median time in ns of an idealised wait, from any moment; None: it is not over when the recording ends.

    Two increments of a generation that is counted all the time, and opens when every CPU has switched to a task with an mm since it opened,
    and ticked after that; idle CPUs are waited for, and only recorded switches count. It is what the sketch is meant to be.
    """
    events = steps.steps[(steps.steps["made_up"] == 0) & np.isin(steps.steps["what"], (What.USER, What.EXEC, What.TICK))]
    order = np.argsort(events["cpu"], kind="stable")
    cpu, is_tick = events["cpu"][order], events["what"][order] == What.TICK
    # By tick: the CPU's last switch before it, as its index among the events; -1: none.
    last = np.maximum.accumulate(np.where(is_tick, -1, np.arange(len(order))))
    last = np.where((last >= 0) & (cpu == cpu[last]), order[last], -1)[is_tick] if len(order) else last
    ticks = order[is_tick]
    by_time = np.argsort(ticks)
    opened, ticked, since = [0], set[int](), -1
    for at, switch in zip(ticks[by_time].tolist(), last[by_time].tolist(), strict=True):
        if switch > since:
            ticked.add(int(events["cpu"][at]))
            if len(ticked) == steps.trace.cpus:
                opened.append(int(events["t_ns"][at]))
                ticked.clear()
                since = at
    opens, end = np.array(opened, np.int64), int(steps.trace.t_ns[-1])
    spans = np.diff(opens, append=end)
    over = np.append(opens[2:], [np.iinfo(np.int64).max] * 2)[:len(opens)]
    least, most = over - opens - spans, over - opens
    known = over < np.iinfo(np.int64).max
    # The median of so many uniform distributions, by bisection.
    if not known.any() or spans[known].sum() < end / 2:
        return None
    low, high = 0.0, float(most[known].max())
    while high - low > 0.5:
        middle = (low + high) / 2
        if np.clip(middle - least[known], 0, spans[known]).sum() < end / 2:
            low = middle
        else:
            high = middle
    return high
