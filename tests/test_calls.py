"""The `calls` workload: a machine whose CPUs run the user's own function."""
import threading
import time

import mmgen
import pytest


def test_each_cpu_calls_with_its_own_handle_and_ticks_between():
    seen = {}

    def call(cpu):
        seen.setdefault(cpu.index, set()).add(threading.current_thread().name)
        cpu.switch()
        time.sleep(0.0001)

    with mmgen.Machine(2, hz=500, workload=mmgen.Calls(call)) as machine:
        for _ in range(5):
            assert machine.gen.wait(30)
    stats = machine.stats()
    assert seen == {0: {"mmgen-cpu0"}, 1: {"mmgen-cpu1"}}
    assert all(cpu.ticks > 0 and cpu.switches > 0 for cpu in stats.cpus)
    assert {cpu.mode for cpu in stats.cpus} == {mmgen.Mode.OFFLINE}


def test_unpaced_it_ticks_after_every_call():
    calls = []

    def call(cpu):
        calls.append(cpu.index)
        cpu.switch()

    with mmgen.Machine(1, hz=None, workload=mmgen.Calls(call)) as machine:
        assert machine.gen.wait(30)
    assert calls


def test_a_call_may_idle():
    def call(cpu):
        cpu.switch()
        with cpu.idle():
            time.sleep(0.01)

    with mmgen.Machine(2, workload=mmgen.Calls(call)) as machine:
        for _ in range(10):
            assert machine.gen.wait(30)


def test_what_a_call_raises_ends_the_machine():
    def call(cpu):
        raise LookupError("in the call")

    says = r"the thread of CPU . died: LookupError\('in the call'\)"
    machine = mmgen.Machine(2, workload=mmgen.Calls(call))
    machine.start()
    with pytest.raises(mmgen.ClosedError, match=says):
        machine.gen.wait(30)
    with pytest.raises(mmgen.MachineError, match=says) as caught:
        machine.close()
    assert isinstance(caught.value.__cause__, LookupError)


def test_no_function():
    with pytest.raises(TypeError, match="3 is not callable"):
        mmgen.Calls(3)
