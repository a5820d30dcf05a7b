"""Real waits against real CPUs that tick without pause: every CPU that ran has switched between call and return."""
import threading
import time

import mmgen
import pytest
from conftest import SANITIZER
from mmgen import Mode


def early(machine, waits):
    """Do `waits` waits; how many returned though a CPU that ran had not switched, by its count before and after."""
    gen = machine.gen
    cpus = [gen.cpu(i) for i in range(gen.cpus)]
    found = 0
    for _ in range(waits):
        before = [cpu.switches for cpu in cpus]
        assert gen.wait()
        found += any(cpu.switches == switches for cpu, switches in zip(cpus, before, strict=True))
    return found


# A CPU that switches without pause has always switched since; one that switches now and then is what a wait can miss.
@pytest.mark.parametrize("switch_us", [0, 5])
@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("waits", [5_000 if SANITIZER else 25_000, pytest.param(250_000, marks=pytest.mark.long)])
def test_no_wait_returns_early(two_cores, waits, continuous, switch_us):
    with mmgen.Machine(2, hz=None, workload=mmgen.Busy(switch_us), continuous=continuous) as machine:
        assert early(machine, waits) == 0
    assert machine.gen.wait_latency.count == waits


# On demand a CPU here ticks at once after its switch, so that one increment is caught by test_protocol's oracle alone.
def test_the_check_sees_a_wait_that_is_too_short(two_cores):
    with mmgen.Machine(2, hz=None, workload=mmgen.Busy(50), continuous=True, increments=1) as machine:
        deadline = time.monotonic() + 60
        while not early(machine, 100):
            assert time.monotonic() < deadline


def test_waits_while_cpus_come_go_and_idle(two_cores):
    """Two CPUs switch and tick for ever, a third comes and goes and a fourth idles; every wait by three waiters returns, none early."""
    gen = mmgen.MmGen(4, online=3)
    stop = threading.Event()
    failures = []

    def guarded(call):
        def run():
            try:
                while not stop.is_set():
                    call()
            except BaseException as error:
                failures.append(error)
        return threading.Thread(target=run)

    def turn(cpu):
        cpu.switch()
        if cpu.tick():
            gen.wake()

    a, b, idler, guest = map(gen.cpu, range(4))

    idler.idle_enter()

    def idle():
        idler.idle_exit()
        turn(idler)
        idler.idle_enter()
        time.sleep(0)

    def visit():
        guest.online()
        turn(guest)
        time.sleep(0)
        guest.offline()

    def wait():
        steady = [(cpu, cpu.switches) for cpu in (a, b)]
        assert gen.wait(30), gen.holdouts()
        if stop.is_set():
            return                              # the steady two may have gone offline instead
        for cpu, switches in steady:
            assert cpu.switches != switches, cpu.index

    threads = [guarded(lambda: turn(a)), guarded(lambda: turn(b)), guarded(idle), guarded(visit), *[guarded(wait) for _ in range(3)]]
    for thread in threads:
        thread.start()
    time.sleep(5)
    stop.set()
    for cpu, thread in zip((a, b), threads[:2], strict=True):
        thread.join(10)
        if cpu.mode is Mode.RUNNING:
            cpu.offline()                       # so that the last waits end
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert failures == []
    assert gen.wait_latency.count > 100
