"""What a person sees while a run lasts: a bar where rich is installed, a line a second else, nothing where nobody looks."""
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mmgen.arrivals import Arrivals

try:
    import rich.console
    import rich.progress
except ImportError:
    rich = None     # type: ignore[assignment]

Show = Callable[[float, Any], None]


@contextmanager
def progress(says: Callable[[Any], str] | None = None) -> Iterator[Show]:
    """A function to be called with the share that is done, 0 to 1, and what there is so far: it shows them, on a terminal.

    says: what there is so far, in a few words; by default it is the waits.
    """
    says = says or describe
    if not sys.stderr.isatty():
        yield lambda done, so_far: None
        return
    if rich is None:
        yield lines(says)
        return
    columns = rich.progress.TextColumn("{task.description}"), rich.progress.BarColumn(), rich.progress.TimeRemainingColumn()
    with rich.progress.Progress(*columns, console=rich.console.Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=1.0)
        yield lambda done, so_far: bar.update(task, completed=done, description=says(so_far))


def lines(says: Callable[[Any], str]) -> Show:
    """A line a second."""
    last = time.monotonic()

    def show(done: float, so_far: Any) -> None:
        nonlocal last
        if time.monotonic() - last >= 1:
            last = time.monotonic()
            print(f"{100 * done:3.0f} %  {says(so_far)}", file=sys.stderr)

    return show


def describe(waits: Arrivals) -> str:
    """The waits so far, in a few words."""
    over = waits.over(max(waits.nr_over - 100, 0))
    last = sorted(wait.took_ns for wait in over)
    median = f", the last {len(last)} at {last[len(last) // 2] / 1e6:.3g} ms median" if last else ""
    return f"{waits.nr_begun} waits of {waits.nr}{median}"
