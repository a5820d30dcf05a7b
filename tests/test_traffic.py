"""What a generation writes that threads share, counted: every access of the compiled protocol, stepped by mmgen check's hooks."""
from collections import Counter

import pytest
from mmgen.check import Bounds
from mmgen.check.search import BEGIN, OPS, STEP, open_search

LOCKED = ("add to", "subtract from", "swap", "exchange", "lock")
pytestmark = pytest.mark.once


class Machine:
    """`cpus` CPUs and a waiter, one operation at a time to its end; every access is told."""

    def __init__(self, cpus, **more):
        self.cpus = cpus
        bounds = Bounds(cpus=cpus, waiters=1, ops=1000, waits=100, every_access=True,
                        calls=frozenset({"switch", "tick", "begin", "poll", "idle_enter", "idle_exit"}), **more)
        self.search = open_search(bounds, None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        assert self.search.harm == 0
        self.search.close()

    def run(self, thread, op):
        """The accesses of `op` by `thread`, as texts, but for those to its own CPU's line."""
        texts = self.search.play(32 * thread + BEGIN + OPS.index(op))
        assert texts is not None
        while (more := self.search.play(32 * thread + STEP)) is not None:
            texts += more
        return [text for text in texts if f" cpu{thread}." not in text]

    def sweep(self):
        """Every CPU switches and ticks."""
        return [text for cpu in range(self.cpus) for op in ("switch", "tick") for text in self.run(cpu, op)]


def words(texts, *verbs):
    """How often each word was the object of one of `verbs`."""
    return Counter(text.split(":")[0].removeprefix(verb + " ") for text in texts for verb in verbs if text.startswith(verb + " "))


@pytest.mark.parametrize("cpus", [1, 2, 3, 4])
def test_nobody_waits_and_nothing_shared_is_written(cpus):
    with Machine(cpus) as machine:
        for _ in range(3):
            texts = machine.sweep()
            assert words(texts, "load") == {"generation": cpus, "goal": cpus}
            assert not words(texts, "store", *LOCKED)


@pytest.mark.parametrize("cpus", [1, 2, 3, 4])
def test_a_generation_takes_one_locked_operation_of_each_cpu_and_two_stores(cpus):
    with Machine(cpus) as machine:
        machine.run(cpus, "begin")
        for _ in range(2):                                      # the two generations of a wait that nobody waited before
            texts = machine.sweep()
            assert words(texts, *LOCKED) == {"pending": cpus}           # no lock: no CPU has been idle
            assert words(texts, "store") == {"pending": 1, "generation": 1}
        assert not words(machine.sweep(), "store", *LOCKED)     # over: nobody waits again


@pytest.mark.parametrize("cpus", [2, 4])
def test_more_switches_and_ticks_in_a_generation_write_nothing_more(cpus):
    with Machine(cpus) as machine:
        machine.run(cpus, "begin")
        machine.run(0, "switch")
        assert words(machine.run(0, "tick"), *LOCKED) == {"pending": 1}
        for _ in range(5):
            assert not machine.run(0, "switch")
            assert not words(machine.run(0, "tick"), "store", *LOCKED)


@pytest.mark.parametrize("cpus", [1, 2, 4])
def test_continuous_counts_as_much_while_nobody_waits(cpus):
    with Machine(cpus, continuous=True) as machine:
        texts = machine.sweep()
        assert words(texts, "subtract from") == {"pending": cpus}
        assert words(texts, "store") == {"pending": 1, "generation": 1}


def test_going_idle_writes_nothing_shared_while_nobody_waits():
    with Machine(2) as machine:
        assert words(machine.run(0, "idle_enter") + machine.run(0, "idle_exit"), "store", *LOCKED) == {"idled": 1}      # the first time
        assert not words(machine.run(0, "idle_enter") + machine.run(0, "idle_exit"), "store", *LOCKED)
