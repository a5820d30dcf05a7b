"""Random batches on random domains: the same as the calls one by one, byte for byte, or nothing at all."""
import array
import functools

import mmgen
import pytest
from hostile import examples
from hypothesis import given
from hypothesis import strategies as st
from mmgen import Mode, Op
from test_protocol import STARTS


class Twin:
    """A domain, and what its kicks said."""

    def __init__(self, options):
        self.kicks = []
        self.gen = mmgen.MmGen(kick=self.kick, **options)

    def kick(self, holdouts):
        self.kicks.append(holdouts)
        if len(self.kicks) % 2:                         # every other obeys
            for holdout in holdouts:
                if holdout.mode is Mode.RUNNING:
                    self.gen.cpu(holdout.index).quiescent()

    def call(self, cpu, op):
        """The call that `op` is."""
        if getattr(self.gen.cpu(cpu), Op(op).name.lower())():
            self.gen.wake()


@st.composite
def domains(draw):
    cpus = draw(st.integers(1, 5))
    return {
        "cpus": cpus, "online": draw(st.sets(st.integers(0, cpus - 1))) if draw(st.booleans()) else None,
        "continuous": draw(st.booleans()), "patience": draw(st.sampled_from([None, None, 1, 2, 5])),
        "increments": draw(st.sampled_from([None, None, None, 1, 5])), "max_cpus": cpus + draw(st.integers(0, 2)),
        "checked": draw(st.booleans()), "first_generation": draw(st.sampled_from(STARTS)), "first_switches": draw(st.sampled_from(STARTS)),
    }


def valid(gen, wanted):
    """`wanted`, pairs of numbers, as operations that fit one after the other."""
    modes = [gen.cpu(i).mode for i in range(gen.cpus)]
    fit = {Mode.OFFLINE: {Op.ONLINE}, Mode.IDLE: {Op.IDLE_EXIT, Op.OFFLINE}, Mode.RUNNING: set(Op) - {Op.IDLE_EXIT, Op.ONLINE}}
    else_ = {Mode.OFFLINE: Op.ONLINE, Mode.IDLE: Op.IDLE_EXIT, Mode.RUNNING: Op.QUIESCENT}
    leaves = {Op.OFFLINE: Mode.OFFLINE, Op.IDLE_ENTER: Mode.IDLE}
    for nr, wish in wanted:
        cpu = nr % gen.cpus
        op = wish if wish in fit[modes[cpu]] else else_[modes[cpu]]
        modes[cpu] = leaves.get(op, Mode.RUNNING)
        yield cpu, op


# Mostly switches and ticks; runs of one, so that four at a time are found among others.
ops = st.one_of(st.sampled_from([Op.SWITCH, Op.TICK, Op.QUIESCENT]), st.sampled_from(Op))
wanted = st.lists(st.tuples(st.integers(0, 4), ops, st.integers(1, 6)), max_size=40).map(
    lambda runs: [(cpu + i // 2, op) for cpu, op, nr in runs for i in range(nr)])
batches = st.lists(st.tuples(wanted, st.sampled_from(["wait", "expedite", "nothing"])), min_size=1, max_size=4)


@given(options=domains(), batches=batches)
@examples(100)
def test_a_batch_is_its_calls(options, batches):
    batched, called = Twin(options), Twin(options)
    cookies = []
    for wanted, between in batches:
        pairs = list(valid(called.gen, wanted))
        before = called.gen.generation
        opened = batched.gen.run(array.array("I", [word for pair in pairs for word in pair]))
        for cpu, op in pairs:
            called.call(cpu, op)
        assert opened == (called.gen.generation - before) % 2**64
        assert batched.kicks == called.kicks
        assert batched.gen.snapshot() == called.gen.snapshot()
        if between != "nothing":
            if between == "expedite":
                for twin in (batched, called):
                    twin.gen._expedite(twin.gen.start_poll())       # as wait(expedite=True), which a checked CPU's thread may not
            cookies.append((batched.gen.start_poll(), called.gen.start_poll()))
        assert [batched.gen.poll(cookie) for cookie, _ in cookies] == [called.gen.poll(cookie) for _, cookie in cookies]
        assert batched.gen.snapshot() == called.gen.snapshot()


@given(options=domains(), runs=st.lists(st.tuples(st.sampled_from([*range(7), 2**31, 2**32 - 1]), st.sampled_from([*range(8), 2**32 - 1]),
                                                  st.integers(1, 5)), max_size=30))
@examples(200)
def test_a_batch_is_applied_whole_or_not_at_all(options, runs):
    """By what the calls say, one by one, of the first that does not fit."""
    batched, called = Twin(options), Twin(options)
    pairs = [(cpu, op) for cpu, op, nr in runs for _ in range(nr)]
    before, refused = batched.gen.snapshot(), None
    for place, (cpu, op) in enumerate(pairs):
        try:
            called.call(cpu, op)
        except (IndexError, ValueError, RuntimeError) as error:
            refused = place, type(error), str(error)
            break
    run = functools.partial(batched.gen.run, array.array("I", [word for pair in pairs for word in pair]))
    if refused is None:
        run()
        assert batched.gen.snapshot() == called.gen.snapshot()
        return
    place, kind, says = refused
    with pytest.raises(kind) as caught:
        run()
    assert str(caught.value).startswith(f"op {place}: ")
    if kind is not ValueError:                          # Op's own words, in the call
        assert str(caught.value) == f"op {place}: {says}"
    assert batched.gen.snapshot() == before
