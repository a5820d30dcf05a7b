"""`mmgen lab compare`: what its arguments ask for, what it prints and writes."""
import argparse
import json
import shlex
import textwrap
from pathlib import Path

from mmgen.lab.command import BROKEN, costs, describe, given, switches
from mmgen.lab.compare import Comparison, compare, policies, table_text
from mmgen.lab.load import Load
from mmgen.lab.simulate import Case
from mmgen.output import report_to
from mmgen.progress import progress

WIDTH = 100


def run(o: argparse.Namespace) -> int:
    """Compare as `o` says. 0; 1: something was used after it was freed. Raises ValueError, OSError."""
    if o.html is not None or o.pictures is not None:
        need_matplotlib()
    if o.html == "-" and o.json == "-":
        raise ValueError("--html - and --json -: one of them can have the standard output")
    load = Load(**given(o, Load) | switches(o.switch_us))
    chosen = policies(**given(o, type(None), ("patience", "continuous", "trim")))
    fields = {"costs": costs(o.cost, o.costs)} | given(o, Case, ("cpus", "hz", "seconds", "seed", "mm_bytes"))
    if o.pictures is not None:
        Path(o.pictures).mkdir(exist_ok=True)           # before the work, like the files
    window = (0.0, o.timeline) if o.timeline is not None else None
    with report_to(o.json) as json_out, report_to(o.html) as html_out:
        with progress(describe) as show:
            comparison = compare(load, policies=chosen, timeline=window, show=show, **fields)
        if json_out is not None:
            json.dump(comparison.to_dict(), json_out, indent=1)
            json_out.write("\n")
        if html_out is not None:
            from mmgen.lab import report  # noqa: PLC0415 - needs matplotlib
            html_out.write(report.page(comparison.results, title="Ways to free a lazy mm, compared", command=again(o)))
    if o.pictures is not None:
        draw(comparison, Path(o.pictures))
    if "-" not in (o.json, o.html):
        print(text(comparison))
    return BROKEN if any(r.use_after_frees for r in comparison.results) else 0


def draw(comparison: Comparison, folder: Path) -> None:
    """Each picture as a file in `folder`, which is there."""
    from mmgen.lab import report  # noqa: PLC0415 - needs matplotlib
    for number, (says, figure) in enumerate(report.pictures(comparison.results), 1):
        (folder / f"compare-{number}.svg").write_text(report.svg(figure, f"picture{number}", says) + "\n")


def need_matplotlib() -> None:
    """ValueError where it is missing."""
    try:
        import matplotlib as mpl  # noqa: F401, PLC0415 - an extra
    except ImportError as error:
        raise ValueError(f"pictures need matplotlib, which is not here ({error}): pip install 'mmgen-grace[lab]'") from error


def text(comparison: Comparison) -> str:
    """The table and the paragraph."""
    return f"{table_text(comparison.results)}\n\n{textwrap.fill(comparison.paragraph, WIDTH)}"


def again(o: argparse.Namespace) -> str:
    """The command that makes the same: from what was understood of the one that was given."""
    words = ["mmgen", "lab", "compare"]
    for name, value in vars(o).items():
        if value is None or name in ("call", "command"):
            continue
        for one in value if isinstance(value, list) else [value]:
            words += [f"--{name.replace('_', '-')}", *([] if one is True else [str(one)])]
    return shlex.join(words)
