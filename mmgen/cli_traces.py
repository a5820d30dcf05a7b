"""The arguments of the commands on recorded machines. What they do is in mmgen.lab.traces, which needs numpy; this needs nothing."""
import argparse
from typing import Any

from mmgen.cli_lab import need_numpy


def add_convert(commands: Any) -> None:
    """`mmgen convert`."""
    p = commands.add_parser(
        "convert", help="turn what perf script, ftrace or trace-cmd printed into a .mmtrace.tsv",
        description="Read a recorded machine, whatever printed it, tell whose mm each thread ran in, and write a .mmtrace.tsv, which mmgen "
                    "run replays. docs/traces.md tells how to record one. Needs numpy: the extra lab.")
    p.add_argument("recording", metavar="IN", help="what perf script, ftrace or trace-cmd report printed, or a .mmtrace.tsv; any gzipped")
    p.add_argument("-o", "--output", required=True, metavar="OUT", help="the file to write: gzipped if its name ends in .gz")
    p.add_argument("--tasks", metavar="TASKS", help="the machine's threads: lines of 'tid tgid K' (a kernel thread) or 'tid tgid U', and "
                   "perhaps a name, with tabs between; may be gzipped")
    p.add_argument("--hz", type=int, metavar="HZ", help="ticks a second, 1 to 100000 (default: what the ticks say, else 250)")
    p.add_argument("--skew", action="store_true", help="where ticks are made up, let no two CPUs tick at the same time (skew_tick=1)")
    p.add_argument("--names", action="store_true", help="write the threads' names and the notes, too, as remarks at the end")
    p.set_defaults(call=call_convert, command="convert")


def call_convert(o: argparse.Namespace) -> int:
    """`mmgen convert`."""
    need_numpy()
    from mmgen.lab.traces import command  # noqa: PLC0415 - it needs that
    return command.convert(o)
