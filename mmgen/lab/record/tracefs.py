"""The first recorder: an instance of the kernel's own tracing, which nobody else's tracing notices, read page by page."""
import contextlib
import os
import resource
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from mmgen.lab.record import leftovers, mounts, perftext, ticks
from mmgen.lab.record.rights import UnusableError, as_root
from mmgen.lab.record.ringbuffer import EVENTS, NEEDED, TICK, Format, Page, decode
from mmgen.lab.record.signals import Signals
from mmgen.lab.traces import Task

CLOCK = "mono"                          # CLOCK_MONOTONIC: what perf -k mono counts, and what other programs can compare with
WAKE_PERCENT = 25                       # of a CPU's buffer is full: time to read, with as much again in reserve three times
LOST = "overrun", "commit overrun", "dropped events"         # of a CPU's stats: overwritten before it was read, or refused
AT_ONCE = 256                           # pages of a CPU that are read before the next CPU's turn: 1 MB


class Tracefs:
    """A recording through tracefs: prepare(), start(), drain() whenever one of files() can be read, stop(), text(); undo() in any case.

    lost: since stop().
    """

    name = "tracefs"
    cpu_s = 0.0                         # of other processes

    def __init__(self, folder: Path, buffer_mb: float, signals: Signals) -> None:
        self.folder = folder
        self.signals = signals
        self.buffer_kb = max(1, round(buffer_mb * 1024))
        self.written = 0
        self.lost = 0
        self.notes: list[str] = []
        self.tgids: dict[int, int] = {}
        self.instance: Path | None = None
        self.root: Path | None = None
        self.removed: list[str] = []
        self._detached = -1
        self._file: BinaryIO | None = None
        self._pipes: dict[int, int] = {}                # by CPU, trace_pipe_raw
        self._at: dict[int, array[int]] = {}            # by CPU, where its pages begin in the file
        self._formats: dict[int, Format] = {}
        self._kinds: dict[int, str] = {}
        self._symbols: dict[int, str] = {}
        self._ticking: str | None = None                # the function of the timers that are recorded, if all have one

    def prepare(self) -> None:
        """Make the instance, and set all but the switch that starts it. Raises UnusableError; KeyboardInterrupt on a signal."""
        self.root = self._reach()
        self.removed = leftovers.clean_instances(self.root / "instances")
        instance = self.root / "instances" / f"{leftovers.INSTANCE}{leftovers.owner()}"
        try:
            make(instance)
        except OSError as error:
            who = "" if os.geteuid() == 0 else " and this is not root"
            why = f"{self._shown(instance.parent)} cannot be written ({error.strerror}){who}"
            raise UnusableError(why, as_root() if who else "") from error
        self.instance = instance
        try:
            self._set_up(instance)
        except OSError as error:
            raise UnusableError(f"{self._shown(error.filename)}: {error.strerror}") from error
        except ValueError as error:
            raise UnusableError(str(error)) from error

    def _reach(self) -> Path:
        """The root of tracefs: where it is mounted, or of one that is mounted nowhere. Raises UnusableError."""
        if (root := mounts.mounted()) is not None:
            return root
        if not mounts.offered():
            raise UnusableError("this kernel has no tracing (CONFIG_TRACING)")
        try:
            self._detached = mounts.detached()
        except OSError as error:
            if os.geteuid() == 0:
                raise UnusableError(f"tracefs is not mounted, and root may not do so here ({error.strerror}); outside of this container",
                               "mount -t tracefs nodev /sys/kernel/tracing") from error
            raise UnusableError("tracefs is not mounted, and only root may do so", as_root()) from error
        return Path(f"/proc/self/fd/{self._detached}")

    def _shown(self, path: object) -> str:
        """A path for a person to read."""
        return str(path).replace(f"/proc/self/fd/{self._detached}/", "tracefs, ")

    def _set_up(self, instance: Path) -> None:
        put(instance / "tracing_on", "0")
        put(instance / "trace_clock", CLOCK)
        put(instance / "buffer_size_kb", str(self.buffer_kb))
        with contextlib.suppress(OSError):              # Linux 4.20
            put(instance / "buffer_percent", str(WAKE_PERCENT))
        try:
            put(instance / "options" / "record-tgid", "1")
        except OSError:
            self.notes.append("this kernel does not note tgids in an instance: those of short-lived threads are not known")
        assert self.root is not None
        header = instance / "events" / "header_page"
        self._layout = Page.read((header if header.exists() else self.root / "events" / "header_page").read_text())
        for name, (fields, _) in EVENTS.items():
            self.signals.check()                        # each takes the kernel some 10 ms
            folder = instance / "events" / name.replace(":", "/")
            if not folder.is_dir():
                if name == NEEDED:
                    raise ValueError(f"this kernel has no event {name}")
                self.notes.append(f"this kernel has no event {name}")
                continue
            kind = Format((folder / "format").read_text(), fields)
            self._formats[kind.id], self._kinds[kind.id] = kind, name
            if name == TICK:
                self._symbols = ticks.addresses()
                self._filter(folder / "filter")
            put(folder / "enable", "1")
        self._open(instance)

    def _filter(self, file: Path) -> None:
        for tick, name in ticks.filters(self._symbols):
            try:
                put(file, tick)
                self._ticking = name
                return
            except OSError:
                continue
        self.notes.append("the kernel takes no filter for the tick's timer: every timer is recorded")

    def _open(self, instance: Path) -> None:
        cpus = sorted(int(path.name[3:]) for path in (instance / "per_cpu").iterdir() if path.name[3:].isdigit())
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < (need := len(cpus) + 256) and soft != resource.RLIM_INFINITY:
            resource.setrlimit(resource.RLIMIT_NOFILE, (need if hard == resource.RLIM_INFINITY else min(need, hard), hard))
        try:
            for cpu in cpus:
                self.signals.check()
                self._pipes[cpu] = os.open(instance / "per_cpu" / f"cpu{cpu}" / "trace_pipe_raw", os.O_RDONLY | os.O_NONBLOCK)
                self._at[cpu] = array("Q")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))    # the command's, too
        self._file = open(self.folder / "pages", "wb", buffering=1 << 20)

    def start(self) -> None:
        """From here on it records."""
        assert self.instance is not None
        put(self.instance / "tracing_on", "1")

    def files(self) -> list[int]:
        """Can be read when a quarter of a CPU's buffer is full."""
        return list(self._pipes.values())

    def drain(self) -> bool:
        """Write down what the buffers hold, AT_ONCE pages of each CPU at most; whether there was more. OSError. A signal ends it."""
        assert self._file is not None
        more = False
        for cpu, pipe in self._pipes.items():
            if self.signals.number:
                return True
            for _ in range(AT_ONCE):
                try:
                    page = os.read(pipe, self._layout.size)
                except BlockingIOError:
                    break
                if not page:
                    break
                try:
                    self._file.write(page)
                except OSError as error:
                    raise OSError(error.errno, error.strerror, self._file.name) from error
                self._at[cpu].append(self.written)
                self.written += len(page)
            else:
                more = True
        return more

    def so_far(self) -> str:
        """How much, in a few words."""
        assert self.instance is not None
        stats = ((self.instance / "per_cpu" / f"cpu{cpu}" / "stats").read_text() for cpu in self._pipes)
        return f"{sum(sum(numbers(text, ('entries', 'read events'))) for text in stats):,} events"

    def stop(self) -> None:
        """Record no more; write down the rest, and how many events were lost. OSError; KeyboardInterrupt on a signal."""
        assert self.instance is not None
        assert self.root is not None
        put(self.instance / "tracing_on", "0")
        while self.drain():
            self.signals.check()
        assert self._file is not None
        self._file.close()
        with contextlib.suppress(OSError):
            for line in (self.root / "saved_tgids").read_text().splitlines():
                tid, tgid = line.split()
                self.tgids[int(tid)] = int(tgid)
        for cpu in self._pipes:
            self.lost += sum(numbers((self.instance / "per_cpu" / f"cpu{cpu}" / "stats").read_text(), LOST))

    def undo(self) -> None:
        """Remove the instance, and with it all that was set. Once is enough, twice does no harm."""
        for pipe in self._pipes.values():
            os.close(pipe)
        self._pipes.clear()
        if self._file is not None:
            with contextlib.suppress(OSError):          # no room for the last of it
                self._file.close()
        if self.instance is not None:
            remove(self.instance)
            self.instance = None
        if self._detached >= 0:
            os.close(self._detached)
            self._detached = -1
        self.root = None

    def text(self, tasks: Mapping[int, Task]) -> Iterator[str]:
        """What was recorded, as perf script would write it, line by line. tasks: whose thread each is, if the kernel has not noted it."""
        streams = [decode(self._pages(cpu), cpu, self._layout, self._formats) for cpu in self._at]
        tgids = {tid: task.tgid for tid, task in tasks.items()} | self.tgids
        return perftext.lines(streams, self._kinds, tgids, {tid: task.name for tid, task in tasks.items()}, self._symbols, self._ticking)

    def _pages(self, cpu: int) -> Iterator[bytes]:
        with open(self.folder / "pages", "rb", buffering=0) as file:
            for at in self._at[cpu]:
                yield os.pread(file.fileno(), self._layout.size, at)


def make(instance: Path) -> None:
    """Make an instance. OSError."""
    instance.mkdir()


def remove(instance: Path) -> None:
    """Remove an instance. OSError."""
    instance.rmdir()


def put(file: Path, text: str) -> None:
    """Write a setting. OSError, with the file's name."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_TRUNC)
        try:
            os.write(descriptor, text.encode() + b"\n")
        finally:
            os.close(descriptor)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file)) from error


def numbers(stats: str, keys: Sequence[str]) -> Iterator[int]:
    """From the text of a CPU's stats, the numbers of these names."""
    for line in stats.splitlines():
        key, _, number = line.partition(": ")
        if key in keys:
            yield int(number)
