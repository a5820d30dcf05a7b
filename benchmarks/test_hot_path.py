"""What switch and tick cost beside what others pay in their place: pytest benchmarks/.

Each loop is checked to do what it says where it is timed: by what it leaves in memory, since a loop that does nothing is the fastest.
"""
import ctypes

import compiled
import mmgen
import pytest

# A round of 30 us or so: the kernel's tick and its other work, which slow a loop down for longer than they last, miss most rounds.
N = 100_000


@pytest.fixture
def bare(peer):
    return peer("bare")


@pytest.fixture
def qsbr(peer):
    return peer("qsbr")


@pytest.fixture
def switch(batch):
    return batch("switch", mmgen.MmGen(2))


def test_empty_loop(pair, bare):
    pair("empty", compiled.loop(bare, "empty"), None, n=N)


def test_switch_and_bare_increment(pair, switch, bare):
    before = counted(bare)
    pair("switch_increment", switch, compiled.loop(bare, "increment"), n=N)
    assert counted(bare) - before == switch.gen.cpu(0).switches > N


def counted(bare):
    bare.counted.restype = ctypes.c_uint64
    return bare.counted()


def test_switch_and_qsbr(pair, switch, qsbr):
    pair("switch_qsbr", switch, compiled.loop(qsbr, "quiescent_state"), n=N)


def test_switch_and_qsbr_with_an_updater(pair, batch, qsbr, other):
    gen = mmgen.MmGen(1)
    ticked, waits = batch("ticked", gen), batch("wait", gen)
    before = compiled.grace_periods(qsbr)
    rounds = pair("switch_qsbr_updater", ticked, compiled.loop(qsbr, "quiescent_state"), n=N, beside_ours=waits,
                  beside_theirs=compiled.loop(qsbr, "synchronize"), driven=True, each=1, pin=other)
    assert gen.nr_waits >= rounds                        # an updater was there, in every round
    assert gen.generation >= 2 * rounds
    assert compiled.grace_periods(qsbr) - before >= rounds


def test_switch_and_tick_and_qsbr(pair, batch, qsbr):
    pair("quiescent_qsbr", batch("quiescent", mmgen.MmGen(1)), compiled.loop(qsbr, "quiescent_state"), n=N)


def test_switch_and_tick_and_qsbr_with_an_updater(pair, batch, qsbr, other):
    gen = mmgen.MmGen(1)
    quiescent, waits = batch("quiescent", gen), batch("wait", gen)
    rounds = pair("quiescent_qsbr_updater", quiescent, compiled.loop(qsbr, "quiescent_state"), n=N, beside_ours=waits,
                  beside_theirs=compiled.loop(qsbr, "synchronize"), driven=True, each=1, pin=other)
    assert gen.nr_waits >= rounds


def test_switch_and_refcount(pair, switch, bare):
    pair("refcount_switch", switch, compiled.loop(bare, "refcount"), n=N)
    assert references(bare) == 0                        # as many dropped as taken


def test_switch_and_refcount_contended(pair, switch, batch, bare, other):
    there = batch("switch", switch.gen, 1)
    rounds = pair("refcount_switch_contended", switch, compiled.loop(bare, "refcount"), n=N, beside_ours=there,
                  beside_theirs=compiled.loop(bare, "refcount"), pin=other)
    assert switch.gen.cpu(1).switches > rounds * N // 2         # the other core was at it all the time
    assert references(bare) == 0                        # both cores' pairs, and none was lost


def references(bare):
    bare.references.restype = ctypes.c_uint64
    return bare.references()


def test_tick_with_nobody_waiting_and_qsbr(pair, batch, qsbr):
    gen = mmgen.MmGen(1)
    pair("tick_qsbr", batch("tick", gen), compiled.loop(qsbr, "quiescent_state"), n=N)
    assert gen.cpu(0).ticks == 0                        # none was wanted


def test_counted_tick_and_fence_and_decrement(pair, batch, bare):
    gen = mmgen.MmGen(64, continuous=True)
    counted = batch("sweep_counted", gen)
    pair("counted", counted, compiled.loop(bare, "fence_and_decrement"), n=N)
    assert gen.generation == sum(cpu.ticks for cpu in gen.stats().cpus) // 64           # every tick counted


@pytest.mark.parametrize("call", ["switch", "tick"])
def test_function_table(pair, batch, build, call):
    gen = mmgen.MmGen(1)
    inlined, target = batch(call, gen), batch(call, gen)
    table = compiled.table(build)
    through = compiled.loop(table, f"table_{call}")
    through.arg = target.target
    rounds = pair(f"table_{call}", through, inlined, n=N)
    if call == "switch":
        assert gen.cpu(0).switches > 2 * rounds * N


def test_batch(pair, batch):
    gen = mmgen.MmGen(64)
    rounds = pair("batch", batch("batch", gen), batch("switch", mmgen.MmGen(1)), n=N)
    assert sum(cpu.switches for cpu in gen.stats().cpus) >= rounds * N


def test_switch_and_qsbr_called(pair, switch, qsbr):
    pair("switch_qsbr_call", switch, compiled.loop(qsbr, "quiescent_state_call"), n=N)


@pytest.mark.parametrize(("name", "n"), [("memb", N), ("mb", N // 50), ("ck", N)])
def test_switch_and_sections(pair, switch, peer, name, n):
    pair(f"switch_{name}", switch, compiled.loop(peer(name), "section"), n=N, n_theirs=n)


def test_idle_and_back(pair, batch):
    pair("idle", batch("idle", mmgen.MmGen(1)), None, n=N // 10)


def test_grace_period(pair, batch):
    gen = mmgen.MmGen(1)
    pair("grace", batch("grace", gen), None, n=N // 10)
    assert gen.generation == 2 * gen.nr_waits


def test_line_transfer(pair, bare, other):
    rounds = pair("transfer", compiled.loop(bare, "ping"), None, n=N // 20, beside_ours=compiled.loop(bare, "pong"), pin=other)
    bare.passes.restype = ctypes.c_uint64
    assert bare.passes() > 2 * rounds * N // 20
    assert bare.passes() % 2 == 0


def test_contended_decrement(pair, bare, other):
    decrement = compiled.loop(bare, "decrement")
    pair("contended_decrement", decrement, None, n=N // 4, beside_ours=decrement, pin=other)
