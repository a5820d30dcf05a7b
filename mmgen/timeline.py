"""What a domain's events tell: when generations opened, what each CPU owed, and the waits. For mmgen.perfetto.

A ring keeps the newest events. Of what it has dropped, and of what has no event, only that is told which others prove.
"""
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Iterator
from heapq import merge
from operator import attrgetter
from typing import NamedTuple

from mmgen._trace import TraceEvent

TICKS = {TraceEvent.TICK, TraceEvent.COUNT}
LEAVES = {TraceEvent.IDLE_ENTER, TraceEvent.OFFLINE}
MODES = LEAVES | {TraceEvent.IDLE_EXIT, TraceEvent.ONLINE}
OPENED = TICKS | {TraceEvent.OPEN, TraceEvent.KICK, TraceEvent.WAIT_END}        # the generation that they name has opened


class Event(NamedTuple):
    """An event; `gen` is a generation or a cookie, counted on past 2**64 and below 0: they order as they follow."""

    t_ns: int
    what: TraceEvent
    gen: int


class Spell(NamedTuple):
    """What a CPU did for a while: owe a generation, or idle (None); and what ended that, if the trace's end did not."""

    begin: int
    end: int
    gen: int | None
    ended: TraceEvent | None


class Wait(NamedTuple):
    """A wait that "returned", as did one of which only the end is known (asked: 0).

    Or the `asked` grace periods of a cookie that nobody was seen to return from - of callbacks, of polls, of a wait that ran out of
    time - and that are "over", or "under way" at the trace's end.
    """

    begin: int
    end: int
    cookie: int
    asked: int
    how: str


by_time = attrgetter("t_ns")


def ordered(events: list[list[tuple[int, int, int]]]) -> list[list[Event]]:
    """The rings in the order of time: a ring with several writers is nearly so."""
    base = next((argument for ring in events for _, what, argument in ring if what not in MODES), 0)
    return [sorted((Event(t_ns, TraceEvent(what), base + (argument - base + 2**63) % 2**64 - 2**63) for t_ns, what, argument in ring),
                   key=by_time) for ring in events]


def openings(cpus: list[list[Event]], everything: list[Event]) -> dict[int, int]:
    """When each generation opened, in order: the earliest proof of it, since what a waiter or who goes offline opens has no event."""
    proofs = [(e.gen, e.t_ns) for e in everything if e.what in OPENED]
    for ring in cpus:
        # What was under way when the CPU came online, or its ring begins, lasts until the CPU ticks, or idles.
        since = ring[0].t_ns if ring else 0
        for e in ring:
            if e.what is TraceEvent.ONLINE:
                since = e.t_ns
            elif e.what in TICKS:
                proofs.append((e.gen, since))
            if e.what in TICKS or e.what in (TraceEvent.IDLE_ENTER, TraceEvent.IDLE_EXIT):
                break
    opened: dict[int, int] = {}
    for gen, t_ns in sorted(proofs, reverse=True):
        opened[gen] = min(t_ns, next(reversed(opened.values()), t_ns))          # before the one that followed it
    return dict(reversed(opened.items()))


def wants(opened: dict[int, int], everything: list[Event]) -> list[Event]:
    """For each generation an OPEN, or a WAIT_END where it is but heard of; a WAIT_BEGIN when somebody wants its end, or all are wanted."""
    opens = {e.gen for e in everything if e.what is TraceEvent.OPEN}
    first: dict[int, int] = {}
    for e in reversed(everything):
        if e.what in TICKS:
            first[e.gen] = e.t_ns                           # nobody's unwanted ticks are kept
    begins = (e for e in everything if e.what is TraceEvent.WAIT_BEGIN)
    goal, since = min(opened, default=0), 0
    turns = []
    for (gen, begin), end in zip(opened.items(), [*opened.values(), None][1:], strict=False):
        turns.append(Event(begin, TraceEvent.OPEN if gen in opens else TraceEvent.WAIT_END, gen))
        while goal <= gen and (asked := next(begins, None)):
            if asked.gen > goal:
                goal, since = asked.gen, asked.t_ns
        wanted = [*([since] if goal > gen else []), *([first[gen]] if gen in first else [])]
        if wanted and (end is None or min(wanted) < end):
            turns.append(Event(max(begin, min(wanted)), TraceEvent.WAIT_BEGIN, gen))
    return turns


def spells(ring: list[Event], turns: list[Event], end: int) -> Iterator[Spell]:
    """What a CPU owed and where it idled, one after the other."""
    counted = {e.gen for e in ring if e.what is TraceEvent.COUNT}
    first_paid: dict[int, int | None] = {}                  # after an IDLE_EXIT, at which time: what it was counted for first
    pays: int | None = None
    for e in reversed(ring):
        if e.what is TraceEvent.IDLE_EXIT:
            first_paid[e.t_ns] = pays
        elif e.what is TraceEvent.COUNT or e.what in LEAVES:
            pays = None if e.what in LEAVES else e.gen
    running, idle = next((e.what in LEAVES for e in ring if e.what in MODES), True), False
    wanted: int | None = None
    paid: int | None = None
    idled = heard_of = False                                # whether since the last OPEN; what is under way has none
    doing: tuple[int | None] | None = None
    since = first = ring[0].t_ns if ring else end
    for e in merge(turns, (e for e in ring if e.what is not TraceEvent.OPEN), key=by_time):
        match e.what:
            case TraceEvent.OPEN:
                wanted, idled, heard_of = None, False, False
            case TraceEvent.WAIT_END:
                wanted, heard_of = None, True
            case TraceEvent.WAIT_BEGIN:
                wanted = e.gen
                paid = e.gen if heard_of and idled and e.gen not in counted else paid
            case TraceEvent.COUNT:
                paid, idled = e.gen, False
            case TraceEvent.ONLINE:
                running, paid, idled = True, None, False    # it owes what is under way, once more if it was counted before
            case TraceEvent.IDLE_EXIT:
                running, idle, idled = True, False, True
                paid = paid if first_paid[e.t_ns] == wanted else wanted     # a waiter has counted for it
            case TraceEvent.IDLE_ENTER | TraceEvent.OFFLINE:
                running, idle = False, e.what is TraceEvent.IDLE_ENTER
        now = (None,) if idle else (wanted,) if running and wanted not in (None, paid) else None
        if now != doing:
            t_ns = max(first, e.t_ns)
            if doing and since < t_ns:
                # Counted for it, and who opened the next was quicker to say so.
                late = e.what in (TraceEvent.OPEN, TraceEvent.WAIT_END) and doing[0] in counted
                yield Spell(since, t_ns, doing[0], TraceEvent.COUNT if late else e.what)
            since, doing = t_ns, now
    if doing and since < end:
        yield Spell(since, end, doing[0], None)


def waits(others: list[Event], opened: dict[int, int], end: int) -> list[Wait]:
    """The waits, in the order of their begins. Of several with one cookie the first to begin is the first to return."""
    begun: dict[int, deque[int]] = defaultdict(deque)
    found = []
    for e in others:
        if e.what is TraceEvent.WAIT_BEGIN:
            begun[e.gen].append(e.t_ns)
        elif e.what is TraceEvent.WAIT_END and begun[e.gen]:
            found.append(Wait(begun[e.gen].popleft(), e.t_ns, e.gen, 1, "returned"))
        elif e.what is TraceEvent.WAIT_END:
            found.append(Wait(e.t_ns, e.t_ns, e.gen, 0, "returned"))
    gens = list(opened)
    for cookie, begins in begun.items():
        if begins:
            nr = bisect_left(gens, cookie)
            over = max(begins[0], opened[gens[nr]]) if nr < len(gens) else None
            found.append(Wait(begins[0], end if over is None else over, cookie, len(begins), "under way" if over is None else "over"))
    return sorted(found)
