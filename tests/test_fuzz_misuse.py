"""Misuse that the C level must survive, each in a process of its own: no crash, no hang, no memory that an absurd number asks for."""
import sys

import pytest

SETUP = """
import copy, gc, inspect, itertools, os, pickle, sys, threading, warnings, weakref
from array import array
import mmgen
from mmgen import _arrivals, _batch, _capi, _cookie, _cpu, _domain, _latency, _machine, _snapshot

def refused(call, *errors):
    try:
        call()
    except errors or (TypeError, ValueError, IndexError, RuntimeError) as error:
        assert str(error)
    else:
        raise AssertionError("it was not refused")

def works(gen):
    for i in range(gen.cpus):
        if gen.cpu(i).mode is mmgen.Mode.RUNNING:
            gen.cpu(i).idle_enter()
    assert gen.wait(60)
"""


def ended_well(result):
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[-1:] == ["done"]


@pytest.mark.parametrize("script", [
    # Made without __init__: C's calls work, Python's say so.
    """
gen = mmgen.MmGen.__new__(mmgen.MmGen, 2)
cpu = gen.cpu(0)
cookie = gen.start_poll()
for _ in range(4):
    gen.cpu(0).quiescent(), gen.cpu(1).quiescent()
assert gen.poll(cookie)
for call in (gen.wait, gen.stats, lambda: gen.defer(print), gen.close):
    refused(call, AttributeError)
del gen, cpu, cookie
""",
    """
class Forgets(mmgen.MmGen):
    def __init__(self, cpus):
        pass
gen = Forgets(2)
refused(lambda: gen.wait(0), AttributeError)
repr(gen), gen.closed
""",
    # __init__ once more, with a callback pending and a CPU registered.
    """
gen = mmgen.MmGen(1, online=0, max_cpus=2)
cpu = gen.register()
ran = []
gen.defer(ran.append, 1)
refused(lambda: gen.__init__(1), RuntimeError)
refused(lambda: gen.__init__(2**20, trace=-1), RuntimeError)
cpu.__init__(gen, 0)
cpu.leave()
cpu.__init__(gen, 0)
with gen.register():
    cpu.leave()
    assert gen.nr_online == 1
assert gen.barrier(60) and ran == [1]
machine = mmgen.Machine(1)
refused(machine.__init__, RuntimeError)
""",
    # A number that is another each time it is asked.
    """
class Shifty:
    def __init__(self, *answers):
        self.answers = itertools.chain(answers, itertools.repeat(answers[-1]))
    def __index__(self):
        return next(self.answers)
    __le__ = __ge__ = __lt__ = __gt__ = lambda self, other: True
    def __sub__(self, other):
        return 1
for first in range(1, 6):
    for name in ("cpus", "max_cpus", "trace", "online", "increments", "patience", "first_generation", "first_switches"):
        gen = mmgen.MmGen(**{"cpus": 1} | {name: Shifty(*[1] * first, 2**18)})
        assert gen.cpus == 1
        gen.stats(), gen._events()
        works(gen)
    gen = mmgen.MmGen(2)
    gen.cpu(Shifty(*[1] * first, 2**30)).switch()
    gen.switch(Shifty(*[1] * first, 2**30))
    _machine.Driver(gen, Shifty(*[1] * first, 2**30), 0).leave()
""",
    # Cookies that nobody made.
    """
gen = mmgen.MmGen(1)
nobodys = mmgen.Cookie.__new__(mmgen.Cookie)
refused(mmgen.Cookie, TypeError)
for cookie in (nobodys, mmgen.MmGen(1).start_poll(), copy.copy(mmgen.MmGen(1).start_poll())):
    refused(lambda: gen.poll(cookie), ValueError)
    refused(lambda: gen.wait_for(cookie, 0), ValueError)
    repr(cookie), hash(cookie), cookie == gen.start_poll()
refused(lambda: nobodys < gen.start_poll(), TypeError)
refused(lambda: pickle.dumps(gen.start_poll()), TypeError)
for state in (None, (), (1,), (gen,), (gen, -1), (gen, "x"), (gen, 2**64), 5):
    try:
        gen.start_poll().__setstate__(state)
    except Exception:
        pass
refused(lambda: type("Sub", (mmgen.Cookie,), {}), TypeError)
""",
    # A batch, and a snapshot, of what answers otherwise each time, or dies meanwhile; and a domain that dies before what refers to it.
    """
class Odd(array):
    def __len__(self):
        return 10**9
    def __buffer__(self, flags):
        gen.close()
        return memoryview(bytes(8))
gen = mmgen.MmGen(1)
for ops in (Odd("I", [0, 0]), Odd("I", [0, 9])):
    try:
        gen.run(ops)
    except (ValueError, mmgen.ClosedError):
        pass
gen = mmgen.MmGen(2, patience=1, kick=lambda holdouts: globals().pop("ops", None))
gen.start_poll()
ops = array("I", [0, mmgen.Op.TICK, 1, mmgen.Op.QUIESCENT])
gen.run(ops)
assert "ops" not in globals() and gen.cpu(1).switches == 1
gen = mmgen.MmGen(2, patience=1, kick=lambda holdouts: globals().pop("gen", None))
gen.start_poll()
gen.run(array("I", [0, mmgen.Op.TICK, 1, mmgen.Op.QUIESCENT]))
assert "gen" not in globals()
capsule, interface = mmgen.MmGen(1).capsule, mmgen.MmGen(1).ctypes
gc.collect()
interface.api.mm_switch(interface.address, 0)
assert interface.domain.cpu(0).switches == 1
state = bytearray(mmgen.MmGen(2).snapshot())
del capsule, interface
for at in range(len(state)):
    state[at] ^= 255
    refused(lambda: mmgen.MmGen.restore(state), ValueError)
    state[at] ^= 255
works(mmgen.MmGen.restore(state))
refused(lambda: _snapshot.load(mmgen.MmGen(1), bytes(state)), RuntimeError)
refused(lambda: _snapshot.load(mmgen.MmGen(2), bytes(state)), RuntimeError)
refused(lambda: _snapshot.load(mmgen.MmGen(2, online=0), bytes(state)[:100]), RuntimeError)
""",
    # Copies share nothing, since there are none.
    """
gen = mmgen.MmGen(1)
for thing in (gen, gen.cpu(0), _latency.Latency(), _machine.Driver(gen, 0, 1)):
    for make in (copy.copy, copy.deepcopy, pickle.dumps):
        refused(lambda: make(thing), TypeError)
for base in (mmgen.MmGen, mmgen.Cpu, mmgen.Cookie, _latency.Latency):
    refused(lambda: object.__new__(base), TypeError)
""",
    # Cycles and odd orders of dying: callbacks, kicks, handles, finalizers that use what is dying.
    """
class Thing:
    pass
class Kicks(mmgen.MmGen):
    def __del__(self):
        self.wake(), self.start_poll(), self.stats()
class Last:
    def __init__(self, what):
        self.what = what
    def __del__(self):
        gen = self.what()
        if gen is not None:
            gen.start_poll(), gen.defer(print), saved.append(gen)
class Handle(mmgen.Cpu):
    def __del__(self):
        self.switch(), self.gen.wake()
saved = []
for _ in range(50):
    thing = Thing()
    thing.gen = Kicks(2, kick=lambda holdouts, thing=thing: thing, patience=1, reclaimer=False, trace=4)
    thing.gen.me = thing.gen
    thing.cpu = Handle(thing.gen, 0)
    thing.cpu.thing, thing.cookie = thing, thing.gen.start_poll()
    thing.gen.defer(print, thing.cookie)
    thing.gen.retire(Last(weakref.ref(thing.gen)))
    thing.gen.retire(thing.gen)
    del thing
    gen = mmgen.MmGen(1, reclaimer=False)
    gen.retire(Last(weakref.ref(gen)))
    cpu, cookie = gen.cpu(0), gen.start_poll()
    del gen
    cpu.switch(), repr(cookie)
    del cpu
    assert not cookie.gen.closed
    del cookie
    machine = mmgen.Machine(1, max_cpus=2)
    machine.gen.machine = machine
    del machine
gc.collect()
for gen in saved:
    gen.start_poll(), gen.stats()
gen = None
saved.clear()
gc.collect()
""",
    # Overrides that lie or raise, in what C calls back into.
    """
sys.unraisablehook = lambda _: None
class Lies(mmgen.MmGen):
    generation = nr_online = nr_run = cpus = property(lambda self: "none")
    def holdouts(self):
        raise LookupError
    def _check_open(self):
        raise LookupError
gen = Lies(2, kick=print, patience=1)
for call in (gen.wake, gen.stats, lambda: gen.wait(0, expedite=True), lambda: gen.barrier(0), lambda: gen.defer(print), gen.close):
    try:
        call()
    except Exception:
        pass
gen = mmgen.MmGen(1, increments=2**31, kick=lambda holdouts: gen.cpu(0).quiescent())       # each kick opens one more
assert not gen.wait(0.01, expedite=True)
""",
])
def test_misuse(python, script):
    result = python(SETUP + script + "\ngc.collect()\nprint('done')\n", timeout=240)
    ended_well(result)


def test_fuzz_the_extension_classes(python):
    """What is nobody's to call, called with anything: it need not be sensible, but it comes back."""
    ended_well(python(SETUP + """
import random
draw = random.Random(1)
sys.unraisablehook = lambda _: None
warnings.simplefilter("ignore")                         # coroutines that nobody awaits
# A child's alone, where no thread holds the locks that it makes anew.
NEVER = {"_after_fork"}
def values():
    gen = mmgen.MmGen(2)
    closed = mmgen.MmGen(1)
    closed.close()
    return [None, True, 0, 1, 2, -1, 2**31, 2**32, 2**63, 2**64 - 1, 2**64, -2**63, 10**5000, 1.5, float("nan"), "x", b"x", (), [], {},
            object(), gen, closed, _domain.MmGen(1), mmgen.Cookie.__new__(mmgen.Cookie), gen.start_poll(), _latency.Latency(), print,
            lambda *_: 1 // 0, array("q", [0, 5, 2**62]), array("q"), array("d", [1.0]), array("q", [3, 3, 3]), memoryview(b"xxxxxxxx"),
            [_machine.Driver(gen, 0, 0)], (print,), [None], int, weakref.ref(gen), gen.snapshot(), bytes(192), gen.capsule,
            array("I", [0, 0, 1, 2]), array("I", [0, 3, 5, 7]), memoryview(bytes(17))[1:]]
def makes():
    gen = mmgen.MmGen(2, max_cpus=3, trace=4)
    gen.close()                                         # so that what would wait comes back
    driver = _machine.Driver(gen, 0, 0)
    driver.stop()
    arrivals = _arrivals.Arrivals(gen, array("q", [0, 10]))
    arrivals.stop()
    bare = _domain.MmGen(1)
    bare._close()
    return [gen, bare, _cpu.Cpu(gen, 1), driver, arrivals, _latency.Latency(), _machine.Kicks([driver]),
            mmgen.MmGen(1).start_poll()]
nr = 0
gen = makes()[0]
for period, what in itertools.product((0, 1, -1, -2**63), range(-1, 5)):        # a tick without a period
    _machine.Driver(gen, 1, period).replay(0, array("q", [0]), array("q", [what]))
for _ in range(400):
    for thing in makes():
        for name in dir(thing):
            try:
                member = getattr(thing, name)
            except Exception:                           # a closed domain's capsule
                continue
            if (name.startswith("__") and name not in ("__init__", "__setstate__", "__reduce__")) or name in NEVER or not callable(member):
                continue
            if draw.random() < 0.3:
                pool = values()
                given = [draw.choice(pool) for _ in range(draw.choice([0, 1, 1, 2, 2, 3, 5]))]
                try:
                    member(*given)
                    nr += 1
                except Exception:
                    pass
    for make in (_domain.MmGen, _cpu.Cpu, _machine.Driver, _machine.Kicks, _arrivals.Arrivals, _machine.supply_kick, _latency.Latency,
                 _batch.run, _snapshot.snapshot, _snapshot.shape, _snapshot.load, _capi.capsule, _capi.address):
        pool = values()
        try:
            make(*[draw.choice(pool) for _ in range(draw.choice([1, 2, 2, 3]))])
            nr += 1
        except Exception:
            pass
assert nr > 1000, nr
print('done')
""", timeout=240))


@pytest.mark.unsanitized("limits the address space, of which a sanitizer takes terabytes for itself")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits its memory as Linux does")
@pytest.mark.parametrize("call", [
    "mmgen.MmGen(10**9)", "mmgen.MmGen(2**20, trace=2**24)", "mmgen.MmGen(1, max_cpus=2**40)", "mmgen.MmGen(2, trace=2**60)",
    "mmgen.MmGen(64, trace=2**24)", "mmgen.MmGen(2, online=itertools.count())", "mmgen.MmGen(2, online=range(10**12))",
    "mmgen.Machine(2**20)", "mmgen.Machine(10**9, workload='idle')", "mmgen.MmGen(10**5000)", "mmgen.MmGen(1).run_callbacks(10**30)",
    "mmgen.Machine(workload=mmgen.Replay(mmtrace.MmTrace('x', 2**20, 250, [])))", "mmgen.MmGen(1, max_pending=10**30)",
])
def test_an_absurd_number_is_refused_and_not_tried(python, call):
    result = python(SETUP + f"""
import resource
from mmgen import mmtrace
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, used + 2**26))
refused(lambda: {call}, ValueError, IndexError, MemoryError)
works(mmgen.MmGen(2))
print('done')
""")
    ended_well(result)


@pytest.mark.unsanitized("limits the address space, of which a sanitizer takes terabytes for itself")
def test_a_number_that_is_tried_is_found(python):
    result = python(SETUP + """
import resource
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, used + 2**26))
refused(lambda: sorted(range(10**12)), ValueError, IndexError)
""")
    assert result.returncode != 0
    assert "MemoryError" in result.stderr
