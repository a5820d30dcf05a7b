"""Machines: pinned threads, workloads, statistics, and what happens when a thread dies."""
import ctypes
import os
import threading
import time
from decimal import Decimal

import mmgen
import pytest
from mmgen import Busy, Idle, Mode, Replay, mmtrace
from mmgen.arrivals import Arrivals, steady
from mmgen.workload import Step


def threads():
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("mmgen")}


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize(("hz", "workload"), [(250, "busy"), (1000, Busy(0)), (None, Busy(0)), (None, Busy(20, "fixed")), (250, "idle"),
                                              (10_000, Busy(10))])
def test_waits_return(hz, workload, continuous):
    with mmgen.Machine(hz=hz, workload=workload, continuous=continuous) as machine:
        assert threads() == {f"mmgen-cpu{i}" for i in range(machine.cpus)}
        for _ in range(10):
            assert machine.gen.wait(30)
    assert threads() == set()
    stats = machine.stats()
    assert stats.waits == stats.wait_latency.count == 10
    assert stats.generations >= 20
    assert machine.gen.closed
    assert {cpu.mode for cpu in stats.cpus} == {Mode.OFFLINE}


def test_busy_statistics():
    with mmgen.Machine(2, hz=200, workload=Busy(1000, "fixed"), continuous=True) as machine:
        time.sleep(1)
    stats = machine.stats()
    assert 0.9 < stats.seconds < 5
    for cpu in stats.cpus:
        assert 0.5 * 1000 < cpu.switches / stats.seconds < 1.1 * 1000
        assert 0.5 * 200 < (cpu.ticks + cpu.missed_ticks) / stats.seconds < 1.1 * 200
        assert cpu.lateness.count == cpu.ticks
        assert cpu.idle_s == 0
    assert 50 < stats.generations - 2 <= sum(cpu.opened for cpu in stats.cpus) <= stats.generations    # going offline may open, too


def test_idle_statistics():
    with mmgen.Machine(2, workload=Idle(20, "fixed")) as machine:
        time.sleep(0.5)
        live = machine.stats()
        assert {cpu.mode for cpu in live.cpus} <= {Mode.IDLE, Mode.RUNNING, Mode.PROXIED}
    for cpu in machine.stats().cpus:
        assert cpu.ticks == 0
        assert 10 <= cpu.switches <= 30
        assert 0.3 < cpu.idle_s < 5


def test_threads_are_pinned_round_robin():
    cores = sorted(os.sched_getaffinity(0))
    with mmgen.Machine(2 * len(cores) + 1, hz=100) as machine:
        assert machine.cores == [*cores, *cores, cores[0]]
        pinned = {}
        for thread in threading.enumerate():
            if thread.name.startswith("mmgen-cpu"):
                pinned[int(thread.name[9:])] = os.sched_getaffinity(thread.native_id)
        assert pinned == {i: {core} for i, core in enumerate(machine.cores)}
        assert machine.gen.wait(30)
    assert os.sched_getaffinity(0) == set(cores)


def test_ticks_are_staggered():
    """Two CPUs that tick together would, on two cores, be as late as each other; what is tested is when the first ticks are due."""
    due = []

    class Spy:
        cpu = 0

        def busy(self, first_tick, begin, *rest):
            due.append(first_tick - begin)

    machine = mmgen.Machine(4, hz=250)
    for cpu in range(4):
        Spy.cpu = cpu
        machine._program(Spy())(0)
    assert due == [0, 1_000_000, 2_000_000, 3_000_000]


@pytest.mark.parametrize(("arguments", "says"), [
    ({"hz": 0}, "hz=0 is out of range: 1 to 10000"),
    ({"hz": 10_001}, "hz=10001"),
    ({"cpus": 0}, "cpus=0"),
    ({"workload": "lazy"}, "workload='lazy' is neither"),
    ({"increments": 0}, "increments=0"),
])
def test_arguments_that_do_not_fit(arguments, says):
    with pytest.raises(ValueError, match=says):
        mmgen.Machine(**arguments)


@pytest.mark.parametrize("call", [
    lambda: Busy(-1), lambda: Busy(float("nan")), lambda: Busy(distribution="uniform"), lambda: Idle(0), lambda: Idle(float("inf")),
    lambda: Idle(distribution=""),
])
def test_workloads_that_do_not_fit(call):
    with pytest.raises(ValueError, match=r"is out of range|is neither 'fixed' nor 'exponential'"):
        call()


def test_a_machine_starts_once():
    with mmgen.Machine(1) as machine, pytest.raises(RuntimeError, match="a machine starts once"):
        machine.start()
    machine.close()
    with pytest.raises(RuntimeError, match="a machine starts once"):
        machine.start()


def test_close_ends_the_waits_under_way():
    machine = mmgen.Machine(1, workload=Busy(1e9))              # no switch for a thousand seconds
    machine.start()
    waiter = threading.Thread(target=lambda: ends.append(machine.gen.wait()))
    ends = []
    waiter.start()
    while not machine.gen.nr_waits:
        time.sleep(0.001)
    machine.close()
    waiter.join(10)
    assert ends == [True]                                       # the CPU went offline


def test_a_thread_that_cannot_be_pinned(monkeypatch):
    def refuse(pid, cores):
        raise PermissionError("no")

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    with pytest.raises(mmgen.MachineError, match="the thread of CPU . died: PermissionError"), mmgen.Machine(2):
        pass
    assert threads() == set()


def test_a_thread_that_cannot_be_started(monkeypatch):
    start = threading.Thread.start

    def refuse(thread):
        if thread.name == "mmgen-cpu1":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(mmgen.MachineError, match="only 1 of 2 threads could be started"), mmgen.Machine(2):
        pass
    assert threads() == set()


    @property
    def switch_us(self):
        raise ZeroDivisionError("in the driver")


def test_a_thread_that_dies_ends_every_wait(monkeypatch):
    die = threading.Event()

    def program(machine, driver):
        def run(begin):
            die.wait()
            raise ZeroDivisionError("in the driver")
        return run

    monkeypatch.setattr(mmgen.Machine, "_program", program)
    with pytest.raises(mmgen.MachineError, match="the thread of CPU . died: ZeroDivisionError") as caught, mmgen.Machine(2) as machine:
        threading.Timer(0.1, die.set).start()
        with pytest.raises(mmgen.ClosedError, match="the thread of CPU . died: ZeroDivisionError"):
            machine.gen.wait()
        with pytest.raises(mmgen.ClosedError):
            machine.gen.wait()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert threads() == set()
    machine.close()


def test_a_loop_that_ends_by_itself_is_a_death(monkeypatch):
    monkeypatch.setattr(mmgen.Machine, "_program", lambda machine, driver: lambda begin: None)
    machine = mmgen.Machine(1)
    machine.start()
    with pytest.raises(mmgen.ClosedError, match="its loop ended by itself"):
        machine.gen.wait()
    with pytest.raises(mmgen.MachineError, match="its loop ended by itself"):
        machine.close()


def test_an_exception_thrown_into_a_driver(monkeypatch):
    """What PyThreadState_SetAsyncExc throws into a running loop arrives when it returns, and is not lost."""
    with mmgen.Machine(1) as machine:
        assert machine.gen.wait(30)
        thread = next(thread for thread in threading.enumerate() if thread.name == "mmgen-cpu0")
        assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(KeyError)) == 1
        assert machine.gen.wait(30)
        with pytest.raises(mmgen.MachineError, match="KeyError"):
            machine.close()
    assert threads() == set()


def test_a_close_that_is_interrupted_has_closed_the_domain_and_can_be_repeated(monkeypatch):
    machine = mmgen.Machine(2)
    machine.start()

    def interrupt(thread, timeout):
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "join", interrupt)
    with pytest.raises(KeyboardInterrupt):
        machine.close()
    assert machine.gen.closed
    machine.close()
    assert threads() == set()


def test_what_is_raised_inside_comes_out():
    with pytest.raises(LookupError), mmgen.Machine(1):
        raise LookupError


def small_trace(events, cpus=2, hz=250):
    return mmtrace.MmTrace("small", cpus, hz, [mmtrace.Event(*event) for event in events])


def test_a_replay_does_what_was_recorded():
    trace = small_trace([
        (0, 0, "S", (0, 0, 7, 1)), (1_000, 1, "S", (9, 2, 8, 0)), (2_000, 0, "M", (7, 1)), (50_000, 0, "T", ()),
        (60_000, 0, "S", (7, 1, 8, 0)), (70_000, 0, "S", (8, 0, 0, 0)), (80_000, 0, "T", ()), (90_000, 1, "X", (9,)),
    ])
    assert Replay(trace).steps(0)[1].tolist() == [Step.IDLE, Step.SWITCH, Step.TICK, Step.KERNEL, Step.IDLE, Step.TICK]
    assert Replay(trace).steps(1)[1].tolist() == [Step.KERNEL]
    with pytest.raises(TypeError, match=r"cpu=Decimal\('sNaN'\) is of type Decimal, not a whole number"):
        Replay(trace).steps(Decimal("sNaN"))
    assert trace.teardowns_ns() == [2_000]
    with mmgen.Machine(3, workload=Replay(trace)) as machine:
        time.sleep(0.2)
        first, second, third = machine.stats().cpus
    assert (first.switches, first.ticks) == (1, 1)              # the second tick came while it idled
    assert (second.switches, second.ticks) == (0, 0)
    assert (third.switches, third.ticks) == (0, 0)
    assert first.idle_s > 0.1
    assert third.idle_s > 0.1


def test_a_replay_has_its_own_number_of_cpus():
    trace = small_trace([(0, 0, "T", ())])
    assert mmgen.Machine(workload=Replay(trace)).cpus == 2
    with pytest.raises(ValueError, match="cpus=1 is out of range: the trace small has 2"):
        mmgen.Machine(1, workload=Replay(trace))


def test_arrivals_keep_their_times():
    times = steady(100, 0.5)
    assert len(times) == 50
    assert times[:2] == [5_000_000, 15_000_000]
    with mmgen.Machine(2) as machine:
        waits = Arrivals(machine.gen, times)
        waits.start(machine.begin)
        assert waits.join(30)
    over = waits.over()
    assert [wait.due_ns for wait in over] == times
    assert (waits.nr, waits.nr_begun, waits.nr_over) == (50, 50, 50)
    assert all(wait.took_ns > 0 and not wait.at_once for wait in over)
    assert waits.over(48) == over[48:]


def test_arrivals_at_idle_cpus_are_over_at_once():
    gen = mmgen.MmGen(2)
    for i in (0, 1):
        gen.cpu(i).idle_enter()
    waits = Arrivals(gen, [0, 1_000_000])
    waits.start(time.monotonic_ns())
    assert waits.join(30)
    assert [wait.at_once for wait in waits.over()] == [True, True]


def test_arrivals_can_be_stopped():
    gen = mmgen.MmGen(2)
    waits = Arrivals(gen, [0, 10**12])
    waits.start(time.monotonic_ns())
    while waits.nr_begun < 1:
        time.sleep(0.001)
    waits.stop()
    gen.close()
    assert waits.join(10)
    assert waits.over() == []


def test_a_machine_whose_domain_has_grown():
    with mmgen.Machine(1, max_cpus=2) as machine, machine.gen.register() as cpu:
        cpu.idle_enter()
        assert machine.gen.wait(30)
        assert (machine.gen.cpus, machine.cpus, len(machine.stats().cpus)) == (2, 1, 1)


@pytest.mark.parametrize("workload", ["busy", "idle", mmgen.Calls(lambda cpu: cpu.switch())])
def test_a_checked_machine_owns_its_cpus(workload):
    with mmgen.Machine(1, workload=workload, checked=True) as machine:
        with pytest.raises(mmgen.WrongThreadError, match="the CPU belongs to thread"):
            machine.gen.cpu(0).switch()
        assert machine.gen.wait(30)


@pytest.mark.parametrize("arguments", [{"online": 1}, {"kick": print}, {"workload": 5}, {"workload": None}, {"hz": 2.5}])
def test_what_a_machine_does_not_take(arguments):
    with pytest.raises(TypeError):
        mmgen.Machine(2, **arguments)
