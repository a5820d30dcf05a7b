"""`mmgen lab sweep`: the cases that its arguments ask for, who runs them, and the table that it prints."""
import argparse
import contextlib
import dataclasses
import importlib
import itertools
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from mmgen._arguments import shown
from mmgen.lab.command import costs, given, policy_text, switches
from mmgen.lab.compare_command import need_matplotlib
from mmgen.lab.grid import Grid
from mmgen.lab.load import Load
from mmgen.lab.policies import IDLE_RULES, POLICIES, Generation, Policy, Shootdown, one_of
from mmgen.lab.results import each, key, read
from mmgen.lab.simulate import Case, Result
from mmgen.lab.sweep import Swept, sweep
from mmgen.lab.workers import Executor, Here
from mmgen.progress import progress
from mmgen.run import duration

MOST_ROWS = 40                  # of the table that is printed; and failures
DRAWN = ("switches_per_s", "overhead_ns_per_switch", "atomics_per_s", "ipis_per_s", "held_mean", "p50")
CONNECT_S = 10                  # to reach a cluster
AHEAD = 4                       # cases that a cluster's thread is given at a time: it need not wait for the next


def run(o: argparse.Namespace) -> int:
    """Sweep as `o` says. 0; 1: a case failed, or something was used after it was freed; 130: interrupted. Raises ValueError, OSError."""
    if o.dask is not None and o.workers is not None:
        raise ValueError("--workers goes without --dask: the cluster has its own")
    workers = None if o.workers is None else at_most(o.workers)
    cases = grid(o)
    if o.pictures is not None:
        need_matplotlib()
        Path(o.pictures).mkdir(exist_ok=True)           # before the work
    status = 0
    with terminable():
        try:
            with cluster(o.dask) as (there, at_once), progress(describe) as show:
                swept = sweep(cases, o.output, Here() if workers == 0 else there, workers=workers or None, at_once=at_once, show=show)
        except KeyboardInterrupt as interrupt:
            if not interrupt.args or not isinstance(interrupt.args[0], Swept):
                raise
            swept, status = interrupt.args[0], 130
    if status:
        print(summary(swept, len(cases), o.output))
        return status
    if o.pictures is not None:
        draw(read(o.output, cases), Path(o.pictures))
    table, use_after_frees = figures(cases, o.output)
    print("\n".join([*table, *failures(swept), summary(swept, len(cases), o.output)]))
    return 1 if swept.left or swept.stopped or use_after_frees else 0


def draw(results: list[Result], folder: Path) -> None:
    """The figures against CPUs, a file each in `folder`, which is there."""
    from mmgen.lab.pictures import against_cpus  # noqa: PLC0415 - needs matplotlib
    from mmgen.lab.report import svg  # noqa: PLC0415 - so does this
    for figure in DRAWN if results else ():
        (folder / f"{figure}.svg").write_text(svg(against_cpus(results, figure), figure, f"{figure} against CPUs") + "\n")


def at_most(text: str) -> int:
    """--workers."""
    if not (text.isascii() and text.isdigit() and len(text) < 5 and int(text) <= 4096):
        raise ValueError(f"--workers {shown(text)} is out of range: 0 to 4096")
    return int(text)


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM is Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield                                           # which alone may say what a signal does
        return
    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def cluster(address: str | None) -> Iterator[tuple[Executor | None, int | None]]:
    """An executor on the Dask cluster at `address`, and how many cases to give it; None for this machine. ValueError, OSError."""
    if address is None:
        yield None, None
        return
    try:
        distributed = importlib.import_module("distributed")            # an extra, much of which has no types
    except ImportError as error:
        raise ValueError(f"--dask needs distributed, which is not here ({error}): pip install 'mmgen-grace[dask]'") from error
    client = distributed.Client(address, timeout=CONNECT_S, set_as_default=False)
    try:
        threads = sum(client.nthreads().values())
        # pure: or Dask would give a case that failed, when it is tried again, the same failure.
        yield client.get_executor(pure=False), max(AHEAD * threads, AHEAD)
    finally:
        client.close()


def grid(o: argparse.Namespace) -> Grid:
    """The cases. ValueError."""
    axes = given(o, Load) | given(o, Case, ("cpus", "hz", "seconds", "seed", "mm_bytes"))
    if o.switch_us is not None:
        axes["switch_us"] = [switches(word)["switch_us"] for word in o.switch_us.split(",")]
    return Grid(policy=policies(o), costs=costs(o.cost, o.costs), **axes)


def policies(o: argparse.Namespace) -> list[Policy]:
    """Each policy that the arguments name, with each of its own options."""
    names = o.policy.split(",")
    for name in names:
        one_of(name, "--policy", tuple(POLICIES))
    for option, owner in (("idle_rule", Generation), ("patience", Generation), ("continuous", Generation), ("trim", Shootdown)):
        if getattr(o, option) and owner.name not in names:
            raise ValueError(f"--{option.replace('_', '-')} goes with --policy {owner.name}")
    rules = ["drop"] if o.idle_rule is None else o.idle_rule.split(",")
    for rule in rules:
        one_of(rule, "--idle-rule", IDLE_RULES)
    if o.patience and "kick" not in rules:
        raise ValueError("--patience goes with --idle-rule kick")
    found: list[Policy] = []
    for name in names:
        if name == Generation.name:
            found += [Generation(idle=rule, continuous=o.continuous, **patience) for rule in rules
                      for patience in ([{"patience": n} for n in o.patience] if rule == "kick" and o.patience else [{}])]
        else:
            found.append(Shootdown(trim=o.trim) if name == Shootdown.name else POLICIES[name]())
    broken = [] if o.broken is None else o.broken.split(",")
    for variant in broken:
        one_of(variant, "--broken", tuple(itertools.chain(*(policy.BROKEN for policy in found))))
    return found + [dataclasses.replace(policy, broken=variant) for policy in found for variant in broken if variant in policy.BROKEN]


def describe(so_far: Swept) -> str:
    """How far it is, in a few words."""
    speed = so_far.ran / so_far.wall_s if so_far.wall_s else 0.0
    failed = f", {len(so_far.failed):,} failed" if so_far.failed else ""
    return f"{so_far.had + so_far.ran:,} cases{failed}, {speed:.3g} a second"


def figures(cases: Grid, path: str) -> tuple[list[str], int]:
    """The lines of a table of the first cases' main figures; and how many uses after free all of them have."""
    wanted = dict.fromkeys(map(key, cases))             # in order
    first = set(itertools.islice(wanted, MOST_ROWS))
    found: dict[str, Result] = {}
    use_after_frees = 0
    for result in each(path):
        if (name := key(result.case)) in wanted:
            use_after_frees += result.use_after_frees
            if name in first:
                found[name] = result
    shown_rows = [row(found[name], varied(cases)) for name in itertools.islice(wanted, MOST_ROWS) if name in found]
    more = [f"... and {len(wanted) - MOST_ROWS:,} more"] if len(wanted) > MOST_ROWS else []
    return (aligned(shown_rows) if shown_rows else []) + more, use_after_frees


def varied(cases: Grid) -> list[str]:
    """The fields of Case and Load that the table shows: CPUs, HZ, and what else has several values."""
    loads = cases.axes.get("load", [])
    fields = [field.name for field in dataclasses.fields(Load) if len({getattr(load, field.name) for load in loads}) > 1]
    return ["cpus", "hz", *fields, *(name for name in ("seconds", "seed", "mm_bytes") if len(set(cases.axes.get(name, []))) > 1)]


def row(r: Result, names: list[str]) -> dict[str, str]:
    """A line of the table, by its heads."""
    table = {"policy": policy_text(r.case.policy)}
    for name in names:
        value = getattr(r.case if hasattr(r.case, name) else r.case.load, name)
        table[name] = "tick" if value is None else str(value) if isinstance(value, int | str) else f"{value:g}"
    latency = {name: None if ns is None else ns / 1e6 for name, ns in r.latency_percentiles_ns.items()}
    return table | {
        "switches/s": f"{r.rates['switches_per_s']:,.0f}", "atomics/s": f"{r.rates['atomics_per_s']:,.0f}",
        "lines/s": f"{r.rates['lines_per_s']:,.0f}", "IPIs/s": f"{r.rates['ipis_per_s']:,.0f}",
        "ns/switch": f"{r.overhead_ns_per_switch:,.1f}", "held": f"{r.held_mean:,.1f}", "p50": duration(latency["p50"]),
        "p99": duration(latency["p99"]), "used after free": f"{r.use_after_frees:,}"}


def aligned(rows: list[dict[str, str]]) -> list[str]:
    """A head, and the rows under it. Who was used after it was freed has a column where somebody was."""
    heads = [head for head in rows[0] if head != "used after free" or any(r[head] != "0" for r in rows)]
    lines = [heads, *([r[head] for head in heads] for r in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    return ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines]


def failures(swept: Swept) -> list[str]:
    """The first cases that failed, and why."""
    lines = [f"FAILED {policy_text(case.policy)}, {case.cpus} CPUs, {case.hz} Hz, seed {case.seed}: {said(error)}"
             for case, error in swept.failed[:MOST_ROWS]]
    if len(swept.failed) > MOST_ROWS:
        lines.append(f"... and {len(swept.failed) - MOST_ROWS:,} more that failed")
    if swept.stopped is not None:
        lines.append(f"STOPPED, since no more cases were taken: {said(swept.stopped)}")
    return lines


def said(error: BaseException) -> str:
    """What an error says, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def summary(swept: Swept, nr: int, path: str) -> str:
    """The last line."""
    had = f", {swept.had:,} were there before" if swept.had else ""
    failed = f", {len(swept.failed):,} failed" if swept.failed else ""
    left = nr - swept.repeats - swept.had - swept.ran - len(swept.failed)
    rest = f", {left:,} not run" if left else ""
    return f"{path}: {swept.ran:,} cases run in {swept.wall_s:.3g} s{had}{failed}{rest}"
