"""Stall reports: who owes, why, and that it is said once."""
import logging
import threading

import mmgen
import pytest


@pytest.fixture
def reports():
    return []


def stalled(reports, domain, **arguments):
    return mmgen.MmGen(*domain, stall_after=0.05, on_stall=reports.append, **arguments)


def test_a_cpu_without_a_tick(reports, caplog):
    gen = stalled(reports, [3])
    gen.cpu(1).idle_enter()
    gen.cpu(2).offline()
    with caplog.at_level(logging.WARNING, "mmgen"):
        assert gen.wait(0.2) is False
    (report,) = reports
    assert (report.generation, report.target, gen.stats().stalls) == (0, 2, 1)
    assert report.seconds >= 0.05
    (cpu,) = report.cpus
    assert (cpu.index, cpu.mode, cpu.behind, cpu.ticks, cpu.switches, cpu.thread, cpu.core) == (0, mmgen.Mode.RUNNING, 2, 0, 0, None, None)
    assert cpu.reason.startswith("no tick seen since the wait began")
    assert [record.getMessage() for record in caplog.records] == [str(report)]
    assert "it waits for 1 CPU\n  CPU 0: RUNNING, 2 generations behind" in str(report)


def test_cpus_that_tick_but_do_not_switch(reports):
    with mmgen.Machine(2, hz=1000, workload=mmgen.Busy(1e9), stall_after=0.05, on_stall=reports.append) as machine:
        assert machine.gen.wait(0.2) is False
        cores = machine.cores
    (report,) = reports
    assert [(cpu.thread, cpu.core) for cpu in report.cpus] == [("mmgen-cpu0", cores[0]), ("mmgen-cpu1", cores[1])]
    assert all(cpu.ticks > 0 and cpu.switches == 0 for cpu in report.cpus)
    assert all(cpu.reason.startswith("it ticks but has not switched") for cpu in report.cpus)


def test_a_thread_that_has_ended(reports):
    gen = stalled(reports, [1])
    gone = threading.Thread(target=lambda: None, name="gone")
    gone.start()
    gone.join()
    gen.threads[0] = gone
    gen.wait(0.1)
    assert reports[0].cpus[0].reason == "its thread has ended without offline()"
    assert "CPU 0 (gone)" in str(reports[0])


def test_a_stall_is_said_once_for_all_who_wait(reports):
    gen = stalled(reports, [1])
    waits = [threading.Thread(target=gen.wait, args=(0.3,)) for _ in range(5)]
    for thread in waits:
        thread.start()
    for thread in waits:
        thread.join()
    assert len(reports) == 1


def test_callbacks_stall_too(reports):
    gen = stalled(reports, [1])
    gen.defer(print)
    assert not gen.barrier(0.5)
    assert len(reports) == 1
    assert len(gen.close()) == 1


def test_short_waits_and_none(reports):
    gen = stalled(reports, [1])
    assert not gen.wait(0.04)
    assert reports == []
    gen = mmgen.MmGen(1, stall_after=None, on_stall=reports.append)
    assert not gen.wait(0.1)
    assert reports == []


def test_a_hook_that_raises(caplog):
    def hook(report):
        raise ZeroDivisionError

    gen = mmgen.MmGen(1, stall_after=0.02, on_stall=hook)
    assert gen.wait(0.1) is False
    assert "on_stall raised" in caplog.text


def test_many_holdouts_are_named_in_part(reports):
    gen = stalled(reports, [40])
    gen.wait(0.1)
    assert len(reports[0].cpus) == 40
    assert str(reports[0]).endswith("... and 24 more")


@pytest.mark.parametrize("stall_after", [-1, float("nan")])
def test_no_time(stall_after):
    with pytest.raises(ValueError, match="stall_after=.* is out of range"):
        mmgen.MmGen(1, stall_after=stall_after)
