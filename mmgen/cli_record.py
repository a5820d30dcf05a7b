"""The arguments of `mmgen record`. What it does is in mmgen.lab.record, which needs numpy; this needs nothing."""
import argparse
from typing import Any

from mmgen.cli_lab import need_numpy


def add_record(commands: Any) -> None:
    """`mmgen record`."""
    p = commands.add_parser(
        "record", help="record this machine's switches, ticks, execs, exits and mm teardowns, to replay them",
        usage="mmgen record -o FILE [--seconds S] [--buffer-mb N] [--with tracefs|perf] [--raw FILE] [--tasks FILE] [-- COMMAND ...]",
        description="Record who switched to whom on every CPU of this machine, and ticks, execs, exits and mm teardowns, until COMMAND "
                    "ends, S seconds are over, or Ctrl-C; and write it as .mmtrace.tsv. Linux, with rights: what is missing is said. The "
                    "status is COMMAND's. docs/record.md tells what is changed meanwhile, and undone. Needs numpy: the extra lab.")
    p.add_argument("-o", "--output", required=True, metavar="FILE",
                   help="the recorded machine, .mmtrace.tsv or .mmtrace.tsv.gz; replaced if there")
    p.add_argument("--seconds", type=float, metavar="S", help="record so long at most; a COMMAND that still runs is then sent SIGTERM")
    p.add_argument("--buffer-mb", type=float, default=8.0, metavar="N", help="of kernel memory for each CPU's events (default 8)")
    p.add_argument("--with", dest="with_", choices=["tracefs", "perf"], help="record through this, and nothing else (default: what works)")
    p.add_argument("--raw", metavar="FILE",
                   help="keep the recorder's text there as well, as perf script writes it; gzipped if it ends with .gz")
    p.add_argument("--tasks", metavar="FILE",
                   help="write all tasks there: tid, tgid, K (kernel thread) or U, name; gzipped if it ends with .gz")
    p.add_argument("argv", nargs="*", metavar="COMMAND", help="run this meanwhile, with these arguments")
    p.set_defaults(call=call_record, command="record")


def call_record(o: argparse.Namespace) -> int:
    """`mmgen record`."""
    need_numpy()
    from mmgen.lab.record.command import run  # noqa: PLC0415 - it needs that
    return run(o)
