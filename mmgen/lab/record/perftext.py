"""Events of the ring buffer as lines of `perf script --ns -F comm,pid,tid,cpu,time,event,trace`: one form, whoever recorded."""
import heapq
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mmgen.lab.record.ringbuffer import EVENTS, Event, Text, shown

IDLE = "swapper"


def lines(streams: Iterable[Iterator[Event]], kinds: Mapping[int, str], tgids: Mapping[int, int],
          known: Mapping[int, str], symbols: Mapping[int, str], function: str | None = None) -> Iterator[str]:
    """The events of all CPUs by time, a line each.

    streams: each CPU's events in order; kinds: by the number of a kind, its system:name; tgids: whose thread a tid is (where that is not
    known, a line has the tid alone); known: tasks' names, where no event has named them yet; symbols: the functions of timers, by address;
    function: that of all others (this user may not see addresses), None if it is not known.
    """
    texts: dict[int, tuple[str, Text, str]] = {number: (f"{name:>26}", EVENTS[name][1], name.partition(":")[2])
                                               for number, name in kinds.items()}
    names = {**known, 0: IDLE}
    whose = {0: "    0/0    "}
    for t_ns, cpu, number, pid, values in heapq.merge(*streams):
        when = f"[{cpu:03d}] {t_ns // 10**9:5d}.{t_ns % 10**9:09d}:"
        if number is None:
            yield f"{IDLE:>16} {whose[0]} {when} PERF_RECORD_LOST lost {int(values[0]) or 1}\n"
            continue
        label, text, name = texts[number]
        operands: tuple[Any, ...] = values
        if name == "sched_switch":
            names[pid] = shown(operands[0]) if pid else IDLE
            names[operands[5]] = shown(operands[4]) if operands[5] else IDLE
        elif name == "sched_process_fork":
            names.setdefault(pid, shown(operands[0]))
            names[operands[3]] = shown(operands[2])
        elif name == "sched_process_exec":
            names[pid] = shown(operands[0].rpartition(b"/")[2][:15])
        elif name == "sched_process_exit":
            names[pid] = shown(operands[0])
        elif name == "hrtimer_expire_entry":
            timer, address, now = operands
            operands = timer, symbols.get(address, function or f"{address:#x}"), now
        if pid not in whose:
            whose[pid] = f"{tgids[pid]:>5}/{pid:<5}" if pid in tgids else f"{pid:>5}      "
        yield f"{names.get(pid, f':{pid}'):>16} {whose[pid]} {when} {label}: {text(*operands)}\n"
