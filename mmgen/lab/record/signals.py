"""Ctrl-C, SIGTERM and SIGHUP while the machine's tracing is changed: noted where something must be undone first, and a sleeper woken."""
import contextlib
import select
import signal
import socket
import threading
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any, Self

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """Notes those of ENDING that are not ignored. `number`: the last that came, 0 for none.

    A context. Of the main thread, which alone may say what a signal does; in another nothing is noted, and wait() still sleeps.
    """

    def __init__(self) -> None:
        self.number = 0
        self._raising = False
        self._before: list[tuple[int, Any]] = []
        self._wakeup_before = -1
        self._read, self._write = socket.socketpair()

    def __enter__(self) -> Self:
        self._read.setblocking(False)
        self._write.setblocking(False)
        if threading.current_thread() is threading.main_thread():
            self._wakeup_before = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
            for number in ENDING:
                if signal.getsignal(number) is not signal.SIG_IGN:      # nohup, and what a shell starts in the background
                    self._before.append((number, signal.signal(number, self._note)))
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before:
            signal.signal(number, handler)
        if self._before:
            signal.set_wakeup_fd(self._wakeup_before)
        self._read.close()
        self._write.close()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        if self._raising:
            raise KeyboardInterrupt

    def check(self) -> None:
        """KeyboardInterrupt if one came."""
        if self.number:
            raise KeyboardInterrupt

    def take(self) -> int:
        """The number of the one that came, which is then forgotten; 0 for none."""
        number, self.number = self.number, 0
        return number

    def quiet(self) -> None:
        """From here on they are only noted again, whatever interrupted raising()."""
        self._raising = False

    @contextlib.contextmanager
    def raising(self) -> Iterator[None]:
        """Have them raise KeyboardInterrupt at once, as long as this lasts: where nothing outside of this process's files is changed."""
        self.check()
        self._raising = True
        try:
            yield
        finally:
            self._raising = False

    def wait(self, seconds: float, files: Iterable[int] = ()) -> set[int]:
        """Sleep until one of `files` can be read or was hung up, a signal has come, or so many seconds are over; which files those are."""
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        for file in files:
            poll.register(file, select.POLLIN)
        if self.number:
            return set()
        ready = {file for file, _ in poll.poll(max(0.0, seconds) * 1e3)}
        if self._read.fileno() in ready:
            with contextlib.suppress(BlockingIOError):
                self._read.recv(4096)
        return ready - {self._read.fileno()}
