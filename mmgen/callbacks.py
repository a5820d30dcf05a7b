"""Deferred callbacks in Python: how many may be pending, and the thread that runs them when their grace period is over."""
import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from mmgen._domain import TIMED_OUT, ClosedError, FullError

if TYPE_CHECKING:
    from mmgen.domain import MmGen

LINGER_S = 1.0                  # how long the reclaimer thread stays when there is nothing to do


class Callback(NamedTuple):
    """A callback that a closed domain never ran."""

    fn: Callable[..., object] | None
    """None for what was only to be kept alive: retire()"""
    args: tuple[Any, ...]


class Reclaimer:
    """One domain's callbacks: room for `max_pending` (None: any number), and a thread that comes and goes as there is work.

    when_full: "block" or "raise". threaded=False: no thread; whoever drives the domain calls run().
    """

    def __init__(self, max_pending: int | None, when_full: str, threaded: bool) -> None:
        if max_pending is not None and max_pending < 1:
            raise ValueError(f"max_pending={max_pending} is out of range: 1 or more, or None")
        if when_full not in ("block", "raise"):
            raise ValueError(f"when_full={when_full!r} is neither 'block' nor 'raise'")
        if when_full == "block" and max_pending is not None and not threaded:
            raise ValueError("when_full='block' needs the reclaimer thread: without it nothing would make room")
        self.max_pending = max_pending
        self.when_full = when_full
        self.threaded = threaded
        self.thread: threading.Thread | None = None
        self._room = threading.Condition(threading.RLock())     # a kick may defer, within a defer
        self._more = threading.Event()
        self._sleeping = False

    def defer(self, gen: "MmGen", fn: Callable[..., object] | None, args: tuple[Any, ...], bounded: bool = True) -> None:
        """Queue fn(*args); see MmGen.defer()."""
        if bounded and self.max_pending is not None:
            with self._room:
                while gen.nr_deferred - gen.nr_run >= self.max_pending:
                    if self.when_full == "raise" or threading.current_thread() is self.thread:
                        raise FullError(f"{self.max_pending} callbacks are pending, as many as max_pending allows")
                    gen._check_open()
                    self._rouse(gen)
                    self._room.wait(0.04)                       # in slices, so that Ctrl-C and close() are noticed
                gen._defer(fn, args)
        else:
            gen._defer(fn, args)
        if self.threaded:
            self._rouse(gen)

    def _rouse(self, gen: "MmGen") -> None:
        if self.thread is None:
            with self._room:
                if self.thread is None:
                    self.thread = threading.Thread(target=self._loop, args=(gen,), name="mmgen-reclaimer", daemon=True)
                    self.thread.start()
        elif self._sleeping:
            self._more.set()

    def run(self, gen: "MmGen", limit: int | None = None) -> int:
        """Run what is due; how many."""
        nr = gen._run_callbacks((1 << 63) - 1 if limit is None else limit)
        if nr and self.max_pending is not None:
            with self._room:
                self._room.notify_all()
        return nr

    def _loop(self, gen: "MmGen") -> None:
        while True:
            self.run(gen)
            cookie = gen._first_callback()
            try:
                if cookie is not None:
                    gen._sleep(cookie, -1)
                    continue
                gen._check_open()
            except ClosedError:
                break
            self._sleeping = True                               # from here on a defer sets _more
            if gen._first_callback() is None:
                self._more.wait(LINGER_S)
            self._sleeping = False
            self._more.clear()
            if gen._first_callback() is None:
                with self._room:
                    self.thread = None                          # from here on a defer starts another
                    if gen._first_callback() is None:
                        return
                    self.thread = threading.current_thread()

    def barrier(self, gen: "MmGen", timeout_ns: int) -> bool:
        """Whether all that is queued now has run within `timeout_ns` (-1: for ever)."""
        if threading.current_thread() is self.thread:
            raise RuntimeError("barrier() in a callback would wait for itself")
        wanted = gen.nr_deferred
        begin = time.monotonic_ns()

        def left() -> int:
            return -1 if timeout_ns < 0 else max(begin + timeout_ns - time.monotonic_ns(), 0)

        while (gen.nr_run - wanted) % 2**64 >= 2**63:           # nr_run < wanted
            gen._check_open()
            if self.threaded:
                self._rouse(gen)
                if gen._in_slices(lambda ns: gen._barrier(wanted, ns), left()) == TIMED_OUT:
                    return False
            else:
                cookie = gen._first_callback()
                if cookie is not None and not gen._sleep(cookie, left()):
                    return False
                self.run(gen)
        return True

    def join(self) -> None:
        """Wait for the thread, of a closed domain, to end."""
        self._more.set()
        thread = self.thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()


class Resolve:
    """What resolves the future of a wait_async() when its grace period is over."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[bool] = self.loop.create_future()

    def __call__(self) -> None:
        """The grace period is over. Any thread."""
        self._in_loop(self.future.set_result, True)

    def fail(self, error: BaseException) -> None:
        """It never will be. Any thread."""
        self._in_loop(self.future.set_exception, error)

    def _in_loop(self, call: Callable[..., object], argument: object) -> None:
        def unless_cancelled() -> None:
            if not self.future.done():
                call(argument)

        with contextlib.suppress(RuntimeError):                 # the loop is closed: nobody awaits
            self.loop.call_soon_threadsafe(unless_cancelled)
