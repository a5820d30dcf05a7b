"""What the hot path costs beside a bare increment: pytest benchmarks/."""
import itertools

import mmgen


def test_empty_loop(batch, batches):
    batch(batches.empty)


def test_bare_increment(batch, batches):
    batch(batches.increment)


def test_switch(batch, batches):
    batch(batches.switch, mmgen.MmGen(1))


def test_unwanted_tick(batch, batches):
    batch(batches.tick, mmgen.MmGen(1))


def test_counted_tick(batch, batches):
    batch(batches.counted, mmgen.MmGen(1, continuous=True), n=100_000)


def test_grace_period(batch, batches):
    batch(batches.grace, mmgen.MmGen(1), n=100_000)


def test_idle_and_back(batch, batches):
    batch(batches.idle, mmgen.MmGen(1), n=100_000)


def call(function, n):
    for _ in itertools.repeat(None, n):
        function()


def test_switch_from_python(batch):
    batch(call, mmgen.MmGen(1).cpu(0).switch, n=100_000)
