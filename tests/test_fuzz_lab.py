"""The lab with hostile arguments: a documented error that says what is wrong, or a simulation."""
import dataclasses

import mmgen
import pytest
from hostile import Hostile, World, elsewhere, examples, hostile, no_hang  # noqa: F401 - the fixtures
from hypothesis import given
from hypothesis import strategies as st
from mmgen import lab

pytestmark = pytest.mark.usefixtures("no_hang", "elsewhere")

CLASSES = {"Case": lab.Case, "Load": lab.Load, "Costs": lab.Costs, "Refcount": lab.Refcount, "Shootdown": lab.Shootdown,
           "Generation": lab.Generation}
FIELDS = {name: [field.name for field in dataclasses.fields(kind)] for name, kind in CLASSES.items()}
RESULT = lab.simulate(cpus=1, seconds=0.001).to_dict()
# What a simulation would take long with is cut short, by its own progress.
SLICES = 3


class Enough(Exception):  # noqa: N818 - it is no error
    """It has run long enough."""


@pytest.fixture(scope="module")
def world():
    world = World("idle")
    yield world
    world.end()


def judged(call):
    """What `call` returns, or None: it raised what is documented, and said something."""
    try:
        return call()
    except (TypeError, ValueError, MemoryError, lab.UseAfterFree) as error:
        message = str(error)
        assert message.strip()
        assert "Exceeds the limit" not in message
        assert len(message) < 400
    except (Hostile, ZeroDivisionError, KeyboardInterrupt, mmgen.ClosedError, Enough):
        pass                                            # an object's own, passed on


def brief():
    left = [SLICES]

    def show(done, seconds):
        left[0] -= 1
        if not left[0]:
            raise Enough
    return show


@examples(300)
@given(name=st.sampled_from(sorted(CLASSES)), data=st.data())
def test_a_constructor(world, name, data):
    settings = data.draw(st.dictionaries(st.sampled_from(FIELDS[name]), hostile, max_size=3))
    made = judged(lambda: CLASSES[name](**{field: world.value(spec) for field, spec in settings.items()}))
    if made is None:
        return
    assert made == CLASSES[name](**vars(made))          # what it has become fits, too
    if name == "Load":
        judged(lambda: lab.simulate(cpus=2, seconds=0.0001, load=made, show=brief()))
    elif name == "Costs":
        judged(lambda: lab.simulate(cpus=2, seconds=0.001, costs=made, load=lab.Load(waiters=1), show=brief()))
    elif name != "Case":
        judged(lambda: lab.simulate(cpus=2, seconds=0.001, policy=made, load=lab.Load(exits=0.1, idle=0.1), show=brief()))


@examples(200)
@given(settings=st.dictionaries(st.sampled_from(FIELDS["Case"]), hostile, max_size=3), case=st.one_of(st.none(), hostile),
       keep_going=st.booleans())
def test_a_simulation(world, settings, case, keep_going):
    values = {name: world.value(spec) for name, spec in settings.items()}
    result = judged(lambda: lab.simulate(case if case is None else world.value(case), keep_going=keep_going, show=brief(),
                                         **{"seconds": 0.001} | values))
    if result is not None:
        assert result.to_dict()
    assert lab.simulate(cpus=1, seconds=0.001).ticks == 1


@examples(200)
@given(axes=st.dictionaries(st.sampled_from([*FIELDS["Case"], *FIELDS["Load"]]), hostile, max_size=3))
def test_a_grid(world, axes):
    made = judged(lambda: lab.Grid(**{name: world.value(spec) for name, spec in axes.items()}))
    if made is not None:
        assert isinstance(next(iter(made)), lab.Case)
        judged(lambda: len(made))


@examples(200)
@given(plain=st.one_of(hostile.map(lambda spec: ("value", spec)), st.dictionaries(
    st.sampled_from([*FIELDS["Case"], "nothing"]), hostile, max_size=3).map(lambda specs: ("object", specs))))
def test_json(world, plain):
    kind, specs = plain
    value = world.value(specs) if kind == "value" else {name: world.value(spec) for name, spec in specs.items()}
    judged(lambda: lab.Case.from_dict(value))
    judged(lambda: lab.Result.from_dict(value))
    judged(lambda: lab.Result.from_dict(RESULT | (value if isinstance(value, dict) else {"switches": value, "latencies": value})))


@examples(60)
@given(values=st.lists(hostile, min_size=1, max_size=2), executor=hostile, at_once=hostile, workers=hostile)
def test_a_sweep(world, values, executor, at_once, workers):
    """Of what is no list of cases; with arguments that do not fit."""
    cases = [world.value(value) for value in values]
    for options in ({"executor": world.value(executor)}, {"at_once": world.value(at_once)}, {"workers": world.value(workers)}):
        judged(lambda: lab.sweep(cases, "s.jsonl", **options))          # noqa: B023


@examples(60)
@given(settings=st.dictionaries(st.sampled_from(FIELDS["Case"]), hostile, max_size=2), case=st.one_of(st.none(), hostile))
def test_a_measurement(world, settings, case):
    values = {name: world.value(spec) for name, spec in settings.items()}
    result = judged(lambda: lab.measure(case if case is None else world.value(case), show=brief(),
                                        **{"seconds": 0.001, "cpus": 2} | values))
    if result is not None:
        assert result.to_dict()
        assert result.real


@examples(60)
@given(show=hostile)
def test_what_it_is_to_show_to(world, show):
    judged(lambda: lab.simulate(cpus=64, hz=10_000, seconds=0.5, load=lab.Load(switch_us=50), show=world.value(show)))
    assert lab.simulate(cpus=1, seconds=0.001).ticks == 1


@examples(60)
@given(values=st.lists(hostile, max_size=4))
def test_a_use_after_free(world, values):
    judged(lambda: str(lab.UseAfterFree(*(world.value(value) for value in values))))
