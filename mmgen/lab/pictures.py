"""Pictures of results, by matplotlib: for a page in black and white, so lines differ by their kind and markers, areas by hatches.

Each function makes a Figure of its own, which `figure.savefig(path)` writes as SVG, PNG or PDF: nothing of pyplot, no state.
Thread-safety: as many at a time as you like.
"""
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from mmgen._arguments import shown, whole
from mmgen.lab.policies import name_of
from mmgen.lab.simulate import Result

LINES = ("-", "--", ":", "-.", (0, (6, 2, 1, 2, 1, 2)), (0, (1, 3)))
MARKERS = ("o", "s", "^", "D", "v", "x", "+")
# What of a result can be drawn against CPUs, and what the axis says.
AGAINST = {
    "switches_per_s": "context switches a second, all CPUs", "overhead_ns_per_switch": "the policy's cost, ns a switch",
    "atomics_per_s": "atomics a second", "lines_per_s": "line transfers a second", "ipis_per_s": "IPIs a second",
    "held_mean": "mms held, mean", "held_peak": "mms held, at most", "held_bytes_mean": "memory held, mean, bytes",
    "held_bytes_peak": "memory held, at most, bytes", "generations_per_s": "generations a second", "frees_per_s": "mms freed a second",
}
LATENCIES = ("p50", "p90", "p99", "max")
Rows = Iterable[Result | Mapping[str, Any]]


def rows_of(rows: Rows) -> list[Mapping[str, Any]]:
    """Results as their dicts; of a sweep's file's rows, their results. TypeError for what is neither, ValueError for none."""
    found = []
    for row in rows:
        plain = row.to_dict() if isinstance(row, Result) else row
        if isinstance(plain, Mapping) and isinstance(plain.get("result"), Mapping):
            plain = plain["result"]
        if not isinstance(plain, Mapping) or not isinstance(plain.get("case"), Mapping):
            raise TypeError(f"{shown(row)} is no result: a mmgen.lab.Result, or what to_dict() gives")
        found.append(plain)
    if not found:
        raise ValueError("no results: there is nothing to draw")
    return found


def style(number: int) -> dict[str, Any]:
    """How the line of this number is drawn: no other of the first 42 is drawn alike."""
    return {"color": "black", "linestyle": LINES[number % len(LINES)], "marker": MARKERS[number % len(MARKERS)], "markersize": 4.5,
            "linewidth": 1.1, "markerfacecolor": "white"}


def new(width: float = 7.0, height: float = 3.6) -> tuple[Figure, Axes]:
    """A figure, of so many inches, and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="0.88", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def plain(value: float, _: object = None) -> str:
    """A number for an axis."""
    for scale, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= scale:
            return f"{value / scale:g} {unit}"
    return f"{value:g}"


def time_text(ns: float, _: object = None) -> str:
    """A time for an axis."""
    for scale, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "us")):
        if abs(ns) >= scale:
            return f"{ns / scale:g} {unit}"
    return f"{ns:g} ns"


def log_axis(axis: Any, text: Any) -> None:
    """Its labels, without mathematics."""
    axis.set_major_formatter(FuncFormatter(text))
    axis.set_minor_formatter(NullFormatter())


def legend(axes: Axes, lines: int) -> None:
    """Beside the lines, where there are several."""
    if lines:
        axes.legend(frameon=False, fontsize=8, handlelength=4, loc="center left", bbox_to_anchor=(1, 0.5))


def against_cpus(rows: Rows, figure: str = "switches_per_s") -> Figure:
    """A figure of the results, one of AGAINST or of LATENCIES, against CPUs: a line for each policy.

    Where several results of a policy have as many CPUs, the line is at their median and bars show least and most. Of latencies, results
    that have none are left out. ValueError for a figure that there is not, or no results; TypeError for what is no result.
    """
    if figure not in AGAINST and figure not in LATENCIES:
        raise ValueError(f"figure={shown(figure)} is none of {', '.join((*AGAINST, *LATENCIES))}")
    by_policy: dict[str, dict[int, list[float]]] = {}
    for row in rows_of(rows):
        value = row["latency_percentiles_ns"][figure] if figure in LATENCIES else row[figure]
        if value is not None:
            by_policy.setdefault(name_of(row["case"]["policy"]), {}).setdefault(row["case"]["cpus"], []).append(float(value))
    drawing, axes = new()
    least, zero = 1.0, False
    for number, (name, found) in enumerate(by_policy.items()):
        cpus = sorted(found)
        middle = [float(np.median(found[n])) for n in cpus]
        least, zero = min([least, *(value for value in middle if value > 0)]), zero or 0 in middle
        axes.plot(cpus, middle, label=name, **style(number))
        several = [n for n in cpus if len(found[n]) > 1]
        if several:
            axes.vlines(several, [min(found[n]) for n in several], [max(found[n]) for n in several], color="black", linewidth=0.8)
    axes.set_xscale("log", base=2)
    if zero:
        axes.set_yscale("symlog", linthresh=least)      # 0 is a value like others: no IPIs, nothing held
        axes.set_ylim(bottom=0)
    else:
        axes.set_yscale("log")
    axes.set(xlabel="CPUs", ylabel=AGAINST.get(figure, f"from exit to free, {figure}, ns"))
    log_axis(axes.xaxis, lambda value, _: f"{value:g}")
    log_axis(axes.yaxis, time_text if figure in LATENCIES else plain)
    legend(axes, len(by_policy))
    return drawing


def cdf(row: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    """(ns, share of the mms freed that waited no longer), from the exact histogram; at the end of each of its buckets."""
    longest = row["latency_percentiles_ns"]["max"]
    rows = np.array(row["latencies"], dtype=np.int64).reshape(-1, 3)
    if not len(rows):
        return [], []
    ends = np.minimum(rows[:, 0] + rows[:, 1] - 1, longest)
    return [float(ns) for ns in ends], [float(share) for share in np.cumsum(rows[:, 2]) / rows[:, 2].sum()]


def latency_cdf(results: Rows) -> Figure:
    """How long mms waited to be freed after their last task had exited: the share that waited no longer, against time.

    A line for each result that freed any. ValueError for no results, TypeError for what is none.
    """
    rows = rows_of(results)
    figure, axes = new()
    lines = 0
    for number, row in enumerate(rows):
        ns, shares = cdf(row)
        name = name_of(row["case"]["policy"])
        if ns:
            ns, shares = [max(ns[0], 1.0), *(max(one, 1.0) for one in ns)], [0.0, *shares]
            axes.plot(ns, shares, label=name, drawstyle="steps-post", markevery=(0.05 + 0.02 * number, 0.2), **style(number))
        else:
            axes.plot([], [], label=f"{name}: none freed", **style(number))
        lines += 1
    axes.set_xscale("log")
    axes.set(xlabel="from exit to free (log scale; 0 is drawn at 1 ns)", ylabel="share of the mms freed", ylim=(-0.02, 1.02))
    log_axis(axes.xaxis, time_text)
    legend(axes, lines)
    return figure


def held_over_time(results: Rows) -> Figure:
    """The mms held over virtual time: the mean in each of 256 buckets.

    A line for each result. ValueError for no results, or one without a series; TypeError for what is no result.
    """
    figure, axes = new()
    lines, most = 0, 0.0
    for number, row in enumerate(rows_of(results)):
        series = row.get("held_series")
        if not series:
            raise ValueError(f"{shown(name_of(row['case']['policy']))} has no held_series: there is nothing to draw")
        times = [begin / 1e9 for begin, _, _ in series]
        held = [mean for _, mean, _ in series]
        most = max(most, *held)
        axes.plot(times, held, label=name_of(row["case"]["policy"]), drawstyle="steps-post", markevery=(0.05 + 0.02 * number, 0.2),
                  **style(number))
        lines += 1
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(0, max(2 * most, 1))
    axes.set(xlabel="virtual time, s", ylabel="mms held (below 1 linear, then log)")
    log_axis(axes.yaxis, plain)
    legend(axes, lines)
    return figure


def generations(result: Result, first: int = 8, cpus: int = 64) -> Figure:
    """What each CPU did, and when it counted for which generation: of a result with a timeline.

    first: up to when so many generations had opened in it; where none did, all of it. cpus: the first so many only, 1 to 256.
    ValueError for a result without a timeline, and for what is out of range; TypeError for what is of a wrong type.
    """
    if not isinstance(result, Result):
        raise TypeError(f"result={shown(result)} is no mmgen.lab.Result")
    if result.timeline is None:
        raise ValueError("result has no timeline: simulate(..., timeline=(begin, end))")
    first, cpus = whole(first, "first", 1, 100_000), min(whole(cpus, "cpus", 1, 256), result.case.cpus)
    timeline = result.timeline
    opened = timeline.of("opened")[:first]
    begin, end = timeline.begin_ns, timeline.end_ns
    if len(opened) == first:
        end = min(end, opened[-1].ns + max((opened[-1].ns - begin) // 20, 1))
    unit, scale = next((unit, scale) for unit, scale in (("s", 1e9), ("ms", 1e6), ("us", 1e3), ("ns", 1.0))
                       if end - begin >= scale or unit == "ns")
    figure, axes = new(8.0, 1.6 + 0.19 * cpus)
    axes.grid(False)
    for state, hatch, face in (("idle", "", "0.85"), ("kthread", "////", "white"), ("dying", "xxxx", "white"),
                               ("offline", "....", "white")):
        spells: dict[int, list[tuple[float, float]]] = {}
        for cpu, since, until in timeline.spells(state):
            if cpu < cpus and since < end:
                spells.setdefault(cpu, []).append((since / scale, (min(until, end) - since) / scale))
        for number, (cpu, parts) in enumerate(spells.items()):
            axes.broken_barh(parts, (cpu - 0.35, 0.7), facecolor=face, edgecolor="black", linewidth=0.4, hatch=hatch,
                             label=("kernel thread" if state == "kthread" else state) if number == 0 else None)
    for what, marker, label, face in (("paid", "|", "its tick counted", "black"), ("interrupted", "v", "an IPI", "white"),
                                      ("exited", ">", "an mm's last task exits", "white"), ("freed", "o", "an mm is freed", "black")):
        marks = [mark for mark in timeline.of(what) if mark.cpu < cpus and mark.ns <= end]
        if marks:
            bar = marker == "|"
            axes.plot([mark.ns / scale for mark in marks], [mark.cpu for mark in marks], linestyle="none", marker=marker, color="black",
                      markerfacecolor=face, markersize=9 if bar else 4, markeredgewidth=1.6 if bar else 0.8, label=label)
    for number, mark in enumerate(opened):
        axes.axvline(mark.ns / scale, color="black", linewidth=0.8, linestyle="--", label="a generation opens" if number == 0 else None)
        axes.annotate(f"{mark.number}\nCPU {mark.cpu}", (mark.ns / scale, 1), xycoords=("data", "axes fraction"), fontsize=7, ha="center",
                      va="bottom")
    axes.set(xlim=(begin / scale, end / scale), ylim=(cpus - 0.4, -0.6), xlabel=f"virtual time, {unit} (white: a task with an mm runs)",
             ylabel="CPU (number)")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if value == int(value) else ""))
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
