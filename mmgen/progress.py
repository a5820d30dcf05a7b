"""What a person sees while a run lasts: a bar where rich is installed, a line a second else, nothing where nobody looks."""
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mmgen.arrivals import Arrivals

try:
    import rich.console
    import rich.progress
except ImportError:
    rich = None     # type: ignore[assignment]

Show = Callable[[float, Arrivals], None]


@contextmanager
def progress() -> Iterator[Show]:
    """A function to be called with the share that is done, 0 to 1, and the waits so far: it shows them, on a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda done, waits: None
        return
    if rich is None:
        yield lines()
        return
    columns = rich.progress.TextColumn("{task.description}"), rich.progress.BarColumn(), rich.progress.TimeRemainingColumn()
    with rich.progress.Progress(*columns, console=rich.console.Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=1.0)
        yield lambda done, waits: bar.update(task, completed=done, description=describe(waits))


def lines() -> Show:
    """A line a second."""
    last = time.monotonic()

    def show(done: float, waits: Arrivals) -> None:
        nonlocal last
        if time.monotonic() - last >= 1:
            last = time.monotonic()
            print(f"{100 * done:3.0f} %  {describe(waits)}", file=sys.stderr)

    return show


def describe(waits: Arrivals) -> str:
    """The waits so far, in a few words."""
    over = waits.over(max(waits.nr_over - 100, 0))
    last = sorted(wait.took_ns for wait in over)
    median = f", the last {len(last)} at {last[len(last) // 2] / 1e6:.3g} ms median" if last else ""
    return f"{waits.nr_begun} waits of {waits.nr}{median}"
