"""What a wait costs beside what others wait with: pytest benchmarks/."""
import ctypes
import threading
import time

import compiled
import host
import mmgen
import pytest
from mmgen._machine import Driver

ROUNDS = 101

ASLEEP_ROUNDS = 300


@pytest.fixture
def waiting(batch):
    """A domain of one CPU: its waits, and the CPU that switches and ticks without pause."""
    gen = mmgen.MmGen(1)
    return batch("wait", gen), batch("quiescent", gen)


def test_wait_and_qsbr(pair, waiting, peer, other):
    wait, reader = waiting
    qsbr = peer("qsbr")
    before = compiled.grace_periods(qsbr)
    rounds = pair("wait_qsbr", wait, compiled.loop(qsbr, "synchronize"), n=500, beside_ours=reader,
                  beside_theirs=compiled.loop(qsbr, "quiescent_state"), pin=other, rounds=ROUNDS, warm_up=20)
    assert wait.gen.generation >= 2 * wait.gen.nr_waits > 2 * rounds * 500        # none was over when it began
    assert compiled.grace_periods(qsbr) - before >= rounds * 500       # with no reader there would be none


@pytest.mark.parametrize("name", ["memb", "mb", "ck"])
def test_wait_and_sections(pair, waiting, peer, other, name):
    wait, reader = waiting
    library = peer(name)
    pair(f"wait_{name}", wait, compiled.loop(library, "synchronize"), n=200, n_theirs=100, beside_ours=reader,
         beside_theirs=compiled.loop(library, "section"), pin=other, rounds=ROUNDS, warm_up=20)


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
    pair(row, wait, compiled.loop(kernel, loop), n=200, n_theirs=100, beside_ours=reader,
         beside_theirs=compiled.loop(peer("bare"), "empty"), each=1_000, pin=other, rounds=ROUNDS, warm_up=20)


def test_unmap_alone(pair, kernel):
    pair("unmap_alone", compiled.loop(kernel, "unmap"), None, n=200, rounds=ROUNDS, warm_up=5)


def test_wake_and_bare_futex(benchmark, ours, rows, core, other):
    gen = mmgen.MmGen(1)
    wakes = ours["wakes"].Wakes(gen, ASLEEP_ROUNDS)
    benchmark.pedantic(wakes.run, (other,), rounds=1)
    benchmark.extra_info.update(rows.add("wake_futex", wakes.ours, wakes.theirs))
    assert wakes.nr_slept >= 2 * ASLEEP_ROUNDS                  # it slept, every time
    assert gen.generation == 2 * gen.nr_waits == 2 * ASLEEP_ROUNDS


class Cpus:
    """Two CPUs on two cores, that switch every `switch_us` and tick `hz` times a second: at the same moment, or by turns."""

    def __init__(self, hz, switch_us, apart):
        self.gen = mmgen.MmGen(2)
        period, begin = round(1e9 / hz), time.monotonic_ns() + 20_000_000
        self.drivers = [Driver(self.gen, cpu, period) for cpu in range(2)]
        self.threads = [threading.Thread(target=self.run, args=(driver, core, begin + apart * cpu * period // 2, begin, switch_us * 1e3))
                        for cpu, (driver, core) in enumerate(zip(self.drivers, sorted(host.ALLOWED), strict=False))]
        for thread in self.threads:
            thread.start()

    def run(self, driver, core, first_tick, begin, interval_ns):
        host.pin(core)
        driver.busy(first_tick, begin, interval_ns, False, 0)

    def close(self):
        for driver in self.drivers:
            driver.stop()
        for thread in self.threads:
            thread.join()


@pytest.mark.parametrize(("row", "switch_us", "apart", "nr"), [
    ("ticking", 100, False, 250), ("ticking_apart", 100, True, 100), ("ticking_spinning", 0, False, 60)])
def test_wait_and_the_kernels_own(pair, rows, batch, kernel, row, switch_us, apart, nr):
    """The CPUs tick as often as the kernel does; the waiter, a third thread on any core, waits in turn for them and for the kernel."""
    hz = host.hz()
    if hz is None:
        pytest.skip("the kernel's tick rate is nowhere to be read")
    if len(host.ALLOWED) < 2:
        pytest.skip("needs two cores")
    host.pin(*host.ALLOWED)                             # pair has pinned this thread
    cpus = Cpus(hz, switch_us, apart)
    try:
        rounds = pair(row, batch("wait", cpus.gen), compiled.loop(kernel, "global"), n=1, rounds=nr, warm_up=2, rest_ns=1e9 / hz)
        ticks = [[driver.missed, driver.ticks] for driver in cpus.drivers]
        assert min(driver.switches for driver in cpus.drivers) > max(driver.ticks for driver in cpus.drivers) > rounds
    finally:
        cpus.close()
    rows.more.setdefault("missed_ticks", {})[row] = ticks
    result = rows.found[row]
    if row == "ticking" and "p99" in result and "wake_futex" in rows.found:
        rows.add("ticking_p99", [result["p99"][0]], [3e9 / hz + rows.found["wake_futex"]["theirs"]])
