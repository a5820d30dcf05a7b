"""Deferred callbacks in Python: how many may be pending, and the thread that runs them when their grace period is over."""
import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from mmgen._arguments import shown, whole
from mmgen._domain import TIMED_OUT, ClosedError, FullError

if TYPE_CHECKING:
    from mmgen.domain import MmGen

LINGER_S = 1.0                  # how long the reclaimer thread stays when there is nothing to do
SLICE_S = 0.04                  # how long a thread sleeps at a time where Ctrl-C, close() or the end of a batch might go unnoticed
SLICE_NS = int(SLICE_S * 1e9)


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
        if max_pending is not None:
            max_pending = whole(max_pending, "max_pending", 1, 2**63 - 1, "1 or more, or None")
        if when_full not in ("block", "raise"):
            raise ValueError(f"when_full={shown(when_full)} is neither 'block' nor 'raise'")
        threaded = bool(threaded)                               # once: it may say otherwise later, or raise
        if when_full == "block" and max_pending is not None and not threaded:
            raise ValueError("when_full='block' needs the reclaimer thread: without it nothing would make room")
        self.max_pending = max_pending
        self.when_full = when_full
        self.threaded = threaded
        self.lost: list[Callback] = []
        """what a closed domain never ran, until close() returns it"""
        self._runners: set[int] = set()                         # threads in run(), by their ident
        self.after_fork()

    def after_fork(self) -> None:
        """Begin anew, in a child: the thread is in the parent, and who knows who held the lock."""
        self.thread: threading.Thread | None = None
        # Reentrant: a kick, a signal's handler or a finalizer may defer within a defer.
        # Held by `with` on the lock, never on the condition, whose methods are Python's: an interrupt there would keep it held.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._sleeping = False
        self._joining: set[object] = set()                      # defers that have found room, and are not counted as pending yet

    def defer(self, gen: "MmGen", fn: Callable[..., object] | None, args: tuple[Any, ...], bounded: bool = True) -> None:
        """Queue fn(*args); see MmGen.defer()."""
        if self.threaded and self.thread is None:
            gen._check_open()
            self._start(gen)                                    # first, since it may fail
        if bounded and self.max_pending is not None:
            joining = object()
            try:
                with self._lock:
                    while len(self._joining) + gen.nr_deferred - gen.nr_run >= self.max_pending:
                        gen._check_open()
                        if self.when_full == "raise" or self.in_callback():
                            raise FullError(f"{self.max_pending} callbacks are pending, as many as max_pending allows")
                        gen._check_waiter()
                        self._rouse(gen)
                        self._changed.wait(SLICE_S)
                    self._joining.add(joining)
                gen._defer(fn, args)                            # without the lock: it may kick, and a kick may call anything
            finally:
                self._joining.discard(joining)                  # one call, without a lock: no interrupt comes between
        else:
            gen._defer(fn, args)
        if self.threaded:
            self._rouse(gen)

    def _start(self, gen: "MmGen") -> None:
        with self._lock:
            if self.thread is None:
                thread = threading.Thread(target=self._reclaim, args=(gen,), name="mmgen-reclaimer", daemon=True)
                thread.start()
                self.thread = thread

    def _rouse(self, gen: "MmGen") -> None:
        if self.thread is None:
            self._start(gen)
        elif self._sleeping:
            with self._lock:
                self._changed.notify_all()

    def in_callback(self) -> bool:
        """Whether the calling thread runs callbacks just now."""
        return threading.get_ident() in self._runners

    def run(self, gen: "MmGen", limit: int | None = None) -> int:
        """Run what is due; how many."""
        me = threading.get_ident()
        if me in self._runners:
            return 0
        try:
            self._runners.add(me)
            nr = gen._run_callbacks((1 << 63) - 1 if limit is None else limit)
        finally:
            self._runners.discard(me)
        if nr and self.max_pending is not None:
            with self._lock:
                self._changed.notify_all()
        return nr

    def _reclaim(self, gen: "MmGen") -> None:
        try:
            self._loop(gen)
        except BaseException:                                   # MemoryError, or an on_stall that exits
            self.thread = None                                  # the next defer starts another
            raise

    def _loop(self, gen: "MmGen") -> None:
        while True:
            cookie = gen._first_callback()
            try:
                if cookie is not None:
                    gen._sleep(cookie, -1, record=False)
                    if not self.run(gen):                       # another thread runs them
                        with self._lock:
                            self._changed.wait(SLICE_S)
                    continue
                gen._check_open()
            except ClosedError:
                break
            with self._lock:
                self._sleeping = True                           # from here on a defer notifies
                if gen._first_callback() is None and not gen.closed:
                    self._changed.wait(LINGER_S)
                self._sleeping = False
                self.thread = None                              # from here on a defer starts another
                if gen._first_callback() is None:
                    return
                self.thread = threading.current_thread()
        self.abandon(gen)

    def abandon(self, gen: "MmGen") -> None:
        """Give up what a closed domain has not run: awaits fail now, and the rest is lost."""
        calls = gen._take_callbacks()
        try:
            gen._check_open()
        except ClosedError as error:
            for fn, args in calls:
                if isinstance(fn, Resolve):
                    fn.fail(type(error)(*error.args))
                else:
                    self.lost.append(Callback(fn, args))

    def barrier(self, gen: "MmGen", timeout_ns: int) -> bool:
        """Whether all that is queued now has run within `timeout_ns` (-1: for ever)."""
        if self.in_callback():
            raise RuntimeError("barrier() in a callback would wait for itself")
        wanted = gen.nr_deferred
        begin = time.monotonic_ns()

        def left() -> int:
            return -1 if timeout_ns < 0 else max(begin + timeout_ns - time.monotonic_ns(), 0)

        def sleep(ns: int) -> int:                              # in slices: who runs a batch wakes nobody before its end
            return gen._barrier(wanted, ns if 0 <= ns < SLICE_NS else SLICE_NS)

        while (gen.nr_run - wanted) % 2**64 >= 2**63:           # nr_run < wanted
            gen._check_open()
            if self.threaded:
                self._rouse(gen)
                if gen._in_slices(sleep, left()) == TIMED_OUT:
                    return False
            else:
                cookie = gen._first_callback()
                if cookie is not None and not gen._sleep(cookie, left(), record=False):
                    return False
                if not self.run(gen) and sleep(left()) == TIMED_OUT and left() == 0:        # another thread runs them
                    return False
        return True

    def join(self) -> None:
        """Wait for the thread, of a closed domain, to end."""
        thread = self.thread
        with self._lock:
            self._changed.notify_all()
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
