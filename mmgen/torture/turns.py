"""An updater of a torture, in Python: it waits in each of the ways that MmGen has, in turn."""
import asyncio
import random
import time
from collections import Counter

from mmgen.domain import ClosedError, MmGen
from mmgen.torture._pipe import Pipe, Unpublished

MOST_DEFERRED = 32              # callbacks pending before the updater waits for them


class Turns:
    """Updates `pipe` by grace periods of `gen`, of whose ways to wait each has its turn; expedited ones too, where it `kicks`.

    One thread calls run(), once. Everything else may be read by any thread.
    """

    def __init__(self, gen: MmGen, pipe: Pipe, slots: int, kicks: bool, seed: int) -> None:
        self.gen = gen
        self.pipe = pipe
        self.slots = slots
        self.random = random.Random(seed).random
        self.ways = [self._wait, self._poll, self._defer, self._async, *([self._expedite] if kicks else [])]
        self.error: BaseException | None = None
        """what ended it, if not stop()"""
        self._counts: Counter[str] = Counter()          # the thread's own, but for what callbacks count
        self._nr_deferred = 0
        self._nr_run = 0                                # written by callbacks, of which one runs at a time
        self._waiting: tuple[str, int] | None = None
        self._stop = False

    def run(self) -> None:
        """Update until stop(), and then until all that was deferred has run; or until the domain is closed."""
        try:
            with asyncio.Runner() as self._runner:
                turn = 0
                while not self._stop and self.error is None:
                    self.ways[turn % len(self.ways)]()
                    self._waiting = None
                    turn += 1
                self._drain(0)
                self._waiting = None
        except BaseException as error:
            self.error = error

    def stop(self) -> None:
        """Have run() end."""
        self._stop = True

    @property
    def waiting(self) -> tuple[str, int] | None:
        """(how, for how long in ns) it has waited for the grace period that is under way; None: for none."""
        waiting = self._waiting
        return None if waiting is None else (waiting[0], time.monotonic_ns() - waiting[1])

    @property
    def ended(self) -> dict[str, int]:
        """How many grace periods have ended, by each way to wait for them."""
        return self._counts.copy() | {"defer": self._nr_run}

    def _unpublish(self, way: str) -> Unpublished:
        self._waiting = way, time.monotonic_ns()
        return self.pipe.replace(int(self.random() * self.slots))

    def _over(self, old: Unpublished, way: str) -> None:
        old.over()
        self._counts[way] += 1

    def _wait(self) -> None:
        old = self._unpublish("wait")
        if self.random() < 0.1:
            cookie = self.gen.start_poll()
            while not self.gen.wait_for(cookie, self.random() * 0.001):         # it may time out, and goes on all the same
                pass
        elif not self.gen.wait():
            raise AssertionError("wait() without a timeout has timed out")
        self._over(old, "wait")

    def _poll(self) -> None:
        old = self._unpublish("poll")
        cookie = self.gen.start_poll()
        while not self.gen.poll(cookie):
            if self.gen.closed:
                raise ClosedError("closed while polled")
            time.sleep(0 if self.random() < 0.5 else 0.0001)
        self._over(old, "poll")

    def _expedite(self) -> None:
        old = self._unpublish("expedite")
        if not self.gen.wait(expedite=True):
            raise AssertionError("wait() without a timeout has timed out")
        self._over(old, "expedite")

    def _defer(self) -> None:
        for _ in range(1 + int(self.random() * 8)):
            old = self._unpublish("defer")
            self.gen.defer(self._run_deferred, old)
            self._nr_deferred += 1
        self._drain(MOST_DEFERRED)

    def _run_deferred(self, old: Unpublished) -> None:
        try:
            old.over()
        except RuntimeError as error:                   # it has run twice
            self.error = error
        self._nr_run += 1

    def _drain(self, most: int) -> None:
        self._waiting = "defer", time.monotonic_ns()
        while self._nr_deferred - self._nr_run > most:
            self.gen.barrier(0.1)

    def _async(self) -> None:
        async def several() -> None:
            await asyncio.gather(*(self._await() for _ in range(1 + int(self.random() * 4))))

        self._runner.run(several())

    async def _await(self) -> None:
        old = self._unpublish("async")
        how = self.random()
        if how < 0.1:                                   # an await that is cancelled says nothing; another must
            task = asyncio.ensure_future(self.gen.wait_async())
            await asyncio.sleep(0)
            task.cancel()
        if how > 0.1 or not await self.gen.wait_async(0.0005):
            await self.gen.wait_async()
        self._over(old, "async")
