"""What a switch costs through each entrance of docs/embedding.md, beside the inlined one."""
import array
import itertools
import time

import compiled
import mmgen
import pytest

N = 1_000_000
N_PYTHON = 20_000


@pytest.fixture
def entrance(timed, ours, core):
    """entrance(row, gen, call, n): call(n) makes n switches on CPU 0 of `gen`; timed in turn with the inlined loop."""

    def run(row, gen, call, n):
        meter = ours["meter"].Meter(ours["batches"].Batch("switch", mmgen.MmGen(1)), None)
        order = itertools.cycle([(0, 1), (1, 0)])

        def once():
            ns = [0, 0]
            for side in next(order):
                if side:
                    ns[1] = meter.round(n, n)[0]
                else:
                    begin = time.perf_counter_ns()
                    call(n)
                    ns[0] = time.perf_counter_ns() - begin
            return ns

        call(n)                                         # compiles, where somebody does
        before = gen.cpu(0).switches
        try:
            rounds = timed(row, once, n=n, rounds=101)
        finally:
            meter.close()
        assert gen.cpu(0).switches - before == rounds * n

    return run


def test_header(pair, ours, build):
    gen = mmgen.MmGen(1)
    loop = compiled.loop(compiled.table(build), "header_switch")
    target = ours["batches"].Batch("switch", gen)
    loop.arg = target.target
    rounds = pair("header_switch", loop, ours["batches"].Batch("switch", mmgen.MmGen(1)), n=N)
    assert gen.cpu(0).switches >= rounds * N


def test_batch(entrance):
    gen = mmgen.MmGen(1)
    ops = array.array("I", [0, mmgen.Op.SWITCH] * N)
    entrance("entrance_batch", gen, lambda _: gen.run(ops), N)


def test_numba(entrance):
    numba = pytest.importorskip("numba", reason="needs numba")
    gen = mmgen.MmGen(1)
    switch, address = gen.ctypes.api.mm_switch, gen.ctypes.address

    @numba.njit
    def loop(g, n):
        for _ in range(n):
            switch(g, 0)

    entrance("entrance_numba", gen, lambda n: loop(address, n), N)


def test_handle(entrance):
    gen = mmgen.MmGen(1)
    cpu = gen.cpu(0)

    def loop(n):
        for _ in itertools.repeat(None, n):
            cpu.switch()

    entrance("entrance_handle", gen, loop, N_PYTHON)


def test_domain(entrance):
    gen = mmgen.MmGen(1)

    def loop(n):
        for _ in itertools.repeat(None, n):
            gen.switch(0)

    entrance("entrance_domain", gen, loop, N_PYTHON)


def test_ctypes(entrance):
    gen = mmgen.MmGen(1)
    switch, address = gen.ctypes.api.mm_switch, gen.ctypes.address

    def loop(n):
        for _ in itertools.repeat(None, n):
            switch(address, 0)

    entrance("entrance_ctypes", gen, loop, N_PYTHON)
