"""What the calls cost from Python, beside the least that any call costs, and beside threading's own ways to wait."""
import itertools
import sys
import threading
import time
from types import FunctionType

import mmgen
import pytest

ROUNDS = 101

N = 20_000


def again(function):
    """A copy of `function` with bytecode of its own: the interpreter adapts it to the one kind of object that it meets there."""
    return FunctionType(function.__code__.replace(), function.__globals__, function.__name__)


def switches(cpu, n):
    for _ in itertools.repeat(None, n):
        cpu.switch()


def timed_ns(call, *args):
    begin = time.perf_counter_ns()
    call(*args)
    return time.perf_counter_ns() - begin


@pytest.mark.parametrize("row", ["python_switch", "python_increment"])
def test_switch_and_an_empty_method(timed, ours, core, row):
    gen, nothing = mmgen.MmGen(1), ours["shape"].Nothing()
    switching = {"python_switch": lambda: gen.cpu(0), "python_increment": ours["shape"].Increment}
    mine, mine_of, theirs = again(switches), switching[row](), again(switches)
    order = itertools.cycle([(0, 1), (1, 0)])

    def once():
        ns = [0, 0]
        for side in next(order):
            ns[side] = timed_ns(theirs, nothing, N) if side else timed_ns(mine, mine_of, N)
        return ns

    rounds = timed(row, once, n=N, rounds=ROUNDS)
    assert mine_of.switches >= rounds * N


class Other:
    """A Python thread that never stops: it is the domain's CPU, and does what it is asked between two quiescent states."""

    def __init__(self, pin):
        self.gen = mmgen.MmGen(1)
        self.asked = None
        self.stop = False
        self.thread = threading.Thread(target=self.run, args=(pin,), daemon=True)
        self.thread.start()

    def run(self, pin):
        pin()
        cpu = self.gen.cpu(0)
        while not self.stop:
            cpu.quiescent()
            if self.asked is not None:
                asked, self.asked = self.asked, None
                asked()

    def end(self):
        self.stop = True
        self.thread.join()


def with_event(other):
    event = threading.Event()

    def once():
        event.clear()
        other.asked = event.set
        event.wait()

    return once


def with_condition(other):
    condition = threading.Condition()

    def notify():
        with condition:
            condition.notify()

    def once():
        with condition:
            other.asked = notify                        # which must wait for the lock until this thread waits
            condition.wait()

    return once


def with_barrier(other):
    barrier = threading.Barrier(2)

    def once():
        other.asked = barrier.wait
        barrier.wait()

    return once


@pytest.mark.parametrize(("row", "theirs"), [("event", with_event), ("condition", with_condition), ("barrier", with_barrier)])
def test_wait_and_threading(timed, core, other, row, theirs):
    thread = Other(other)
    waits, once_theirs = thread.gen.wait, theirs(thread)
    order = itertools.cycle([(0, 1), (1, 0)])

    def once():
        ns = [0, 0]
        for side in next(order):
            ns[side] = timed_ns(once_theirs if side else waits)
        return ns

    try:
        rounds = timed(row, once, rounds=60)
    finally:
        thread.end()
    assert thread.gen.generation >= 2 * thread.gen.nr_waits >= 2 * rounds


def two_threads(other, n):
    """(switches a second of two threads together, of one of them alone); each has a handle of its own."""
    gen = mmgen.MmGen(2)
    start = threading.Barrier(2)
    loops = [again(switches), again(switches)]

    def there():
        other()
        start.wait()
        loops[1](gen.cpu(1), n)

    thread = threading.Thread(target=there, daemon=True)
    thread.start()
    start.wait()
    begin = time.perf_counter()
    loops[0](gen.cpu(0), n)
    thread.join()
    both = time.perf_counter() - begin
    alone = timed_ns(loops[0], gen.cpu(0), n) / 1e9
    assert [cpu.switches for cpu in gen.stats().cpus] == [2 * n, n]
    return 2 * n / both, n / alone


def test_two_threads(benchmark, rows, core, other):
    if getattr(sys, "_is_gil_enabled", lambda: True)():
        pytest.skip("needs free-threaded Python: with a GIL two threads take turns")
    samples = []
    benchmark.pedantic(lambda: samples.append(two_threads(other, 50 * N)), rounds=15, warmup_rounds=1)
    benchmark.extra_info.update(rows.add("two_threads", *zip(*samples[-15:], strict=True), n=50 * N))
