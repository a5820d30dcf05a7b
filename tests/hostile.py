"""Values that nobody should pass, and domains in every state to pass them to."""
import array
import contextlib
import decimal
import faulthandler
import fractions
import itertools
import os

import mmgen
import pytest
from conftest import SANITIZER
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from mmgen import mmtrace
from mmgen._latency import Latency
from mmgen.stall import report

HANG_S = 240                    # generous: that a call hangs is told, on a loaded machine too, and not that it is slow


def examples(number):
    """Settings for `number` examples; --long takes 20 times as many (conftest.py), a sanitizer a fifth."""
    if SANITIZER:
        number //= 5
    return settings(max_examples=max(number * settings.default.max_examples // 100, 1), deadline=None,
                    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large])


@pytest.fixture
def no_hang(pytestconfig):
    """Who hangs, in C too, is shown with every thread's stack, and ends the run."""
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        shown = os.dup(2)                               # not what captures: nobody would read it
    faulthandler.dump_traceback_later(HANG_S * max(settings.default.max_examples // 100, 1), exit=True, file=shown)
    yield
    faulthandler.cancel_dump_traceback_later()
    os.close(shown)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)                         # a name that is made up may become a file's


class Hostile(Exception):  # noqa: N818 - it is no error
    """What a hostile object raises, whatever it is asked."""


class Raises:
    def fail(self, *_, **__):
        raise Hostile

    __index__ = __float__ = __int__ = __bool__ = __len__ = __iter__ = __call__ = __eq__ = __hash__ = __lt__ = __le__ = __gt__ = fail
    __ge__ = __fspath__ = __repr__ = __str__ = __add__ = __mul__ = __getitem__ = __enter__ = __contains__ = fail


class Shifty:
    """A number that is another each time it is asked, as small as fits at first."""

    def __init__(self):
        self.answers = itertools.chain([1, 1, 2, 2**16, 2**20, -1], itertools.repeat(2**40))

    def __index__(self):
        return next(self.answers)

    __int__ = __index__
    __le__ = __ge__ = __lt__ = __gt__ = __eq__ = lambda self, other: True
    __hash__ = None


class Number(int):
    """An int whose own arithmetic is not an int's."""

    __mul__ = __rmul__ = __add__ = __sub__ = lambda self, other: "product"
    __bool__ = __le__ = __ge__ = __eq__ = lambda self, other=None: True
    __hash__ = int.__hash__
    __repr__ = __str__ = lambda self: "two\nlines"


class Huge(float):
    __mul__ = __rmul__ = lambda self, other: 1e300


class Path:
    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return self.path


class Domain(mmgen.MmGen):
    """A subclass that answers wrongly."""

    generation = closed = property(lambda self: "none")
    holdouts = stats = lambda self: 1 // 0


def interrupts(*_):
    raise KeyboardInterrupt


def snapshot_of(world):
    """Of its own domain, where that has one."""
    with contextlib.suppress(RuntimeError):
        return world.gen.snapshot()


INTS = [0, 1, 2, 3, -1, 7, 2**20, 2**20 + 1, 2**24 + 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**400, 10**5000,
        -(2**31) - 1, -(2**63) - 1, -(10**5000)]
FLOATS = [0.0, -0.0, 0.001, 1.5, -1e-300, 1e300, float("nan"), float("inf"), float("-inf")]
ODD = {
    "None": lambda w: None, "True": lambda w: True, "object": lambda w: object(), "type": lambda w: int, "complex": lambda w: 1j,
    "list": lambda w: [0, [0]], "dict": lambda w: {"cpus": 2}, "range": lambda w: range(10**18), "endless": lambda w: itertools.count(),
    "bytes": lambda w: b"\0\1", "str": lambda w: "1", "lone": lambda w: "\udc80\n\0", "empty": lambda w: (),
    "raises": lambda w: Raises(), "shifty": lambda w: Shifty(), "number": lambda w: Number(2), "huge": lambda w: Huge(0.001),
    "decimal": lambda w: decimal.Decimal("0.001"), "decimal nan": lambda w: decimal.Decimal("sNaN"),
    "fraction": lambda w: fractions.Fraction(1, 1000), "long": lambda w: list(range(3000)),
    "path": lambda w: Path("/nowhere/at/all"), "not a path": lambda w: Path(5), "full": lambda w: "/dev/full", "directory": lambda w: "/",
    "nothing": lambda w: lambda *_: None, "raising": lambda w: lambda *_: 1 // 0, "interrupts": lambda w: interrupts,
    "closes": lambda w: lambda *_: w.gen.close(), "waits": lambda w: lambda *_: w.gen.wait(0), "print": lambda w: print,
    "gen": lambda w: w.gen, "its class": lambda w: mmgen.MmGen, "cpu": lambda w: w.gen.cpu(0), "registered": lambda w: w.registered,
    "cookie": lambda w: w.cookie, "other's cookie": lambda w: mmgen.MmGen(1).start_poll(),
    "nobody's cookie": lambda w: mmgen.Cookie.__new__(mmgen.Cookie), "subclass": lambda w: Domain(1), "latency": lambda w: Latency(),
    "bare": lambda w: mmgen.MmGen.__new__(mmgen.MmGen, 1), "mode": lambda w: mmgen.Mode.IDLE, "busy": lambda w: mmgen.Busy(1),
    "calls": lambda w: mmgen.Calls(interrupts), "block": lambda w: "block",
    "replay": lambda w: mmgen.Replay(mmtrace.MmTrace("x", 1, 0, [])), "op": lambda w: mmgen.Op.OFFLINE,
    "ops": lambda w: array.array("I", [0, mmgen.Op.TICK, 1, mmgen.Op.QUIESCENT]), "no ops": lambda w: array.array("I", [0, 0, 7, 2**31]),
    "many ops": lambda w: memoryview(bytes(8 * 70_000 + 1))[1:], "backwards": lambda w: memoryview(array.array("I", [0, 0] * 9))[::-1],
    "snapshot": lambda w: mmgen.MmGen(2, max_cpus=3).snapshot(), "its snapshot": snapshot_of,
    "no snapshot": lambda w: mmgen.MmGen(1).snapshot()[:-1] + b"x", "capsule": lambda w: mmgen.MmGen(1).capsule,
}
# By name where a value depends on the domain, or cannot be shown.
hostile = st.one_of(st.sampled_from(sorted(ODD)).map(lambda name: ("odd", name)), st.sampled_from(INTS).map(lambda n: ("is", n)),
                    st.sampled_from(FLOATS).map(lambda x: ("is", x)), st.integers(-9, 40).map(lambda n: ("is", n)),
                    st.floats().map(lambda x: ("is", x)),
                    st.text(st.characters(exclude_characters="/"), max_size=3).map(lambda s: ("is", s)))

STATES = ["running", "idle", "offline", "closed", "machine"]


class World:
    """A domain in one of STATES, and an instance of everything public that belongs to it."""

    def __init__(self, state, checked=False, reclaimer=True):
        options = {"trace": 8, "checked": checked or state == "machine", "reclaimer": reclaimer, "max_pending": 4, "when_full": "raise"}
        self.machine = mmgen.Machine(1, 1000, "idle", max_cpus=2, **options)
        if state == "machine":
            self.machine.start()
            self.gen = self.machine.gen
        else:
            self.gen = mmgen.MmGen(2, max_cpus=3, kick=lambda holdouts: None, **options)
        self.registered = self.gen.register()
        self.own = [self.registered] if state == "machine" else [self.gen.cpu(0), self.gen.cpu(1), self.registered]
        self.cookie = self.gen.start_poll()
        if state in ("idle", "machine"):
            for cpu in self.own:
                cpu.idle_enter()
        elif state == "offline":
            for cpu in self.own:
                cpu.offline()
        elif state == "closed":
            self.gen.close()
        self.latency = Latency()
        self.latency.record(5)

    def value(self, spec):
        return spec[1] if spec[0] == "is" else ODD[spec[1]](self)

    def instance(self, name):
        """An instance of the public class `name`."""
        stall = lambda: report(self.gen, self.cookie, self.gen._counters(), 1.0)  # noqa: E731
        make = {
            "MmGen": lambda: self.gen, "Cpu": lambda: self.gen.cpu(0), "RegisteredCpu": lambda: self.registered,
            "Cookie": lambda: self.cookie, "Latency": lambda: self.latency, "Machine": lambda: self.machine,
            "Busy": mmgen.Busy, "Idle": mmgen.Idle, "Calls": lambda: mmgen.Calls(print), "Mode": lambda: mmgen.Mode.IDLE,
            "Op": lambda: mmgen.Op.TICK, "Replay": lambda: mmgen.Replay(mmtrace.MmTrace("x", 2, 250, [mmtrace.Event(0, 1, "T", ())])),
            "Callback": lambda: mmgen.Callback(None, ()), "CpuCounters": lambda: self.gen.stats().cpus[0], "DomainStats": self.gen.stats,
            "CpuStats": lambda: self.machine.stats().cpus[0], "MachineStats": self.machine.stats,
            "Holdout": lambda: mmgen.Holdout(0, mmgen.Mode.IDLE, 0), "StallReport": stall,
            "StalledCpu": lambda: mmgen.StalledCpu(0, mmgen.Mode.RUNNING, 1, 0, 0, None, None, "why"),
            "ClosedError": lambda: mmgen.ClosedError("x"), "DriverlessError": lambda: mmgen.DriverlessError("x"),
            "FullError": lambda: mmgen.FullError("x"), "WrongThreadError": lambda: mmgen.WrongThreadError("x"),
            "MachineError": lambda: mmgen.MachineError("x"),
        }
        return make[name]()

    def works_on(self):
        """A wait still ends, and callbacks run, if nobody has closed the domain."""
        gen = self.gen
        if gen.closed:
            with pytest.raises(mmgen.ClosedError):
                gen.start_poll()
            return
        for i in range(gen.cpus) if gen is not self.machine.gen else [self.registered.index]:
            if gen.cpu(i).mode is mmgen.Mode.RUNNING:
                gen.cpu(i).idle_enter()
        try:
            assert gen.wait(HANG_S)
            assert gen.barrier(HANG_S)
        except mmgen.ClosedError:
            assert gen.closed                           # by a callback

    def end(self):
        with contextlib.suppress(mmgen.MachineError):
            self.machine.close()
        self.gen.close()
        self.registered.leave()
