"""What a comparison of policies comes to, from its figures: each sentence is there only where the figures say so.

Figures that count are taken as different when they differ by more than 1 % and three standard deviations of a Poisson count.
"""
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import hypot, sqrt

from mmgen.lab.policies import name_of
from mmgen.lab.simulate import Result
from mmgen.run import duration

FEW = 100               # mms freed: of fewer a p99 is the longest, or close to it


@dataclass(frozen=True)
class Finding:
    """A sentence, and what it is about."""

    about: str
    text: str


def label(r: Result) -> str:
    """A result's policy, in a word or a few."""
    return name_of(r.case.to_dict()["policy"])


def operations(r: Result) -> int:
    """What its costs were counted from."""
    return r.atomics + r.ipis + (r.lines or 0)


def differ(a: float, b: float, n: int, m: int) -> bool:
    """Whether a and b, made of n and m things counted, are further apart than chance has them."""
    return abs(a - b) > max(0.01 * max(a, b), 3 * hypot(a / sqrt(max(n, 1)), b / sqrt(max(m, 1))))


def times(ratio: float) -> str:
    """A ratio of 1 or more, in words."""
    return f"{ratio:,.1f} times" if ratio < 10 else f"{ratio:,.0f} times"


def ns_text(ns: float) -> str:
    """A cost."""
    return f"{ns:,.1f} ns" if ns >= 0.1 or ns == 0 else f"{ns:.2g} ns"


def time_text(ns: float | None, hz: int | None = None) -> str:
    """A time, and how many ticks that is."""
    text = duration(None if ns is None else ns / 1e6)
    return f"{text} ({ns * hz / 1e9:,.1f} ticks)" if hz and ns is not None else text


def memory(r: Result, held: float) -> str:
    """So many mms, and what they take."""
    number = f"{held:,.0f}" if held >= 10 or held == int(held) else f"{held:.2g}"
    return f"{number} mm{'s' * (held != 1)} ({held * r.case.mm_bytes / 1e6:,.2f} MB)"


def findings(results: Sequence[Result]) -> list[Finding]:
    """What `results`, of several policies on one workload, come to. ValueError for none."""
    if not results:
        raise ValueError("no results: there is nothing to compare")
    bad = [r for r in results if r.use_after_frees]
    said = [Finding("broken", f"{label(r)} FREED MMS IN USE, {r.use_after_frees:,} times: none of its figures counts.") for r in bad]
    sound = [r for r in results if not r.use_after_frees]
    waits = [r for r in sound if r.case.policy.name == "generation"]
    others = [r for r in sound if r.case.policy.name != "generation"]
    if len(sound) < 2:
        return [*said, Finding("alone", "There is no other policy to compare it with.")]
    found = [cost(sound), wins(waits, others), rate(sound)]
    if not any(r.exits for r in sound):
        found.append(Finding("no exits", "No mm's last task exits in this workload: nothing is to be freed, and only what switches and "
                                         "ticks cost is compared."))
    else:
        found += [latency(waits, others), held(waits, others), hang(waits), kthreads(waits), kick(waits, others)]
    found.append(scans(waits))
    return [*said, *(one for one in found if one is not None)]


def cost(sound: list[Result]) -> Finding | None:
    """Who costs least a switch, and what the others do."""
    rows = sorted(sound, key=lambda r: r.overhead_ns_per_switch)
    least, most = rows[0], rows[-1]
    if not most.overhead_ns:
        return Finding("cost", "No policy costs anything here.")
    base = least.overhead_ns_per_switch
    alike = [r for r in rows[1:] if not differ(r.overhead_ns_per_switch, base, operations(r), operations(least))]
    dearer = [r for r in rows[1:] if r not in alike]
    text = f"{label(least)} costs least, {ns_text(base)} a switch"
    if alike:
        text += f", with {' and '.join(map(label, alike))} within noise of it"
    if dearer:
        same = [list(group) for _, group in groupby(dearer, lambda r: ns_text(r.overhead_ns_per_switch))]
        text += "; " + ", ".join(f"{' and '.join(map(label, rs))}: {ns_text(rs[0].overhead_ns_per_switch)}" + (
            f" ({times(rs[0].overhead_ns_per_switch / base)} that)" if base else "") for rs in same)
    share = most.overhead_ns / (most.case.cpus * most.seconds * 1e9) if most.seconds else 0.0
    text += f". The most that any takes is {100 * share:{'.2g' if share < 0.1 else ',.0f'}} % of the CPUs' time ({label(most)})"
    if share > 1.01:
        text += ", which no machine could do"
    return Finding("cost", text + ".")


def wins(waits: list[Result], others: list[Result]) -> Finding | None:
    """The cheapest idle rule that frees, if anything is to be freed, against each of the others; and what whose cost is made of."""
    freeing = [r for r in waits if r.frees or not r.exits]
    if not freeing or not others:
        return None
    ours = min(freeing, key=lambda r: r.overhead_ns_per_switch)
    a, parts = ours.overhead_ns_per_switch, []
    for r in others:
        b = r.overhead_ns_per_switch
        why = f"its {r.rates['ipis_per_s']:,.0f} IPIs a second" if r.ipis else f"its {r.rates['atomics_per_s']:,.0f} atomics a second"
        if not differ(a, b, operations(ours), operations(r)):
            parts.append(f"costs no more and no less than {label(r)}")
        elif a < b:
            parts.append(f"wins over {label(r)}" + (f", {times(b / a)}" if a else "") + f", for {why}")
        else:
            parts.append(f"loses to {label(r)}" + (f", {times(a / b)}" if b else "")
                         + f", for the {ours.rates['lines_per_s']:,.0f} lines a second that its counting and looking moves")
    return Finding("wins", f"By that, {label(ours)} {'; it '.join(parts)}.")


def rate(sound: list[Result]) -> Finding | None:
    """Where a policy slows the machine down."""
    best, worst = max(sound, key=lambda r: r.rates["switches_per_s"]), min(sound, key=lambda r: r.rates["switches_per_s"])
    high, low = best.rates["switches_per_s"], worst.rates["switches_per_s"]
    if not differ(high, low, best.switches, worst.switches):
        return Finding("rate", "The machine switches as often under all of them, within noise.")
    if not low:
        return Finding("rate", f"Under {label(worst)} the machine does not switch; under {label(best)} {high:,.0f} times a second.")
    return Finding("rate", f"The machine switches {high:,.0f} times a second under {label(best)}, "
                           + (f"{times(high / low)} as often as" if high >= 1.1 * low else f"{100 * (high / low - 1):.1f} % more than")
                           + f" under {label(worst)} ({low:,.0f}).")


def latency(waits: list[Result], others: list[Result]) -> Finding | None:
    """What waiting costs, against freeing at once: of the idle rule that frees soonest."""
    freeing = [r for r in waits if r.frees]
    if not freeing:
        return Finding("latency", f"{' and '.join(map(label, waits))} freed nothing in {waits[0].seconds:g} s.") if waits else None
    ours = min(freeing, key=lambda r: (r.latency_percentiles_ns["p50"] or 0, not is_drop(r)))
    p50, p99 = ours.latency_percentiles_ns["p50"] or 0, ours.latency_percentiles_ns["p99"]
    which = "as the other idle rules" if all(r.latencies == ours.latencies for r in waits) else "the soonest of its idle rules"
    text = (f"From exit to free {label(ours)}, {which}, takes {time_text(p50, ours.case.hz)} at the median and "
            f"{time_text(p99, ours.case.hz)} at the 99th percentile")
    if ours.frees < FEW:
        text += f" (of {ours.frees} mms only)"
    for r in others:
        other = r.latency_percentiles_ns["p50"]
        if other is None:
            text += f"; {label(r)} frees none of {r.exits:,}"
        elif abs(p50 - other) <= max(p50, other) / 32:                  # percentiles are to 1/64
            text += f"; {label(r)} takes as long"
        elif p50 > other:
            text += f"; {label(r)} takes {time_text(other)}" + (f": generation loses, it waits {times(p50 / other)} as long" if other else
                                                               ", it frees at the exit: generation loses")
        else:
            text += f"; {label(r)} takes {time_text(other)}: generation is sooner" + (f", {times(other / p50)}" if p50 else "")
    return Finding("latency", text + ".")


def held(waits: list[Result], others: list[Result]) -> Finding | None:
    """The memory that waits."""
    if not waits:
        return None
    ours = min(waits, key=lambda r: (r.held_mean, not is_drop(r)))
    text = (f"{label(ours)}, the least of its idle rules or as the others, holds {memory(ours, ours.held_mean)} at the mean, "
            f"{memory(ours, ours.held_peak)} at most")
    for r in others:
        text += f"; {label(r)} {memory(r, r.held_mean)} at the mean, {memory(r, r.held_peak)} at most"
    return Finding("held", text + ".")


def is_drop(r: Result) -> bool:
    """Whether it has the default idle rule: that is named where several are alike."""
    return getattr(r.case.policy, "idle", None) == "drop"


def by_idle(waits: list[Result], rule: str) -> Result | None:
    """The one with this idle rule."""
    return next((r for r in waits if getattr(r.case.policy, "idle", None) == rule), None)


def hang(waits: list[Result]) -> Finding | None:
    """What idle CPUs that keep their mm do to everybody, if more is held then than where they do not."""
    hung, dropped = by_idle(waits, "hang"), by_idle(waits, "drop")
    if hung is None or dropped is None or not differ(hung.held_mean, dropped.held_mean, hung.exits, dropped.exits):
        return None
    if hung.held_mean < dropped.held_mean:
        return None
    text = (f"Idle machines are where the bare scheme loses: without dropping or kicking, a CPU that idles holds everybody up. "
            f"{label(hung)} holds {memory(hung, hung.held_mean)} at the mean")
    if dropped.held_mean:
        text += f", {times(hung.held_mean / dropped.held_mean)} what {label(dropped)} does"
    text += f", and {hung.held:,} of {hung.exits:,} mms are not freed at the end"
    text += ": none ever was" * (not hung.frees)
    kicked = by_idle(waits, "kick")
    if kicked is not None and not kicked.ipis:
        text += (f"; {label(kicked)} never kicks, since no CPU ticks long enough for its patience, and holds "
                 f"{memory(kicked, kicked.held_mean)}")
    return Finding("idle", text + ".")


def kthreads(waits: list[Result]) -> Finding | None:
    """Kernel threads that outlast ticks: an mm that one borrows is kept, and all others wait with it."""
    load, ours = getattr(waits[0].case, "load", None) if waits else None, by_idle(waits, "drop")
    if load is None or ours is None or not load.kthread or load.kthread_us * ours.case.hz < 2e6:
        return None
    p50, ns = ours.latency_percentiles_ns["p50"], 1e3 * load.kthread_us
    name = f"kernel threads that run {time_text(ns, ours.case.hz)} at the mean"
    why = "only an mm switch counts, and a kernel thread keeps the mm that it finds"
    kicked = by_idle(waits, "kick")
    if p50 is None:
        text = f"Long {name} hold everybody up, since {why}: {label(ours)} freed nothing in {ours.seconds:g} s"
    elif 2 * p50 < ns:
        return None
    else:
        text = (f"Long {name} hold everybody up, since {why}: the median wait under {label(ours)} is {time_text(p50, ours.case.hz)}, "
                f"{p50 / ns:.1f} such threads")
    if kicked is not None and kicked.latency_percentiles_ns["p50"] is not None:
        sooner = kicked.latency_percentiles_ns["p50"]
        if p50 is None or sooner < 0.9 * p50:
            text += f"; with {label(kicked)}, whose IPIs have them leave it, {time_text(sooner, kicked.case.hz)}"
    return Finding("kernel threads", text + ".")


def kick(waits: list[Result], others: list[Result]) -> Finding | None:
    """What it interrupts."""
    ours = by_idle(waits, "kick")
    if ours is None or not ours.ipis:
        return None
    text = f"{label(ours)} pays with {ours.rates['ipis_per_s']:,.0f} IPIs a second"
    for r in others:
        if r.case.policy.name == "shootdown":
            text += f", where {label(r)} sends {r.rates['ipis_per_s']:,.0f}"
    return Finding("kick", text + ".")


def scans(waits: list[Result]) -> Finding | None:
    """What drop's idle entries cost, if that is more than where idle CPUs do nothing."""
    hung, dropped = by_idle(waits, "hang"), by_idle(waits, "drop")
    if hung is None or dropped is None or dropped.looks is None:
        return None
    a, b = dropped.overhead_ns_per_switch, hung.overhead_ns_per_switch
    if a <= b or not differ(a, b, operations(dropped), operations(hung)):
        return None
    share = dropped.looks * dropped.case.costs.look / dropped.overhead_ns
    text = f"{label(dropped)} pays for its idle entries and exits: {ns_text(a)} a switch against {ns_text(b)} under {label(hung)}"
    if share > 0.1:
        text += (f"; {100 * share:.0f} % of its cost is looking at CPUs, as each idle entry does at all {dropped.case.cpus:,} while "
                 "somebody waits")
    return Finding("scans", text + ".")


def paragraph(results: Sequence[Result]) -> str:
    """All that, as one paragraph. ValueError for no results."""
    return " ".join(finding.text for finding in findings(results))
