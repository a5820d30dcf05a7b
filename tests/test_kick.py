"""Kicks: who is named, when, and how often."""
import sys

import mmgen
import pytest


def indices(calls):
    return [[holdout.index for holdout in call] for call in calls]


def test_patience_runs_out_once_in_a_generation():
    calls = []
    gen = mmgen.MmGen(3, kick=calls.append, patience=3)
    cookie = gen.start_poll()
    gen.switch(0)
    for _ in range(10):
        if gen.tick(0):
            gen.wake()
    assert indices(calls) == [[1, 2]]
    assert [cpu.kicks for cpu in gen.stats().cpus] == [0, 1, 1]
    assert gen.stats().kicks == 2
    for cpu in (1, 2):
        gen.cpu(cpu).quiescent()
    assert gen.generation == 1
    for _ in range(10):
        if gen.tick(0):                     # it has not switched in this one: it owes, too
            gen.wake()
    assert indices(calls) == [[1, 2], [0, 1, 2]]
    assert not gen.poll(cookie)


@pytest.mark.parametrize("arguments", [{}, {"patience": 1000}])
def test_no_kick_before_its_time(arguments):
    calls = []
    gen = mmgen.MmGen(2, kick=calls.append, **arguments)
    gen.start_poll()
    for _ in range(100):
        gen.cpu(0).quiescent()
    assert calls == []


def test_no_kick_while_nobody_waits():
    calls = []
    gen = mmgen.MmGen(2, kick=calls.append, patience=1, continuous=True)
    for _ in range(100):
        gen.cpu(0).quiescent()
    assert calls == []


def test_a_kick_may_do_the_switching():
    def kick(holdouts):
        for holdout in holdouts:
            gen.cpu(holdout.index).quiescent()

    gen = mmgen.MmGen(4, kick=kick)
    assert gen.wait(30, expedite=True)
    cookie = gen.start_poll()
    assert gen.wait_for(cookie, 30, expedite=True)
    assert [cpu.kicks for cpu in gen.stats().cpus] == [4] * 4


def test_a_machine_wakes_its_sleepers():
    with mmgen.Machine(2, hz=1, workload=mmgen.Busy(1e9)) as machine:
        for _ in range(10):
            assert machine.gen.wait(30, expedite=True)
        assert all(cpu.kicks >= 20 for cpu in machine.gen.stats().cpus)


def test_a_machine_kicks_after_its_patience():
    with mmgen.Machine(2, hz=1000, workload=mmgen.Busy(1e9), patience=5) as machine:
        assert machine.gen.wait(30)
        assert machine.gen.stats().kicks > 0


def test_a_kick_that_raises_is_reported_and_harms_nobody(monkeypatch):
    raised = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: raised.append((args.exc_type, args.object)))

    def kick(holdouts):
        raise ZeroDivisionError

    gen = mmgen.MmGen(1, kick=kick)
    assert gen.wait(0.01, expedite=True) is False
    assert raised == [(ZeroDivisionError, kick)]


def test_expedite_needs_a_kick():
    gen = mmgen.MmGen(1)
    with pytest.raises(ValueError, match="expedite=True needs a domain with a kick"):
        gen.wait(expedite=True)
    assert gen.nr_waits == 0
    with pytest.raises(TypeError, match="kick=3 is not callable"):
        mmgen.MmGen(1, kick=3)
