"""One run: a machine, waits that arrive while it runs, and the report."""
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from mmgen.arrivals import Arrivals, Wait, steady
from mmgen.machine import Machine, MachineStats
from mmgen.workload import Replay

POLL_S = 0.04                   # between two looks at the progress

MOST_ROWS = 16                  # CPUs that the text shows
PERCENTILES = {"p50": 50, "p90": 90, "p99": 99, "max": 100}

Report = dict[str, Any]


def run(machine: Machine, seconds: float, rate: float, progress: Callable[[float, Arrivals], None]) -> Report:
    """Run `machine` for `seconds`, with `rate` waits a second and one at each recorded mm teardown; the report.

    Calls progress(share of the time that has passed, the waits) now and then. When Ctrl-C ends the run, KeyboardInterrupt is
    raised with the report so far as its argument.
    """
    trace = machine.workload.trace if isinstance(machine.workload, Replay) else None
    teardowns = [t for t in trace.teardowns_ns() if t < seconds * 1e9] if trace else []
    waits = Arrivals(machine.gen, steady(rate, seconds) + teardowns)
    interrupted = False
    with machine:
        end = machine.begin + round(seconds * 1e9)
        try:
            waits.start(machine.begin)
            while (now := time.monotonic_ns()) < end:
                progress(min(max(1 - (end - now) / (seconds * 1e9), 0), 1), waits)
                time.sleep(min(POLL_S, (end - now) / 1e9))
                if machine.error:
                    break                               # leaving the machine raises it
            stats = machine.stats()
            while not machine.error and not waits.join(POLL_S):
                progress(1.0, waits)
        except KeyboardInterrupt:
            interrupted = True
            stats = machine.stats()
        finally:
            waits.stop()
    waits.join(1.0)
    result = report(machine, stats, waits.over(), waits.nr_begun, len(teardowns))
    if interrupted:
        raise KeyboardInterrupt(result)
    return result


def percentile(ordered: Sequence[float], percent: float) -> float | None:
    """The value that `percent` % of `ordered` do not exceed (the nearest rank); None of nothing."""
    return ordered[max(math.ceil(len(ordered) * percent / 100), 1) - 1] if ordered else None


def ratio(value: float | None, unit: float | None) -> float | None:
    """value / unit, None where there is either no value or no unit."""
    return None if value is None or not unit else value / unit


def report(machine: Machine, stats: MachineStats, waits: Sequence[Wait], begun: int, teardowns: int) -> Report:
    """The figures of a run under the names that docs/run.md documents."""
    load = machine.workload
    end_ns = stats.seconds * 1e9
    # A replay's end leaves every CPU idle, which ends the waits then under way: they say nothing about the recorded machine.
    cut = [w for w in waits if w.due_ns + w.took_ns > end_ns] if isinstance(load, Replay) else []
    apart = set(cut)
    slow = sorted(w.took_ns / 1e6 for w in waits if not w.at_once and w not in apart)
    idle = sorted(w.took_ns / 1e6 for w in waits if w.at_once)
    tick_ms = 1e3 / machine.hz if machine.hz else None
    seconds = stats.seconds or math.inf
    opened = sum(cpu.opened for cpu in stats.cpus)
    result: Report = {
        "workload": f"replay of {load.trace.name}" if isinstance(load, Replay) else str(load),
        "cpus": machine.cpus,
        "cores": sorted({core for core in machine.cores if core is not None}),
        "cpus_per_core_max": max(Counter(machine.cores).values()) if machine.cores[0] is not None else None,
        "hz": machine.hz,
        "continuous": machine.gen.continuous,
        "seconds": stats.seconds,
        "switches": sum(cpu.switches for cpu in stats.cpus),
        "switches_per_s": sum(cpu.switches for cpu in stats.cpus) / seconds,
        "generations": stats.generations,
        "generations_per_s": stats.generations / seconds,
        "ticks": sum(cpu.ticks for cpu in stats.cpus),
        "missed_ticks": sum(cpu.missed_ticks for cpu in stats.cpus),
        "waits_begun": begun,
        "waits": len(waits),
        "waits_at_teardown": teardowns,
        "waits_cut": len(cut),
        "waits_timed": len(slow),
    }
    for name, percent in PERCENTILES.items():
        result[f"wait_{name}_ms"] = percentile(slow, percent)
        result[f"wait_{name}_ticks"] = ratio(percentile(slow, percent), tick_ms)
    result["waits_idle_only"] = len(idle)
    for name, percent in PERCENTILES.items():
        result[f"wait_idle_only_{name}_ms"] = percentile(idle, percent)
    result["per_cpu"] = [
        {
            "cpu": cpu.index,
            "core": cpu.core,
            "switches": cpu.switches,
            "switches_per_s": cpu.switches / seconds,
            "ticks": cpu.ticks,
            "missed_ticks": cpu.missed_ticks,
            "tick_late_p50_us": ratio(cpu.lateness.percentile_ns(50), 1e3),
            "tick_late_max_us": cpu.lateness.max_ns / 1e3 if cpu.lateness.count else None,
            "idle_percent": 100 * cpu.idle_s / seconds,
            "holdout_generations": cpu.opened,
            "holdout_percent": 100 * cpu.opened / opened if opened else None,
        }
        for cpu in stats.cpus
    ]
    result["verdict"] = verdict(result)
    return result


def verdict(r: Report) -> str:
    """One sentence about the figures of `r`."""
    if r["waits_timed"]:
        ticks = f" ({r['wait_p50_ticks']:.1f} ticks)" if r["hz"] else ""
        says = f"a wait took {duration(r['wait_p50_ms'])} at the median{ticks} and {duration(r['wait_max_ms'])} at worst"
        slowest = max(r["per_cpu"], key=lambda cpu: cpu["holdout_generations"])
        if slowest["holdout_percent"] and r["cpus"] > 1:
            says += f", held up last by CPU {slowest['cpu']} in {slowest['holdout_percent']:.0f} % of the generations"
        if r["waits_idle_only"]:
            says += f"; {100 * r['waits_idle_only'] / r['waits']:.0f} % of the waits found every CPU idle and cost next to nothing"
    elif r["waits_idle_only"]:
        says = f"every wait found all CPUs idle, and took {duration(r['wait_idle_only_p50_ms'])} at the median"
    else:
        says = "no wait ended, so there is nothing to say about what one costs"
    if r["missed_ticks"] > 0.01 * r["ticks"]:
        says += f"; but {r['missed_ticks']} tick periods were missed: this machine was too busy for the figures to be trusted"
    return says[0].upper() + says[1:] + "."


def text(r: Report) -> str:
    """The report `r` as a person reads it."""
    where = "not pinned: this system cannot"
    if r["cores"]:
        where = f"pinned to core{'s' * (len(r['cores']) > 1)} {ranges(r['cores'])}"
        if r["cpus_per_core_max"] > 1:
            where += f", up to {r['cpus_per_core_max']} CPUs to a core: they take turns, and ticks come late"
    lines = [
        f"{r['workload']}: {r['cpus']} CPUs for {r['seconds']:.2f} s, {where}",
        f"  ticks        {str(r['hz']) + ' a second' if r['hz'] else 'one after every switch'}"
        + (f", {r['missed_ticks']} missed" if r["missed_ticks"] else ""),
        f"  switches     {r['switches_per_s']:,.0f} a second",
        f"  generations  {r['generations_per_s']:,.1f} a second{' (counted all the time)' if r['continuous'] else ''}",
        f"  waits        {r['waits']} ended of {r['waits_begun']} begun"
        + (f", {r['waits_at_teardown']} of them at a recorded mm teardown" if r["waits_at_teardown"] else "")
        + (f"; {r['waits_cut']}, cut by the end of the recording, are left out here" if r["waits_cut"] else ""),
        "",
        "  waits                    number         p50         p90         p99         max",
    ]
    for title, prefix, nr in (("held up", "wait_", r["waits_timed"]),
                              ("only idle CPUs answered", "wait_idle_only_", r["waits_idle_only"])):
        lines.append(f"  {title:<23} {nr:>7}" + "".join(f"  {duration(r[f'{prefix}{name}_ms']):>10}" for name in PERCENTILES))
        if r["hz"] and nr and prefix == "wait_":
            lines.append(" " * 33 + "".join(f"  {r[f'wait_{name}_ticks']:>4.1f} ticks" for name in PERCENTILES))
    lines += ["", "  CPU  core  switches/s    ticks  missed  late p50/max us    idle  held up last"]
    cpus = r["per_cpu"]
    if len(cpus) > MOST_ROWS:
        cpus = sorted(cpus, key=lambda cpu: -cpu["holdout_generations"])[:MOST_ROWS]
    for cpu in cpus:
        late = f"{cpu['tick_late_p50_us']:.0f} / {cpu['tick_late_max_us']:.0f}" if cpu["tick_late_p50_us"] is not None else "-"
        last = f"{cpu['holdout_percent']:.0f} %" if cpu["holdout_percent"] is not None else "-"
        core = "-" if cpu["core"] is None else cpu["core"]
        lines.append(f"  {cpu['cpu']:>3}  {core:>4}  {cpu['switches_per_s']:>10,.0f}  {cpu['ticks']:>7}  {cpu['missed_ticks']:>6}"
                     f"  {late:>15}  {cpu['idle_percent']:>4.0f} %  {last:>12}")
    if len(cpus) < r["cpus"]:
        lines.append(f"  ... the {len(cpus)} CPUs that held up most; --json has them all")
    return "\n".join([*lines, "", r["verdict"]])


def duration(ms: float | None) -> str:
    """`ms` milliseconds with its unit, to three digits."""
    if ms is None:
        return "-"
    if ms >= 1000:
        return f"{ms / 1e3:.3g} s"
    return f"{ms:.3g} ms" if ms >= 0.1 else f"{1e3 * ms:.3g} us"


def ranges(numbers: Sequence[int]) -> str:
    """`numbers`, sorted, in short: 0-3,8."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and runs[-1][1] == n - 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
