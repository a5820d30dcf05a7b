"""Every public call with arguments that nobody should give: a documented error that says what is wrong, and a domain that works on."""
import asyncio
import contextlib
import copy
import inspect
import operator
import pickle
import pkgutil
import re
import sys

import mmgen
import pytest
from hostile import STATES, Hostile, World, elsewhere, examples, hostile, no_hang  # noqa: F401 - the fixtures
from hypothesis import given
from hypothesis import strategies as st
from mmgen._arguments import shown
from mmgen._latency import Latency

pytestmark = pytest.mark.usefixtures("no_hang", "elsewhere")

# What is public beside mmgen.__all__: what its calls return.
RETURNED = {"Latency": Latency}
FUNCTIONS = {"mm_gen_wait", "mm_gen_tick", "mm_gen_wake", "get_include"}
# The other modules: where they are fuzzed, or None where only mmgen itself calls them, with arguments that it has checked.
MODULES = {
    "mmtrace": "test_fuzz_mmtrace.py", "cli": "test_fuzz_cli.py", "cli_lab": "test_fuzz_cli.py", "cli_record": "test_fuzz_cli.py",
    "cli_replay": "test_fuzz_cli.py", "cli_traces": "test_fuzz_cli.py",
    "domain": "here", "machine": "here", "workload": "here", "stall": "here",
    "check": "test_fuzz_check.py", "simpy": "test_simpy.py", "torture": "test_fuzz_cli.py", "lab": "test_fuzz_lab.py",
    "registered": "here", "stats": "here",
    "capi": None, "arrivals": None, "callbacks": None, "output": None, "perfetto": None, "progress": None, "run": None, "timeline": None,
}
# These wait, as they should, for a CPU that runs: they are called where none does.
WAITS = {"wait", "wait_for", "wait_async", "barrier", "close", "mm_gen_wait"}
# Documented beyond what every call may raise.
MORE = {"Latency.record": OverflowError, "MmGen.export_trace": OSError, "mm_gen_wait": AttributeError}
PYTHONS = {"Mode", "Op"}        # these constructors are Python's own, and so is what they say
DOCUMENTED = (TypeError, ValueError, IndexError, RuntimeError, MemoryError)


def public():
    """{name: class or function}, all that a user is given."""
    return {name: getattr(mmgen, name) for name in mmgen.__all__} | RETURNED


def calls():
    """"Class", "Class.method" and "function": every public call; "Class.property" too."""
    for name, what in public().items():
        yield name
        if inspect.isclass(what):
            own = {attribute for base in what.__mro__ if base.__module__.startswith("mmgen") for attribute in vars(base)}
            yield from (f"{name}.{attribute}" for attribute in sorted(own) if not attribute.startswith("_") and hasattr(what, attribute))


def test_every_public_name_is_fuzzed():
    world = World("idle")
    names = {name for name in public() if inspect.isclass(public()[name])}
    assert {type(world.instance(name)).__name__ for name in names} == names
    assert set(public()) - names == FUNCTIONS
    assert {module.name for module in pkgutil.iter_modules(mmgen.__path__) if not module.name.startswith("_")} == set(MODULES)
    world.end()


def says(error, given, more=()):
    """`error` is documented, and says what is wrong; or a hostile object raised it."""
    if isinstance(error, Hostile):
        return
    assert isinstance(error, (*DOCUMENTED, more) if more else DOCUMENTED), f"{type(error).__name__}: {error}"
    assert not isinstance(error, RecursionError)
    message = str(error)
    assert message.strip()
    assert "Exceeds the limit" not in message           # it is about showing the number, not about what is wrong with it
    if "out of range" in message:
        assert re.search(r"out of range: .*\d", message)
        assert len(message) < 400
        if not isinstance(error, MemoryError):
            assert any(shown(value) in message for value in flat(given)), message


def flat(values):
    for value in values:
        yield value
        if isinstance(value, list | tuple | range | bytes):
            yield from value[:3]
        elif isinstance(value, mmgen.Replay):
            yield from (value.trace.hz, value.trace.cpus)
        elif type(value).__name__ in ("Shifty", "Number", "count"):
            yield from (-1, 0, 1, 2, 3, 2**16, 2**20, 2**40)        # what it said when it was asked


def finish(result, world):
    """Do with a call's result what its caller would: await it, or enter it."""
    if inspect.iscoroutine(result):
        async def wait():
            task = asyncio.ensure_future(result)
            for _ in range(20):
                world.gen.run_callbacks()
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        asyncio.run(wait())
    elif isinstance(result, contextlib.AbstractContextManager) and not isinstance(result, mmgen.MmGen | mmgen.Machine):
        with result:
            pass


@contextlib.contextmanager
def in_world(*options):
    """A World; what its callbacks raise is their own affair, and it works on after what is done in it."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    world = World(*options)
    try:
        yield world
        world.works_on()
    finally:
        world.end()
        sys.unraisablehook = hook


def fuzzed(name, state, checked, reclaimer, args, keywords):
    """Call `name` with `args` and `keywords`, specs of hostile values."""
    last = name.split(".")[-1]
    with in_world("idle" if last in WAITS and state == "running" else state, checked, reclaimer) as world:
        what, _, attribute = name.partition(".")
        given = [world.value(spec) for spec in args]
        named = {key: world.value(spec) for key, spec in keywords.items()}
        made = None
        try:
            call = getattr(world.instance(what), attribute) if attribute else public()[what]
            if callable(call):
                made = call(*given, **named)
                finish(made, world)
        except Exception as error:
            if name not in PYTHONS:
                says(error, [*given, *named.values()], MORE.get(name, ()))
        finally:
            if isinstance(made, mmgen.MmGen):
                made.close()


def parameters(name):
    """The names of a call's parameters, and one that it does not have."""
    what, _, attribute = name.partition(".")
    call = getattr(public()[what], attribute) if attribute else public()[what]
    try:
        known = [p.name for p in inspect.signature(call).parameters.values() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    except (TypeError, ValueError):
        known = []
    return [*(key for key in known if key != "self"), "sideways"]


@pytest.mark.parametrize("name", sorted(calls()))
def test_a_call(name):
    keys = parameters(name)

    @given(st.sampled_from(STATES), st.booleans(), st.booleans(), st.lists(hostile, max_size=3),
           st.dictionaries(st.sampled_from(keys), hostile, max_size=2))
    @examples(16)
    def fuzz(state, checked, reclaimer, args, keywords):
        fuzzed(name, state, checked, reclaimer, args, keywords)

    fuzz()


@pytest.mark.parametrize("name", ["MmGen", "Machine", "Busy", "Idle", "Cpu", "RegisteredCpu"])
def test_a_constructor_with_one_argument_that_does_not_fit(name):
    """The others fit, so that it is this one that is looked at."""
    keys = [key for key in parameters(name) if key not in ("cpus", "sideways")]
    keys += ["online", "max_cpus", "trace", "checked", "patience", "max_pending", "increments"] * (name == "Machine")
    fits = {"MmGen": [("is", 2)], "Machine": [("is", 2)], "Cpu": [("odd", "gen")], "RegisteredCpu": [("odd", "gen")]}.get(name, [])

    @given(st.sampled_from(STATES), hostile, st.sampled_from([*keys, ""]))
    @examples(250 if keys else 40)
    def fuzz(state, value, key):
        fuzzed(name, state, False, True, fits if key else [*fits, value], {key: value} if key else {})

    fuzz()


@pytest.mark.parametrize("name", sorted(name for name in public() if name not in FUNCTIONS))
def test_operators_copies_and_attributes(name):
    """What any object may be asked, of an instance: it answers or refuses, and no copy shares what only one may own."""
    operators = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge, operator.add]

    @given(st.sampled_from(STATES), hostile, st.sampled_from(operators))
    @examples(8)
    def fuzz(state, value, compare):
        with in_world(state) as world:
            one, other = world.instance(name), world.value(value)
            attributes = [key.partition(".")[2] for key in calls() if key.startswith(f"{name}.")]
            asks = [lambda: compare(one, other), lambda: compare(other, one), lambda: hash(one), lambda: repr(one), lambda: str(one),
                    lambda: bool(one), lambda: copy.copy(one), lambda: pickle.dumps(one), lambda: len(one), lambda: iter(one)]
            if name not in ("Machine", "MachineStats", "DomainStats"):          # these hold what a copy in depth cannot have
                asks.append(lambda: copy.deepcopy(one))
            for ask in asks:
                try:
                    ask()
                except (TypeError, Hostile, pickle.PicklingError, AttributeError) as error:
                    assert str(error) or isinstance(error, Hostile)
                except RuntimeError as error:                                   # int of a subclass that answers wrongly
                    says(error, [])
                except ArithmeticError:                                         # a decimal, asked by an int
                    assert name in PYTHONS
            for attribute in attributes if name not in PYTHONS else ():              # an enum's members are anybody's
                if not callable(getattr(type(one), attribute)):
                    with contextlib.suppress(AttributeError, TypeError):
                        setattr(one, attribute, other)
                        raise AssertionError(f"{attribute} of {name} can be written")

    fuzz()


def test_a_call_that_raises_something_else_is_found(monkeypatch):
    monkeypatch.setattr(mmgen.MmGen, "holdouts", lambda self: {}["nobody"])
    with pytest.raises(AssertionError, match="KeyError"):
        fuzzed("MmGen.holdouts", "idle", False, True, [], {})


def test_a_domain_that_does_not_work_on_is_found(monkeypatch):
    monkeypatch.setattr(mmgen.MmGen, "holdouts", lambda self: setattr(self, "wait", lambda _: False))
    with pytest.raises(AssertionError):
        fuzzed("MmGen.holdouts", "offline", False, True, [], {})
