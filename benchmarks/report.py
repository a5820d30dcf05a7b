"""The tables and plots of docs/performance.md, and the table of docs/embedding.md, from results.json: python benchmarks/report.py

Tables go between the pages' marks; the prose around them is left alone. The plots need matplotlib.
"""
import json
import re
import sys
from pathlib import Path

from rows import ROWS, scaled

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "performance.md"
EMBEDDING = ROOT / "docs" / "embedding.md"
RESULTS = ROOT / "benchmarks" / "results.json"
TICK_MS = 4.0                           # at 250 Hz, for the model
FAN_OUT = 64


def table(head, lines):
    """Markdown; the first column is text, the others are figures."""
    rows = ["| " + " | ".join(line) + " |" for line in (head, *lines)]
    return "\n".join([rows[0], "|---|" + "--:|" * (len(head) - 1), *rows[1:]])


def reached(result):
    return "reached" if result["reached"] else "**missed**"


def targets(results):
    """Rows that have one."""
    lines = []
    for key, row in ROWS.items():
        result = results["rows"].get(key)
        if row.most is None and row.least is None:
            continue
        if result is None:
            lines.append((f"{row.ours} / {row.theirs}", "", "", "", "", "not measured"))
            continue
        over = "theirs / ours" if row.least and not row.speed else "ours / theirs"
        low, high = result["quartiles"]
        lines.append((f"{row.ours} / {row.theirs}", scaled(result["ours"], row.speed), scaled(result["theirs"], row.speed),
                      f"{result['ratio']:.2f} ({low:.2f} to {high:.2f})", f"{over} {result['target']}", reached(result)))
    return table(("ours / theirs", "ours", "theirs", "ratio (quartiles)", "to reach", ""), lines)


def others(results):
    """Rows for comparison."""
    lines = []
    for key, row in ROWS.items():
        result = results["rows"].get(key)
        if result is None or "target" in result:
            continue
        both = result["theirs"] is not None
        lines.append((f"{row.ours} / {row.theirs}" if both else row.ours, scaled(result["ours"]), scaled(result["theirs"]) if both else "",
                      f"{result['ratio']:.2f}" if both else ""))
    return table(("ours / theirs", "ours", "theirs", "ratio"), lines)


def machine(results):
    """Where the figures are from."""
    host = results["host"]
    caches = ", ".join(f"{name} {size >> 10:,} KB" for name, size in host["caches"].items())
    lines = [
        ("processor", f"{host['processor']} (family/model {host['family_model']}), {host['cores']} cores, {caches}"
                      f"{', a virtual machine' if host['virtual'] else ''}"),
        ("kernel", f"Linux {host['kernel']}, {host['hz'] or 'unknown'} Hz"),
        ("compiler", f"{host['compiler']}, `{host['flags']}`"),
        ("libraries", f"liburcu {host['liburcu'] or 'absent'}, ck {host['ck'] or 'absent'}, {host['libc']}, Python {host['python']}"),
        ("measured", f"{results['when']}, with `{results['command']}`; load average before and after: "
                     f"{results['load'][0]:.1f}, {results['load'][1]:.1f}"),
        ("not measured", "; ".join(name.split("::")[1] for name in results["skipped"]) or "nothing"),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in lines)])


def growth(results):
    """Every fourth size."""
    found = results["growth"]
    lines = []
    for i, cpus in enumerate(found["cpus"]):
        if i % 3 == 0 or i == len(found["cpus"]) - 1:
            lines.append((f"{cpus:,}", *(scaled(found[name][i]) for name in ("tick", "switch", "counted", "generation"))))
    return table(("CPUs", "tick nobody waits for", "switch", "switch and tick that counts", "a generation, somebody waiting"), lines)


def transfer_ns(results):
    """From a core to the other, one way; None: not measured."""
    row = results["rows"].get("transfer")
    return row["ours"] / 2 if row else None


def levels(cpus):
    """Of a combining tree over so many CPUs."""
    n = 1
    while FAN_OUT**n < cpus:
        n += 1
    return n


def model(results):
    """What a flat count costs a machine with as many real CPUs, at the measured time of a transfer."""
    one = transfer_ns(results)
    if one is None:
        return "Not measured here: a second core is needed."
    lines = []
    for cpus in (2, 64, 1024, 8192, 65536, 2**20):
        flat, tree = cpus * one, levels(cpus) * min(FAN_OUT, cpus) * one
        load = flat / (TICK_MS * 1e6)
        queue = one * load / (2 * (1 - load)) if load < 1 else None
        lines.append((f"{cpus:,}", scaled(flat), f"{100 * load:,.{1 if load < 0.1 else 0}f} %",
                      scaled(queue) if queue is not None else "without bound", f"{levels(cpus)}", scaled(tree)))
    return table(("CPUs", "decrements of a generation, one after the other", f"share of a {TICK_MS:g} ms tick",
                  "a tick waits, ticks spread evenly", f"levels of a tree of {FAN_OUT}", "decrements on its longest way"), lines)


def entrances(results):
    """What a switch and a tick cost through each entrance."""
    lines = []
    for text, switch, tick in ENTRANCES:
        rows = [results["rows"].get(row) and (results["rows"][row][side], results["rows"][row]["ratio"]) if row else None
                for row, side in (switch, tick)]
        lines.append((text, *(f"{scaled(found[0])}" if found else "" for found in rows)))
    return table(("through", "a switch", "a tick that nobody waits for"), lines)


# What a line is called, and the row and side that have its switch and its tick.
NONE = (None, None)
ENTRANCES = [
    ("Cython, inlined", ("table_switch", "theirs"), ("table_tick", "theirs")),
    ("C or C++, inlined by the header", ("header_switch", "ours"), NONE),
    ("the table of functions (C, Rust, ...)", ("table_switch", "ours"), ("table_tick", "ours")),
    ("a loop of numba's", ("entrance_numba", "ours"), NONE),
    ("`gen.run(ops)`", ("entrance_batch", "ours"), NONE),
    ("`cpu.switch()`", ("entrance_handle", "ours"), NONE),
    ("`gen.switch(0)`", ("entrance_domain", "ours"), NONE),
    ("ctypes, from Python", ("entrance_ctypes", "ours"), NONE),
]
PAGES = {
    PAGE: {"targets": targets, "others": others, "machine": machine, "growth": growth, "model": model},
    EMBEDDING: {"entrances": entrances},
}


def filled(path, results):
    """The page at `path` with its tables made from `results`."""
    page = path.read_text()
    for name, part in PAGES[path].items():
        mark = re.compile(rf"(<!-- {name}: made by benchmarks/report.py -->\n).*?(<!-- end -->)", re.DOTALL)
        if len(mark.findall(page)) != 1:
            raise LookupError(f"{path.name} has no place for {name!r}, or several")
        found = mark.search(page)
        page = f"{page[:found.start()]}{found[1]}\n{part(results)}\n\n{found[2]}{page[found.end():]}"
    return page


# ---- plots ------------------------------------------------------------------------------------------------------------------------

def plots(results):
    """docs/*.svg: black and white, told apart by their lines' kind."""
    import matplotlib as mpl  # noqa: PLC0415 - for the plots alone
    mpl.use("svg")
    mpl.rcParams |= {"svg.hashsalt": "mmgen", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    import matplotlib.pyplot as plt  # noqa: PLC0415

    def save(figure, name):
        figure.savefig(PAGE.with_name(name), metadata={"Date": None}, bbox_inches="tight")
        plt.close(figure)

    found, caches = results["growth"], results["host"]["caches"]
    figure, axes = plt.subplots(figsize=(7, 3.6))
    for name, label, style in (("counted", "switch and tick that counts", "k-o"), ("switch", "switch", "k--s"),
                               ("tick", "tick nobody waits for", "k:^")):
        axes.plot(found["cpus"], found[name], style, label=label, markersize=3.5, linewidth=1, markerfacecolor="white")
    for name, size in caches.items():
        axes.axvline(size / 64, color="0.6", linewidth=0.8)
        axes.annotate(f"{name} full", (size / 64, 0.98), xycoords=("data", "axes fraction"), rotation=90, ha="right", va="top",
                      color="0.35")
    axes.set(yscale="log", xlabel="CPUs (64 bytes each), all driven by one thread", ylabel="ns for one CPU",
             ylim=(min(found["tick"]) / 2, max(found["counted"]) * 6))
    axes.set_xscale("log", base=2)
    axes.yaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
    axes.legend(frameon=False, loc="upper left")
    save(figure, "performance-growth.svg")

    figure, axes = plt.subplots(figsize=(7, 3.2))
    axes.plot(found["cpus"], [ns / 1e3 for ns in found["generation"]], "k-o", label="a generation, somebody waiting", markersize=3.5,
              linewidth=1, markerfacecolor="white")
    axes.plot(found["cpus"], [ns * cpus / 1e3 for cpus, ns in zip(found["cpus"], found["counted"], strict=True)], "k:",
              label="CPUs times a switch and tick that counts", linewidth=1)
    axes.set(yscale="log", xlabel="CPUs, all driven by one thread", ylabel="us")
    axes.set_xscale("log", base=2)
    axes.legend(frameon=False, loc="upper left")
    save(figure, "performance-generation.svg")

    rows = [(row, results["rows"][key]) for key, row in ROWS.items() if "target" in results["rows"].get(key, {})]
    figure, axes = plt.subplots(figsize=(7, 0.36 * len(rows) + 0.8))
    for y, (row, result) in enumerate(reversed(rows)):
        goal = row.most or row.least
        # Of the target: below 1 is better, whichever way round the ratio is.
        of, low, high = ((goal / r if row.least else r / goal) for r in (result["ratio"], *result["quartiles"]))
        axes.plot([low, high], [y, y], "k-", linewidth=1)
        axes.plot(of, y, "ko", markerfacecolor="black" if result["reached"] else "white", markersize=5)
    axes.axvline(1, color="black", linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(rows)), [row.short for row, _ in reversed(rows)])
    axes.set(xscale="log", xlabel="ratio, as a share of the target's (left of 1: reached; line: quartiles of the rounds)")
    axes.xaxis.set_major_locator(mpl.ticker.FixedLocator([0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3]))
    axes.xaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
    axes.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    save(figure, "performance-targets.svg")


def main():
    results = json.loads(RESULTS.read_text())
    for path in PAGES:
        path.write_text(filled(path, results))
    plots(results)


if __name__ == "__main__":
    sys.exit(main())
