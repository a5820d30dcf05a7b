"""A replay in words: tables for a terminal and a page, and what the figures come to."""
import math
from collections.abc import Callable, Sequence
from functools import partial

from mmgen.lab.findings import time_text
from mmgen.lab.replay.replay import Replay, longest_ns, percentile
from mmgen.lab.replay.waits import PERCENTILES, Holdout, Long, by_what, holdouts, longest

UNFINISHED = "not over"
RULES = {"hang": "as it was: an idle CPU keeps its mm", "drop": "an idle CPU drops its mm", "kick": "holdouts are interrupted"}


def took(ns: float | None, hz: int) -> str:
    """How long a wait takes; None: it is not over when the recording ends."""
    return UNFINISHED if ns is None else time_text(ns, hz) if ns else "no time"


def machine_text(r: Replay) -> str:
    """Which machine it was, and for how long."""
    trace = r.trace
    return f"{trace.name}: {trace.cpus} CPU{'s' * (trace.cpus != 1)} at {trace.hz} Hz for {trace.seconds:.3f} s, {len(trace):,} events"


def recorded_rows(r: Replay) -> list[list[str]]:
    """What the recording says of its machine: a header, and a row for each figure: its name, the number, a second, what it is."""
    said, seconds = r.recorded, r.trace.seconds or math.inf
    rows = [["switches", "nr_switch", "to kernel threads and the idle task, too"],
            ["refcount atomics", "refcount_atomics", "to take and drop the mms that are used lazily"],
            ["mms torn down", "nr_teardown", ""],
            ["used lazily then", "teardowns_with_another_cpu_lazy", "by another CPU: as many IPIs as a shootdown takes"]]
    rows += [[name, key, says] for name, key, says in (
        ("switches missed", "made_up_switches", "by the recorder, and made up, since they must have been"),
        ("ticks missed", "made_up_ticks", "and made up"),
        ("events lost", "lost_events", "says the recorder: the figures lack them"),
        ("contradictions", "contradictions", "mms used, or torn down, after they were torn down")) if said[key]]
    return [["", "number", "a second", ""], *([name, f"{said[key]:,}", f"{said[key] / seconds:,.0f}", says] for name, key, says in rows)]


def wait_rows(r: Replay) -> list[list[str]]:
    """How long waits take under each idle rule: a header, and a row for each figure; the first cell names it."""
    hz = r.trace.hz

    def times(row: str, found: Sequence[tuple[Callable[[float], float | None], float | None]]) -> list[list[str]]:
        rows = [[f"{row}, {name}", *(took(one(percent), hz) for one, _ in found)] for name, percent in PERCENTILES.items()]
        return [*rows, [f"{row}, max", *("-" if longest is None else took(longest, hz) for _, longest in found)]]

    rows = [["", *(f"{found.idle}: {RULES[found.idle]}" for found in r.waits)]]
    rows += times("alone, from any moment", [(found.percentile_ns, found.longest_ns) for found in r.waits])
    rows.append(["no time at all", *(f"{100 * found.at_once:.1f} % of moments" for found in r.waits)])
    rows.append(["not over at the end", *(f"{100 * found.unfinished:.1f} % of moments" for found in r.waits)])
    rows.append(["needs a kick", *(f"{100 * found.kicked:.1f} % of moments" if found.idle == "kick" else "-" for found in r.waits)])
    if r.trace.counts["teardown"]:
        at = [r.at_teardowns(found) for found in r.waits]
        rows += times("alone, from a teardown", [(partial(percentile, one), longest_ns(one)) for one in at])
    if any(len(one.begun_ns) for one in r.arrivals):
        rows += times("arriving, as in a run", [(one.percentile_ns, longest_ns(one.took_ns)) for one in r.arrivals])
    return rows


def holdout_text(h: Holdout) -> str:
    """Who it was."""
    doing = {"idle": "idle", "kernel thread": f"in kernel thread {h.task.removeprefix('thread ')}", "task": f"in {h.task}"}
    return f"CPU {h.cpu}, {doing[h.what]}"


def long_text(w: Long, hz: int) -> str:
    """When a long wait began, what it took, and what the CPU ran that paid last."""
    ran = ", ".join(f"{task} {100 * share:.0f} %" for task, share in w.ran if share >= 0.005)
    return f"from {w.begin_ns / 1e9:.6f} s: {took(w.took_ns, hz)}, for CPU {w.cpu}, which ran {ran or 'nothing that was recorded'}"


def holdout_lines(r: Replay, most: int = 3) -> list[str]:
    """Under each idle rule: who held up the most of all waiting time, and the longest waits."""
    lines: list[str] = []
    for found in r.waits:
        who = [h for h in holdouts(found, most) if h.share >= 0.005]
        what = ", ".join(f"{name} {100 * share:.0f} %" for name, share in by_what(found).items())
        most_for = "; ".join(f"{holdout_text(h)} ({100 * h.share:.0f} %)" for h in who) or "nobody"
        lines.append(f"{found.idle}: {what}; most for {most_for}")
        lines += [f"  {long_text(wait, r.trace.hz)}" for wait in longest(found, most)]
    return lines


def sentences(r: Replay) -> list[str]:
    """What the figures come to, each sentence only where they say so."""
    said = []
    hz = r.trace.hz
    for found in r.waits:
        median, worst = found.percentile_ns(50), found.longest_ns
        if median is None:
            says = f"Under {found.idle} more than half of all waits are not over when the recording ends"
        elif found.at_once > 0.5:
            says = f"Under {found.idle} a wait takes no time at {100 * found.at_once:.1f} % of all moments"
            says += f", and {time_text(worst, hz)} at most"
        else:
            says = f"Under {found.idle} a wait takes {time_text(median, hz)} at the median"
            says += f" and {time_text(worst, hz)} at worst"
        if median is not None and found.unfinished:
            says += f"; from the last {100 * found.unfinished:.1f} % of all moments it is not over when the recording ends"
        if who := holdouts(found, 1):
            says += f"; {100 * who[0].share:.0f} % of the time they wait for {holdout_text(who[0])}"
        said.append(says + ".")
    hang = next((found for found in r.waits if found.idle == "hang"), None)
    if hang is not None:
        ours, theirs = hang.percentile_ns(50), r.idealised_ns
        if theirs is None:
            said.append("An idealised wait, of two increments of a generation that is counted all the time, would not be over at the "
                        "median: it asks every CPU for two switches, each followed by a tick, and those that idle have neither.")
        elif ours is not None:
            said.append(
                "An idealised wait, of two increments of a generation that is counted all the time, would take "
                f"{time_text(theirs, hz)} at the median where a wait alone takes {time_text(ours, hz)}: alone, its first generation asks "
                "for a tick of each CPU only, since all have switched since anybody waited; waits that join others find a generation "
                "under way, and take three.")
    return said


def aligned(rows: Sequence[Sequence[str]], words: bool = False) -> list[str]:
    """The rows, in columns: the first to the left, the others to the right, but the last where it has words."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *cells in rows:
        right = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *right[:-1], cells[-1] if words else right[-1]]).rstrip())
    return lines
