"""Many cases, on whatever there is to run them, into one file: resumable, nothing run twice, nothing lost."""
import collections
import os
import queue
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from typing import Any

from mmgen._arguments import shown, whole
from mmgen.lab.results import Results, key
from mmgen.lab.simulate import MODEL, Case, Result
from mmgen.lab.workers import Executor, Processes, over, run_case

POLL_S = 0.04                   # between two looks at the progress
AT_ONCE = 1024                  # cases that an executor of unknown size gets: enough for any machine, and some clusters
# Workers that die, each alone with its case, before any case has ended: then it is not the cases.
MOST_DEATHS = 4


@dataclass(frozen=True)
class Swept:
    """How far a sweep is."""

    total: int
    """cases that were looked at, each once"""
    repeats: int
    """cases that were the same as an earlier one"""
    had: int
    """of them were in the file before"""
    ran: int
    """and ended in this sweep: they are in the file"""
    failed: tuple[tuple[Case, BaseException], ...]
    """those that raised, or whose worker died, and what it was: they are not in the file, and run again next time"""
    stopped: BaseException | None
    """why the rest was not run: the executor takes no more; None: there is no rest"""
    wall_s: float

    @property
    def left(self) -> int:
        """Cases that are not in the file."""
        return self.total - self.had - self.ran


def sweep(cases: Iterable[Case], path: str | os.PathLike[str], executor: Executor | None = None, *, workers: int | None = None,
          at_once: int | None = None, show: Callable[[float, Swept], object] = lambda done, so_far: None) -> Swept:
    """Simulate `cases` that are not in the file `path` yet, and add each there as it ends; uses after free are counted.

    cases: looked at one by one, so a Grid of millions takes no memory but for a key each.
    executor: anything with concurrent.futures' submit(), a thread pool or dask's client.get_executor(); by default processes of its own, on
        each core or `workers` of them, which end with the call.
    at_once: cases that it is given at a time, 1 to 10**6; by default two a worker, or 1,024.
    show(share that is done, Swept) is called every 40 ms or so; the share is 0 where `cases` has no len().
    A case that fails is reported in the result, and the others go on.
    Ctrl-C raises KeyboardInterrupt within 50 ms, with what has ended in the file, and the Swept so far as its argument.
    Raises ValueError, with the line, for a file that is not of this model's results; BlockingIOError while another sweep writes to it;
    OSError; TypeError for what is no Case. Thread-safety: one sweep into a file at a time, of all threads and processes.
    """
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise TypeError(f"executor={shown(executor)} is of type {type(executor).__name__}, which has no submit()")
    if executor is not None and workers is not None:
        raise ValueError(f"workers={shown(workers)} goes without executor, which has its own")
    if not isinstance(cases, Iterable):
        raise TypeError(f"cases={shown(cases)} is of type {type(cases).__name__}, not an iterable of cases")
    if at_once is not None:
        at_once = whole(at_once, "at_once", 1, 10**6)
    nr = cores() if workers is None else whole(workers, "workers", 1, 4096)
    with Results(path) as file:
        own = Processes(nr) if executor is None else None
        run = Sweep(cases, file, own or executor, at_once or (2 * nr if own else AT_ONCE), show)
        try:
            run.go()
        except KeyboardInterrupt as interrupt:
            run.give_up()
            raise KeyboardInterrupt(run.swept()) from interrupt
        except BaseException:
            run.give_up()
            raise
        finally:
            if own:
                own.end()
        return run.swept()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Sweep:
    """One sweep under way."""

    def __init__(self, cases: Iterable[Case], file: Results, executor: Any, at_once: int, show: Callable[[float, Swept], object]) -> None:
        self.cases, self.file, self.executor, self.at_once, self.show = cases, file, executor, at_once, show
        self.own = isinstance(executor, Processes)
        self.name = uuid.uuid4().hex
        self.todo = self.fresh()
        self.again: collections.deque[Case] = collections.deque()
        """their worker died, or another's beside it: one at a time"""
        self.ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.under_way: dict[Any, Case] = {}
        self.failed: list[tuple[Case, BaseException]] = []
        self.stopped: BaseException | None = None
        self.looked = self.total = self.had = 0
        self.begin = len(file.keys)
        self.deaths: int | None = 0
        """of workers that were alone with a case; None: some case has ended, so they can work"""
        self.started = time.monotonic()

    def fresh(self) -> Iterator[Case]:
        """The cases that the file does not have, each once."""
        before = set(self.file.keys)
        asked: set[str] = set()
        for case in self.cases:
            if not isinstance(case, Case):
                raise TypeError(f"cases has {shown(case)}, of type {type(case).__name__}: not a mmgen.lab.Case")
            self.looked += 1
            name = key(case)
            if name in asked:
                continue
            asked.add(name)
            self.total += 1
            if name in before:
                self.had += 1
                continue
            yield case

    def swept(self) -> Swept:
        """How far it is."""
        return Swept(self.total, self.looked - self.total, self.had, len(self.file.keys) - self.begin, tuple(self.failed), self.stopped,
                     time.monotonic() - self.started)

    def go(self) -> None:
        """All of it."""
        while True:
            self.fill()
            if not self.under_way and not self.again:
                return
            if not self.keep(self.wait()) and self.gone():
                self.keep([future for future in self.under_way if future.done()])
                self.stop(ConnectionError("the cluster is gone"))
                return
            size = len(self.cases) if isinstance(self.cases, Sized) else 0
            self.show(min((self.looked - len(self.under_way) - len(self.again)) / size, 1.0) if size else 0.0, self.swept())

    def gone(self) -> bool:
        """Whether the executor is a Dask client that has lost its cluster for good: its futures would never end."""
        client = getattr(self.executor, "_client", self.executor)       # of client.get_executor()
        return getattr(client, "status", None) == "closed"

    def fill(self) -> None:
        """Give the executor what it may have, until something has ended."""
        while self.stopped is None and self.ended.empty():
            # After a death one at a time, so that it is seen whose case it was.
            if len(self.under_way) >= (1 if self.again else self.at_once):
                return
            case = self.again.popleft() if self.again else next(self.todo, None)
            if case is None:
                return
            try:
                future = self.executor.submit(run_case, case, MODEL, self.name)
            except BrokenExecutor as error:
                if not self.own:
                    self.stop(error)
                    return
                self.again.append(case)
                if self.under_way:
                    return                              # they will tell
                self.executor.renew()
            except Exception as error:                  # an executor that is shut down: RuntimeError; a cluster's: its own
                self.stop(error)
                return
            else:
                self.under_way[future] = case
                future.add_done_callback(self.ended.put)

    def stop(self, error: BaseException) -> None:
        """No more cases."""
        self.stopped = error
        self.again.clear()

    def wait(self) -> list[Any]:
        """The futures that have ended, if need be after some time; all that there are."""
        found = []
        try:
            found.append(self.ended.get(timeout=POLL_S))
            while True:
                found.append(self.ended.get_nowait())
        except queue.Empty:
            return found

    def keep(self, futures: list[Any]) -> bool:
        """Into the file with what they have come to; and off the list. Whether there were any."""
        alone = len(self.under_way) == 1
        good: list[Result] = []
        bad: list[tuple[Case, BaseException]] = []
        dead: list[tuple[Case, BaseException]] = []
        for future in futures:
            case = self.under_way[future]
            try:
                good.append(checked(future.result(), case))
            except KeyboardInterrupt:
                raise
            except BrokenExecutor as error:
                (dead if self.own else bad).append((case, error))
            except BaseException as error:              # CancelledError, and what a worker's sys.exit() raises, are no Exceptions
                bad.append((case, error))
        self.file.add(good)
        self.failed += bad
        for future in futures:
            del self.under_way[future]
        if good or bad:
            self.deaths = None
        if dead:
            self.bury(dead, alone)
        return bool(futures)

    def bury(self, dead: list[tuple[Case, BaseException]], alone: bool) -> None:
        """Workers have died: all that they had in hand is tried again, alone; who was alone has failed."""
        if not alone:
            self.again += [case for case, _ in dead]
        else:
            self.failed += dead
            if self.deaths is not None:
                self.deaths += 1
                if self.deaths == MOST_DEATHS:
                    self.stop(dead[0][1])
        if not self.under_way:
            self.executor.renew()

    def give_up(self) -> None:
        """Keep what has ended, and want no more of the rest."""
        over.add(self.name)
        good = []
        for future, case in list(self.under_way.items()):
            if future.done() or (not future.cancel() and future.done()):
                try:
                    good.append(checked(future.result(), case))
                except BaseException:                   # it failed, or an executor's own interrupt: it is run again next time
                    continue
        self.file.add(good)


def checked(result: Any, case: Case) -> Result:
    """What an executor gives for `case`. TypeError where it is something else."""
    if not isinstance(result, Result) or result.case != case:
        raise TypeError(f"the executor has given {shown(result)} for {shown(case)}")
    return result
