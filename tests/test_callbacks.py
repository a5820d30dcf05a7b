"""Deferred callbacks: order and loss under load, room, errors, barriers, what retire() keeps, the reclaimer thread, and C's own."""
import ctypes
import gc
import logging
import sys
import threading
import time
import weakref

import mmgen
import pytest
from building import load, run
from mmgen import Busy, Machine
from test_protocol import turn


def rounds(gen, nr=3):
    """`nr` rounds of switch and tick on every CPU: a grace period."""
    for _ in range(nr):
        for cpu in range(gen.cpus):
            turn(gen, cpu)


def reclaims(gen):
    """Whether a thread runs the callbacks of `gen` just now."""
    thread = gen._reclaimer.thread
    return thread is not None and thread.is_alive()


def until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture
def raised(monkeypatch):
    """What came to sys.unraisablehook: (exception's type, object)."""
    found = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: found.append((what.exc_type, what.object)))
    return found


class Thing:
    """What can be retired, and seen to die."""


# ---- load

@pytest.mark.parametrize("nr", [100_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_all_run_in_order_and_memory_is_bounded(nr):
    ran, most = [], 0
    with Machine(2, hz=None, workload=Busy(0), max_pending=1000) as machine:
        gen = machine.gen
        for i in range(nr):
            gen.defer(ran.append, i)
            if i % 64 == 0:
                most = max(most, gen.nr_deferred - gen.nr_run)
        assert gen.barrier(60)
        assert (gen.nr_deferred, gen.nr_run) == (nr, nr)
        assert gen.stats().wait_latency.count == 0              # the reclaimer's own waits are not counted
    assert ran == list(range(nr))
    assert 0 < most <= 1000


def test_several_threads_defer_and_each_keeps_its_order():
    ran, most, stop = [], [], threading.Event()
    with Machine(2, hz=None, workload=Busy(0), max_pending=100) as machine:
        gen = machine.gen

        def watch():
            while not stop.is_set():
                most.append(gen.nr_deferred - gen.nr_run)       # the second is read later: never too many
                time.sleep(0)

        def defer(who):
            for i in range(3000):
                gen.defer(ran.append, (who, i))

        threads = [threading.Thread(target=defer, args=(who,)) for who in range(4)]
        watcher = threading.Thread(target=watch)
        for thread in (watcher, *threads):
            thread.start()
        for thread in threads:
            thread.join(60)
        assert gen.barrier(60)
        stop.set()
        watcher.join(10)
    for who in range(4):
        assert [i for one, i in ran if one == who] == list(range(3000))
    assert len(ran) == 12_000
    assert max(most) <= 100


def test_closing_races_with_defer_and_nothing_is_lost():
    for _ in range(100):
        ran, deferred, go = [], [], threading.Event()
        gen = mmgen.MmGen(1)
        gen.cpu(0).idle_enter()                                 # every grace period is over at once

        def defer(ran=ran, deferred=deferred, gen=gen, go=go):
            go.wait()
            for i in range(10**6):
                try:
                    gen.defer(ran.append, i)
                except mmgen.ClosedError:
                    return
                deferred.append(i)

        thread = threading.Thread(target=defer)
        thread.start()
        go.set()
        time.sleep(0.001)
        lost = gen.close()
        thread.join(10)
        assert ran + [args[0] for _, args in lost] == deferred
        assert (gen.nr_deferred, gen.nr_run) == (len(deferred), len(ran))


# ---- room

def test_a_full_domain_raises_if_asked_to():
    gen = mmgen.MmGen(1, max_pending=2, when_full="raise", reclaimer=False)
    gen.defer(print)
    gen.retire(1)
    for call in (lambda: gen.defer(print), lambda: gen.retire(2)):
        with pytest.raises(mmgen.FullError, match="2 callbacks are pending, as many as max_pending allows"):
            call()
    assert gen.nr_deferred == 2
    rounds(gen)
    assert gen.run_callbacks(1) == 1
    gen.retire(2)
    gen.close()
    with pytest.raises(mmgen.ClosedError):
        gen.retire(3)


def test_a_defer_that_blocks_goes_on_when_there_is_room():
    gen = mmgen.MmGen(1, max_pending=1)
    ran = []
    gen.defer(ran.append, 0)
    thread = threading.Thread(target=gen.defer, args=(ran.append, 1))
    thread.start()
    thread.join(0.1)
    assert thread.is_alive()
    assert gen.nr_deferred == 1
    rounds(gen)
    thread.join(10)
    assert not thread.is_alive()
    rounds(gen)
    assert gen.barrier(10)
    assert ran == [0, 1]
    gen.close()


def test_a_defer_that_blocks_ends_with_the_domain():
    gen = mmgen.MmGen(1, max_pending=1)
    gen.defer(print)
    ends = []

    def defer():
        with pytest.raises(mmgen.ClosedError):
            gen.defer(print)
        ends.append(True)

    thread = threading.Thread(target=defer)
    thread.start()
    thread.join(0.05)
    assert gen.close() == [(print, ())]
    thread.join(10)
    assert ends == [True]


def test_a_running_cpu_of_a_checked_domain_does_not_block_for_room():
    gen = mmgen.MmGen(1, max_pending=1, checked=True)
    gen.cpu(0).switch()
    gen.retire(0)
    with pytest.raises(mmgen.WrongThreadError, match="it would wait for itself"):
        gen.retire(1)
    gen.close()


@pytest.mark.parametrize("threaded", [True, False])
def test_a_callback_finds_no_room_but_never_waits_for_it(raised, threaded):
    gen = mmgen.MmGen(1, max_pending=1, when_full="block" if threaded else "raise", reclaimer=threaded)

    def again():
        gen.retire(1)

    gen.defer(again)
    rounds(gen)
    assert gen.barrier(10)
    assert raised == [(mmgen.FullError, again)]
    gen.close()


def test_a_kick_within_a_blocking_defer_may_wait_for_another_that_defers():
    """It is called without the lock: the other thread's defer gets through."""
    others = []

    def kick(holdouts):
        thread = threading.Thread(target=gen.retire, args=(1,))
        thread.start()
        thread.join(10)
        others.append(thread.is_alive())

    gen = mmgen.MmGen(2, max_pending=10, kick=kick, reclaimer=False, when_full="raise", patience=1)
    gen.cpu(0).idle_enter()
    gen._expedite(gen.start_poll())
    others.clear()
    turn(gen, 1)
    assert others == [False]
    gen.cpu(1).idle_enter()
    gen.cpu(1).idle_exit()
    others.clear()
    gen._expedite(gen.start_poll())
    gen.retire(0)
    assert others == [False]
    gen.close()


@pytest.mark.parametrize(("arguments", "says"), [
    ({"max_pending": 0}, "max_pending=0 is out of range: 1 or more, or None"),
    ({"when_full": "wait"}, "when_full='wait' is neither 'block' nor 'raise'"),
    ({"max_pending": 1, "reclaimer": False}, "when_full='block' needs the reclaimer thread"),
])
def test_arguments_that_do_not_fit(arguments, says):
    with pytest.raises(ValueError, match=says):
        mmgen.MmGen(1, **arguments)


@pytest.mark.parametrize("limit", [-1, 2**63])
def test_a_limit_that_is_none(limit):
    with pytest.raises(ValueError, match=f"limit={limit} is out of range"):
        mmgen.MmGen(1).run_callbacks(limit)


def test_what_cannot_be_called():
    gen = mmgen.MmGen(1)
    with pytest.raises(TypeError, match="1 is not callable"):
        gen.defer(1)
    assert gen.nr_deferred == 0


# ---- callbacks that do things

@pytest.mark.parametrize("threaded", [True, False])
def test_an_exception_is_named_and_the_rest_runs(raised, threaded):
    gen = mmgen.MmGen(1, reclaimer=threaded)
    ran = []

    def bad(error):
        raise error

    for i, error in enumerate([LookupError(), KeyboardInterrupt(), SystemExit()]):
        gen.defer(bad, error)
        gen.defer(ran.append, i)
    rounds(gen)
    assert gen.barrier(10)
    assert ran == [0, 1, 2]
    assert raised == [(LookupError, bad), (KeyboardInterrupt, bad), (SystemExit, bad)]
    assert gen.nr_run == 6
    gen.close()


@pytest.mark.parametrize("threaded", [True, False])
def test_a_callback_that_defers_waits_for_a_grace_period_of_its_own(threaded):
    gen = mmgen.MmGen(1, reclaimer=threaded)
    ran = []
    gen.defer(lambda: (ran.append(0), gen.defer(ran.append, 2)))
    gen.defer(ran.append, 1)
    rounds(gen)
    if threaded:
        until(lambda: gen.nr_deferred == 3 and gen.nr_run == 2)
    else:
        gen.run_callbacks()
    assert ran == [0, 1]
    rounds(gen)
    assert gen.barrier(10)
    assert ran == [0, 1, 2]
    gen.close()


@pytest.mark.parametrize("threaded", [True, False])
def test_a_barrier_in_a_callback_is_an_error(raised, threaded):
    gen = mmgen.MmGen(1, reclaimer=threaded)
    gen.defer(gen.barrier)
    rounds(gen)
    assert gen.barrier(10)
    assert [error for error, _ in raised] == [RuntimeError]
    gen.close()


@pytest.mark.parametrize("threaded", [True, False])
def test_a_callback_may_close_the_domain(threaded):
    gen = mmgen.MmGen(1, reclaimer=threaded)
    lost, ran, go = [], [], threading.Event()

    def close():
        go.wait(30)
        gen.defer(ran.append, 2)
        lost.append(gen.close(timeout=None))

    gen.defer(close)
    gen.defer(ran.append, 1)
    rounds(gen)
    go.set()
    if not threaded:
        gen.run_callbacks()
    until(lambda: lost and gen.nr_run + len(lost[0]) == 3)
    assert ran + [args[0] for _, args in lost[0]] == [1, 2]
    assert gen.close() == []


# ---- barriers

@pytest.mark.parametrize("threaded", [True, False])
def test_a_barrier_waits_for_what_was_queued(threaded):
    gen = mmgen.MmGen(1, reclaimer=threaded)
    assert gen.barrier(0)
    ran = []
    for i in range(100):
        gen.defer(ran.append, i)
    begin = time.monotonic()
    assert gen.barrier(0.05) is False
    assert time.monotonic() - begin >= 0.05
    assert ran == []
    rounds(gen)
    assert gen.barrier(10) is True
    assert ran == list(range(100))
    with pytest.raises(ValueError, match="timeout=-1"):
        gen.barrier(-1)
    gen.defer(print)
    gen.close()
    with pytest.raises(mmgen.ClosedError):
        gen.barrier()


@pytest.mark.parametrize("threaded", [True, False])
def test_a_barrier_while_another_thread_runs_callbacks(threaded):
    """It waits for that thread, its time runs out meanwhile, and what was deferred later does not hold it."""
    gen = mmgen.MmGen(1, reclaimer=threaded)
    begun, go, later = threading.Event(), threading.Event(), threading.Event()
    gen.defer(lambda: (begun.set(), go.wait(30)))
    gen.retire(1)
    rounds(gen)
    runner = None
    if not threaded:
        runner = threading.Thread(target=gen.run_callbacks)
        runner.start()
    begun.wait(10)
    assert gen.barrier(0.05) is False
    ends = []
    waiter = threading.Thread(target=lambda: ends.append(gen.barrier(30)))
    waiter.start()
    time.sleep(0.05)
    gen.defer(later.wait, 30)
    go.set()
    waiter.join(30)
    assert ends == [True]
    later.set()
    if runner:
        runner.join()
    gen.close()


def test_a_barrier_is_not_held_by_what_was_deferred_after_it():
    """The rest of the batch may take for ever: who runs it says that it ended at its end."""
    gen = mmgen.MmGen(1)
    first, second = threading.Event(), threading.Event()
    gen.defer(first.wait, 30)
    ends = []
    waiter = threading.Thread(target=lambda: ends.append(gen.barrier()))
    waiter.start()
    time.sleep(0.05)
    gen.defer(second.wait, 30)
    rounds(gen)
    first.set()
    waiter.join(10)
    assert ends == [True]
    second.set()
    gen.close()


# ---- retire, and batches

@pytest.mark.parametrize("threaded", [True, False])
def test_retire_keeps_alive_for_a_grace_period_and_no_longer(threaded):
    gen = mmgen.MmGen(2, reclaimer=threaded)
    thing = Thing()
    alive = weakref.ref(thing)
    gen.retire(thing)
    del thing
    turn(gen, 0)
    turn(gen, 0)
    assert gen.run_callbacks() == 0
    time.sleep(0.01)
    assert alive() is not None
    rounds(gen)
    if threaded:
        until(lambda: alive() is None)
    else:
        assert alive() is not None
        assert gen.run_callbacks() == 1
        assert alive() is None
    gen.close()


def test_what_is_deferred_in_one_generation_shares_a_grace_period():
    gen = mmgen.MmGen(3, reclaimer=False)
    for i in range(1000):
        gen.retire(i)
    rounds(gen)
    assert gen.run_callbacks() == 1000
    assert gen.generation <= 3


def test_run_callbacks_takes_no_more_than_its_limit():
    gen = mmgen.MmGen(1, reclaimer=False)
    ran = []
    for i in range(10):
        gen.defer(ran.append, i)
    assert gen.run_callbacks() == 0
    rounds(gen)
    assert [gen.run_callbacks(limit) for limit in (0, 3, 1, None)] == [0, 3, 1, 6]
    assert ran == list(range(10))


# ---- the end

def test_close_says_what_did_not_run(caplog):
    gen = mmgen.MmGen(1)
    ran = []
    gen.defer(ran.append, 0)
    rounds(gen)
    assert gen.barrier(10)
    gen.defer(ran.append, 1)
    gen.retire("this")
    with caplog.at_level(logging.WARNING, "mmgen"):
        lost = gen.close()
    assert lost == [(ran.append, (1,)), (None, ("this",))]
    assert lost[1] == mmgen.Callback(None, ("this",))
    assert ran == [0]
    assert "a domain was closed before 2 callbacks could run" in caplog.text
    assert gen.close() == []
    assert not reclaims(gen)


def test_close_runs_what_is_due():
    gen = mmgen.MmGen(1, reclaimer=False)
    ran = []
    gen.defer(ran.append, 0)
    rounds(gen)
    gen.defer(ran.append, 1)
    assert gen.close() == [(ran.append, (1,))]
    assert ran == [0]


def test_close_with_time_runs_all():
    with Machine(2, hz=None, workload=Busy(0)) as machine:
        ran = []
        for i in range(100):
            machine.gen.defer(ran.append, i)
        assert machine.gen.close(timeout=None) == []
        assert ran == list(range(100))
        assert machine.gen.closed


def test_two_that_close_at_once():
    gen = mmgen.MmGen(1)
    gen.defer(print)
    lost = []
    patient = threading.Thread(target=lambda: lost.append(gen.close(timeout=60)))
    patient.start()
    time.sleep(0.05)
    lost.append(gen.close())
    patient.join(10)
    assert sorted(map(len, lost)) == [0, 1]


def test_a_collected_domain_releases_what_it_kept():
    things = [Thing(), Thing()]
    alive = [weakref.ref(thing) for thing in things]
    gen = mmgen.MmGen(1, reclaimer=False)
    gen.defer(print, things[0])
    gen.retire(things[1])
    gone = weakref.ref(gen)
    del gen, things
    gc.collect()
    assert gone() is None
    assert [thing() for thing in alive] == [None, None]


def test_a_domain_is_collected_when_its_reclaimer_has_left(monkeypatch):
    monkeypatch.setattr(mmgen.callbacks, "LINGER_S", 0.01)
    gen = mmgen.MmGen(1)
    gen.retire(Thing())
    rounds(gen)
    gone = weakref.ref(gen)
    del gen
    until(lambda: gc.collect() is not None and gone() is None)


# ---- the thread

def test_the_reclaimer_comes_and_goes(monkeypatch):
    monkeypatch.setattr(mmgen.callbacks, "LINGER_S", 0.01)
    gen = mmgen.MmGen(1)
    assert not reclaims(gen)
    for _ in range(3):
        gen.retire(1)
        assert reclaims(gen)
        rounds(gen)
        assert gen.barrier(10)
        until(lambda: not reclaims(gen))
    monkeypatch.setattr(mmgen.callbacks, "LINGER_S", 1000)
    gen.retire(1)
    rounds(gen)
    assert gen.barrier(10)
    time.sleep(0.05)
    thread = gen._reclaimer.thread
    gen.retire(2)
    assert gen._reclaimer.thread is thread
    rounds(gen)
    assert gen.barrier(10)
    gen.close()
    assert not reclaims(gen)


def test_the_reclaimer_misses_nothing_while_it_leaves(monkeypatch):
    monkeypatch.setattr(mmgen.callbacks, "LINGER_S", 0)
    gen = mmgen.MmGen(1)
    gen.cpu(0).idle_enter()
    for i in range(2000):
        gen.retire(i)
        if i % 3 == 0:
            assert gen.barrier(10)
    assert gen.barrier(10)
    gen.close()


def test_a_reclaimer_that_cannot_start(monkeypatch):
    gen = mmgen.MmGen(1)

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            gen.retire(1)
        assert gen.nr_deferred == 0
    gen.retire(2)
    rounds(gen)
    assert gen.barrier(10)
    assert gen.close() == []


def test_a_finalizer_that_defers_while_a_defer_notifies():
    """As one that the garbage collector runs there may: the lock is reentrant."""
    gen = mmgen.MmGen(1, max_pending=100)
    gen.cpu(0).idle_enter()
    with gen._reclaimer._lock:
        thread = threading.Thread(target=gen.retire, args=(1,))
        gen.retire(2)
        gen._reclaimer._changed.notify_all()
        gen.retire(3)
        thread.start()
    thread.join(10)
    assert gen.barrier(10)
    gen.close()


def test_a_forked_child_runs_nothing_and_may_close(python):
    result = python("""
import os, sys, threading, warnings
import mmgen
warnings.simplefilter("ignore", DeprecationWarning)
gen = mmgen.MmGen(2, reclaimer=False)
for cpu in (0, 1):
    gen.cpu(cpu).idle_enter()
gen.defer(print, "ran")                 # due at once
threaded = mmgen.MmGen(1)
threaded.retire(1)
sys.stdout.flush()
pid = os.fork()
if pid == 0:
    for call in (lambda: gen.defer(print), gen.barrier, lambda: threaded.retire(2), threaded.barrier):
        try:
            call()
        except mmgen.DriverlessError:
            pass
        else:
            os._exit(1)
    assert gen.run_callbacks() == 0
    assert len(gen.close()) == 1 and len(threaded.close()) == 1
    with mmgen.MmGen(1) as own:
        own.cpu(0).idle_enter()
        own.retire(1)
        assert own.barrier(10)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
gen.run_callbacks()
""")
    assert result.stdout.split() == ["0", "ran"], result.stderr


# ---- C

IN_C = """
# cython: language_level=3, freethreading_compatible=True
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc
from mmgen cimport MmGen, mm_callback, mm_gen, mm_gen_barrier, mm_gen_defer, mm_gen_run_callbacks, mm_gen_take_callbacks

cdef struct node:
    uint64_t value
    uint64_t *sum
    mm_callback callback            # not first: an intrusive node, wherever it is

cdef void freed(mm_callback *callback) noexcept nogil:
    cdef node *n = <node *>(<char *>callback - <size_t>&(<node *>NULL).callback)
    n.sum[0] = n.sum[0] * 31 + n.value
    free(n)

cdef uint64_t total = 0

def defer(MmGen gen, uint64_t nr):
    cdef mm_gen *g = gen.g
    cdef uint64_t i
    cdef node *n
    cdef int err = 0
    with nogil:
        for i in range(nr):
            n = <node *>malloc(sizeof(node))
            n.value = i
            n.sum = &total
            err = mm_gen_defer(g, &n.callback, freed)
            if err:
                free(n)
                break
    return err

def run(MmGen gen, size_t limit):
    with nogil:
        nr = mm_gen_run_callbacks(gen.g, limit)
    return nr

def barrier(MmGen gen):
    with nogil:
        err = mm_gen_barrier(gen.g, 0)
    return err

def give_up(MmGen gen):
    cdef mm_callback *callback = mm_gen_take_callbacks(gen.g)
    cdef mm_callback *next
    nr = 0
    while callback is not NULL:
        next = callback.next
        freed(callback)
        callback = next
        nr += 1
    return nr

def summed():
    global total
    was, total = total, 0
    return was
"""


@pytest.fixture(scope="module")
def in_c(tmp_path_factory):
    """A module whose callbacks are C's, built against the package."""
    where = tmp_path_factory.mktemp("in_c")
    (where / "in_c.pyx").write_text(IN_C)
    (where / "setup.py").write_text("from Cython.Build import cythonize\nfrom setuptools import setup\n"
                                    "setup(ext_modules=cythonize(['in_c.pyx']))\n")
    run(sys.executable, "setup.py", "--quiet", "build_ext", "--inplace", cwd=where)
    return load(next(where.glob("in_c.*.so")), "in_c")


def folded(numbers):
    total = 0
    for number in numbers:
        total = (total * 31 + number) % 2**64
    return total


def test_callbacks_of_c_need_no_python_and_keep_their_order(in_c):
    gen = mmgen.MmGen(2, reclaimer=False)
    in_c.defer(gen, 1000)
    assert in_c.run(gen, 2**32) == 0
    assert in_c.barrier(gen) < 0
    rounds(gen)
    assert [in_c.run(gen, limit) for limit in (1, 2**32)] == [1, 999]
    assert in_c.barrier(gen) == 0
    assert in_c.summed() == folded(range(1000))


def test_callbacks_of_c_and_python_share_a_queue(in_c):
    sums = []
    with Machine(2, hz=None, workload=Busy(0)) as machine:
        for nr in (10, 20):
            in_c.defer(machine.gen, nr)
            machine.gen.defer(lambda: sums.append(in_c.summed()))
        assert machine.gen.barrier(30)
    assert sums == [folded(range(10)), folded(range(20))]


def test_callbacks_of_c_in_a_closed_domain(in_c):
    gen = mmgen.MmGen(1, reclaimer=False)
    assert in_c.defer(gen, 3) == 0
    gen._close()
    assert in_c.defer(gen, 3) < 0                       # they are still the caller's
    assert in_c.give_up(gen) == 3
    assert in_c.summed() == folded(range(3))
    assert gen.close() == []


def test_an_exception_thrown_into_the_reclaimer_is_survived(raised, monkeypatch):
    """What PyThreadState_SetAsyncExc throws ends the thread, and the next defer starts another."""
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    gen = mmgen.MmGen(1)
    gen.retire(1)
    time.sleep(0.1)                                     # it sleeps
    thread = gen._reclaimer.thread
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(KeyError)) == 1
    rounds(gen)
    thread.join(10)
    assert not thread.is_alive()
    gen.retire(2)
    rounds(gen)
    assert gen.barrier(10)
    assert gen.close() == []


@pytest.mark.parametrize("threaded", [True, False])
def test_ctrl_c_in_a_defer_leaves_nothing_locked(python, threaded):
    result = python(f"""
import signal, threading, time
import mmgen
gen = mmgen.MmGen(1, max_pending=1000, reclaimer={threaded}, when_full="{'block' if threaded else 'raise'}")
gen.cpu(0).idle_enter()
main, stop, armed, interrupts = threading.main_thread().ident, False, False, 0
def handler(*_):
    global armed
    if armed:
        armed = False
        raise KeyboardInterrupt
signal.signal(signal.SIGINT, handler)
def pester():
    while not stop:
        signal.pthread_kill(main, signal.SIGINT)
        time.sleep(0.0003)
pest = threading.Thread(target=pester, daemon=True)
pest.start()
deadline = time.monotonic() + 2
while time.monotonic() < deadline:
    try:
        armed = True
        gen.retire(1)
        gen.barrier()
        armed = False
    except KeyboardInterrupt:
        interrupts += 1
stop = True
pest.join()
other = threading.Thread(target=gen.retire, args=(2,))
other.start()
other.join(10)
print(interrupts > 0, other.is_alive(), gen.barrier(10), len(gen._reclaimer._joining), len(gen.close()))
""")
    assert result.stdout.split() == ["True", "False", "True", "0", "0"], result.stderr
