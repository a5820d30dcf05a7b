"""The search of the compiled source with hostile arguments: a clear error, or a search."""
import dataclasses

import mmgen
import pytest
from hostile import ODD, Hostile, World, elsewhere, examples, hostile, no_hang  # noqa: F401 - the fixtures
from hypothesis import given
from hypothesis import strategies as st

check = pytest.importorskip("mmgen.check", reason="steps threads as coroutines, on x86-64 and aarch64 only", exc_type=ImportError)

pytestmark = [pytest.mark.usefixtures("no_hang", "elsewhere"), pytest.mark.unsanitized("switches stacks, which no sanitizer follows")]

FIELDS = [field.name for field in dataclasses.fields(check.Bounds)]
line = st.builds("{} {} {}".format, st.sampled_from(["cpu0", "cpu1", "cpu9", "waiter0", ""]),
                 st.sampled_from([*check.CALLS, ".", "flush", "timeout", "x"]), st.sampled_from(["", "| x", "x"]))
script = st.one_of(st.sampled_from(sorted(ODD)).map(lambda name: ("odd", name)),
                   st.tuples(st.just("is"), st.lists(line, max_size=30).map("\n".join)))


@pytest.fixture(scope="module")
def world():
    world = World("idle")
    yield world
    world.end()


def judged(call):
    """What `call` returns, or None: it raised what is documented, and said something."""
    try:
        return call()
    except (TypeError, ValueError) as error:
        assert str(error)
    except (Hostile, ZeroDivisionError, KeyboardInterrupt):
        pass                                            # an object's own, passed on


def bounds(world, settings):
    return judged(lambda: check.Bounds(**{name: world.value(what) for name, what in settings.items()}))


@examples(150)
@given(settings=st.dictionaries(st.sampled_from(FIELDS), hostile, max_size=3), broken=st.one_of(st.none(), hostile, st.sampled_from(
       [("is", name) for name in check.BROKEN])))
def test_bounds_and_variants(world, settings, broken):
    made = bounds(world, settings)
    broken = None if broken is None else world.value(broken)
    if made is not None:
        result = judged(lambda: check.check(made, broken, max_states=50))
        assert result is None or result.states <= 100_000
        assert result is None or str(result)
    assert check.check(check.Bounds(cpus=1, ops=1)).closed             # another search can begin


@examples(150)
@given(script=script, settings=st.dictionaries(st.sampled_from(["cpus", "waiters", "buffers", "first_generation"]), hostile, max_size=2),
       broken=st.one_of(st.none(), st.sampled_from(sorted(check.BROKEN))))
def test_scripts(world, script, settings, broken):
    made = bounds(world, settings)
    harm = judged(lambda: check.replay(world.value(script), made, broken))
    assert harm is None or isinstance(harm, str)
    if broken is None:
        assert not harm
    assert check.replay("cpu0 switch", check.Bounds()) == ""


@examples(50)
@given(what=hostile, states=hostile)
def test_the_rest(world, what, states):
    judged(lambda: check.check(world.value(what)))
    judged(lambda: check.check(check.Bounds(cpus=1, ops=1), max_states=world.value(states)))
    judged(lambda: check.replay("cpu0 switch", world.value(what)))
    assert not isinstance(mmgen, check.Result)
