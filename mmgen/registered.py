"""Threads that are CPUs as long as they like: register()."""
import contextlib
import os
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

from mmgen._cpu import Cpu
from mmgen._domain import ClosedError, Mode, WrongThreadError

if TYPE_CHECKING:
    from mmgen.domain import MmGen


class RegisteredCpu(Cpu):
    """The CPU that register() gave to the calling thread: offline again at the end of the context, at leave(), or with the thread."""

    __slots__ = ("_left",)

    def __new__(cls, gen: "MmGen", index: int, /) -> Self:
        """In here, since who has left must not come back by a second __init__()."""
        cpu = super().__new__(cls, gen, index)
        cpu._left = False
        return cpu

    def leave(self) -> None:
        """Take the CPU offline and give it back. Twice is fine, and so it is in a closed domain. The thread's own call."""
        if not self._left:
            self._leave()
            of_thread.registered.forget(self)

    def offline(self) -> None:
        """As leave(), but RuntimeError once it has left: the CPU may be another thread's by then."""
        cast("MmGen", self.gen)._check_open()
        if self._left:
            raise RuntimeError(f"offline() on CPU {self.index}, which this thread has left")
        self.leave()

    def online(self) -> None:
        """RuntimeError, always: who has left takes whatever CPU is free, by register()."""
        cast("MmGen", self.gen)._check_open()
        raise RuntimeError(f"online() on CPU {self.index}, which is registered: register() again")

    def _leave(self) -> None:
        gen = cast("MmGen", self.gen)
        self._left = True                               # both before the CPU may be another thread's
        thread = gen.threads.pop(self.index, None)
        try:
            with contextlib.suppress(ClosedError):
                if self.mode is not Mode.OFFLINE:
                    super().offline()
        except WrongThreadError:
            self._left = False
            if thread is not None:
                gen.threads[self.index] = thread
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.leave()


class Registered:
    """The CPUs that one thread is registered as. It dies with the thread, on that thread, and takes them offline."""

    def __init__(self) -> None:
        self.cpus: list[RegisteredCpu] = []
        self.pid = os.getpid()

    def add(self, cpu: RegisteredCpu) -> None:
        """Remember `cpu`."""
        if self.pid != os.getpid():
            self.cpus, self.pid = [], os.getpid()       # the parent's are none of ours
        self.cpus = [*self.cpus, cpu]

    def forget(self, cpu: RegisteredCpu) -> None:
        """`cpu` has left."""
        self.cpus = [other for other in self.cpus if other is not cpu]

    def __del__(self, getpid: Callable[[], int] = os.getpid, exiting: Callable[[], bool] = sys.is_finalizing) -> None:
        # Another pid: it dies in a forked child, for a thread of the parent, before _after_fork. At exit the modules are gone.
        if self.pid == getpid() and not exiting():
            for cpu in self.cpus:
                if not cpu._left:
                    cpu._leave()


class OfThread(threading.local):
    """What each thread has of its own."""

    def __init__(self) -> None:
        self.registered = Registered()


of_thread = OfThread()
