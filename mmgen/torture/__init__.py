"""Torture: rounds of CPUs that read what updaters free, under conditions drawn from a seed, and a report of the ages they saw.

    report = mmgen.torture.torture(minutes=1.0, seed=7)
    print(report["verdict"])

**Age.** An object that is published has age 0. It is 1 from when it is unpublished, and grows by one whenever a grace period ends that
was begun after that. A CPU that found it before may use it at age 1, for as long as its section lasts: it has not switched since. When
the first grace period that was begun after the unpublishing ends, every CPU has switched; so no use may ever see age 2, which is
what "older than one grace period" means, nor the poison that the object's updater then fills it with. (Linux's rcutorture counts the same,
and calls it the pipe count.)
"""
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from mmgen.torture.conditions import Conditions, draw
from mmgen.torture.round import HANG_S, Failure, Result, Round
from mmgen.workload import interval

ROUND_S = 3.0                   # how long a round lasts,
LEAST_ROUNDS = 8                # or less, so that there are so many
LEAST_ROUND_S = 0.25
STUCK = 4                       # a round's end may take three times hang_s
MOST_TOLD = 8                   # failures that the text tells; the report has more

Report = dict[str, Any]
Say = Callable[[Conditions], None]
Show = Callable[[float, str], None]


def torture(minutes: float = 1.0, cpus: int | None = None, seed: int | None = None, increments: int | None = None,
            say: Say = lambda conditions: None, show: Show = lambda done, text: None, hang_s: float = HANG_S,
            stuck: Callable[[str], None] = lambda what: None) -> Report:
    """Torture for so many minutes, or until something fails; the report, whose fields docs/torture.md tells.

    cpus: how many each round has (default: drawn). seed: what every round is drawn from (default: drawn itself, and reported).
    increments: MmGen's, which weakens the protocol so that this can be seen to fail. hang_s: seconds after which what has not ended is a
    failure. say(conditions) is called before each round, show(share of the time that has passed, what there is so far) often;
    stuck(what), in another thread, when this one itself sits for long in a call that does not return.
    In the main thread signals are sent too, and Ctrl-C ends it with the report so far, which then says `interrupted`.
    Raises ValueError for what is out of range. Thread-safety: one torture at a time.
    """
    check(minutes, cpus, increments)
    seed = draw_seed() if seed is None else seed
    seconds = minutes * 60
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    results: list[Result] = []
    with Interrupts() as interrupts, Watchdog(STUCK * hang_s, stuck) as watchdog:
        begin = time.monotonic()

        def go_on(current: Round) -> bool:
            watchdog.watch(current)
            done = (time.monotonic() - begin) / seconds
            ended = current.grace_periods.total() + sum(result.grace_periods.total() for result in results)
            show(min(done, 1.0), f"round {current.conditions.nr}: {ended} grace periods")
            return not interrupts.seen

        while (left := seconds - (time.monotonic() - begin)) > 0 and not interrupts.seen:
            conditions = draw(seed, len(results) + 1, cpus, cores)
            say(conditions)
            one = Round(conditions, increments, hang_s)
            watchdog.watch(one)
            length = max(min(ROUND_S, seconds / LEAST_ROUNDS), LEAST_ROUND_S)
            results.append(one.run(min(length, max(left, LEAST_ROUND_S)), go_on))
            if results[-1].failures:
                break
    return report(results, seed, increments, interrupts.seen)


def check(minutes: float, cpus: int | None, increments: int | None) -> None:
    """ValueError for what torture() cannot take."""
    interval("minutes", minutes, 0.001, 1e5)
    for name, value, most in (("cpus", cpus, 256), ("increments", increments, 2**31)):
        if value is not None and not 1 <= value <= most:
            raise ValueError(f"{name}={value} is out of range: 1 to {most}")


def draw_seed() -> int:
    """A seed, short enough to be typed."""
    return random.SystemRandom().randrange(10**9)


class Interrupts:
    """A context in which Ctrl-C is noted as `seen`, in the main thread; the second raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.seen = False
        self._before: Any = None
        self._in_main = threading.current_thread() is threading.main_thread()

    def _note(self, *_: object) -> None:
        if self.seen:
            raise KeyboardInterrupt
        self.seen = True

    def __enter__(self) -> "Interrupts":
        if self._in_main:
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._in_main:
            signal.signal(signal.SIGINT, self._before)


class Watchdog:
    """A context in which stuck(what) is called, in a thread of its own, where the last watch() is `seconds` ago."""

    def __init__(self, seconds: float, stuck: Callable[[str], None]) -> None:
        self._seconds = seconds
        self._stuck = stuck
        self._over = threading.Event()
        self._last: tuple[Round | None, float] = None, time.monotonic()
        self._thread = threading.Thread(target=self._look, name="mmgen-torture-watchdog", daemon=True)

    def watch(self, current: Round) -> None:
        """All goes on, in `current`."""
        self._last = current, time.monotonic()

    def _look(self) -> None:
        while not self._over.wait(min(1.0, self._seconds / 4)):
            current, since = self._last
            if current is not None and time.monotonic() - since > self._seconds:
                self._stuck(str(Failure(current.conditions, current.describe("the torture's own thread is stuck", self._seconds))))
                return

    def __enter__(self) -> "Watchdog":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def report(results: Sequence[Result], seed: int, increments: int | None, interrupted: bool) -> Report:
    """The figures of all rounds, under the names that docs/torture.md tells."""
    grace_periods: Counter[str] = Counter()
    events: Counter[str] = Counter()
    for result in results:
        grace_periods.update(result.grace_periods)
        events.update(result.events)
    seconds = sum(result.seconds for result in results)
    rate = 1 / seconds if seconds else 0.0
    uses = events.pop("uses", 0)
    failures: list[Failure] = [failure for result in results for failure in result.failures]
    r: Report = {
        "seed": seed,
        "increments": increments,
        "interrupted": interrupted,
        "seconds": seconds,
        "rounds": len(results),
        "generations": sum(result.generations for result in results),
        "generations_per_s": rate * sum(result.generations for result in results),
        "grace_periods": grace_periods.total(),
        "grace_periods_per_s": rate * grace_periods.total(),
        "grace_periods_by_kind": dict(grace_periods),
        "uses": uses,
        "uses_per_s": rate * uses,
        "ages": [sum(ages) for ages in zip(*(result.ages for result in results), strict=True)],
        "events": dict(events),
        "nr_failures": sum(result.nr_failures for result in results),
        "failures": [{"round": failure.conditions.nr, "what": failure.what} for failure in failures],
        "conditions": [str(result.conditions) for result in results],
    }
    r["verdict"] = verdict(r)
    return r


def verdict(r: Report) -> str:
    """One sentence about the figures of `r`."""
    if r["nr_failures"]:
        return f"FAILED, {r['nr_failures']} time{'s' * (r['nr_failures'] != 1)}, in round {r['failures'][0]['round']} of seed {r['seed']}."
    if not r["grace_periods"] or not r["uses"]:
        return "Nothing was tried: no grace period ended, or nothing was read."
    return (f"No failure: {r['uses']:,} uses in {r['rounds']} round{'s' * (r['rounds'] != 1)} saw nothing older than one grace period, "
            f"of which {r['grace_periods']:,} ended.")


def text(r: Report) -> str:
    """The report `r` as a person reads it."""
    lines = [
        f"torture, seed {r['seed']}: {r['rounds']} round{'s' * (r['rounds'] != 1)}, {r['seconds']:.1f} s"
        + (", interrupted" if r["interrupted"] else "")
        + (f", weakened: a wait takes {r['increments']} generations" if r["increments"] is not None else ""),
        f"  generations    {r['generations_per_s']:>12,.0f} a second",
        f"  grace periods  {r['grace_periods_per_s']:>12,.0f} a second, {r['grace_periods']:,} in all:",
    ]
    for kind, nr in sorted(r["grace_periods_by_kind"].items()):
        lines.append(f"    {kind:<12} {nr:>12,}")
    lines.append(f"  uses           {r['uses_per_s']:>12,.0f} a second, {r['uses']:,} in all, by the age of what they saw:")
    for age, nr in enumerate(r["ages"]):
        if nr or age < 3:
            older = " or more" * (age == len(r["ages"]) - 1)
            lines.append(f"    {str(age) + older:<12} {nr:>12,}{'  <- none may be' if nr and age > 1 else ''}")
    lines.append("  events")
    for event, nr in sorted(r["events"].items()):
        lines.append(f"    {event:<17} {nr:>7,}")
    for failure in r["failures"][:MOST_TOLD]:
        lines.append(f"  FAILURE in round {failure['round']}: {failure['what']}")
    if r["nr_failures"]:
        lines += [f"  {r['conditions'][-1]}",
                  f"  to see it again: --seed {r['seed']}, with the same --cpus and --increments, on as many cores"]
    return "\n".join([*lines, "", r["verdict"]])
