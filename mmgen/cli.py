"""The mmgen command."""
import argparse
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import mmgen
from mmgen import mmtrace, torture
from mmgen.cli_lab import add_calibrate, add_lab
from mmgen.cli_replay import add_replay
from mmgen.cli_traces import add_convert
from mmgen.machine import Machine, MachineError
from mmgen.output import report_to
from mmgen.progress import progress
from mmgen.run import run, text
from mmgen.workload import Busy, Idle, Replay, Workload, interval


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (the process's own arguments by default); the exit status."""
    options = command().parse_args(argv)
    try:
        status = int(options.call(options))
        if sys.stdout is not None:
            sys.stdout.flush()                          # here, where it can be said that it failed
        return status
    except (ValueError, OSError, MemoryError) as error:
        drop_output()
        return say(options.command, error, 2)
    except MachineError as error:
        return say(options.command, error, 1)
    except KeyboardInterrupt:
        return 130


def say(command: str, error: Exception, status: int) -> int:
    """Say what went wrong, in one line; `status`."""
    print(f"mmgen {command}: {printable(str(error) or type(error).__name__)}", file=sys.stderr)
    return status


def printable(text: str) -> str:
    """`text` in one line, whatever a file's name or an argument has in it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def drop_output() -> None:
    """Let what cannot be written to standard output go: the interpreter would try again as it exits, and complain in its own way."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except ValueError:
        pass                                            # closed
    except OSError:
        with open(os.devnull, "w") as nowhere, contextlib.suppress(OSError):
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        self.exit(2, f"{self.prog}: {printable(message)}\n")


def command() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = Parser(prog="mmgen", description="Grace periods counted by mm switches.")
    parser.add_argument("--version", action="version", version=f"mmgen {mmgen.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_run(commands)
    add_replay(commands)
    add_check(commands)
    add_torture(commands)
    add_lab(commands)
    add_calibrate(commands)
    add_convert(commands)
    return parser


def add_run(commands: Any) -> None:
    """`mmgen run` and its arguments."""
    p = commands.add_parser(
        "run", help="run CPUs on pinned threads while waits arrive, and report what a wait costs",
        description="Run CPUs on pinned threads, in real time, while waits arrive at a steady rate and at each recorded mm "
                    "teardown; report what a wait costs. Without arguments: replay the recorded machine in the package.")
    p.add_argument("trace", nargs="?", metavar="TRACE", help="a recorded machine to replay, .mmtrace.tsv or .mmtrace.tsv.gz")
    p.add_argument("--workload", choices=["trace", "busy", "idle"],
                   help="trace (the default): replay; busy: every CPU runs and switches at a rate; idle: it wakes now and then")
    p.add_argument("--cpus", type=int, metavar="N", help="how many CPUs (default: the trace's, else one per core)")
    p.add_argument("--hz", type=hertz, default=0, metavar="HZ",
                   help="ticks a second, 1 to 10000, or 'none': one after every switch (default 250)")
    p.add_argument("--seconds", type=float, metavar="S", help="how long (default: the trace's length, else 5)")
    # A rate in step with the tick would have every wait begin at the same one or two moments between two ticks.
    p.add_argument("--rate", type=float, default=97.0, metavar="R", help="waits that arrive a second (default 97)")
    p.add_argument("--switch-us", type=float, metavar="U", help="from switch to switch, in us (busy: 100, idle: 100000)")
    p.add_argument("--distribution", choices=["fixed", "exponential"], help="of that interval (default exponential)")
    p.add_argument("--seed", type=int, metavar="N", help="of its random numbers (default 0)")
    p.add_argument("--continuous", action="store_true", help="count generations also while nobody waits, as the sketch does")
    p.add_argument("--increments", type=int, metavar="N", help="generations a wait takes, for study (the protocol's own: 2 or 3)")
    p.add_argument("--json", metavar="FILE", help="write the report there as JSON ('-': to standard output, instead of the text)")
    p.set_defaults(call=call_run)


def hertz(text: str) -> int | None:
    """The argument of --hz, never 0: that stands for none given."""
    if text.lower() == "none":
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= 10_000):
        raise argparse.ArgumentTypeError(f"{text} is out of range: 1 to 10000, or 'none'")
    return int(text)


def call_run(o: argparse.Namespace) -> int:
    """`mmgen run`."""
    load = workload(o)
    interval("--rate ", o.rate, 0, 1e6)
    seconds = 5.0 if o.seconds is None else o.seconds
    if isinstance(load, Replay):
        seconds = load.trace.seconds if o.seconds is None else min(o.seconds, load.trace.seconds)
    interval("--seconds ", seconds, 0.001, 86_400)
    interval("--rate times --seconds ", o.rate * seconds, 0, 1e7)
    machine = Machine(o.cpus, 250 if o.hz == 0 else o.hz, load, continuous=o.continuous, increments=o.increments)
    with report_to(o.json) as out:
        status = 0
        try:
            with progress() as show:
                report = run(machine, seconds, o.rate, show)
        except KeyboardInterrupt as interrupt:
            if not interrupt.args:
                raise
            report, status = interrupt.args[0], 130
        if out is not None:
            json.dump(report, out, indent=1)
            out.write("\n")
    if o.json != "-":
        print(text(report))
    return status


def workload(o: argparse.Namespace) -> Workload:
    """What the arguments have the CPUs do; ValueError where one does not go with another."""
    kind = o.workload or "trace"
    if kind == "trace":
        for name in ("switch_us", "distribution", "seed"):
            if getattr(o, name) is not None:
                raise ValueError(f"--{name.replace('_', '-')} goes with --workload busy or idle, not with a trace")
        if o.hz != 0:
            raise ValueError("--hz goes with --workload busy or idle: a replayed machine ticks as it was recorded")
        return Replay(mmtrace.read(o.trace or mmtrace.bundled()))
    if o.trace is not None:
        raise ValueError(f"{o.trace}: a trace does not go with --workload {kind}")
    distribution, seed = o.distribution or "exponential", o.seed or 0
    if kind == "busy":
        return Busy(100.0 if o.switch_us is None else o.switch_us, distribution, seed)
    return Idle(100.0 if o.switch_us is None else o.switch_us / 1e3, distribution, seed)


def add_check(commands: Any) -> None:
    """`mmgen check` and its arguments."""
    p = commands.add_parser(
        "check", help="search every interleaving of the protocol's compiled code",
        description="Run the protocol's compiled code, one memory access at a time, in every order that threads can make of it, within "
                    "bounds; what must hold is checked in every state. Without arguments: a set of bounds that takes half a minute.")
    p.add_argument("--long", action="store_true", help="a wider set of bounds as well, which takes some minutes and 1 GB")
    p.add_argument("--cpus", type=int, metavar="N", help="search within these bounds instead: CPUs (default 2)")
    p.add_argument("--waiters", type=int, metavar="N", help="threads that are no CPU (default 1)")
    p.add_argument("--ops", type=int, metavar="N", help="operations of the CPUs, together (default 4)")
    p.add_argument("--waits", type=int, metavar="N", help="waits of each waiter (default 1)")
    p.add_argument("--cpu-waits", type=int, metavar="N", help="waits of each CPU, while it idles (default 0)")
    p.add_argument("--preemptions", type=int, metavar="N",
                   help="how often a thread stands back within an operation (default: any number)")
    p.add_argument("--calls", metavar="A,B,...", help="the operations that occur, of: switch, tick, idle_enter, idle_exit, online, "
                   "offline, begin, poll, wait, wait_timed (the default), expedite, defer, run_callbacks, barrier, close")
    p.add_argument("--continuous", action="store_true", default=None, help="count generations also while nobody waits")
    p.add_argument("--buffers", action="store_true", default=None, help="let stores wait in a buffer of their thread's")
    p.add_argument("--every-access", action="store_true", default=None,
                   help="leave no access out as one that nobody can tell the moment of")
    p.add_argument("--patience", type=int, metavar="N", help="ticks after which a CPU has holdouts kicked (default: none does)")
    p.add_argument("--first-generation", type=int, metavar="G", help="where generations start (default 0)")
    p.add_argument("--first-switches", type=int, metavar="S", help="where the switches' counters start (default 0)")
    p.add_argument("--broken", metavar="NAME", help="search a broken variant, which must be refuted (status 1)")
    p.add_argument("--list-broken", action="store_true", help="print the broken variants, one a line")
    p.add_argument("--max-states", type=int, metavar="N", help="give up after so many states (status 3)")
    p.add_argument("--test", metavar="FILE", help="where to write a test that replays what was found (default: test_counterexample.py, or "
                   "the next number that is free)")
    p.add_argument("--json", metavar="FILE", help="write the results there as JSON ('-': to standard output, instead of the text)")
    p.set_defaults(call=call_check)


def call_check(o: argparse.Namespace) -> int:
    """`mmgen check`."""
    try:
        from mmgen.check import command  # noqa: PLC0415 - not everywhere: it switches stacks by hand
    except ImportError as error:
        raise ValueError(str(error)) from error
    return command.run(o)


def add_torture(commands: Any) -> None:
    """`mmgen torture` and its arguments."""
    p = commands.add_parser(
        "torture", help="read what updaters free, under random conditions, and report the age of what was seen",
        description="Rounds of CPUs on pinned threads that read objects while updaters unpublish, wait and free them, with hotplug, idle, "
                    "kicks, fork, signals and stalls at random. Status 1: a use saw what was older than one grace period, or a wait hung.")
    p.add_argument("--minutes", type=float, default=1.0, metavar="M", help="how long (default 1)")
    p.add_argument("--cpus", type=int, metavar="N", help="how many CPUs in every round (default: drawn for each)")
    p.add_argument("--seed", type=int, metavar="N", help="what the rounds are drawn from (default: drawn, and printed first)")
    p.add_argument("--increments", type=int, metavar="N", help="generations a wait takes, for study: 1 is too few, and must fail")
    p.add_argument("--json", metavar="FILE", help="write the report there as JSON ('-': to standard output, instead of the text)")
    p.set_defaults(call=call_torture)


def call_torture(o: argparse.Namespace) -> int:
    """`mmgen torture`."""
    torture.check(o.minutes, o.cpus, o.increments)
    seed = torture.draw_seed() if o.seed is None else o.seed
    with report_to(o.json) as out:
        def say(what: object) -> None:                  # looks up the stream each time: a progress bar takes its place
            print(what, file=sys.stderr if o.json == "-" else sys.stdout, flush=True)

        say(f"seed {seed}")
        with progress(str) as show:
            report = torture.torture(o.minutes, o.cpus, seed, o.increments, say, show, stuck=stuck)
        if out is not None:
            json.dump(report, out, indent=1)
            out.write("\n")
    if o.json != "-":
        print(torture.text(report))
    return 1 if report["nr_failures"] else 130 if report["interrupted"] else 0


def stuck(what: str) -> NoReturn:
    """The last resort of a torture whose main thread is stuck in the protocol: say so, and end without it."""
    print(f"FAILURE: {what}", file=sys.stderr, flush=True)
    os._exit(1)
