"""What a wait costs beside what others wait with: pytest benchmarks/."""
import ctypes

import compiled
import host
import mmgen
import pytest

ROUNDS = 31
TICKING_ROUNDS = 250                        # of which a p99 can be told; 3.5 s
ASLEEP_ROUNDS = 300


@pytest.fixture
def batch(ours):
    return ours["batches"].Batch


@pytest.fixture
def waiting(batch):
    """A domain of one CPU: its waits, and the CPU that switches and ticks without pause."""
    gen = mmgen.MmGen(1)
    return batch("wait", gen), batch("quiescent", gen)


def grace_periods(library):
    library.grace_periods.restype = ctypes.c_ulong
    return library.grace_periods()


def test_wait_and_qsbr(pair, waiting, peer, other):
    wait, reader = waiting
    qsbr = peer("qsbr")
    before = grace_periods(qsbr)
    pair("wait_qsbr", wait.address, compiled.loop(qsbr, "synchronize"), n=2_000, beside_ours=reader.address,
         beside_theirs=compiled.loop(qsbr, "quiescent_state"), pin=other, rounds=ROUNDS)
    assert wait.gen.generation >= 2 * wait.gen.nr_waits > 2 * ROUNDS * 2_000        # none was over when it began
    assert grace_periods(qsbr) - before >= ROUNDS * 2_000       # with no reader there would be none


@pytest.mark.parametrize("name", ["memb", "mb", "ck"])
def test_wait_and_sections(pair, waiting, peer, other, name):
    wait, reader = waiting
    library = peer(name)
    pair(f"wait_{name}", wait.address, compiled.loop(library, "synchronize"), n=1_000, n_theirs=200, beside_ours=reader.address,
         beside_theirs=compiled.loop(library, "section"), pin=other, rounds=ROUNDS)


@pytest.fixture
def kernel(peer):
    """The kernel's own; checked afterwards that it did what it was asked."""
    library = peer("kernel")
    library.failures.restype = ctypes.c_uint64
    yield library
    assert library.failures() == 0


@pytest.mark.parametrize(("row", "loop"), [("wait_expedited", "expedited"), ("wait_unmap", "unmap")])
def test_wait_and_interrupts(pair, waiting, kernel, peer, other, row, loop):
    wait, reader = waiting
    pair(row, wait.address, compiled.loop(kernel, loop), n=1_000, n_theirs=200, beside_ours=reader.address,
         beside_theirs=compiled.loop(peer("bare"), "empty"), each=1_000, pin=other, rounds=ROUNDS)


def test_unmap_alone(pair, kernel):
    pair("unmap_alone", compiled.loop(kernel, "unmap"), 0, n=1_000, rounds=ROUNDS)


def test_wake_and_bare_futex(benchmark, ours, rows, core, other):
    gen = mmgen.MmGen(1)
    wakes = ours["wakes"].Wakes(gen, ASLEEP_ROUNDS)
    benchmark.pedantic(wakes.run, (other,), rounds=1)
    benchmark.extra_info.update(rows.add("wake_futex", wakes.ours, wakes.theirs))
    assert wakes.nr_slept >= 2 * ASLEEP_ROUNDS                  # it slept, every time
    assert gen.generation == 2 * gen.nr_waits == 2 * ASLEEP_ROUNDS


@pytest.mark.parametrize(("row", "switch_us"), [("ticking", 100), ("ticking_spinning", 0)])
def test_wait_and_the_kernels_own(pair, rows, batch, kernel, request, row, switch_us):
    """Two CPUs that tick as often as the kernel does; the waiter is a third thread, and waits in turn for them and for the kernel."""
    request.getfixturevalue("core")                             # and back: threads inherit it
    host.pin(*host.ALLOWED)
    hz = host.hz()
    if hz is None:
        pytest.skip("the kernel's tick rate is nowhere to be read")
    if len(host.ALLOWED) < 2:
        pytest.skip("needs two cores")
    with mmgen.Machine(2, hz=hz, workload=mmgen.Busy(switch_us=switch_us, distribution="fixed")) as machine:
        rounds_here = TICKING_ROUNDS if row == "ticking" else 100
        pair(row, batch("wait", machine.gen).address, compiled.loop(kernel, "global"), n=1, rounds=rounds_here)
        stats = machine.stats()
    assert min(cpu.ticks for cpu in stats.cpus) > rounds_here
    assert min(cpu.switches for cpu in stats.cpus) > max(cpu.ticks for cpu in stats.cpus)
    rows.more.setdefault("missed_ticks", {})[row] = [[cpu.missed_ticks, cpu.ticks] for cpu in stats.cpus]
    if row == "ticking" and "p99" in rows.found.get(row, {}) and "wake_futex" in rows.found:
        rows.add("ticking_p99", [rows.found[row]["p99"][0]], [3e9 / hz + rows.found["wake_futex"]["theirs"]])
