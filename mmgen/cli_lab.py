"""The arguments of `mmgen lab` and of its own commands. What they do is in mmgen.lab, which needs numpy; this needs nothing."""
import argparse
from collections.abc import Callable
from typing import Any


def add_lab(commands: Any) -> None:
    """`mmgen lab` and its own commands."""
    lab = commands.add_parser(
        "lab", help="three ways to free a lazy mm, on a machine in virtual time",
        description="Compare ways to free a lazy mm on a machine of any size, in virtual time. Needs numpy: the extra lab.")
    own = lab.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_simulate(own)
    add_sweep(own)
    add_compare(own)
    add_measure(own)
    add_validate(own)


def add_calibrate(commands: Any) -> None:
    """`mmgen calibrate`."""
    p = commands.add_parser(
        "calibrate", help="measure what lines, atomics, fences and IPIs cost here, for the lab",
        description="Measure the lab's costs on this machine, on the first two cores that this process may use, and print each with the "
                    "way it was measured. Run it when nothing else does. Needs numpy: the extra lab.")
    p.add_argument("--rounds", type=int, default=300, metavar="N", help="each cost is the median of so many, 2 to 1000000 (default 300)")
    p.add_argument("-o", "--output", metavar="FILE", help="write the table there as JSON, for --costs ('-': to standard output)")
    p.set_defaults(call=call_calibrate, command="calibrate")


def add_simulate(commands: Any) -> None:
    """`mmgen lab simulate`."""
    p = commands.add_parser(
        "simulate", help="simulate one case, and report its figures and its speed",
        description="Simulate one policy on one workload, and report rates, what the policy cost, memory held, how long mms waited to be "
                    "freed, and the simulation's own speed. Status 1: something was used after it was freed. docs/lab.md tells the model.")
    add_policy(p)
    add_machine(p)
    add_load(p)
    p.add_argument("--json", metavar="FILE", help="write the result there as JSON ('-': to standard output, instead of the text)")
    p.set_defaults(call=call_simulate, command="lab simulate")


def add_sweep(commands: Any) -> None:
    """`mmgen lab sweep`."""
    p = commands.add_parser(
        "sweep", help="simulate every combination of what is given as lists, into one file",
        description="Simulate every combination of policies, CPUs, HZ, loads and seeds: numbers may be lists, 2,64,1024. Each result is "
                    "kept as its case ends; called again with the same file, it runs what is missing. Status 1: a case failed, or "
                    "something was used after it was freed. docs/sweep.md tells the file's format.")
    p.register("type", int, numbers(int))               # of add_machine's and add_load's options, too
    p.register("type", float, numbers(float))
    p.add_argument("-o", "--output", default="sweep.jsonl", metavar="FILE", help="where the results are kept (default sweep.jsonl)")
    p.add_argument("--policy", default="refcount,shootdown,generation", metavar="A,B,...", help="(default refcount,shootdown,generation)")
    p.add_argument("--idle-rule", metavar="A,B,...", help="generation: hang, drop, kick (default drop)")
    p.add_argument("--patience", type=int, metavar="N,...", help="generation, kick: ticks before the holdouts are interrupted (default 4)")
    p.add_argument("--continuous", action="store_true", help="generation: count also while nobody waits")
    p.add_argument("--trim", action="store_true", help="shootdown: a CPU that switches away leaves mm_cpumask")
    p.add_argument("--broken", metavar="A,B,...", help="these broken variants of the policies as well")
    add_machine(p)
    add_load(p)
    p.add_argument("--workers", metavar="N", help="processes on this machine (default: one per core; 0: none, in the command itself)")
    p.add_argument("--dask", metavar="ADDRESS", help="run the cases on that Dask cluster instead, tcp://HOST:PORT of its scheduler")
    p.add_argument("--pictures", metavar="DIR", help="draw the main figures against CPUs there, as SVG")
    p.set_defaults(call=call_sweep, command="lab sweep")


def numbers(kind: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    """What reads a list of them."""
    return lambda text: [kind(word) for word in text.split(",")]


def add_compare(commands: Any) -> None:
    """`mmgen lab compare`."""
    p = commands.add_parser(
        "compare", help="all policies on one workload: a table, a paragraph, a page with pictures",
        description="Simulate refcount, shootdown, and generation under each idle rule on one workload: a table of what they cost and "
                    "hold, and a paragraph on where generation wins, where it loses and why. docs/compare.md tells how to read it.")
    p.add_argument("--patience", type=int, metavar="N", help="generation, kick: ticks before the holdouts are interrupted (default 4)")
    p.add_argument("--continuous", action="store_true", default=None, help="generation: count also while nobody waits")
    p.add_argument("--trim", action="store_true", default=None, help="shootdown: a CPU that switches away leaves mm_cpumask")
    add_machine(p)
    add_load(p)
    p.add_argument("--timeline", type=float, metavar="S", help="for --html and --pictures: note what each CPU does in the first S seconds")
    p.add_argument("--json", metavar="FILE", help="write the results there as JSON ('-': to standard output, instead of the text)")
    p.add_argument("--html", metavar="FILE", help="write a page with pictures there, which needs nothing else ('-': as for --json)")
    p.add_argument("--pictures", metavar="DIR", help="write the pictures there, as SVG")
    p.set_defaults(call=call_compare, command="lab compare")


def add_measure(commands: Any) -> None:
    """`mmgen lab measure`."""
    p = commands.add_parser(
        "measure", help="run one case on real threads, and report the same figures",
        description="Run one policy on one workload on real threads, each pinned to a core (by default one on each that this process has), "
                    "for so many real seconds, and report as simulate does. What costs time costs it: --cost is not used. Status 1: "
                    "something was used after it was freed. docs/lab.md tells the machine.")
    add_policy(p)
    add_machine(p)
    add_load(p)
    p.add_argument("--json", metavar="FILE", help="write the result there as JSON ('-': to standard output, instead of the text)")
    p.set_defaults(call=call_measure, command="lab measure")


def add_validate(commands: Any) -> None:
    """`mmgen lab validate`."""
    p = commands.add_parser(
        "validate", help="whether the virtual machine says what real threads do, on 2 CPUs",
        description="Run three workloads on 2 CPUs under each policy, on real threads and in virtual time at this machine's costs, and "
                    "compare rates and medians. Run it when nothing else does. Status 1: some differ by more than 15 %. "
                    "docs/validation.md tells what is compared.")
    p.add_argument("--rounds", type=int, metavar="N", help="measure so many times, and take medians, 1 to 1000 (default 3)")
    p.add_argument("--seconds", type=float, metavar="S", help="of each measurement, 0.001 to 1000 (default 1); there are 15 a round")
    p.add_argument("--seed", type=int, metavar="N", help="of its random numbers (default 0)")
    p.add_argument("--costs", metavar="FILE", help="the costs that mmgen calibrate -o wrote; without, they are measured first")
    p.add_argument("--cost", action="append", metavar="NAME=NS", help="one of them; counts before --costs, or the defaults")
    p.add_argument("--json", metavar="FILE", help="write the figures there as JSON ('-': to standard output, instead of the table)")
    p.set_defaults(call=call_validate, command="lab validate")


def add_policy(p: argparse.ArgumentParser) -> None:
    """Which policy, and what goes with it."""
    p.add_argument("--policy", choices=["refcount", "shootdown", "generation"], default="generation", help="(default generation)")
    p.add_argument("--idle-rule", choices=["hang", "drop", "kick"], help="generation: what an idle CPU does with its mm (default drop)")
    p.add_argument("--patience", type=int, metavar="N", help="generation, kick: ticks before the holdouts are interrupted (default 4)")
    p.add_argument("--continuous", action="store_true", default=None, help="generation: count also while nobody waits")
    p.add_argument("--trim", action="store_true", default=None, help="shootdown: a CPU that switches away leaves mm_cpumask")
    p.add_argument("--broken", metavar="NAME", help="a broken variant, which must be found out; refcount: no-grab; "
                   "shootdown: unfixed-hotplug, no-ipi; generation: one-increment, idle-keeps")


def add_machine(p: argparse.ArgumentParser) -> None:
    """A case's CPUs, ticks, time and costs."""
    p.add_argument("--cpus", type=int, metavar="N", help="1 to 65536 (default 64)")
    p.add_argument("--hz", type=int, metavar="HZ", help="ticks a second, 1 to 10000 (default 250)")
    p.add_argument("--seconds", type=float, metavar="S", help="of virtual time (default 1)")
    p.add_argument("--seed", type=int, metavar="N", help="of its random numbers (default 0)")
    p.add_argument("--cost", action="append", metavar="NAME=NS",
                   help="what line, atomic, fence, ipi, interrupt, look or switch costs; may be given for each")
    p.add_argument("--costs", metavar="FILE", help="the costs that mmgen calibrate -o wrote; --cost counts before them")
    p.add_argument("--mm-bytes", type=int, metavar="N", help="of an mm that is held (default 5504)")


def add_load(p: argparse.ArgumentParser) -> None:
    """What the CPUs do."""
    p.add_argument("--kind", choices=["processes", "threads"], help="each CPU has processes of its own (the default), or all share mms")
    p.add_argument("--mms", type=int, metavar="N", help="processes of each CPU, or mms of all threads together (default 2)")
    p.add_argument("--switch-us", metavar="U", help="how long a task runs, in us, or 'tick': until its CPU's next tick (default 100)")
    p.add_argument("--distribution", choices=["fixed", "exponential", "bursty"], help="of that, and of spells (default exponential)")
    for name, what in (("burst", "bursty: tasks between two long ones (default 10)"), ("pause-us", "bursty: those, in us (default 10000)"),
                       ("idle", "share of the switches that go to the idle task, 0 to 1 (default 0)"),
                       ("idle-us", "for so long (default 1000)"),
                       ("kthread", "share that go to a kernel thread (default 0)"), ("kthread-us", "for so long (default 1000)"),
                       ("exits", "share of a process's switches at which it exits, and another is forked (default 0)"),
                       ("migrate", "share of the switches to a process that take another CPU's (default 0)"),
                       ("waiter-us", "waiters: from a free to the next exit, in us (default 0)"),
                       ("hotplug-per-s", "CPUs unplugged a second (default 0)"),
                       ("unplug-us", "that takes so long (default 1000)"), ("offline-us", "and lasts so long (default 10000)")):
        p.add_argument(f"--{name}", type=float, metavar="X", help=what)
    p.add_argument("--waiters", type=int, metavar="N", help="mms in use nowhere exit, one after another, so many at a time (default 0)")


def need_numpy() -> None:
    """ValueError where it is missing."""
    try:
        import numpy as np  # noqa: F401, PLC0415 - an extra
    except ImportError as error:
        raise ValueError(f"needs numpy, which is not here ({error}): pip install 'mmgen-grace[lab]'") from error


def call_sweep(o: argparse.Namespace) -> int:
    """`mmgen lab sweep`."""
    need_numpy()
    from mmgen.lab import command_sweep  # noqa: PLC0415 - it needs that
    return command_sweep.run(o)


def call_simulate(o: argparse.Namespace) -> int:
    """`mmgen lab simulate`."""
    need_numpy()
    from mmgen.lab import command  # noqa: PLC0415 - it needs that
    return command.run(o)


def call_compare(o: argparse.Namespace) -> int:
    """`mmgen lab compare`."""
    need_numpy()
    from mmgen.lab import compare_command  # noqa: PLC0415 - it needs that
    return compare_command.run(o)


def call_measure(o: argparse.Namespace) -> int:
    """`mmgen lab measure`."""
    need_numpy()
    from mmgen.lab import command  # noqa: PLC0415 - it needs that
    return command.run(o, real=True)


def call_validate(o: argparse.Namespace) -> int:
    """`mmgen lab validate`."""
    need_numpy()
    from mmgen.lab.validate import run  # noqa: PLC0415 - it needs that
    return run(o)


def call_calibrate(o: argparse.Namespace) -> int:
    """`mmgen calibrate`."""
    need_numpy()
    from mmgen.lab.calibrate import run  # noqa: PLC0415 - it needs that
    return run(o)
