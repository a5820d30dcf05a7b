"""The Python layer: arguments, errors, timeouts, close, and waits by real threads."""
import inspect
import math
import threading
import time
import types

import mmgen
import pytest
from mmgen import Mode


@pytest.mark.parametrize(("arguments", "error", "says"), [
    ({"cpus": 0}, ValueError, "cpus=0 is out of range: 1 to 1048576"),
    ({"cpus": 2**20 + 1}, ValueError, "cpus=1048577 is out of range: 1 to 1048576"),
    ({"cpus": -(2**70)}, ValueError, "out of range"),
    ({"cpus": 1.5}, TypeError, "float"),
    ({"cpus": "2"}, TypeError, "str"),
    ({"cpus": 2, "increments": 0}, ValueError, "increments=0 is out of range: 1 to 2147483648"),
    ({"cpus": 2, "first_generation": 2**64}, ValueError, "first_generation=18446744073709551616"),
    ({"cpus": 2, "first_switches": -1}, ValueError, "first_switches=-1"),
    ({"cpus": 2, "online": 3}, ValueError, "online=3 is out of range: 0 to 2"),
    ({"cpus": 2, "online": [0, 2]}, IndexError, r"online: CPU 2 is out of range: the domain has 2 \(0 to 1\)"),
    ({"cpus": 2, "online": [-1]}, IndexError, "CPU -1"),
    ({"cpus": 2, "online": ["0"]}, TypeError, "str"),
    ({"cpus": 2, "sideways": True}, TypeError, "sideways"),
])
def test_arguments_that_do_not_fit(arguments, error, says):
    with pytest.raises(error, match=says):
        mmgen.MmGen(**arguments)


@pytest.mark.parametrize("call", ["switch", "tick", "cpu"])
@pytest.mark.parametrize("index", [2, -1, 2**64, -(2**64)])
def test_a_cpu_that_the_domain_does_not_have(call, index):
    gen = mmgen.MmGen(2)
    with pytest.raises(IndexError, match=rf"CPU {index} is out of range: the domain has 2 \(0 to 1\)"):
        getattr(gen, call)(index)
    assert [gen.cpu(i).switches for i in (0, 1)] == [0, 0]


@pytest.mark.parametrize("index", [0.0, "0", None])
def test_an_index_that_is_no_int(index):
    with pytest.raises(TypeError):
        mmgen.MmGen(2).switch(index)


@pytest.mark.parametrize(("mode", "call"), [
    (Mode.IDLE, "switch"), (Mode.IDLE, "tick"), (Mode.IDLE, "idle_enter"), (Mode.IDLE, "online"), (Mode.IDLE, "wait"),
    (Mode.OFFLINE, "switch"), (Mode.OFFLINE, "tick"), (Mode.OFFLINE, "idle_enter"), (Mode.OFFLINE, "idle_exit"),
    (Mode.OFFLINE, "offline"), (Mode.OFFLINE, "wait"), (Mode.RUNNING, "online"), (Mode.RUNNING, "idle_exit"),
])
def test_a_call_that_the_mode_forbids(mode, call):
    gen = mmgen.MmGen(2)
    cpu = gen.cpu(1)
    if mode is Mode.IDLE:
        cpu.idle_enter()
    elif mode is Mode.OFFLINE:
        cpu.offline()
    before = cpu.switches, cpu.mode, gen.nr_online, gen.generation
    name = "idle_enter" if call == "wait" else call
    with pytest.raises(RuntimeError, match=rf"{name}\(\) on CPU 1, which is {mode.name}"):
        getattr(cpu, call)()
    if call in ("switch", "tick"):
        with pytest.raises(RuntimeError, match=rf"{call}\(\) on CPU 1, which is {mode.name}"):
            getattr(gen, call)(1)
    assert (cpu.switches, cpu.mode, gen.nr_online, gen.generation) == before


def test_what_can_be_read():
    gen = mmgen.MmGen(3, online=[0, 2])
    assert (gen.cpus, gen.nr_online, gen.generation, gen.continuous, gen.closed) == (3, 2, 0, False, False)
    cpu = gen.cpu(2)
    assert (cpu.index, cpu.switches, cpu.opened, cpu.mode, cpu.gen) == (2, 0, 0, Mode.RUNNING, gen)
    assert gen.cpu(1).mode is Mode.OFFLINE
    assert gen.holdouts() == [mmgen.Holdout(0, Mode.RUNNING, 0), mmgen.Holdout(2, Mode.RUNNING, 0)]
    assert repr(gen) == "<mmgen.MmGen of 3 CPUs, 2 online, generation 0>"
    gen.close()
    assert repr(gen) == "<mmgen.MmGen of 3 CPUs, closed, generation 0>"


def test_the_sketchs_names_are_the_same_functions():
    gen = mmgen.MmGen(1)
    assert mmgen.mm_gen_wait is mmgen.MmGen.wait
    cookie = gen.start_poll()
    for _ in range(2):
        gen.switch(0)
        assert mmgen.mm_gen_tick(gen, 0)
        mmgen.mm_gen_wake(gen)
    assert gen.poll(cookie)
    assert not mmgen.mm_gen_wait(gen, timeout=0.001)


def test_signatures_can_be_inspected():
    assert list(inspect.signature(mmgen.MmGen).parameters)[:4] == ["cpus", "online", "continuous", "increments"]
    assert str(inspect.signature(mmgen.MmGen.switch)) == "(self, cpu, /)"
    assert str(inspect.signature(mmgen.MmGen.wait)).startswith("(self, timeout")


@pytest.mark.parametrize("timeout", [-1, -1e-9, math.nan, -math.inf])
def test_a_timeout_that_is_none(timeout):
    gen = mmgen.MmGen(2)
    for wait in (gen.wait, gen.cpu(0).wait):
        with pytest.raises(ValueError, match="timeout=.* is out of range: 0 seconds or more, or None"):
            wait(timeout)
    assert gen.nr_waits == 0
    assert gen.cpu(0).mode is Mode.RUNNING


@pytest.mark.parametrize("timeout", [0, 0.0, 0.01, 0.1])
def test_a_wait_that_runs_out_of_time(timeout):
    gen = mmgen.MmGen(2)
    begin = time.monotonic()
    assert gen.wait(timeout) is False
    assert time.monotonic() - begin >= timeout
    assert gen.wait_latency.count == 0


def test_cpu_wait_does_not_wait_for_itself():
    gen = mmgen.MmGen(1)
    cpu = gen.cpu(0)
    assert cpu.wait() is True
    assert cpu.mode is Mode.RUNNING
    assert gen.wait_latency.count == 1

    gen = mmgen.MmGen(2)
    assert gen.cpu(0).wait(0.01) is False
    assert gen.cpu(0).mode is Mode.RUNNING


def in_thread(call):
    """Run `call` in a thread: the thread and what it returns or raises, once it ends."""
    result = []

    def run():
        try:
            result.append(call())
        except Exception as error:
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, result


@pytest.mark.parametrize("timeout", [None, 60, math.inf, 1e300])
def test_a_wait_is_woken(timeout):
    gen = mmgen.MmGen(2)
    waits = [in_thread(lambda: gen.wait(timeout)) for _ in range(8)]
    while gen.nr_waits < len(waits):
        time.sleep(0.001)
    time.sleep(0.05)
    assert not any(result for _, result in waits)
    for _ in range(3):
        for cpu in (0, 1):
            gen.switch(cpu)
            if gen.tick(cpu):
                gen.wake()
    for thread, result in waits:
        thread.join(10)
        assert result == [True]
    assert gen.wait_latency.count == 8


def test_what_a_wait_took_is_kept(monkeypatch):
    now = 1_000_000

    class Slow(mmgen.MmGen):
        def _wait_for(self, cookie, timeout_ns):
            nonlocal now
            now += 50_000_000
            return super()._wait_for(cookie, timeout_ns)

    monkeypatch.setattr("mmgen.domain.time", types.SimpleNamespace(monotonic_ns=lambda: now))
    gen = Slow(2, online=())            # nobody can hold anything: a wait is over at once
    assert gen.wait()
    assert (gen.wait_latency.count, gen.wait_latency.total_ns) == (1, 50_000_000)


def test_close_wakes_every_waiter():
    gen = mmgen.MmGen(2)
    waits = [in_thread(gen.wait) for _ in range(8)]
    while gen.nr_waits < len(waits):
        time.sleep(0.001)
    gen.close()
    for thread, result in waits:
        thread.join(10)
        assert isinstance(result[0], mmgen.ClosedError)


def test_a_closed_domain_says_so():
    with mmgen.MmGen(3) as gen:
        cpus = [gen.cpu(i) for i in range(3)]
        cpus[1].idle_enter()
        cpus[2].offline()
    assert gen.closed
    gen.close()
    calls = [gen.wait, lambda: gen.wait(0), gen.start_poll, lambda: gen.switch(0), lambda: gen.tick(0)]
    for cpu in cpus:
        calls += [cpu.switch, cpu.tick, cpu.online, cpu.offline, cpu.idle_enter, cpu.idle_exit, cpu.wait]
    for call in calls:
        with pytest.raises(mmgen.ClosedError, match="the domain is closed"):
            call()
    gen.wake()
    assert gen.nr_online == 2


def test_a_handle_keeps_its_domain():
    cpu = mmgen.MmGen(1).cpu(0)
    cpu.switch()
    assert cpu.gen.cpu(0).switches == 1


def test_close_races_with_everything():
    for _ in range(100):
        gen = mmgen.MmGen(3)
        go = threading.Event()

        def drive(i, gen=gen, go=go):
            cpu = gen.cpu(i)
            go.wait()
            while True:
                cpu.switch()
                if cpu.tick():
                    gen.wake()
                cpu.idle_enter()
                cpu.idle_exit()
                cpu.offline()
                cpu.online()

        def wait(gen=gen, go=go):
            go.wait()
            while True:
                gen.wait()

        ends = [in_thread(lambda i=i, drive=drive: drive(i)) for i in range(3)] + [in_thread(wait)]
        go.set()
        time.sleep(0.001)
        gen.close()
        for thread, result in ends:
            thread.join(10)
            assert isinstance(result[0], mmgen.ClosedError)
