"""`mmgen check`: what its arguments ask for, and what it prints."""
import argparse
import dataclasses
import json
import sys
from functools import partial
from pathlib import Path

from mmgen._arguments import shown
from mmgen.check.bounds import Bounds
from mmgen.check.broken import BROKEN
from mmgen.check.search import Result, as_test, check
from mmgen.check.suite import LONG, SHORT
from mmgen.output import report_to
from mmgen.progress import progress

CUT_SHORT = 3
GIVEN = ("cpus", "waiters", "ops", "waits", "cpu_waits", "preemptions", "calls", "continuous", "buffers", "every_access", "patience",
         "first_generation", "first_switches")


def run(o: argparse.Namespace) -> int:
    """Search as `o` says. 0: all closed; 1: something is wrong; 3: cut short; 130: interrupted. Raises ValueError."""
    if o.list_broken:
        print("\n".join(BROKEN))
        return 0
    if o.broken is not None and o.broken not in BROKEN:
        raise ValueError(f"--broken {shown(o.broken)} is none of those that --list-broken lists")
    if o.max_states is not None and not 1 <= o.max_states < 2**32:
        raise ValueError(f"--max-states {shown(o.max_states)} is out of range: 1 to {2**32 - 1}")
    todo = searches(o)
    results: list[Result] = []
    status = 0
    quiet = o.json == "-"
    with report_to(o.json) as out:
        try:
            with progress(str) as show:
                for number, bounds in enumerate(todo):
                    results.append(check(bounds, o.broken, max_states=o.max_states, show=partial(show, number / len(todo))))
                    if not quiet:
                        print(results[-1], flush=True)
                    if results[-1].harm:
                        break
        except KeyboardInterrupt as interrupt:
            status = 130
            results += interrupt.args
            if not quiet:
                print(*interrupt.args, sep="\n")
        if out is not None:
            json.dump([described(result) for result in results], out, indent=1)
            out.write("\n")
    found = results[-1] if results else None
    if found is not None and found.harm:
        if not quiet:
            print(*found.script, sep="\n")
        written = write_test(found, o.test)
        print(f"mmgen check: {found.harm}; {written} replays it", file=sys.stderr)
        return 1
    return status or (0 if all(result.closed for result in results) else CUT_SHORT)


def searches(o: argparse.Namespace) -> list[Bounds]:
    """The bounds that the arguments ask for."""
    given = {name: getattr(o, name) for name in GIVEN if getattr(o, name) is not None}
    if "calls" in given:
        given["calls"] = frozenset(call.strip() for call in given["calls"].split(","))
    if o.long and (given or o.broken):
        raise ValueError("--long is a set of bounds of its own: it goes with no others")
    if o.broken:
        return [dataclasses.replace(BROKEN[o.broken].bounds, **given)]
    if given:
        return [Bounds(**given)]
    return SHORT + LONG if o.long else SHORT


def write_test(result: Result, name: str | None) -> str:
    """Write a test that replays `result`; where. What is there already stays, unless it was named."""
    text = as_test(result)
    if name is not None:
        Path(name).write_text(text)
        return name
    number = 1
    while True:
        path = Path("test_counterexample.py" if number == 1 else f"test_counterexample_{number}.py")
        try:
            with path.open("x") as file:
                file.write(text)
        except FileExistsError:
            number += 1
        else:
            return str(path)


def described(result: Result) -> dict[str, object]:
    """`result` as JSON has it."""
    bounds = dataclasses.asdict(result.bounds) | {"calls": sorted(result.bounds.calls)}
    return {field.name: getattr(result, field.name) for field in dataclasses.fields(Result)} | {"bounds": bounds}
