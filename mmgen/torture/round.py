"""One round of torture: CPUs that read, updaters that free, and what befalls them meanwhile."""
import os
import random
import signal
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from mmgen.domain import DriverlessError, Holdout, MmGen, Mode
from mmgen.torture._pipe import Pipe
from mmgen.torture._reader import Reader
from mmgen.torture._updater import Updater
from mmgen.torture.conditions import Conditions
from mmgen.torture.turns import Turns

HANG_S = 30.0                   # a grace period that takes longer has failed
HURRY_S = 2.0                   # or than this, once it is to end before its time
LOOK_S = 0.02                   # how long the main thread waits at most before it looks around
REST_S = 0.004                  # between two events, on average
SLICE_S = 0.05                  # at which it waits for threads
STOOD_S = 1.0                   # a look that comes so late says that the machine stood still: nobody is to blame for that time
SIGNAL = signal.SIGALRM

WRONG = {1: "too old", 2: "poisoned", 3: "changed"}     # what a use finds: _pipe.MM_TOO_OLD, ...


@dataclass(frozen=True)
class Failure:
    """What must not be: which round's, and what."""

    conditions: Conditions
    what: str

    def __str__(self) -> str:
        return f"{self.what}\n    in {self.conditions}"


@dataclass
class Result:
    """What became of a round."""

    conditions: Conditions
    seconds: float = 0.0
    generations: int = 0
    grace_periods: Counter[str] = field(default_factory=Counter)
    """that ended, by how they were waited for"""
    ages: list[int] = field(default_factory=list)
    """how many uses found an object of each age; the last: of that or more"""
    events: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    nr_failures: int = 0


class Round:
    """A round under `conditions`. increments: as MmGen's, weakens it. hang_s: what is longer, in seconds, is a hang, and a failure.

    run() may be called once. In the main thread it also sends signals, of the kind SIGNAL, whose handler is in place meanwhile.
    """

    def __init__(self, conditions: Conditions, increments: int | None = None, hang_s: float = HANG_S) -> None:
        c = self.conditions = conditions
        self.hang_s = hang_s
        rng = self._random = random.Random(c.seed)
        kick = None if c.patience is None else self._kick
        self.gen = MmGen(c.cpus, max_cpus=c.cpus + 1, online=0 if c.registers else None, continuous=c.continuous, increments=increments,
                         kick=kick, patience=c.patience, stall_after=None, first_generation=c.first_generation,
                         first_switches=c.first_switches)
        self.pipe = Pipe(c.slots, c.cpus)
        self.readers = [Reader(self.gen, self.pipe, cpu, c.chances, c.spell_us * 1000, rng.getrandbits(64), c.registers)
                        for cpu in range(c.cpus)]
        self.updaters: list[Turns | Updater] = [
            *(Turns(self.gen, self.pipe, c.slots, c.patience is not None, rng.getrandbits(32)) for _ in range(c.python_updaters)),
            *(Updater(self.gen, self.pipe, c.pause_us * 1000, rng.getrandbits(64)) for _ in range(c.c_updaters))]
        self.result = Result(c)
        self._threads: dict[Reader | Turns | Updater, threading.Thread] = {}
        self._died: dict[Reader | Turns | Updater, BaseException] = {}
        self._hung = False
        self._looked = time.monotonic()
        self._stood_s = 0.0
        self._hurried = False
        self._early: list[Reader | Turns | Updater] = []
        self._signals = 0
        self._child: tuple[int, float] | None = None

    # ---- its course

    def run(self, seconds: float, go_on: Callable[["Round"], bool]) -> Result:
        """Torture for `seconds`, as long as go_on(self), called every 20 ms or so, says so and nothing has failed; the result."""
        begin = time.monotonic()
        in_main = threading.current_thread() is threading.main_thread()
        before = signal.signal(SIGNAL, self._handle) if in_main else None
        events: list[tuple[Callable[[], None], int]] = [(self._fork, 1), (self._look, 4), (self._kick_all, 2)]
        if in_main:
            events.append((self._interrupt, 10))
        if in_main and not self.conditions.alone:
            events.append((self._wait_interrupted, 10))
        # Without registers it would take a CPU that is another's, and offline for a moment.
        if self.conditions.registers and not self.conditions.alone:
            events.append((self._register, 8))
        try:
            self._start()
            while time.monotonic() - begin < seconds and not self._failed():
                if not go_on(self):
                    self._hurried = True
                    break
                event, = self._random.choices([event for event, _ in events], [weight for _, weight in events])
                try:
                    event()
                except Exception as error:
                    self._fail(f"{event.__name__.strip('_')} in the main thread: {error!r}")
                time.sleep(min(self._random.expovariate(1 / REST_S), LOOK_S))
            self.result.seconds = time.monotonic() - begin
        finally:
            self._stop()
            if in_main:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(SIGNAL, signal.SIG_IGN)   # drops one that is still pending, which would end the process
                signal.signal(SIGNAL, before or signal.SIG_DFL)
        return self._count()

    def _start(self) -> None:
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [None]
        for i, reader in enumerate(self.readers):
            self._begin(reader, f"mmgen-torture-cpu{i}", cores[i % len(cores)])
        for i, updater in enumerate(self.updaters):
            self._begin(updater, f"mmgen-torture-updater{i}", None)

    def _begin(self, what: Reader | Turns | Updater, name: str, core: int | None) -> None:
        def run() -> None:
            try:
                if core is not None:
                    os.sched_setaffinity(0, {core})
                what.run()
            except BaseException as error:
                self._died[what] = error

        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        self._threads[what] = thread

    def _stop(self) -> None:
        """End every thread, the updaters first: they need the CPUs to end their grace periods."""
        updaters = [u for u in self.updaters if u in self._threads]
        readers = [r for r in self.readers if r in self._threads]
        for updater in updaters:
            updater.stop()
        # What hangs ends only with its domain. Who presses Ctrl-C does not wait to see whether it does.
        ended = not self._hung and self._join(updaters, min(self.hang_s, HURRY_S) if self._hurried else self.hang_s)
        if not ended:
            if not self._hung and not self._hurried:
                self._hung = True
                self._fail(self.describe("the updaters, which were to end, have not", self.hang_s))
            self.gen.close()
        for reader in readers:
            reader.stop()
        if not self._join([*updaters, *readers], self.hang_s):
            self._hung = True
            self._fail(self.describe("the round's threads have not ended", self.hang_s))
        self.gen.close()
        for one in (*updaters, *readers):
            error = self._died.get(one) or (one.error if isinstance(one, Turns) else None)
            if ended and (error is not None or one in self._early or (isinstance(one, Updater) and one.errors)):
                self._fail(f"{self._threads[one].name} ended before its time: {error!r}")
        self._reap(self.hang_s)
        unpublished, over, _ = self.pipe.counts
        if ended and unpublished != over and not self.result.failures and not any(reader.refused for reader in readers):
            self._fail(f"of {unpublished} objects that were unpublished, {over} have had their grace period")

    def _join(self, what: "Sequence[Reader | Turns | Updater]", seconds: float) -> bool:
        """Whether all have ended within `seconds`, counted in slices: while the whole machine stands still, no thread is late."""
        slices = max(round(seconds / SLICE_S), 1)
        for one in what:
            while slices and self._threads[one].is_alive():
                self._threads[one].join(SLICE_S)
                slices -= 1
        return not any(self._threads[one].is_alive() for one in what)

    # ---- what is found

    def _fail(self, what: str) -> None:
        self.result.failures.append(Failure(self.conditions, what))
        self.result.nr_failures += 1

    def _failed(self) -> bool:
        """Whether anything has failed so far; what hangs, and what has ended before its time, is found here."""
        if self._hung:
            return True
        before, self._looked = self._looked, time.monotonic()
        if self._looked - before > STOOD_S:
            self._stood_s += self._looked - before
        too_long_ns = (self.hang_s + self._stood_s) * 1e9
        for updater in self.updaters:
            if (waiting := updater.waiting) is not None and waiting[1] > too_long_ns:
                self._hung = True
                self._fail(self.describe(f"a grace period that an updater waits for by {waiting[0]} has not ended", waiting[1] / 1e9))
        for reader in self.readers:
            if (waiting_ns := reader.waiting_ns) > too_long_ns:
                self._hung = True
                self._fail(self.describe(f"a grace period that CPU {reader.cpu} waits for, idle, has not ended", waiting_ns / 1e9))
        self._early = [one for one, thread in self._threads.items() if not thread.is_alive()]
        return bool(self._early or self.result.failures) or any(reader.nr_failures or reader.refused for reader in self.readers)

    def describe(self, what: str, seconds: float) -> str:
        """`what` has lasted for so long: who holds it up, and what still moves. Any thread; it takes no lock."""
        generation, before = self.gen.generation, self.gen._counters()
        time.sleep(LOOK_S)
        now, counters = self.gen.generation, self.gen._counters()
        owing = {holdout.index for holdout in self.gen.holdouts()}
        cpus = [f"CPU {i} {'owes' if i in owing else 'does not owe'} ({Mode(cpu[0]).name}, {(cpu[1] - was[1]) % 2**64} switches and "
                f"{(cpu[2] - was[2]) % 2**64} ticks meanwhile)" for i, (was, cpu) in enumerate(zip(before, counters, strict=False))]
        waits = [f"updater {i} waits by {waiting[0]} for {waiting[1] / 1e9:.1f} s" for i, updater in enumerate(self.updaters)
                 if (waiting := updater.waiting) is not None]
        threads = [f"{thread.name}{scheduling(thread)}" for thread in self._threads.values() if thread.is_alive()]
        return (f"{what} for {seconds:.1f} s: generation {now}, which has moved by {(now - generation) % 2**64} in {LOOK_S * 1e3:.0f} ms; "
                f"{'; '.join(cpus + waits)}; threads alive: {', '.join(threads)}")

    @property
    def grace_periods(self) -> Counter[str]:
        """Those that have ended so far, by how they were waited for."""
        ended: Counter[str] = Counter()
        for updater in self.updaters:
            ended.update(updater.ended)
        ended["CPU wait"] = sum(reader.counts["waits"] for reader in self.readers)
        return ended

    def _count(self) -> Result:
        result = self.result
        result.generations = (self.gen.generation - self.conditions.first_generation) % 2**64
        result.grace_periods = self.grace_periods
        result.ages = [sum(ages) for ages in zip(*(reader.ages for reader in self.readers), strict=True)]
        for reader in self.readers:
            result.events.update(reader.counts)
            result.nr_failures += reader.nr_failures + reader.refused
            if reader.refused:
                result.failures.append(Failure(self.conditions, f"{reader.refused} calls of CPU {reader.cpu} were refused"))
            for what, cpu, slot, stamp, age, use, section, began, generation in reader.failures:
                result.failures.append(Failure(self.conditions, (
                    f"CPU {cpu} found object {stamp} (slot {slot}) {WRONG[what]}, of age {age}, at use {use} of its section {section}: "
                    f"it began in generation {began}, and this is {generation}")))
        result.events["kicks"] = self.gen.stats().kicks
        result.events["signals"] = self._signals
        result.events["freed"] = self.pipe.counts[2]
        first = self.conditions.first_generation
        result.events["wraps passed"] = sum(first < wrap <= first + result.generations for wrap in (2**32, 2**64))
        return result

    # ---- what befalls them

    def _kick(self, holdouts: list[Holdout]) -> None:
        owing = {holdout.index for holdout in holdouts}
        for reader in self.readers:
            if reader.cpu in owing:
                reader.kick()

    def _kick_all(self) -> None:
        """A kick that nobody asked for harms nobody."""
        for reader in self.readers:
            reader.kick()

    def _look(self) -> None:
        """What looks on may not disturb."""
        self.gen.holdouts()
        self.gen.stats()
        self._reap(0.0)

    def _register(self) -> None:
        """The main thread comes, as a CPU more, waits and goes."""
        with self.gen.register() as cpu:
            cpu.quiescent()
            cpu.wait(LOOK_S)
        self.result.events["registrations"] += 1

    def _handle(self, *_: object) -> None:
        self._signals += 1

    def _interrupt(self) -> None:
        """A signal to any thread: to one that sleeps in a wait, a stall or an absence."""
        thread = self._random.choice(list(self._threads.values()))
        if thread.ident is not None and thread.is_alive():
            signal.pthread_kill(thread.ident, SIGNAL)

    def _wait_interrupted(self) -> None:
        """A signal to the main thread, while it waits."""
        signal.setitimer(signal.ITIMER_REAL, 1e-6 + self._random.random() * 0.003)
        kicks = self.conditions.patience is not None
        if self.gen.wait(LOOK_S, expedite=kicks and self._random.random() < 0.5):
            self.result.events["interrupted waits"] += 1

    def _fork(self) -> None:
        """A child, which must find its copy of the domain driverless; one at a time."""
        self._reap(0.0)
        if self._child is not None:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)         # of a fork with threads: it is what is tried
            pid = os.fork()
        if pid == 0:
            child(self.gen)
        self._child = pid, time.monotonic()
        self.result.events["forks"] += 1

    def _reap(self, seconds: float) -> None:
        """See how the child has ended, within `seconds`; it fails if it lasts for as long as a hang."""
        end = time.monotonic() + seconds
        while self._child is not None:
            pid, since = self._child
            reaped, status = os.waitpid(pid, os.WNOHANG)
            if reaped:
                self._child = None
                if status:
                    says = CHILD_SAYS.get(os.waitstatus_to_exitcode(status), f"ended with status {status}")
                    self._fail(f"a forked child {says}")
            elif time.monotonic() - since > self.hang_s:
                self._child = None
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                self._fail(f"a forked child has not ended for {self.hang_s:.1f} s")
            elif time.monotonic() >= end:
                break
            else:
                time.sleep(0.002)


def scheduling(thread: threading.Thread) -> str:
    """Whether `thread` sleeps, or only finds no core to run on, where the system tells: it is then not the protocol that hangs."""
    try:
        with open(f"/proc/self/task/{thread.native_id}/stat") as stat, open(f"/proc/self/task/{thread.native_id}/schedstat") as schedstat:
            state = stat.read().rpartition(")")[2].split()[0]
            ran, waited, _ = map(int, schedstat.read().split())
    except (OSError, ValueError):
        return ""
    return f" ({state}, has run for {ran / 1e9:.1f} s and waited for a core for {waited / 1e9:.1f} s)"


CHILD_SAYS = {3: "could use its copy of the domain", 4: "met another error than DriverlessError"}


def child(gen: MmGen) -> NoReturn:
    """The forked child: exit with 0 if its copy of `gen` is driverless, with one of CHILD_SAYS else."""
    status = 4
    try:
        for call in (gen.wait, gen.start_poll, gen.register, gen.cpu(0).switch, lambda: gen.defer(print)):
            try:
                call()
            except DriverlessError:
                continue
            status = 3
            break
        else:
            status = 0
    finally:
        os._exit(status)                # whatever was raised: nothing of the parent's may run here
