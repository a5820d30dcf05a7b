"""The real domain in a SimPy simulation: its CPUs switch, tick and idle in virtual time, and a grace period is an event to be yielded.

    env = simpy.Environment()                           # extra `simpy`
    gen = mmgen.simpy.SimMmGen(env, 2, hz=250)          # two CPUs, each with a tick 250 times a second
    for i in range(2):
        gen.cpu(i).drive(itertools.repeat(0.001))       # switches every millisecond

    def updater():
        yield gen.grace_period()                        # until both CPUs have switched since
        print(env.now)

    env.process(updater())
    env.run(until=1)

Nothing here starts a thread, sleeps or reads a clock: the same model, with the same seeds, goes through the same states. At one moment
things happen in the order in which SimPy scheduled them.
"""
import heapq
import itertools
import math
from collections.abc import Callable, Generator, Iterable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NoReturn, Self, SupportsIndex, cast

import simpy
from mmgen import _snapshot
from mmgen._arguments import real, shown, to_ns
from mmgen.domain import Callback, ClosedError, Cookie, Cpu, Holdout, MmGen, Mode, saved

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["SimCpu", "SimMmGen"]


class SimCpu(Cpu):
    """One CPU of a SimMmGen, for the simulation's processes: gen.cpu(index).

    Its tick comes by itself, as long as it runs. It switches by drive(), or whenever a process calls switch().

    Thread-safety: one thread, the simulation's.
    """

    __slots__ = ()

    def __new__(cls, gen: "SimMmGen", index: SupportsIndex, /) -> Self:
        """TypeError for a domain that is not in a simulation."""
        if not isinstance(gen, SimMmGen):
            raise TypeError(f"gen={shown(gen)} is of type {type(gen).__name__}, not a SimMmGen")
        return super().__new__(cls, gen, index)

    @property
    def _sim(self) -> "SimMmGen":
        return cast(SimMmGen, self.gen)

    def drive(self, delays: Iterable[float]) -> simpy.Process:
        """Switch after each of `delays`, in the environment's time: the workload as a SimPy process, which ends with them.

        A switch that is due while the CPU idles or is offline is not made. interrupt() ends the process, and so does close().
        Raises ClosedError; TypeError unless `delays` can be iterated. A delay that is negative, longer than 2**40 ticks, or no number
        fails the process when its turn comes, with ValueError or TypeError.
        """
        self._sim._check_open()
        return simpy.Process(self._sim.env, self._drive(iter(delays)))

    def _drive(self, delays: Iterator[float]) -> Generator[simpy.Event, Any, None]:
        env, longest = self._sim.env, MOST_TICKS * self._sim.period
        try:
            for delay in delays:
                yield env.timeout(within("delay", delay, 0, longest))
                try:
                    self.switch()
                except ClosedError:
                    return
                except RuntimeError:
                    pass                                # idle or offline
        except simpy.Interrupt:
            pass

    def quiescent(self) -> None:
        """Switch, tick and, if it is due, wake, at this moment: beside the CPU's own tick. RuntimeError unless it is RUNNING."""
        super().quiescent()
        self._sim._opened()

    def online(self) -> None:
        """Bring this CPU up, and its tick: waits that begin from now on wait for it, too. RuntimeError unless it is OFFLINE."""
        super().online()
        self._sim._ticks[self.index].begin()

    def offline(self) -> None:
        """Take this CPU down, and its tick; it holds no reference any more. From IDLE it leaves idle first. RuntimeError if OFFLINE."""
        super().offline()
        self._sim._opened()

    def idle_enter(self) -> None:
        """This CPU drops its mm and idles, without a tick: it holds no reference, delays no wait. RuntimeError unless RUNNING."""
        super().idle_enter()
        self._sim._opened()

    def idle_exit(self) -> None:
        """This CPU runs and ticks again; only after this may it read what others publish. Raises RuntimeError unless it is IDLE."""
        super().idle_exit()
        self._sim._ticks[self.index].begin()

    def _leave_idle(self) -> None:                      # the end of `with cpu.idle():`
        super()._leave_idle()
        self._sim._ticks[self.index].begin()

    def wait(self, timeout: float | None = None) -> bool:
        """RuntimeError unless timeout is 0: `with cpu.idle(): yield gen.grace_period()` waits, and counts this CPU as idle."""
        only_look("wait", timeout, "`with cpu.idle(): yield gen.grace_period()`")
        return super().wait(timeout)


class SimMmGen(MmGen):
    """A domain of `cpus` CPUs (1 to 2**20) on the clock of `env`, a simpy.Environment.

    hz: ticks a second (0.001 to 1e9). unit: seconds in one unit of the environment's time (1e-15 to 1e9): 1e-3 if env.now is in ms.
    phases: how long after the domain was made, in the environment's time, each CPU has its first tick: 0 to less than a tick, one for
        all or one for each CPU (default: spread evenly over a tick). From there on each ticks once a tick while it runs, and where it
        idles or is offline it does not; back again it goes on on its own grid, at the very moment of a tick with that one.
    max_pending: how many callbacks may be pending (default: any number) before defer() raises FullError.
    kick: as MmGen's; it may call the CPUs, or start processes that do.
    online, continuous, increments, patience, first_generation, first_switches: as MmGen's.

    A grace period is over at the virtual moment at which its last generation opens, whoever opened it: a tick, or a CPU that goes
    idle or offline. Its events fire then, in the order of their cookies, and before them the callbacks that are due run; each in
    env.step(), as any event. What would sleep - wait(), wait_for(), wait_async(), barrier() and close() with a timeout - raises
    RuntimeError. wait_latency is of the grace periods whose events fired, in virtual ns.

    Raises ValueError, TypeError or IndexError for an argument that does not fit, MemoryError.

    Thread-safety: one thread, the simulation's.
    """

    env: simpy.Environment
    hz: float
    unit: float
    """seconds in one unit of env.now"""
    period: float
    """a tick, in the environment's time"""

    def __new__(cls, env: simpy.Environment, cpus: int, **options: Any) -> Self:
        """In here, since what is below knows no environment."""
        return super().__new__(cls, cpus, **options)

    def __init__(self, env: simpy.Environment, cpus: int, *, hz: float = 250, unit: float = 1.0,
                 phases: float | Iterable[float] | None = None, online: int | Iterable[int] | None = None, continuous: bool = False,
                 increments: int | None = None, kick: Callable[[list[Holdout]], object] | None = None, patience: int | None = None,
                 max_pending: int | None = None, first_generation: int = 0, first_switches: int = 0) -> None:
        if not isinstance(env, simpy.Environment):
            raise TypeError(f"env={shown(env)} is of type {type(env).__name__}, not a simpy.Environment")
        hz = within("hz", hz, 1e-3, 1e9)
        unit = within("unit", unit, 1e-15, 1e9)
        period = float(1 / (Fraction(repr(hz)) * Fraction(repr(unit))))         # as written: 1 / (250 * 1e-9) is not 4e6
        within("env.now", env.now, -MOST_TICKS * period, MOST_TICKS * period)
        firsts = [env.now + phase for phase in skew(phases, self.cpus, period)]
        # What __new__ has seen to is not given on: an iterable would be empty by now.
        super().__init__(self.cpus, max_pending=max_pending, when_full="raise", reclaimer=False, stall_after=None)
        self.env = env
        self.hz = hz
        self.unit = unit
        self.period = period
        self._awaited: list[tuple[Cookie, int, float, simpy.Event]] = []        # a heap: (cookie, nr, when it was asked for, event)
        self._nr_events = itertools.count()
        self._ticks = [Tick(self, cpu, first) for cpu, first in enumerate(firsts)]
        self._resume()

    @classmethod
    def restore(cls, state: "Buffer", /, **options: Any) -> Self:
        """A new domain, on `env`, in the state that snapshot() gave. As MmGen.restore(), with env= and this class's options.

        Ticks are not part of the state: the phases say when they come. ValueError for a domain that may grow, too.
        """
        words, cpus, max_cpus, _ = saved(state, options)
        if cpus != max_cpus:
            raise ValueError(f"state: its domain of {cpus} CPUs may grow to {max_cpus}: a simulation's does not")
        gen = cls(options.pop("env", None), cpus, online=0, **options)
        _snapshot.load(gen, words)
        gen._resume()
        return gen

    # ---- CPUs

    def cpu(self, index: int, /) -> SimCpu:
        """The handle of CPU `index`, for any process of the simulation. IndexError if the domain has no such CPU."""
        return SimCpu(self, index)

    def run(self, ops: "Buffer", /) -> int:
        """Apply an array of operations at this moment, as MmGen.run(); what that ends happens, and CPUs that came back tick again."""
        try:
            return super().run(ops)
        finally:
            self._opened()
            self._resume()

    def _resume(self) -> None:
        """Every CPU that runs ticks."""
        for index, tick in enumerate(self._ticks):
            if self.cpu(index).mode is Mode.RUNNING:
                tick.begin()

    def register(self) -> NoReturn:
        """RuntimeError, always: a simulation has no threads to register."""
        raise RuntimeError("register() is for threads: a CPU of a simulation comes up by gen.cpu(index).online()")

    def wake(self) -> None:
        """After a tick() that returned True: fire what the generation that it opened has ended; credit the idle; kick."""
        super().wake()
        self._opened()

    def _opened(self) -> None:
        """A generation may have opened: have what that ends happen at this moment, callbacks before the events that ask about them."""
        first = self._first_callback()
        if first is not None and self.poll(first):
            # Not at once: who defers in a machine that idles, where it is over already, does not expect the call in its own.
            run = simpy.Event(self.env)
            run.callbacks.append(self._run_due)
            run.succeed()
        while self._awaited and self.poll(self._awaited[0][0]):
            cookie, _, begin, event = heapq.heappop(self._awaited)
            # The histogram ends at 584 years, and an infinity would not round.
            self.wait_latency.record(round(min((self.env.now - begin) * self.unit * 1e9, 2.0**63)))
            if not event.triggered:                     # by somebody else
                event.succeed(cookie)

    def _run_due(self, _: simpy.Event) -> None:
        self.run_callbacks()

    # ---- grace periods

    def grace_period(self, cookie: Cookie | None = None, *, expedite: bool = False) -> simpy.Event:
        """The event of a grace period's end, to be yielded: of one that begins now, or of the one that `cookie` stands for.

        Its value is the cookie. expedite: kick the holdouts at once, in every generation until it is over. An event that nobody
        yields is fine, so is `gen.grace_period() | env.timeout(5)`. Where the domain is closed meanwhile it fails with ClosedError.
        Raises ClosedError; ValueError for another domain's cookie, or expedite without a kick.
        """
        if expedite:
            self._check_kick()
        if cookie is None:
            cookie = self.start_poll()
        if not self.poll(cookie):
            self._check_open()
        event = simpy.Event(self.env)
        heapq.heappush(self._awaited, (cookie, next(self._nr_events), self.env.now, event))
        if expedite:
            self._expedite(cookie)
        self._opened()                                  # where everybody idles it is over already
        return event

    def wait(self, timeout: float | None = None, *, expedite: bool = False) -> bool:
        """RuntimeError unless timeout is 0: `yield gen.grace_period()` waits."""
        only_look("wait", timeout, "yield gen.grace_period()")
        return super().wait(timeout, expedite=expedite)

    def wait_for(self, cookie: Cookie, timeout: float | None = None, *, expedite: bool = False) -> bool:
        """RuntimeError unless timeout is 0: `yield gen.grace_period(cookie)` waits."""
        only_look("wait_for", timeout, "yield gen.grace_period(cookie)")
        return super().wait_for(cookie, timeout, expedite=expedite)

    async def wait_async(self, timeout: float | None = None) -> bool:
        """RuntimeError, always: its time would not be the environment's. `yield gen.grace_period()` waits."""
        raise RuntimeError("wait_async() knows no virtual time: yield gen.grace_period()")

    def _sleep(self, cookie: Cookie, timeout_ns: int, record: bool = True) -> bool:
        """A look, without a clock."""
        if self.poll(cookie):
            return True
        self._check_open()
        if timeout_ns:
            raise RuntimeError(BLOCKED.format("the wait", "yield gen.grace_period()"))
        return False

    # ---- callbacks

    def defer(self, fn: Callable[..., object], /, *args: Any) -> None:
        """Run fn(*args) at the virtual moment at which a grace period is over, in the order of the calls, in env.step().

        What it raises goes to sys.unraisablehook, and the rest still runs. Raises FullError; ClosedError; TypeError.
        """
        super().defer(fn, *args)
        self._opened()

    def retire(self, obj: object, /) -> None:
        """Keep `obj` alive until a grace period has passed. As defer()."""
        super().retire(obj)
        self._opened()

    def barrier(self, timeout: float | None = None) -> bool:
        """RuntimeError unless timeout is 0: after `yield gen.grace_period()` all that was deferred before has run."""
        only_look("barrier", timeout, "yield gen.grace_period()")
        return super().barrier(timeout)

    def close(self, timeout: float | None = 0.0) -> list[Callback]:
        """End the domain, its ticks too: events of grace periods that are not over fail with ClosedError. Closing twice is fine.

        Callbacks that never ran are returned, in order, and logged as a warning. RuntimeError unless timeout is 0.
        """
        only_look("close", timeout, "yield gen.grace_period(), then close()")
        self._opened()
        lost = super().close(0)
        try:
            self._check_open()
        except ClosedError as error:
            while self._awaited:
                event = heapq.heappop(self._awaited)[3]
                if not event.triggered:
                    event.fail(type(error)(*error.args))
                    event.defused = True                # raised where it is yielded, and only there
        return lost


class Tick:
    """The tick of CPU `cpu`: at `first` and every gen.period from there, as long as the CPU runs.

    One SimPy event is on its way while it ticks. It is not called back where the CPU idles: it finds that out, and is the last. So a
    CPU that idles shorter than a tick goes on with the same event, however often it does.
    """

    __slots__ = ("_cpu", "_first", "_gen", "_nr", "_pending")

    def __init__(self, gen: SimMmGen, cpu: int, first: float) -> None:
        self._gen = gen
        self._cpu = cpu
        self._first = first
        self._nr = 0                                    # the next one's number on the grid
        self._pending = False

    def begin(self) -> None:
        """The CPU runs, from now on: at this very moment, if it is one of the grid, it ticks."""
        if not self._pending:
            ticks = (self._gen.env.now - self._first) / self._gen.period
            self._nr = math.ceil(within("env.now, in ticks", ticks, -1, 2 * MOST_TICKS))
            self._schedule()

    def _schedule(self) -> None:
        env = self._gen.env
        # From the grid each time, not from the tick before: roundings would add up. Below 0 by one, at most.
        timeout = simpy.Timeout(env, max(self._first + self._nr * self._gen.period - env.now, 0))
        timeout.callbacks.append(self._fire)
        self._nr += 1
        self._pending = True

    def _fire(self, _: simpy.Event) -> None:
        try:
            due = self._gen.tick(self._cpu)
        except RuntimeError:                            # it idles, is offline or closed: no tick
            self._pending = False
            return
        self._schedule()
        if due:
            self._gen.wake()


# How many ticks the environment's time may be from 0: 139 years of them at 250 Hz. A float tells moments apart there that are 1/4096 of
# a tick apart; where it could not tell two ticks apart, they would be at one moment for ever.
MOST_TICKS = 2**40

BLOCKED = "{}() would block the simulation for ever: {}"


def only_look(call: str, timeout: float | None, instead: str) -> None:
    """RuntimeError if `call` would sleep. ValueError or TypeError for a timeout that is none."""
    if to_ns(timeout):
        raise RuntimeError(BLOCKED.format(call, instead))


def within(name: str, value: Any, least: float, most: float) -> float:
    """`value` as a float. ValueError unless least <= value <= most, TypeError unless it is a number."""
    number = real(value, name)
    if not least <= number <= most:
        raise ValueError(f"{name}={shown(value)} is out of range: {least:g} to {most:g}")
    return number


def skew(phases: Any, cpus: int, period: float) -> list[float]:
    """How long after the start each of `cpus` CPUs first ticks."""
    if phases is None:
        return [cpu * period / cpus for cpu in range(cpus)]
    if not hasattr(type(phases), "__iter__"):
        given = [phases] * cpus
    else:
        given = list(itertools.islice(phases, cpus + 1))        # there may be no end of them
        if len(given) != cpus:
            raise ValueError(f"phases={shown(phases)} is not one for each of {cpus} CPUs")
    found = []
    for cpu, phase in enumerate(given):
        number = real(phase, f"phases: CPU {cpu}")
        if not 0 <= number < period:
            raise ValueError(f"phases: CPU {cpu}: {shown(phase)} is out of range: 0 to less than a tick, {period:g}")
        found.append(number)
    return found
