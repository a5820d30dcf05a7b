"""One recording from its start to its end: a command, a time or a signal ends it; what it took, and what the kernel counted meanwhile."""
import contextlib
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mmgen.lab.record.signals import Signals
from mmgen.lab.record.tasks import snapshot
from mmgen.lab.traces import Task

REST_S = 0.02                           # between two looks at the buffers, whatever says that they can be read
LOOK_S = 0.05                           # between two looks at the command, where its end does not wake us
LINE_S = 1.0                            # between two lines that say how far it is
END_S = 2.0                             # that a command which was told to end has for it
STAT = Path("/proc/stat")


class Recorder(Protocol):
    """What Tracefs and Perf are."""

    name: str
    cpu_s: float
    lost: int
    notes: list[str]

    @property
    def written(self) -> int: ...
    def start(self) -> None: ...
    def files(self) -> list[int]: ...
    def drain(self) -> bool: ...
    def so_far(self) -> str: ...
    def stop(self) -> None: ...


@dataclass
class Session:
    """What was recorded, beside the events."""

    argv: Sequence[str]
    seconds: float = 0.0
    """that it recorded"""
    switches: int = 0
    """that the kernel counted meanwhile, on all CPUs"""
    cpu_s: float = 0.0
    """processor time of the recorder and of the processes that it started for itself, not of the kernel for each event"""
    signal: int = 0
    """that ended it; 0: none"""
    tasks: dict[int, Task] = field(default_factory=dict)
    command: "subprocess.Popen[bytes] | None" = None
    status: int = 0
    """of the command, as a shell has it; 0 if it was told to end"""
    over: bool = False
    """all was recorded, and is undone"""

    def wait(self, signals: Signals) -> None:
        """See the command end, however long that takes; a signal ends the wait."""
        while self.command is not None and self.command.poll() is None and not signals.number:
            signals.wait(LOOK_S)

    def end_command(self, signals: Signals) -> str:
        """See the command end, if it was told to; a phrase if it does not, else ""."""
        if self.command is None or self.command.poll() is not None:
            return ""
        with contextlib.suppress(ProcessLookupError):
            self.command.send_signal(signal.SIGTERM)
        for _ in range(int(END_S / REST_S)):
            if self.command.poll() is not None or signals.number:
                break
            signals.wait(REST_S)
        return "" if self.command.poll() is not None else f"{self.argv[0]} still runs, as process {self.command.pid}"


def record(recorder: Recorder, session: Session, seconds: float | None, signals: Signals, line: Callable[[str], None]) -> None:
    """Record until `seconds` are over, the session's command has ended, or a signal has come. The recorder is prepared, and then stopped.

    line: is given a line a second. OSError, also for a command that cannot be started; KeyboardInterrupt for a signal before it began.
    """
    session.tasks = snapshot(signals.check)
    signals.check()
    cpu_s = own_cpu_s()
    recorder.start()
    began, counted = time.monotonic(), switches()
    if session.argv:
        session.command = subprocess.Popen(session.argv)
    watch(recorder, session.command, None if seconds is None else began + seconds, signals, line)
    session.switches = switches() - counted
    session.seconds = time.monotonic() - began
    session.signal = signals.take()
    if session.command is not None and session.command.poll() is not None:
        ended = session.command.returncode
        session.status = ended if ended >= 0 else 128 - ended
    elif session.command is not None and session.signal != signal.SIGINT:     # that it got as well
        with contextlib.suppress(ProcessLookupError):
            session.command.send_signal(signal.SIGTERM)
    recorder.stop()
    session.cpu_s = own_cpu_s() - cpu_s + recorder.cpu_s
    session.tasks |= snapshot(signals.check)


def watch(recorder: Recorder, command: "subprocess.Popen[bytes] | None", end: float | None, signals: Signals,
          line: Callable[[str], None]) -> None:
    """Have the recorder read what there is, until the end."""
    began = said = time.monotonic()
    ended = [] if command is None or not hasattr(os, "pidfd_open") else [os.pidfd_open(command.pid)]
    most = LINE_S if command is None or ended else LOOK_S
    try:
        while not signals.number and (command is None or command.poll() is None):
            now = time.monotonic()
            if end is not None and now >= end:
                return
            if now - said >= LINE_S:
                said += LINE_S * ((now - said) // LINE_S)
                line(f"{now - began:.0f} s, {recorder.so_far()}")
            left = min(most, LINE_S - (now - said))
            files = recorder.files()
            ready = signals.wait(left if end is None else min(left, end - now), [*files, *ended])
            if ready.intersection(files):
                while recorder.drain() and not signals.number:
                    pass
                signals.wait(REST_S, ended)
    finally:
        for descriptor in ended:
            os.close(descriptor)


def switches() -> int:
    """Context switches since the machine was started, on all CPUs."""
    for line in STAT.read_text().splitlines():
        if line.startswith("ctxt "):
            return int(line.split()[1])
    return 0


def own_cpu_s() -> float:
    """Processor time of this process, user and system."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
