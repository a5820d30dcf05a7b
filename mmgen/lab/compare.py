"""The policies side by side on one workload: their results, a table, a paragraph. `mmgen lab compare` is in compare_command.py."""
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from mmgen._arguments import shown
from mmgen.lab.findings import Finding, findings, label, time_text
from mmgen.lab.findings import paragraph as in_words
from mmgen.lab.load import Load
from mmgen.lab.policies import IDLE_RULES, POLICIES, Generation, Policy, Refcount, Shootdown
from mmgen.lab.simulate import Case, Result, Show, simulate

LOOK_S = 0.05           # between two looks at how far they are
Cell = Callable[[Result], str]
# The table's columns: what it says, its unit, and the figure.
COLUMNS: tuple[tuple[str, str, Cell], ...] = (
    ("switches", "/s", lambda r: f"{r.rates['switches_per_s']:,.0f}"),
    ("overhead", "ns/switch", lambda r: f"{r.overhead_ns_per_switch:,.2f}"),
    ("atomics", "/s", lambda r: f"{r.rates['atomics_per_s']:,.0f}"),
    ("line transfers", "/s", lambda r: f"{r.rates['lines_per_s']:,.0f}"),
    ("IPIs", "/s", lambda r: f"{r.rates['ipis_per_s']:,.0f}"),
    ("held, mean", "mms", lambda r: f"{r.held_mean:,.1f}"),
    ("held, peak", "mms", lambda r: f"{r.held_peak:,}"),
    ("held, end", "mms", lambda r: f"{r.held:,}"),
    ("held, mean", "MB", lambda r: f"{r.held_mean * r.case.mm_bytes / 1e6:,.3f}"),
    ("held, peak", "MB", lambda r: f"{r.held_peak * r.case.mm_bytes / 1e6:,.3f}"),
    ("freed", "mms", lambda r: f"{r.frees:,}"),
    ("to free, p50", "", lambda r: time_text(r.latency_percentiles_ns["p50"])),
    ("to free, p99", "", lambda r: time_text(r.latency_percentiles_ns["p99"])),
    ("to free, max", "", lambda r: time_text(r.latency_percentiles_ns["max"])),
)


@dataclass(frozen=True)
class Comparison:
    """Results of several policies on one workload."""

    results: tuple[Result, ...]

    @property
    def findings(self) -> list[Finding]:
        """The sentences of the paragraph."""
        return findings(self.results)

    @property
    def paragraph(self) -> str:
        """Where generation wins, where it loses and why, from the figures."""
        return in_words(self.results)

    def table(self) -> list[list[str]]:
        """As table()."""
        return table(self.results)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"results": [r.to_dict() for r in self.results], "paragraph": self.paragraph}


def policies(patience: int = 4, continuous: bool = False, trim: bool = False) -> tuple[Policy, ...]:
    """What is compared: refcount, shootdown, and generation under each idle rule."""
    return Refcount(), Shootdown(trim=trim), *(Generation(idle, patience, continuous) for idle in IDLE_RULES)


class Stopped(Exception):  # noqa: N818 - it is no error
    """The others have failed, or the user has had enough."""


def compare(load: Load | None = None, /, *, policies: Sequence[Policy] = policies(), timeline: tuple[float, float] | None = None,
            show: Show = lambda done, seconds: None, **fields: Any) -> Comparison:
    """Simulate each of `policies` on Case(load=load, **fields): the same workload, with the same seed.

    timeline: as simulate() takes it. show(share that is done, virtual seconds of the slowest) is called every 50 ms or so, in this thread.
    They run in threads, as many at once as there are cores. What was used after it was freed is counted (Result.use_after_frees).
    Ctrl-C raises KeyboardInterrupt within 50 ms, or however long `show` takes. Raises as simulate(). Thread-safety: as simulate().
    """
    if "policy" in fields:
        raise TypeError("policy: it is several, policies=[...], that are compared")
    chosen = tuple(policies)
    if not chosen:
        raise ValueError("policies=() is empty: at least one")
    for policy in chosen:
        if not isinstance(policy, tuple(POLICIES.values())):
            raise TypeError(f"policy={shown(policy)} is of type {type(policy).__name__}: not one of mmgen.lab's")
    cases = [Case(policy=policy, load=Load() if load is None else load, **fields) for policy in chosen]
    stop, far = threading.Event(), [(0.0, 0.0)] * len(cases)

    def one(number: int) -> Result:
        def note(done: float, seconds: float) -> None:
            far[number] = done, seconds
            if stop.is_set():
                raise Stopped
        result = simulate(cases[number], keep_going=True, show=note, timeline=timeline)
        far[number] = 1.0, result.seconds
        return result

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(min(cores, len(cases)), "mmgen-compare") as pool:
        futures = [pool.submit(one, number) for number in range(len(cases))]
        try:
            while True:
                over, left = wait(futures, LOOK_S, FIRST_EXCEPTION)
                for future in over:
                    future.result()
                if not left:
                    break
                show(sum(done for done, _ in far) / len(far), min(seconds for _, seconds in far))
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return Comparison(tuple(future.result() for future in futures))


def table(results: Sequence[Result]) -> list[list[str]]:
    """The figures, in words: a row for each of them with its unit, a column for each result; the first row is the policies' names."""
    head = ["", "", *(label(r) for r in results)]
    return [head, *([name, unit, *(cell(r) for r in results)] for name, unit, cell in COLUMNS)]


def table_text(results: Sequence[Result]) -> str:
    """table(), for a terminal."""
    rows = [[f"{name} {unit}".strip(), *cells] for name, unit, *cells in table(results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))])
                     for row in rows)
