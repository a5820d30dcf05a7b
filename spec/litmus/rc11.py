r"""Enumerates the executions of C litmus tests and keeps those RC11 allows: `python spec/litmus/rc11.py FILE ...`.

RC11 is Lahav, Vafeiadis, Kang, Hur, Dreyer, "Repairing Sequential Consistency in C/C++11" (PLDI 2017), with C++20's release sequences
(a store and the read-modify-writes that follow it, no later stores of the same thread): they order less, so what is never seen here
is never seen with the paper's either. A candidate execution is a run of each thread with guessed values for what it reads, a write to
read each value from (rf), and an order of the writes to each location (mo); it stands if it is coherent, its read-modify-writes are
atomic, its seq_cst accesses and fences can be ordered, and nothing comes out of thin air (sb and rf have no cycle).

The subset of herd7's C that is read: atomic_*_explicit loads, stores, exchanges, fetch_add and fetch_sub, atomic_thread_fence, plain
*x, `if (r == n) { }`; constants only; init of locations, else 0; `exists` with /\ over registers and final values. A read-modify-write
is a read and a write here. Exit status: 0; 2, a file could not be read.
"""
import itertools
import math
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ACQUIRE, RELEASE = {"acquire", "acq_rel", "seq_cst"}, {"release", "acq_rel", "seq_cst"}
STATEMENT = re.compile(r"""
    (?:(?:int\s+)?(?P<reg>\w+)\s*=\s*)?
    atomic_(?P<op>load|store|exchange|fetch_add|fetch_sub|thread_fence)(?:_explicit)?
        \(\s*(?:(?P<loc>\w+)\s*,\s*)?(?:(?P<value>\d+)\s*,\s*)?memory_order_(?P<order>\w+)\s*\)\s*;
  | (?:int\s+)?(?P<plain_reg>\w+)\s*=\s*\*(?P<plain_load>\w+)\s*;
  | \*(?P<plain_store>\w+)\s*=\s*(?P<plain_value>\d+)\s*;
  | if\s*\((?P<if_reg>\w+)\s*==\s*(?P<if_value>\d+)\)\s*\{
  | (?P<end>\})""", re.X)


@dataclass(frozen=True)
class Step:
    op: str                                     # a group of STATEMENT, or "if"
    loc: str = ""
    value: int = 0
    order: str = "plain"
    reg: str = ""
    body: tuple["Step", ...] = ()


@dataclass(frozen=True)
class Event:
    kind: str                                   # R, W, F
    loc: str
    value: int
    order: str
    thread: int                                 # -1: an initial write
    rmw: bool = False                           # a write: of the read just before it


@dataclass(frozen=True)
class Run:
    """A thread, run to its end."""

    events: tuple[Event, ...] = ()
    registers: tuple[tuple[str, int], ...] = ()


@dataclass
class Litmus:
    name: str
    init: dict[str, int]
    threads: list[tuple[Step, ...]]
    exists: list[tuple[str, int]] = field(default_factory=list)     # "0:r0", or a location


def parse(text: str) -> Litmus:
    text = re.sub(r"\(\*.*?\*\)|/\*.*?\*/|//[^\n]*", " ", text, flags=re.S)
    head = re.match(r"\s*C\s+(\S+)\s*\{([^}]*)\}", text)
    tail = re.search(r"exists\s*\((.*)\)\s*$", text, re.S)
    if not head or not tail:
        raise ValueError("no `C name { ... }` or no `exists ( ... )`")
    init = {loc: int(value) for loc, value in re.findall(r"(\w+)\s*=\s*(\d+)\s*;", head[2])}
    threads: list[tuple[Step, ...]] = []
    at = head.end()
    while opening := re.compile(r"\s*P(\d+)\s*\(([^)]*)\)\s*\{").match(text, at):
        if int(opening[1]) != len(threads):
            raise ValueError("the threads are not P0, P1 ...")
        for loc in re.findall(r"\*\s*(\w+)", opening[2]):
            init.setdefault(loc, 0)
        steps, at = block(text, opening.end())
        threads.append(steps)
    if text[at:tail.start()].strip():
        raise ValueError(f"not understood: {text[at:tail.start()].strip()!r}")
    test = Litmus(head[1], init, threads)
    for term in tail[1].split("/\\"):
        m = re.fullmatch(r"\s*(\d+:\w+|\w+)\s*=\s*(\d+)\s*", term)
        if not m:
            raise ValueError(f"not understood: {term!r}")
        test.exists.append((m[1], int(m[2])))
    return test


def block(text: str, at: int) -> tuple[tuple[Step, ...], int]:
    steps: list[Step] = []
    while True:
        at += len(text[at:]) - len(text[at:].lstrip())
        m = STATEMENT.match(text, at)
        if not m:
            raise ValueError(f"not understood: {text[at:at + 60]!r}")
        at = m.end()
        if m["end"]:
            return tuple(steps), at
        if m["op"]:
            steps.append(Step(m["op"], m["loc"] or "", int(m["value"] or 0), m["order"], m["reg"] or ""))
        elif m["plain_load"]:
            steps.append(Step("load", m["plain_load"], reg=m["plain_reg"]))
        elif m["plain_store"]:
            steps.append(Step("store", m["plain_store"], int(m["plain_value"])))
        else:
            body, at = block(text, at)
            steps.append(Step("if", value=int(m["if_value"]), reg=m["if_reg"], body=body))


def runs(steps: tuple[Step, ...], thread: int, domain: dict[str, set[int]], done: Run) -> Iterator[Run]:
    """Each run of these steps after `done`, whatever it may read."""
    if not steps:
        yield done
        return
    step, rest = steps[0], steps[1:]
    if step.op == "if":
        yield from runs((step.body if dict(done.registers)[step.reg] == step.value else ()) + rest, thread, domain, done)
    elif step.op == "thread_fence":
        yield from runs(rest, thread, domain, Run((*done.events, Event("F", "", 0, step.order, thread)), done.registers))
    elif step.op == "store":
        yield from runs(rest, thread, domain, Run((*done.events, Event("W", step.loc, step.value, step.order, thread)), done.registers))
    else:
        for seen in sorted(domain[step.loc]):
            events = (*done.events, Event("R", step.loc, seen, step.order, thread))
            if step.op != "load":
                new = {"exchange": step.value, "fetch_add": seen + step.value, "fetch_sub": seen - step.value}[step.op]
                events += (Event("W", step.loc, new, step.order, thread, rmw=True),)
            registers = {**dict(done.registers), **({step.reg: seen} if step.reg else {})}
            yield from runs(rest, thread, domain, Run(events, tuple(registers.items())))


class Relation:
    """Pairs of events 0 .. n-1: a row of bits each."""

    def __init__(self, n: int, pairs: Iterable[tuple[int, int]] = ()) -> None:
        self.rows = [0] * n
        for a, b in pairs:
            self.rows[a] |= 1 << b

    @staticmethod
    def of(rows: list[int]) -> "Relation":
        made = Relation(0)
        made.rows = rows
        return made

    def __or__(self, other: "Relation") -> "Relation":
        return Relation.of([a | b for a, b in zip(self.rows, other.rows, strict=True)])

    def __and__(self, other: "Relation") -> "Relation":
        return Relation.of([a & b for a, b in zip(self.rows, other.rows, strict=True)])

    def __matmul__(self, other: "Relation") -> "Relation":
        """Self, then other."""
        rows = []
        for row in self.rows:
            out = 0
            for b, then in enumerate(other.rows):
                if row >> b & 1:
                    out |= then
            rows.append(out)
        return Relation.of(rows)

    def maybe(self) -> "Relation":
        return Relation.of([row | 1 << a for a, row in enumerate(self.rows)])

    def plus(self) -> "Relation":
        rows = list(self.rows)
        for b in range(len(rows)):
            for a in range(len(rows)):
                if rows[a] >> b & 1:
                    rows[a] |= rows[b]
        return Relation.of(rows)

    def pairs(self) -> Iterator[tuple[int, int]]:
        return ((a, b) for a, row in enumerate(self.rows) for b in range(len(self.rows)) if row >> b & 1)

    def empty(self) -> bool:
        return not any(self.rows)

    def irreflexive(self) -> bool:
        return not any(row >> a & 1 for a, row in enumerate(self.rows))

    def acyclic(self) -> bool:
        return self.plus().irreflexive()


def happens_before(events: list[Event], sb: Relation, rf: Relation, mo: Relation) -> Relation | None:
    """hb, if RC11 allows this execution."""
    n, ids = len(events), range(len(events))

    def only(which: Iterable[int]) -> Relation:
        return Relation(n, ((a, a) for a in which))

    def is_a(kind: str, orders: set[str] | None = None) -> Relation:
        return only(a for a in ids if events[a].kind in kind and (events[a].order in orders if orders else events[a].order != "plain"))

    if not (sb | rf).acyclic():                                                                     # no thin air
        return None
    same = Relation(n, ((a, b) for a in ids for b in ids if events[a].loc and events[a].loc == events[b].loc))
    other = Relation(n, ((a, b) for a in ids for b in ids if not same.rows[a] >> b & 1))
    rmw = Relation(n, ((b - 1, b) for b in ids if events[b].rmw))
    rb = Relation(n, ((b, c) for a, b in rf.pairs() for c in ids if mo.rows[a] >> c & 1))
    if not (rmw & (rb @ mo)).empty():                                                               # atomicity
        return None
    fences = only(a for a in ids if events[a].kind == "F")
    sequence = is_a("W") @ ((rf @ rmw).plus().maybe())
    sw = (is_a("WF", RELEASE) @ ((fences @ sb) | only(ids)) @ sequence @ rf @ is_a("R")
          @ ((sb @ fences) | only(ids)) @ is_a("RF", ACQUIRE))
    hb = (sb | sw).plus()
    eco = (rf | mo | rb).plus()
    if not (hb @ eco.maybe()).irreflexive():                                                        # coherence
        return None
    sc, sc_fence = is_a("RWF", {"seq_cst"}), is_a("F", {"seq_cst"})
    elsewhere = sb & other
    scb = sb | (elsewhere @ hb @ elsewhere) | (hb & same) | mo | rb
    base = (sc | (sc_fence @ hb.maybe())) @ scb @ (sc | (hb.maybe() @ sc_fence))
    fenced = sc_fence @ (hb | (hb @ eco @ hb)) @ sc_fence
    return hb if (base | fenced).acyclic() else None


def flat(steps: tuple[Step, ...]) -> Iterator[Step]:
    for step in steps:
        yield step
        yield from flat(step.body)


def executions(test: Litmus) -> Iterator[tuple[dict[str, int], bool]]:
    """Of each allowed execution: the registers' and locations' last values, and whether it has a data race."""
    every: list[list[Run]] = []
    domain = {loc: {value} for loc, value in test.init.items()}
    # What a location may hold: constants, and what a chain of read-modify-writes makes of them; longer chains than these there are not.
    for _link in range(2 + sum(step.op[:5] == "fetch" for steps in test.threads for step in flat(steps))):
        every = [list(runs(steps, thread, domain, Run())) for thread, steps in enumerate(test.threads)]
        for event in (event for thread in every for run in thread for event in run.events if event.kind == "W"):
            domain[event.loc].add(event.value)
    for chosen in itertools.product(*every):
        events = [Event("W", loc, value, "relaxed", -1) for loc, value in test.init.items()]
        events += [event for run in chosen for event in run.events]
        n = len(events)
        sb = Relation(n, ((a, b) for a in range(n) for b in range(a + 1, n)
                          if events[b].thread >= 0 and events[a].thread in (-1, events[b].thread)))
        reads = [a for a in range(n) if events[a].kind == "R"]
        sources = [[w for w in range(n) if events[w].kind == "W" and (events[w].loc, events[w].value) == (events[r].loc, events[r].value)]
                   for r in reads]
        writes = [[w for w in range(n) if events[w].kind == "W" and events[w].loc == loc] for loc in test.init]
        orders = [[(first, *later) for later in itertools.permutations(rest)] for first, *rest in writes]   # the initial write first
        for source in itertools.product(*sources):
            rf = Relation(n, zip(source, reads, strict=True))
            for order in itertools.product(*orders):
                mo = Relation(n, (pair for line in order for pair in itertools.combinations(line, 2)))
                hb = happens_before(events, sb, rf, mo)
                if hb is None:
                    continue
                race = any(a.loc and a.loc == b.loc and "W" in a.kind + b.kind and "plain" in (a.order, b.order)
                           and -1 != a.thread != b.thread != -1 and not (hb.rows[i] >> j | hb.rows[j] >> i) & 1
                           for (i, a), (j, b) in itertools.combinations(enumerate(events), 2))
                final = {loc: events[line[-1]].value for loc, line in zip(test.init, order, strict=True)}
                final |= {f"{thread}:{reg}": value for thread, run in enumerate(chosen) for reg, value in run.registers}
                yield final, race


def verdict(test: Litmus) -> str:
    """Never; Sometimes: `exists` is reached; Race: an execution has a data race, so that C promises nothing."""
    reached = race = False
    for final, racy in executions(test):
        reached |= all(final.get(what, math.nan) == value for what, value in test.exists)
        race |= racy
    return "Race" if race else "Sometimes" if reached else "Never"


def main(paths: list[str]) -> int:
    for path in paths:
        try:
            print(f"{Path(path).stem:<32} {verdict(parse(Path(path).read_text()))}")
        except (OSError, ValueError, KeyError) as problem:
            print(f"{path}: {problem}", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
