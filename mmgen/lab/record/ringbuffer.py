"""The kernel's ring buffer pages (trace_pipe_raw) as events, and those as text: what trace-cmd does, for the six events that are recorded.

A page: the time of its first event in ns, a word whose low bits say how many bytes follow, and events. An event: a word of 5 bits
type and 27 bits ns since the one before; type 1 to 28: so many words of event; 0: the next word says how many bytes; 29: padding;
30: more bits of time; 31: all of its bits but the highest 5. (Documentation/trace/ring-buffer-design.rst; include/linux/ring_buffer.h)
"""
import functools
import re
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

PADDING, TIME_EXTEND, TIME_STAMP = 29, 30, 31
TIME_BITS = 27
ABSOLUTE_BITS = 59                      # of a TIME_STAMP; the page's own time has the others
MISSED, COUNTED = 1 << 31, 1 << 30      # in a page's length: events were lost before it; how many stands behind its events
LENGTH = (1 << 20) - 1
FIELD = re.compile(r"^\tfield:(.+?)\s*(\w+)(\[\d*\])?;\toffset:(\d+);\tsize:(\d+);(?:\tsigned:(\d);)?", re.MULTILINE)
INTEGERS = {1: "b", 2: "h", 4: "i", 8: "q"}


class Event(NamedTuple):
    """One event. id: the kind's number; None: `values` is how many were lost before the next on this CPU, (0,) if that is not known."""

    t_ns: int
    cpu: int
    id: int | None
    pid: int                            # the tid of who ran
    values: tuple[int | bytes, ...]


@dataclass(frozen=True)
class Page:
    """Where things are in a page: the size of the length word (a long), where events begin, and the page's size, in bytes."""

    word: int
    begin: int
    size: int

    @classmethod
    def read(cls, text: str) -> "Page":
        """From events/header_page. ValueError."""
        fields = {found[2]: (int(found[4]), int(found[5])) for found in FIELD.finditer(text)}
        try:
            return cls(fields["commit"][1], fields["data"][0], sum(fields["data"]))
        except KeyError as error:
            raise ValueError(f"header_page has no field {error}") from error


class Format:
    """How an event of one kind lies in memory, from its `format` file: unpack() gives the common pid, then the fields `wanted`, in order.

    A string is bytes. ValueError for a format without them.
    """

    def __init__(self, text: str, wanted: Iterable[str]) -> None:
        number = re.search(r"^ID: (\d+)$", text, re.MULTILINE)
        if number is None:
            raise ValueError("an event's format has no ID")
        self.id = int(number[1])
        fields = {found[2]: found for found in FIELD.finditer(text)}
        names = ["common_pid", *wanted]
        for name in names:
            if name not in fields:
                raise ValueError(f"the format of event {self.id} has no field {name}")
        code, at = "=", 0
        for name in sorted(names, key=lambda name: int(fields[name][4])):
            _, kind, _, array, offset, size, signed = (fields[name][0], *fields[name].groups())
            code += f"{int(offset) - at}x" if int(offset) > at else ""
            at = int(offset) + int(size)
            if array and "__data_loc" not in kind:
                code += f"{size}s"
            else:
                letter = INTEGERS[int(size)]
                code += letter if signed == "1" and "__data_loc" not in kind else letter.upper()
        self._struct = struct.Struct(code)
        in_memory = sorted(names, key=lambda name: int(fields[name][4]))
        self._order = [in_memory.index(name) for name in names]
        self._order = [] if self._order == list(range(len(names))) else self._order
        self._strings = [i for i, name in enumerate(names) if fields[name][3] or "__data_loc" in fields[name][1]]
        self._away = {i for i in self._strings if "__data_loc" in fields[names[i]][1]}

    def unpack(self, page: bytes, at: int) -> tuple[int, tuple[int | bytes, ...]]:
        """Of the event whose bytes begin at `at`: who ran, and the fields wanted."""
        found = self._struct.unpack_from(page, at)
        values = [found[i] for i in self._order] if self._order else list(found)
        for i in self._strings:
            if i in self._away:         # 16 bits of length, 16 of where it begins
                begin = at + (values[i] & 0xFFFF)
                values[i] = page[begin:begin + (values[i] >> 16)]
            values[i] = values[i].partition(b"\0")[0]
        return values[0], tuple(values[1:])


def decode(pages: Iterable[bytes], cpu: int, layout: Page, formats: dict[int, Format]) -> Iterator[Event]:
    """The events of one CPU's pages, in order; of kinds that `formats` has not, none. ValueError for what is no page."""
    little = sys.byteorder == "little"
    word = struct.Struct("=I").unpack_from
    head = struct.Struct("=QQ" if layout.word == 8 else "=QI").unpack_from
    kind_of = struct.Struct("=H").unpack_from
    for page in pages:
        if len(page) != layout.size:
            raise ValueError(f"a page of CPU {cpu} has {len(page)} bytes, not {layout.size}")
        now, commit = head(page, 0)
        high = now >> ABSOLUTE_BITS << ABSOLUTE_BITS
        at, end = layout.begin, layout.begin + (commit & LENGTH)
        if end > layout.size:
            raise ValueError(f"a page of CPU {cpu} says that it has {commit & LENGTH} bytes of events: there is room for "
                             f"{layout.size - layout.begin}")
        if commit & MISSED:
            counted = commit & COUNTED and end + layout.word <= layout.size
            yield Event(now, cpu, None, 0, (int.from_bytes(page[end:end + layout.word], sys.byteorder) if counted else 0,))
        while at + 4 <= end:
            first, = word(page, at)
            kind, delta = (first & 31, first >> 5) if little else (first >> TIME_BITS, first & ((1 << TIME_BITS) - 1))
            at += 4
            if 0 < kind < PADDING:
                length, now = 4 * kind, now + delta
            elif kind == PADDING:
                if delta == 0:          # nothing follows
                    break
                now += delta
                at += word(page, at)[0]
                continue
            elif kind == TIME_EXTEND:
                now += (word(page, at)[0] << TIME_BITS) + delta
                at += 4
                continue
            elif kind == TIME_STAMP:
                now = high | (word(page, at)[0] << TIME_BITS) + delta
                at += 4
                continue
            else:
                length, now = word(page, at)[0] - 4, now + delta
                at += 4
                length = length + 3 & ~3
            if length < 2 or at + length > end:
                raise ValueError(f"a page of CPU {cpu} has an event of {length} bytes at {at}: its events end at {end}")
            if (known := formats.get(kind_of(page, at)[0])) is not None:
                yield Event(now, cpu, known.id, *known.unpack(page, at))
            at += length


STATES = "SDTtXZPI"                     # of a task that leaves its CPU, by bit; include/trace/events/sched.h


def state(bits: int) -> str:
    """The state in which a task leaves its CPU, as the kernel writes it."""
    return BY_BITS[bits & len(BY_BITS) - 1]


BY_BITS = [("|".join(letter for i, letter in enumerate(STATES) if bits >> i & 1) or "R") + "+" * (bits >> len(STATES))
           for bits in range(2 << len(STATES))]


def shown(value: int | bytes) -> str:
    """A name in one line."""
    return NAMES(value) if isinstance(value, bytes) else str(value)


NAMES = functools.lru_cache(4096)(lambda name: name.decode(errors="replace").replace("\n", "?"))


# What is recorded: the event's system and name, the fields that are needed, and its text as the kernel and perf write it.
Text = Callable[..., str]
EVENTS: dict[str, tuple[tuple[str, ...], Text]] = {
    "sched:sched_switch": (
        ("prev_comm", "prev_pid", "prev_prio", "prev_state", "next_comm", "next_pid", "next_prio"),
        lambda comm, pid, prio, bits, next_comm, next_pid, next_prio:
            f"prev_comm={shown(comm)} prev_pid={pid} prev_prio={prio} prev_state={state(bits)} ==> "
            f"next_comm={shown(next_comm)} next_pid={next_pid} next_prio={next_prio}"),
    "sched:sched_process_fork": (
        ("parent_comm", "parent_pid", "child_comm", "child_pid"),
        lambda comm, pid, child_comm, child_pid:
            f"comm={shown(comm)} pid={pid} child_comm={shown(child_comm)} child_pid={child_pid}"),
    "sched:sched_process_exec": (
        ("filename", "pid", "old_pid"),
        lambda filename, pid, old_pid: f"filename={shown(filename)} pid={pid} old_pid={old_pid}"),
    "sched:sched_process_exit": (
        ("comm", "pid", "prio"),
        lambda comm, pid, prio: f"comm={shown(comm)} pid={pid} prio={prio}"),
    "mmap:exit_mmap": (("mt",), lambda tree: f"mt_mod {tree:#018x}, DESTROY"),
    "timer:hrtimer_expire_entry": (
        ("hrtimer", "function", "now"),
        lambda timer, function, now: f"hrtimer={timer:#018x} function={function} now={now}"),
}
NEEDED = "sched:sched_switch"           # without which there is nothing to record
TICK = "timer:hrtimer_expire_entry"
