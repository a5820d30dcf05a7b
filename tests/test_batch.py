"""MmGen.run(): each operation, whatever buffer it comes in, all of a batch or nothing, and what others do meanwhile."""
import array
import ctypes
import re
import sys
import threading
import time

import mmgen
import pytest
from conftest import SANITIZER
from mmgen import Mode, Op
from test_process import SETUP, ended_well
from test_register import in_thread

SWITCH, TICK, QUIESCENT, IDLE_ENTER, IDLE_EXIT, ONLINE, OFFLINE = Op
PART = 1 << 14                  # how many operations are copied at a time, and applied between two looks at the clock


def batch(*ops):
    return array.array("I", [word for op in ops for word in op])


def switches(gen):
    return [gen.cpu(i).switches for i in range(gen.cpus)]


def raises(gen, error, match, ops):
    """run(ops) raises just this, and has applied nothing."""
    before = gen.snapshot()
    with pytest.raises(error, match=match) as caught:
        gen.run(ops)
    assert gen.snapshot() == before
    assert not hasattr(caught.value, "__notes__")


def applied(error):
    """How many operations were, as the exception's note tells."""
    note, = error.__notes__
    return int(re.fullmatch(r"The first (\d+) of \d+ operations were applied\.", note)[1])


# ---- operations

def test_the_operations_are_numbered():
    assert [(op.name, int(op)) for op in Op] == [("SWITCH", 0), ("TICK", 1), ("QUIESCENT", 2), ("IDLE_ENTER", 3), ("IDLE_EXIT", 4),
                                                 ("ONLINE", 5), ("OFFLINE", 6)]
    assert Op.__module__ == "mmgen"


def twins():
    """Two domains in the same state, in which each operation changes something, on the CPU of that number."""
    for _ in range(2):
        gen = mmgen.MmGen(7, online=[0, 1, 2, 3, 4, 6], max_cpus=9, first_generation=2**64 - 1, first_switches=2**64 - 1)
        gen.cpu(4).idle_enter()
        gen.start_poll()
        gen.switch(1)
        yield gen


@pytest.mark.parametrize("op", Op)
def test_an_operation_is_the_call_of_that_name(op):
    batched, called = twins()
    before = batched.snapshot()
    assert batched.run(batch((op, op))) == 0
    if getattr(called.cpu(op), op.name.lower())():
        called.wake()
    assert batched.snapshot() == called.snapshot() != before


def test_they_are_applied_in_order_and_each_finds_what_those_before_it_left():
    gen = mmgen.MmGen(2)
    gen.run(batch((0, IDLE_ENTER), (0, IDLE_EXIT), (0, OFFLINE), (0, ONLINE), (0, SWITCH), (0, IDLE_ENTER), (0, OFFLINE), (1, TICK)))
    assert [gen.cpu(0).mode, gen.cpu(0).switches, gen.nr_online] == [Mode.OFFLINE, 3, 1]


def test_it_returns_how_many_generations_have_opened():
    gen = mmgen.MmGen(2, first_generation=2**64 - 2)
    assert gen.run(b"") == 0
    everybody = batch((0, QUIESCENT), (1, QUIESCENT))
    assert gen.run(everybody * 5) == 0              # nobody waits
    cookie = gen.start_poll()
    assert gen.run(everybody * 5) == 2              # from 2**64 - 2 to 0
    assert gen.poll(cookie)
    continuous = mmgen.MmGen(2, continuous=True, first_generation=2**64 - 2)
    assert continuous.run(everybody * 5) == 5
    assert continuous.generation == 3


@pytest.mark.parametrize("nr", [1, 2, 3, 4, 5, 6, 7, 8, 9, PART - 1, PART, PART + 1, 3 * PART + 5])
def test_every_switch_of_a_batch_counts_once(nr):
    gen = mmgen.MmGen(3, first_switches=2**64 - 2)
    gen.run(batch(*((i % 3, SWITCH) for i in range(nr))))
    assert switches(gen) == [((nr + 2 - i) // 3 - 2) % 2**64 for i in range(3)]


def test_a_batch_releases_waiters_and_callbacks():
    gen = mmgen.MmGen(2)
    ran = threading.Event()
    gen.defer(ran.set)
    waiter = threading.Thread(target=gen.wait)
    waiter.start()
    while gen.nr_waits < 2:
        pass
    everybody = batch((0, SWITCH), (0, TICK), (1, SWITCH), (1, TICK))
    assert gen.run(everybody * 4) == 3              # the second joined a generation under way
    waiter.join(30)
    assert not waiter.is_alive()
    assert ran.wait(30)
    assert gen.barrier(30)
    gen.close()


def test_a_wake_is_seen_to_in_between():
    """The first generation's tick wakes, which credits the idle CPU: else the second would not end."""
    gen = mmgen.MmGen(2)
    gen.cpu(1).idle_enter()
    cookie = gen.start_poll()
    assert gen.run(batch((0, QUIESCENT), (0, SWITCH), (0, TICK))) == 2
    assert gen.poll(cookie)


def test_a_patience_runs_out_in_a_batch():
    kicked = []
    gen = mmgen.MmGen(2, kick=lambda holdouts: kicked.append([holdout.index for holdout in holdouts]), patience=3)
    gen.start_poll()
    gen.run(batch((0, SWITCH), *[(0, TICK)] * 9))
    assert kicked == [[1]]


# ---- buffers

OPS = [(0, SWITCH), (1, QUIESCENT), (2, IDLE_ENTER), (0, SWITCH)]
LEAVES = [2, 1, 1]              # switches of the three CPUs


class Pair(ctypes.Structure):
    _fields_ = [("cpu", ctypes.c_uint32), ("op", ctypes.c_uint32)]


def reversed_words():
    return memoryview(array.array("I", list(batch(*OPS))[::-1]))[::-1]


BUFFERS = {
    "array": lambda: batch(*OPS), "bytes": lambda: batch(*OPS).tobytes(), "bytearray": lambda: bytearray(batch(*OPS).tobytes()),
    "memoryview": lambda: memoryview(batch(*OPS)), "signed bytes": lambda: array.array("b", batch(*OPS).tobytes()),
    "chars": lambda: memoryview(batch(*OPS)).cast("B").cast("c"), "rows": lambda: memoryview(batch(*OPS)).cast("B").cast("I", (4, 2)),
    "structures": lambda: (Pair * 4)(*OPS), "a row of structures": lambda: ((Pair * 4) * 1)((Pair * 4)(*OPS)),
    "words of ctypes": lambda: (ctypes.c_uint32 * 8)(*batch(*OPS)), "backwards": reversed_words,
    "unaligned": lambda: memoryview(b"\0" + batch(*OPS).tobytes())[1:], "every second byte": lambda: memoryview(
        bytes(byte for pair in batch(*OPS).tobytes() for byte in (pair, 255)))[::2],
}


@pytest.mark.parametrize("name", BUFFERS)
def test_buffers(name):
    gen = mmgen.MmGen(3)
    gen.run(BUFFERS[name]())
    assert switches(gen) == LEAVES
    assert gen.cpu(2).mode is Mode.IDLE


def numpy_buffers(np):
    pair = np.dtype([("cpu", "u4"), ("op", "u4")])
    plain = np.array([(cpu, int(op)) for cpu, op in OPS], dtype=pair)
    rows = np.array([(cpu, int(op)) for cpu, op in OPS], dtype="u4")
    wide = np.zeros((4, 5), dtype="u4")
    wide[:, 1::3] = rows
    packed = np.zeros(4, dtype=[("odd", "u1"), ("pair", pair)])
    packed["pair"] = plain
    every_third = np.zeros(12, dtype=pair)
    every_third[::3] = plain
    frozen = plain.copy()
    frozen.setflags(write=False)
    return {
        "structured": plain, "rows": rows, "flat": rows.ravel(), "bytes": rows.view("u1"), "columns": np.asfortranarray(rows),
        "wide": wide[:, 1::3], "unaligned": packed["pair"], "strided": every_third[::3], "read only": frozen,
        "backwards": plain[::-1][::-1], "deep": rows.reshape(2, 2, 2), "one row": plain.reshape(1, 4), "aligned": plain.astype(
            np.dtype([("cpu", "u4"), ("op", "u4")], align=True)),
    }


@pytest.fixture
def np():
    return pytest.importorskip("numpy", reason="numpy is not installed")


def test_buffers_of_numpy(np):
    for name, ops in numpy_buffers(np).items():
        gen = mmgen.MmGen(3)
        gen.run(ops)
        assert switches(gen) == LEAVES, name
    gen = mmgen.MmGen(3)
    pair = np.dtype([("cpu", "u4"), ("op", "u4")])
    gen.run(np.array((1, 0), dtype=pair))                           # no dimension: one pair
    gen.run(np.frombuffer(b"\0" + batch((1, SWITCH)).tobytes(), dtype="u1")[1:].view(pair)[0])
    gen.run(np.empty((0, 2), dtype="u4"))
    gen.run(np.broadcast_to(np.array([2, 0], dtype="u4"), (5, 2)))
    assert switches(gen) == [0, 2, 5]


def test_buffers_of_numpy_that_are_refused(np):
    gen = mmgen.MmGen(3)
    other = ">" if sys.byteorder == "little" else "<"
    for dtype in ([("op", "u4"), ("cpu", "u4")], [("cpu", "u4"), ("op", "i4")], [("cpu", f"{other}u4"), ("op", "u4")],
                  [("cpu", "u8"), ("op", "u8")], [("cpu", "u4"), ("op", "u4"), ("why", "u4")], "i4", "u8", "f4", f"{other}u4", "u2"):
        raises(gen, ValueError, "bytes of format .* are no array of numpy.dtype", np.zeros(8, dtype=dtype))
    raises(gen, ValueError, "ops: 4 bytes of format 'I' are no", np.zeros(1, dtype="u4"))
    raises(gen, ValueError, "cannot include dtype 'M' in a buffer", np.zeros(4, dtype="M8[s]"))        # says numpy itself


@pytest.mark.parametrize(("ops", "error", "says"), [
    (None, TypeError, "ops=None has no buffer: an array of numpy.dtype"), ([(0, 0)], TypeError, r"ops=\[\(0, 0\)\] has no buffer"),
    ("switch", TypeError, "ops='switch' has no buffer"), (0, TypeError, "ops=0 has no buffer"),
    (array.array("i", [0, 0]), ValueError, "ops: 8 bytes of format 'i' are no array of numpy.dtype"),
    (array.array("L", [0, 0]), ValueError, "of format 'L' are no"), (array.array("f", [0, 0]), ValueError, "of format 'f' are no"),
    (array.array("d", [0]), ValueError, "ops: 8 bytes of format 'd' are no"),
    (array.array("H", [0] * 4), ValueError, "format 'H' are no"), (bytes(7), ValueError, "ops: 7 bytes of format 'B' are no"),
    (array.array("I", [0] * 3), ValueError, "ops: 12 bytes of format 'I' are no"),
    (bytes(9), ValueError, "ops: 9 bytes"), (memoryview(bytes(9))[::-1], ValueError, "ops: 9 bytes"),
    ((ctypes.c_int32 * 2)(), ValueError, "of format '<i' are no" if sys.byteorder == "little" else "are no"),
    ((ctypes.c_uint64 * 2)(), ValueError, "ops: 16 bytes of format"),
    ((ctypes.c_uint32.__ctype_be__ * 2 if sys.byteorder == "little" else ctypes.c_uint32.__ctype_le__ * 2)(), ValueError, "are no array"),
], ids=str)
def test_what_is_no_batch(ops, error, says):
    raises(mmgen.MmGen(2), error, says, ops)


def test_a_released_view_is_refused():
    view = memoryview(batch((0, SWITCH)))
    view.release()
    raises(mmgen.MmGen(1), ValueError, "released memoryview", view)


def test_an_array_cannot_lose_its_memory_meanwhile():
    errors = []

    def kick(holdouts):
        with pytest.raises(BufferError) as caught:
            ops.append(0)
        errors.append(caught.type)

    gen = mmgen.MmGen(2, patience=1, kick=kick)
    ops = batch((0, TICK), (0, SWITCH))
    gen.start_poll()
    gen.run(ops)
    assert errors == [BufferError]
    assert gen.cpu(0).switches == 1


# ---- all or nothing

@pytest.mark.parametrize("before", [0, 1, 2, 3, 4, 5, PART - 1, PART, 2 * PART + 3])
@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("checked", [False, True])
def test_what_does_not_fit_is_told_with_its_place_and_nothing_is_applied(before, copied, checked):
    gen = mmgen.MmGen(4, online=[0, 1, 3], max_cpus=9, checked=checked)
    gen.cpu(1).idle_enter()
    for op, error, says in [
        ((4, SWITCH), IndexError, r"CPU 4 is out of range: the domain has 4 \(0 to 3\)"),
        ((2**32 - 1, OFFLINE), IndexError, r"CPU 4294967295 is out of range: the domain has 4 \(0 to 3\)"),
        ((0, 7), ValueError, r"7 is out of range: the operations are 0 \(SWITCH\) to 6 \(OFFLINE\)"),
        ((0, 2**32 - 1), ValueError, "4294967295 is out of range: the operations are 0"),
        ((2**31, 2**31), IndexError, "CPU 2147483648 is out of range"),
        ((1, SWITCH), RuntimeError, r"switch\(\) on CPU 1, which is IDLE"), ((1, TICK), RuntimeError, r"tick\(\) on CPU 1, which is IDLE"),
        ((2, QUIESCENT), RuntimeError, r"quiescent\(\) on CPU 2, which is OFFLINE"),
        ((2, IDLE_ENTER), RuntimeError, r"idle_enter\(\) on CPU 2, which is OFFLINE"),
        ((1, IDLE_ENTER), RuntimeError, r"idle_enter\(\) on CPU 1, which is IDLE"),
        ((3, IDLE_EXIT), RuntimeError, r"idle_exit\(\) on CPU 3, which is RUNNING"),
        ((2, IDLE_EXIT), RuntimeError, r"idle_exit\(\) on CPU 2, which is OFFLINE"),
        ((3, ONLINE), RuntimeError, r"online\(\) on CPU 3, which is RUNNING"),
        ((1, ONLINE), RuntimeError, r"online\(\) on CPU 1, which is IDLE"),
        ((2, OFFLINE), RuntimeError, r"offline\(\) on CPU 2, which is OFFLINE"),
    ]:
        ops = batch(*[(0, SWITCH)] * before, op)
        raises(gen, error, f"^op {before}: {says}", memoryview(b"\0" + ops.tobytes())[1:] if copied else ops)
    assert in_thread(lambda: gen.run(batch((0, SWITCH)))) == 0          # nor is a CPU anybody's


def test_a_mode_is_what_the_operations_before_have_left():
    gen = mmgen.MmGen(2)
    for ops, place, op, mode in [
        ([(0, OFFLINE), (0, SWITCH)], 1, "switch", "OFFLINE"), ([(0, IDLE_ENTER), (1, SWITCH), (0, TICK)], 2, "tick", "IDLE"),
        ([(0, IDLE_ENTER), (0, IDLE_EXIT), (0, IDLE_EXIT)], 2, "idle_exit", "RUNNING"),
        ([(0, OFFLINE), (0, ONLINE), (0, ONLINE)], 2, "online", "RUNNING"),
        ([(0, IDLE_ENTER), (0, OFFLINE), (0, OFFLINE)], 2, "offline", "OFFLINE"),
    ]:
        raises(gen, RuntimeError, rf"^op {place}: {op}\(\) on CPU 0, which is {mode}$", batch(*ops))


def test_a_closed_domain():
    gen = mmgen.MmGen(1)
    gen.close()
    for ops in (b"", batch((0, SWITCH)), batch((9, 9))):
        with pytest.raises(mmgen.ClosedError, match="the domain is closed") as caught:
            gen.run(ops)
        assert not hasattr(caught.value, "__notes__")
    assert gen.cpu(0).switches == 0


# ---- checked domains

def test_checked_a_batch_is_refused_whole_to_whom_a_cpu_does_not_belong():
    gen = mmgen.MmGen(3, checked=True)
    gen.switch(1)
    me = threading.get_ident()
    for place in (0, 5, PART):
        error = in_thread(lambda place=place: gen.run(batch(*[(0, SWITCH)] * place, (1, QUIESCENT), (2, SWITCH))))
        assert isinstance(error, mmgen.WrongThreadError)
        assert re.fullmatch(rf"op {place}: quiescent\(\) on CPU 1 by thread \d+: the CPU belongs to thread {me}", str(error))
        assert not hasattr(error, "__notes__")
    assert switches(gen) == [0, 1, 0]
    assert in_thread(gen.cpu(0).switch) is None                         # nobody has become its owner


def test_checked_a_batch_makes_its_cpus_the_callers():
    gen = mmgen.MmGen(3, online=2, checked=True)
    gen.run(batch((0, TICK), (1, SWITCH), (2, ONLINE), (1, OFFLINE)))
    assert isinstance(in_thread(gen.cpu(0).switch), mmgen.WrongThreadError)
    assert isinstance(in_thread(gen.cpu(2).switch), mmgen.WrongThreadError)
    with pytest.raises(RuntimeError, match=r"switch\(\) on CPU 1, which is OFFLINE"):         # it is nobody's now
        raise in_thread(gen.cpu(1).switch)
    assert in_thread(lambda: gen.run(batch((1, ONLINE), (1, SWITCH), (1, OFFLINE)))) == 0
    gen.run(batch((1, ONLINE), (1, SWITCH)))
    assert switches(gen) == [0, 3, 0]


def test_checked_who_brings_a_cpu_online_need_not_have_it():
    """As Cpu.online(): a call that was refused has made it another's."""
    gen = mmgen.MmGen(2, online=1, checked=True)
    assert isinstance(in_thread(gen.cpu(1).switch), RuntimeError)
    gen.run(batch((1, ONLINE), (1, SWITCH)))
    assert gen.cpu(1).switches == 1


def test_checked_the_same_as_unchecked():
    ops = batch((0, SWITCH), (1, IDLE_ENTER), (0, QUIESCENT), (2, OFFLINE), (1, IDLE_EXIT), (0, TICK), (2, ONLINE), (2, SWITCH), (2, TICK),
                (1, QUIESCENT)) * 20
    states = []
    for checked in (False, True):
        gen = mmgen.MmGen(3, checked=checked)
        gen.start_poll()
        states.append((gen.run(ops), gen.snapshot()))
    assert states[0] == states[1]
    assert states[0][0] == 2


# ---- meanwhile

def kicked(does, checked=False):
    """A domain of three whose CPU 1's first tick calls does(gen), and a cookie."""
    gen = mmgen.MmGen(3, max_cpus=5, kick=lambda holdouts: does(gen), patience=1, checked=checked)
    gen.start_poll()
    return gen


@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize("change", [(0, SWITCH), (0, 9), (9, 9), (3, ONLINE), (2**32 - 1, SWITCH)])       # 3: as it may grow
def test_an_array_that_changes_meanwhile(change, checked):
    """What does not fit any more is not applied, in no case."""
    def does(gen):
        ops[-2:] = batch(change)

    gen = kicked(does, checked)
    ops = batch((0, OFFLINE), (1, TICK), (1, SWITCH), (0, ONLINE))
    with pytest.raises(RuntimeError, match=r"(?m)^op 3: another thread changed the array, or a CPU's mode, meanwhile$") as caught:
        gen.run(ops)
    assert applied(caught.value) == 3
    assert gen.cpu(0).mode is Mode.OFFLINE
    assert switches(gen) == [0, 1, 0]
    assert gen.nr_online == 2


def test_a_cpu_that_another_thread_has_taken_meanwhile():
    for checked, error in ((False, RuntimeError), (True, mmgen.WrongThreadError)):
        gen = kicked(lambda gen: in_thread(gen.cpu(0).online), checked)
        with pytest.raises(error, match="^op 2: ") as caught:
            gen.run(batch((0, OFFLINE), (1, TICK), (0, ONLINE), (0, SWITCH)))
        assert applied(caught.value) == 2
        assert switches(gen) == [0, 0, 0]


def test_a_domain_that_closes_meanwhile():
    for checked in (False, True):
        gen = kicked(lambda gen: gen.close(), checked)
        with pytest.raises(mmgen.ClosedError, match="the domain is closed") as caught:
            gen.run(batch((0, SWITCH), (1, TICK), (0, SWITCH)))
        assert applied(caught.value) == 2
        assert switches(gen) == [1, 0, 0]


def test_a_batch_within_a_batch():
    gen = kicked(lambda gen: gen.run(batch((0, SWITCH), (2, SWITCH))))
    gen.run(batch((0, SWITCH), (1, TICK), (0, SWITCH)))
    assert switches(gen) == [3, 0, 1]


def beside(call, meanwhile):
    """call(), again and again, in this thread, while another does meanwhile(), so long as both go on."""
    stop, errors = threading.Event(), []

    def run():
        try:
            while not stop.is_set() and meanwhile() is not False:
                pass
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        while thread.is_alive() and call() is not False:
            pass
    finally:
        stop.set()
        thread.join(30)
    assert errors == []


@pytest.mark.skipif(SANITIZER == "thread", reason="the race is the test's own")
@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize("aligned", [0, 1])
def test_another_thread_writes_into_the_array(two_cores, checked, aligned):
    """Whatever it writes: an error that says so, or all applied, and nothing beside the domain's CPUs is touched."""
    gen = mmgen.MmGen(4, checked=checked)
    nr = 20_000
    memory = bytearray(aligned) + bytearray(batch(*[(i % 4, QUIESCENT) for i in range(nr)]).tobytes())
    ops = memoryview(memory)[aligned:]
    good = [batch((i, op)).tobytes() for i in range(4) for op in (SWITCH, TICK, QUIESCENT)]
    bad = [batch(op).tobytes() for op in [(4, SWITCH), (2**32 - 1, TICK), (2**31, 0), (2**26, SWITCH), (0, 7), (1, ONLINE), (3, 2**32 - 1)]]
    outcomes, runs, writes, end = set(), 0, 0, time.monotonic() + 60

    def write():
        nonlocal writes
        writes += 1
        place, words = writes // 2 * 7919 % nr, (bad, good)[writes % 2]         # and the next call puts it right
        ops[8 * place:8 * place + 8] = words[writes // 2 % len(words)]

    def run():
        nonlocal runs
        runs += 1
        try:
            gen.run(ops)
            outcomes.add("all")
        except (IndexError, ValueError, RuntimeError) as error:
            assert re.match(r"op \d+: ", str(error)), error
            outcomes.add(type(error).__name__)
            if hasattr(error, "__notes__"):
                assert applied(error) < nr
        assert time.monotonic() < end
        return runs < 100 or len(outcomes) < 2

    beside(run, write)
    for i in range(4):
        gen.cpu(i).idle_enter()
    assert gen.wait(30)


def test_the_domain_grows_meanwhile(two_cores):
    gen = mmgen.MmGen(1, max_cpus=300)
    ops = batch(*[(0, SWITCH)] * 10_000)
    runs = 0

    def run():
        nonlocal runs
        runs += 1
        gen.run(ops)
        return runs < 1000

    def grow():
        if gen.cpus == 300:
            return False
        gen.register().leave()
        gen.register()
        return True

    beside(run, grow)
    assert gen.cpu(0).switches == 10_000 * runs
    assert gen.cpus > 1
    assert gen.nr_online == 1                       # the thread has ended


def test_others_wait_meanwhile(two_cores):
    gen = mmgen.MmGen(64)
    ops = batch(*[(cpu, op) for cpu in range(64) for op in (SWITCH, TICK)] * 20)
    waited = 0

    def wait():
        nonlocal waited
        before = switches(gen)
        assert gen.wait(30)
        assert all(now != then for now, then in zip(switches(gen), before, strict=True))
        waited += 1
        return waited < 300

    beside(lambda: gen.run(ops), wait)
    assert waited


@pytest.mark.parametrize("checked", [False, True])
def test_others_credit_idle_cpus_meanwhile(two_cores, checked):
    """A CPU that is just being credited is an idle one."""
    gen = mmgen.MmGen(64, checked=checked)
    everybody = [array.array("I", [word for cpu in range(64) for word in (cpu, op)]) for op in (IDLE_ENTER, IDLE_EXIT)]
    gen.run(everybody[0])
    runs = 0

    def run():
        nonlocal runs
        runs += 1
        gen.run(everybody[1] + everybody[0])
        return runs < 1500

    beside(run, gen.start_poll)
    assert all(count > runs for count in switches(gen))


@pytest.mark.parametrize("checked", [False, True])
def test_another_thread_closes_the_domain(two_cores, checked):
    gen = mmgen.MmGen(1, checked=checked)
    closer = threading.Timer(0.05, gen.close)
    closer.start()
    ops = bytes(8 * 2_000_000)
    total = 0
    with pytest.raises(mmgen.ClosedError) as caught:
        while True:
            gen.run(ops)
            total += 2_000_000
    closer.join()
    assert gen.cpu(0).switches == total + (applied(caught.value) if hasattr(caught.value, "__notes__") else 0)


# ---- signals

INTERRUPT = SETUP + r"""
import array, re
def interrupted(run, applied):
    # Of runs that were interrupted: whether each note says how many operations were applied, and whether it was within 50 ms.
    lateness, right = [], []
    def interrupt(after):
        global sent
        time.sleep(after)
        sent = time.monotonic()
        os.kill(os.getpid(), signal.SIGINT)
    for i in range(5):
        thread = threading.Thread(target=interrupt, args=(0.03 * (i + 1),))
        try:
            thread.start()
            while True:
                before = applied()
                run()
        except KeyboardInterrupt as error:
            lateness.append(time.monotonic() - sent)
            for note in getattr(error, "__notes__", []):            # none between two runs
                nr = re.fullmatch(r"The first (\d+) of \d+ operations were applied\.", note)[1]
                right.append(int(nr) == applied() - before)
        thread.join()
    print(len(lateness), 1 <= right.count(True) == len(right), sorted(lateness)[2] < 0.05)
"""


@pytest.mark.parametrize("options", ["", "checked=True"])
@pytest.mark.parametrize("cut", ["[:-7]", "[7:]"], ids=["direct", "copied"])
def test_ctrl_c_ends_a_hundred_million_operations_within_50_ms(python, options, cut):
    """Their memory is nobody's yet, and costs none. Cut at its beginning it is not aligned, and so copied, in parts."""
    assert ended_well(python(INTERRUPT + f"""
gen = mmgen.MmGen(1, {options})
ops = memoryview(bytes(8 * 10**8 + 7)){cut}
interrupted(lambda: gen.run(ops), lambda: gen.cpu(0).switches)
""")) == ["5", "True", "True"]


def test_ctrl_c_ends_a_batch_on_a_million_cpus_within_50_ms(python):
    """Each operation looks at all of them: somebody waits, and the first goes idle and back."""
    assert ended_well(python(INTERRUPT + """
gen = mmgen.MmGen(2**20)
cookie = gen.start_poll()
cpu = gen.cpu(0)
ops = array.array("I", [0, mmgen.Op.IDLE_ENTER, 0, mmgen.Op.IDLE_EXIT]) * 100_000
def applied():
    idle = cpu.mode is mmgen.Mode.IDLE
    if idle:
        cpu.idle_exit()
    return 2 * cpu.switches - idle
cpu.quiescent()                                     # or it would be credited one more
interrupted(lambda: gen.run(ops), applied)
assert not gen.poll(cookie)
""")) == ["5", "True", "True"]
