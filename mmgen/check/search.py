"""Search the compiled source, every interleaving within bounds; replay what was found."""
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

from mmgen._arguments import shown, whole
from mmgen.check._search import HARMS, OPS, Search, thread_name
from mmgen.check.bounds import CALLS, Bounds
from mmgen.check.broken import BROKEN, variant

assert OPS == CALLS
SLICE = 5_000                       # states between two looks at the clock and at signals: some 10 ms
STEP, FLUSH, TIMEOUT, BEGIN = range(4)
WORDS = {".": STEP, "flush": FLUSH, "timeout": TIMEOUT, **{op: BEGIN + n for n, op in enumerate(OPS)}}
SAID = {number: word for word, number in WORDS.items()}


@dataclass(frozen=True)
class Result:
    """What a search found."""

    bounds: Bounds
    broken: str | None
    """the broken variant that was searched"""
    states: int
    transitions: int
    drained: int
    """states from which a fair schedule was run to its end"""
    depth: int
    """steps to the states looked at last"""
    seconds: float
    closed: bool
    """whether every state within the bounds was looked at, and none was wrong"""
    harm: str
    """what went wrong; "" for nothing"""
    script: tuple[str, ...]
    """the shortest way there: a step a line"""

    def __str__(self) -> str:
        rate = f"{self.states / self.seconds:,.0f}/s" if self.seconds > 0.05 else "-"
        verdict = f"{self.harm}, after {len(self.script)} steps" if self.harm else "closed" if self.closed else "cut short"
        return (f"{f'{self.broken}: ' if self.broken else ''}{self.bounds}: {self.states:,} states, {self.transitions:,} steps, "
                f"{self.depth} deep, {self.seconds:.1f} s, {rate}: {verdict}")


def short(script: Iterable[str]) -> str:
    """`script` in one line: "c0 tick 5" begins a tick on cpu0 and makes 5 steps of it, "w0 .. 2" makes waiter0's next two."""
    runs: list[list[Any]] = []                      # thread, what, how many steps
    for line in script:
        thread, what = line.split("|")[0].split()
        if what == "." and runs and runs[-1][0] == thread and runs[-1][1] != "flush":
            runs[-1][2] += 1
        else:
            runs.append([thread, ".." if what == "." else what, 1])
    return ", ".join(f"{thread[0]}{thread[-1]} {what}{f' {steps}' if steps > 1 else ''}" for thread, what, steps in runs)


def open_search(bounds: Bounds, broken: str | None) -> Search:
    """A search within `bounds`. ValueError for a broken variant that is not there; RuntimeError while another search is open."""
    if not isinstance(bounds, Bounds):
        raise TypeError(f"bounds={shown(bounds)} is of type {type(bounds).__name__}, not Bounds")
    if broken is not None and (not isinstance(broken, str) or broken not in BROKEN):
        raise ValueError(f"broken={shown(broken)} is none of {', '.join(BROKEN)}")
    sketched = broken is not None and BROKEN[broken].sketched
    return Search(cpus=bounds.cpus, waiters=bounds.waiters, allowed=bounds.calls, ops=bounds.ops, waits=bounds.waits,
                  cpu_waits=bounds.cpu_waits, preemptions=-1 if bounds.preemptions is None else bounds.preemptions,
                  continuous=bounds.continuous, buffered=bounds.buffers, invariants=bounds.invariants, every=bounds.every_access,
                  sketched=sketched, variant=variant(broken), patience=bounds.patience, first_generation=bounds.first_generation,
                  first_switches=bounds.first_switches)


def check(bounds: Bounds | None = None, broken: str | None = None, *, max_states: int | None = None,
          show: Callable[[str], None] | None = None) -> Result:
    """Search every interleaving of the compiled protocol within `bounds`, breadth first, to its end or to the first that is wrong.

    broken: search a broken variant instead (of BROKEN), within its own bounds unless others are given.
    max_states: give up after so many; the result is then neither closed nor wrong.
    show: called some times a second with a line that says how far the search is.

    Raises ValueError; MemoryError; RuntimeError while another search is under way in this process, or where the search itself is at
    fault. Interrupted, it raises KeyboardInterrupt with the result so far as its argument. Thread-safety: one search at a time.
    """
    if max_states is not None:
        max_states = whole(max_states, "max_states", 1, 2**32 - 1)
    if bounds is None:
        bounds = BROKEN[broken].bounds if isinstance(broken, str) and broken in BROKEN else Bounds()
    search = open_search(bounds, broken)
    begin = time.monotonic()

    def result() -> Result:
        return Result(bounds, broken, search.states, search.transitions, search.drained, search.depth, time.monotonic() - begin,
                      not search.harm and not search.waiting, HARMS[search.harm], ())

    slice_ = SLICE if max_states is None else min(SLICE, max_states)
    try:
        while search.run(slice_) and (max_states is None or search.states < max_states):
            if show is not None:
                show(f"{search.states:,} states, {search.waiting:,} to look at, {search.depth} deep, "
                     f"{search.states / max(time.monotonic() - begin, 1e-9):,.0f}/s")
        path = search.path() if search.harm else []
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(result()) from interrupt
    finally:
        found = result()
        search.close()
    if found.harm.startswith("the search is void"):
        raise RuntimeError(found.harm)
    return replace(found, script=tuple(script_of(bounds, broken, path)))


def script_of(bounds: Bounds, broken: str | None, path: list[int]) -> list[str]:
    """The steps of `path`, a line each: the thread, what the search had it do, and what it then did."""
    if not path:
        return []
    search = open_search(bounds, broken)
    try:
        lines = []
        for choice in path:
            done = search.play(choice)
            if done is None:
                raise RuntimeError("the search does not find its own way again: its state is not all that tells")
            lines.append(f"{thread_name(choice // 32):<8} {SAID[choice % 32]:<13} | {'; '.join(done)}".rstrip(" |"))
        return lines
    finally:
        search.close()


def replay(script: str, bounds: Bounds, broken: str | None = None) -> str:
    """Run `script`, then let everybody end what he is at, and every CPU switch and tick: what went wrong, "" for nothing.

    A line is a thread (cpu0, waiter0) and what it does: begin an operation of CALLS; "." make its next access; "flush" its oldest
    buffered store; "timeout". What follows a "|" does not count, nor does a step that the source as it is does not offer: it has
    changed since. Raises ValueError for a line that is not understood.
    """
    if not isinstance(script, str):
        raise TypeError(f"script={shown(script)} is of type {type(script).__name__}, not a string")
    if not isinstance(bounds, Bounds):
        raise TypeError(f"bounds={shown(bounds)} is of type {type(bounds).__name__}, not Bounds")
    choices = []
    threads = [f"cpu{n}" for n in range(bounds.cpus)] + [f"waiter{n}" for n in range(bounds.waiters)]
    for number, line in enumerate(script.splitlines(), 1):
        words = line.split("|")[0].split()
        if not words:
            continue
        if len(words) != 2 or words[0] not in threads or words[1] not in WORDS:
            raise ValueError(f"line {number} of the script is not understood: {shown(line)}")
        choices.append(32 * threads.index(words[0]) + WORDS[words[1]])
    search = open_search(bounds, broken)
    try:
        for choice in choices:
            search.play(choice)
            if search.harm:
                return HARMS[search.harm]
        return HARMS[search.settle()]
    finally:
        search.close()


def as_test(result: Result) -> str:
    """A test file that replays `result`'s script."""
    bounds = ", ".join(f"{field.name}={getattr(result.bounds, field.name)!r}" for field in fields(Bounds)
                       if getattr(result.bounds, field.name) != field.default)
    broken = f", broken={result.broken!r}" if result.broken else ""
    script = "\n".join(result.script)
    return f'''"""Found by a search: {result.harm}."""
from mmgen.check import Bounds, replay

BOUNDS = Bounds({bounds})
SCRIPT = """\\
{script}
"""


def test_counterexample():
    assert replay(SCRIPT, BOUNDS{broken}) == ""
'''
