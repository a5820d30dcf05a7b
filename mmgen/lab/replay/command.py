"""`mmgen replay`: what its arguments ask for, what it prints and writes."""
import argparse
import dataclasses
import json
import shlex
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmgen.lab.command import BROKEN, costs
from mmgen.lab.compare import table_text
from mmgen.lab.compare_command import WIDTH, need_matplotlib
from mmgen.lab.load import interval
from mmgen.lab.policies import Generation
from mmgen.lab.replay.replay import Replay, policies, replay, with_timelines
from mmgen.lab.replay.text import aligned, holdout_lines, machine_text, recorded_rows, sentences, wait_rows
from mmgen.lab.replay.waits import longest
from mmgen.lab.traces import Trace, read
from mmgen.output import report_to
from mmgen.progress import progress

MARGIN_S = 0.004                        # of a picture, before and after the longest wait


def run(o: argparse.Namespace) -> int:
    """Replay as `o` says. 0; 1: something was used after it was freed. Raises ValueError, OSError."""
    if o.html is not None or o.pictures is not None:
        need_matplotlib()
    if o.perfetto is not None:
        need_perfetto()
    if o.html == "-" and o.json == "-":
        raise ValueError("--html - and --json -: one of them can have the standard output")
    paid, chosen = costs(o.cost, o.costs), policies(4 if o.patience is None else o.patience)
    fields = {name: value for name, value in (("rate", o.rate), ("mm_bytes", o.mm_bytes)) if value is not None}
    with progress(reading) as show:
        trace = read(o.trace, tasks=o.tasks, hz=o.hz, show=show)
    window = window_of(o, trace)
    if o.pictures is not None:
        Path(o.pictures).mkdir(exist_ok=True)           # before the work, like the files
    if o.perfetto is not None:
        Path(o.perfetto).open("ab").close()             # that it cannot be written is said before the work, too
    with report_to(o.json) as json_out, report_to(o.html) as html_out:
        with progress(replaying) as show:
            found = replay(trace, policies=chosen, costs=paid, show=show, **fields)
        if json_out is not None:
            json.dump(found.to_dict(), json_out, indent=1)
            json_out.write("\n")
        if html_out is not None or o.pictures is not None:
            draw(o, with_timelines(found, *(window or around_the_longest(found))), html_out)
    if o.perfetto is not None:
        write_perfetto(o, found, window or (0.0, trace.seconds))
    if "-" not in (o.json, o.html):
        print(text(found))
    return BROKEN if any(r.use_after_frees for r in found.results) else 0


def window_of(o: argparse.Namespace, trace: Trace) -> tuple[float, float] | None:
    """--from and --to, in seconds of the recording; None: neither was given."""
    if o.begin is None and o.end is None:
        return None
    begin = interval(0.0 if o.begin is None else o.begin, "--from", 0, trace.seconds)
    end = interval(trace.seconds if o.end is None else o.end, "--to", 0, trace.seconds)
    if begin >= end:
        raise ValueError(f"--from {begin:g} --to {end:g}: it ends before it begins, and the recording lasts {trace.seconds:g} s")
    return begin, end


def around_the_longest(found: Replay) -> tuple[float, float]:
    """Where a picture shows most: while the longest wait lasts, under the first idle rule where one ends at all."""
    seconds = found.trace.seconds
    for under in found.waits:
        for wait in longest(under, 1):
            if wait.took_ns is not None:
                return max(wait.begin_ns / 1e9 - MARGIN_S, 0.0), min((wait.begin_ns + wait.took_ns) / 1e9 + MARGIN_S, seconds)
    return 0.0, min(0.1, seconds)


def draw(o: argparse.Namespace, found: Replay, html_out: Any) -> None:
    """The page, and the pictures, if they are asked for."""
    from mmgen.lab import report  # noqa: PLC0415 - needs matplotlib
    from mmgen.lab.replay.pictures import drawn  # noqa: PLC0415 - needs matplotlib
    pictures = drawn(found)
    if html_out is not None:
        html_out.write(report.page(
            found.results, title=f"{found.trace.name}: ways to free a lazy mm, on a recorded machine",
            words=f"{machine_text(found)}.", command=again(o), notes=(*sentences(found), *found.trace.notes), limits=LIMITS,
            tables=[("As it was recorded", recorded_rows(found)), ("How long a wait takes", wait_rows(found))],
            lists=[("Who held the waits up", holdout_lines(found))], drawn=pictures))
    if o.pictures is not None:
        for number, (says, figure) in enumerate(pictures, 1):
            (Path(o.pictures) / f"replay-{number}.svg").write_text(report.svg(figure, f"picture{number}", says) + "\n")


LIMITS = (
    "The recorded tasks do what they did, when they did it: what a policy costs does not slow them down.",
    "Whose mm it is, is told from the recording: docs/traces.md says how, and how well.",
    "Every cost is an assumption until it is measured on the machine in question: mmgen calibrate, and --costs.",
)


def write_perfetto(o: argparse.Namespace, found: Replay, window: tuple[float, float]) -> None:
    """--perfetto, of the idle rule that --idle-rule names."""
    from mmgen.lab.replay import perfetto  # noqa: PLC0415 - an extra
    rule = o.idle_rule or "drop"
    only = dataclasses.replace(found, results=tuple(
        r for r in found.results if isinstance(r.case.policy, Generation) and r.case.policy.idle == rule))
    timed = with_timelines(only, *window)
    perfetto.write(o.perfetto, timed, timed.results[0])


def need_perfetto() -> None:
    """ValueError where it is missing."""
    try:
        from mmgen.lab.replay import perfetto  # noqa: F401, PLC0415 - an extra
    except ImportError as error:
        raise ValueError("--perfetto needs the package perfetto, which is not here: pip install 'mmgen-grace[trace]'") from error


def text(found: Replay) -> str:
    """All of it, for a terminal."""
    lines = [machine_text(found), *indented(aligned(recorded_rows(found), words=True)),
             *indented(f"note: {note}" for note in found.trace.notes),
             "", "How long a wait takes", *indented(aligned(wait_rows(found))),
             "", "Who held the waits up", *indented(holdout_lines(found)),
             "", "What the policies cost", table_text(found.results),
             "", *(textwrap.fill(sentence, WIDTH) for sentence in sentences(found))]
    return "\n".join(lines)


def indented(lines: Iterable[str]) -> list[str]:
    """The lines, below a heading."""
    return [f"  {line}" for line in lines]


def reading(events: int) -> str:
    """How far it is, in a few words."""
    return f"{events:,} events read"


def replaying(seconds: float) -> str:
    """The same, later."""
    return f"{seconds:.3g} s of the recording"


def again(o: argparse.Namespace) -> str:
    """The command that makes the same: from what was understood of the one that was given."""
    words = ["mmgen", "replay", o.trace]
    names = {"begin": "from", "end": "to"}
    for name, value in vars(o).items():
        if value is None or name in ("call", "command", "trace"):
            continue
        for one in value if isinstance(value, list) else [value]:
            words += [f"--{names.get(name, name).replace('_', '-')}", str(one)]
    return shlex.join(words)
