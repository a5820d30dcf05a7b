"""The arguments of `mmgen replay`. What it does is in mmgen.lab.replay, which needs numpy; this needs nothing."""
import argparse
from typing import Any

from mmgen.cli_lab import need_numpy


def add_replay(commands: Any) -> None:
    """`mmgen replay`."""
    p = commands.add_parser(
        "replay", help="what every policy would have cost on a recorded machine, and how long waits would have taken",
        description="Replay a recorded machine under refcount, shootdown, and generation with each idle rule: what each costs and holds, "
                    "how long a wait takes that begins at any moment or at a teardown, and who held it up. Status 1: something was used "
                    "after it was freed. Needs numpy: the extra lab. docs/replay.md tells how to read it.")
    p.add_argument("trace", metavar="FILE",
                   help="what mmgen record, perf script, ftrace or trace-cmd report wrote, or a .mmtrace.tsv; any gzipped")
    p.add_argument("--tasks", metavar="TASKS", help="the machine's threads: tid, tgid, K or U (kernel or user), a line each")
    p.add_argument("--hz", type=int, metavar="HZ", help="ticks a second of that machine, 1 to 10000 (default: as the ticks say)")
    p.add_argument("--rate", type=float, metavar="R",
                   help="waits that arrive a second, beside those at teardowns (default 97, as in mmgen run)")
    p.add_argument("--patience", type=int, metavar="N", help="generation, kick: ticks before the holdouts are interrupted (default 4)")
    p.add_argument("--costs", metavar="FILE", help="the costs that mmgen calibrate -o wrote (default: documented ones)")
    p.add_argument("--cost", action="append", metavar="NAME=NS", help="one of them; counts before --costs, or the defaults")
    p.add_argument("--mm-bytes", type=int, metavar="N", help="what a held mm takes (default 5504)")
    p.add_argument("--from", type=float, dest="begin", metavar="S", help="for pictures of generations and --perfetto: from second S on")
    p.add_argument("--to", type=float, dest="end", metavar="S", help="and up to it (default: pictures while the longest wait lasts; all)")
    p.add_argument("--idle-rule", choices=["hang", "drop", "kick"], help="whose generations --perfetto shows (default drop)")
    p.add_argument("--json", metavar="FILE", help="write the figures there as JSON ('-': to standard output, instead of the text)")
    p.add_argument("--html", metavar="FILE", help="write a page with pictures there, which needs nothing else ('-': as for --json)")
    p.add_argument("--pictures", metavar="DIR", help="write the pictures there, as SVG")
    p.add_argument("--perfetto", metavar="FILE", help="write the recorded switches with the generations there, for ui.perfetto.dev")
    p.set_defaults(call=call_replay, command="replay")


def call_replay(o: argparse.Namespace) -> int:
    """`mmgen replay`."""
    need_numpy()
    from mmgen.lab.replay import command  # noqa: PLC0415 - it needs that
    return command.run(o)
