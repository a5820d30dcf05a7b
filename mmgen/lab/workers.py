"""Where a sweep's cases are simulated: what a worker runs, and the executors that a sweep makes of its own."""
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing.connection import Connection
from typing import Any, Protocol

from mmgen.lab.simulate import MODEL, Case, Result, simulate

# The sweeps of this process that are over, with cases left in threads of an executor that is not theirs.
over: set[str] = set()


class Over(Exception):  # noqa: N818 - it is no error
    """Nobody waits for this case any more."""


def run_case(case: Case, model: int, sweep: str) -> Result:
    """What a worker does: `case` in full, uses after free counted. RuntimeError where it has another model than the sweep."""
    if model != MODEL:
        raise RuntimeError(f"this worker's mmgen simulates model {MODEL}, and the sweep is of model {model}")

    def show(done: float, seconds: float) -> None:
        if sweep in over:
            raise Over

    return simulate(case, keep_going=True, show=show)


class Executor(Protocol):
    """What takes a sweep's cases, as concurrent.futures' executors do. Its futures have add_done_callback(), result(), cancel(), done()."""

    def submit(self, call: Callable[..., Any], /, *args: Any) -> Any:
        """A future of call(*args)."""


class Here:
    """Everything at once, by whoever submits it."""

    def submit(self, call: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """A future that is done. KeyboardInterrupt."""
        future: Future[Any] = Future()
        try:
            future.set_result(call(*args))
        except Exception as error:
            future.set_exception(error)
        return future


class Processes:
    """So many processes of this machine, started anew when one has died; they end when this process ends, however it does."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.start()

    def start(self) -> None:
        """Begin with none: each submit() starts another."""
        # Not fork: this process may have threads.
        context = multiprocessing.get_context("spawn")
        self.ears, self.voice = context.Pipe(duplex=False)
        self.pool = ProcessPoolExecutor(self.workers, context, listen, (self.ears,))

    def submit(self, call: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """As any executor. BrokenExecutor: renew() it."""
        with no_ctrl_c():                               # what it starts is ended by us, in silence, and not by a terminal's Ctrl-C
            return self.pool.submit(call, *args)

    def renew(self) -> None:
        """Start over, after BrokenExecutor."""
        self.end()
        self.start()

    def end(self) -> None:
        """End the workers, in mid-case too."""
        self.voice.close()
        self.ears.close()
        self.pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def no_ctrl_c() -> Iterator[None]:
    """Ctrl-C comes after; to a process that is started meanwhile, never."""
    came: list[int] = []
    handler = signal.getsignal(signal.SIGINT) if threading.current_thread() is threading.main_thread() else None
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    if handler is not None:                             # the kernel may give it to a thread that does not block it, as numpy's do not
        signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if handler is not None:
            signal.signal(signal.SIGINT, handler)
        if came:
            signal.raise_signal(signal.SIGINT)


def listen(ears: Connection) -> None:
    """In a worker: leave when the other end of `ears` is closed, as it is when its process is gone, too."""
    def wait() -> None:
        with contextlib.suppress(EOFError, OSError):
            ears.recv_bytes()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
