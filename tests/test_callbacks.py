"""Deferred callbacks: each once, in order, after its grace period and not before; none lost, bounded, under load."""
import gc
import logging
import sys
import threading
import weakref

import mmgen
import pytest
from mmgen import callbacks


def turn(gen, rounds=3):
    for _ in range(rounds):
        for cpu in range(gen.cpus):
            gen.cpu(cpu).quiescent()


@pytest.fixture
def manual():
    with mmgen.MmGen(2, reclaimer=False) as gen:
        yield gen


def test_in_order_after_a_grace_period(manual):
    ran = []
    for i in range(10):
        manual.defer(ran.append, i)
    assert manual.run_callbacks() == 0
    turn(manual)
    assert manual.run_callbacks(limit=3) == 3
    assert ran == [0, 1, 2]
    assert manual.run_callbacks() == 7
    assert ran == list(range(10))
    assert (manual.stats().deferred, manual.stats().run) == (10, 10)


def test_all_of_one_generation_share_a_grace_period(manual):
    for _ in range(1000):
        manual.defer(int)
    turn(manual, 10)
    assert manual.run_callbacks() == 1000
    assert manual.generation == 3                   # the first asks for two, what joins it for one more


@pytest.mark.parametrize("nr", [100_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_none_lost_and_never_more_than_may_be_pending(two_cores, nr):
    ran, most = [], 0
    with mmgen.Machine(2, hz=None, workload=mmgen.Busy(0), max_pending=1000) as machine:
        for i in range(nr):
            machine.gen.defer(ran.append, i)
            if i % 97 == 0:
                run = machine.gen.nr_run
                most = max(most, machine.gen.nr_deferred - run)
        assert machine.gen.barrier(60)
        assert machine.gen.nr_run == nr
    assert ran == list(range(nr))
    assert 0 < most <= 1001                         # read in two steps


def test_from_many_threads_each_keeps_its_order(two_cores):
    ran = []
    with mmgen.Machine(2, hz=None, workload=mmgen.Busy(0), max_pending=100) as machine:
        def defer(who):
            for i in range(5000):
                machine.gen.defer(ran.append, (who, i))

        threads = [threading.Thread(target=defer, args=(who,)) for who in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert machine.gen.barrier(60)
    for who in range(4):
        assert [i for w, i in ran if w == who] == list(range(5000))


def test_a_full_queue_raises_if_asked():
    gen = mmgen.MmGen(1, max_pending=3, when_full="raise", reclaimer=False)
    for _ in range(3):
        gen.defer(int)
    with pytest.raises(mmgen.FullError, match="3 callbacks are pending, as many as max_pending allows"):
        gen.defer(int)
    turn(gen)
    assert gen.run_callbacks() == 3
    gen.defer(int)
    assert len(gen.close()) == 1


def test_a_full_queue_blocks_until_there_is_room():
    gen = mmgen.MmGen(1, max_pending=1)
    ran = []
    gen.defer(ran.append, 1)
    blocked = threading.Thread(target=gen.defer, args=(ran.append, 2))
    blocked.start()
    blocked.join(0.1)
    assert blocked.is_alive()
    while blocked.is_alive():
        turn(gen)
    turn(gen)
    while not gen.barrier(0.01):
        turn(gen)
    assert ran == [1, 2]
    gen.close()


@pytest.mark.parametrize(("arguments", "says"), [
    ({"max_pending": 0}, "max_pending=0 is out of range"),
    ({"when_full": "wait"}, "when_full='wait' is neither"),
    ({"max_pending": 1, "reclaimer": False}, "when_full='block' needs the reclaimer thread"),
])
def test_arguments_that_do_not_fit(arguments, says):
    with pytest.raises(ValueError, match=says):
        mmgen.MmGen(1, **arguments)


def test_calls_that_do_not_fit(manual):
    with pytest.raises(TypeError, match="3 is not callable"):
        manual.defer(3)
    with pytest.raises(ValueError, match="limit=-1 is out of range"):
        manual.run_callbacks(-1)
    assert manual.nr_deferred == 0


def test_what_a_callback_raises_is_reported_and_the_rest_runs(manual, monkeypatch):
    raised, ran = [], []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: raised.append((args.exc_type, args.object)))

    def fails():
        raise ZeroDivisionError

    manual.defer(fails)
    manual.defer(ran.append, 1)
    turn(manual)
    assert manual.run_callbacks() == 2
    assert raised == [(ZeroDivisionError, fails)]
    assert ran == [1]


def test_a_callback_may_defer_and_run_nothing_within(manual):
    ran = []

    def first():
        manual.defer(ran.append, "second")
        assert manual.run_callbacks() == 0
        ran.append("first")

    manual.defer(first)
    turn(manual)
    assert manual.run_callbacks() == 1
    assert ran == ["first"]
    turn(manual)
    assert manual.run_callbacks() == 1
    assert ran == ["first", "second"]


def test_a_barrier(manual):
    assert manual.barrier()
    manual.defer(int)
    assert manual.barrier(0.01) is False
    turn(manual)
    assert manual.barrier(0)
    assert manual.nr_run == 1


def test_a_barrier_in_a_callback(manual, monkeypatch):
    raised = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: raised.append(str(args.exc_value)))
    manual.defer(manual.barrier)
    turn(manual)
    manual.run_callbacks()
    assert raised == ["barrier() in a callback would wait for itself"]


class Thing:
    """Something with an end."""


def test_retire_keeps_alive_until_the_grace_period_is_over_and_no_longer(manual):
    thing = Thing()
    alive = weakref.ref(thing)
    manual.retire(thing)
    del thing
    gc.collect()
    assert alive() is not None
    turn(manual)
    assert manual.run_callbacks() == 1
    gc.collect()
    assert alive() is None


def test_a_domain_that_nobody_holds_lets_go():
    thing = Thing()
    alive = weakref.ref(thing)
    gen = mmgen.MmGen(1, reclaimer=False)
    gen.retire(thing)
    del thing, gen
    gc.collect()
    assert alive() is None


def test_close_says_what_did_not_run(caplog):
    gen = mmgen.MmGen(1)
    gen.defer(print, 1, 2)
    gen.retire("x")
    with caplog.at_level(logging.WARNING, "mmgen"):
        lost = gen.close()
    assert lost == [mmgen.Callback(print, (1, 2)), mmgen.Callback(None, ("x",))]
    assert "before 2 callbacks could run" in caplog.text
    assert gen.close() == []
    with pytest.raises(mmgen.ClosedError):
        gen.defer(print)


def test_close_runs_what_is_due_and_waits_if_asked():
    ran = []
    gen = mmgen.MmGen(1, reclaimer=False)
    gen.defer(ran.append, 1)
    turn(gen)
    assert gen.close() == []
    assert ran == [1]

    with mmgen.Machine(2, hz=1000) as machine:
        machine.gen.defer(ran.append, 2)
        assert machine.gen.close(timeout=None) == []
        assert ran == [1, 2]


def test_a_machine_runs_them_all_at_its_close():
    ran = []
    with mmgen.Machine(2, workload=mmgen.Busy(1e9)) as machine:
        for i in range(100):
            machine.gen.defer(ran.append, i)
    assert ran == list(range(100))


def test_the_reclaimer_comes_and_goes(monkeypatch):
    monkeypatch.setattr(callbacks, "LINGER_S", 0.01)

    def reclaimers():
        return [thread for thread in threading.enumerate() if thread.name == "mmgen-reclaimer"]

    with mmgen.Machine(1, hz=1000) as machine:
        assert reclaimers() == []
        for _ in range(3):
            machine.gen.defer(int)
            (thread,) = reclaimers()
            assert machine.gen.barrier(30)
            thread.join(30)
            assert reclaimers() == []
