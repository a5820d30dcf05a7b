"""MmGen.snapshot() and restore(): the bytes, what is refused, and what of a domain comes back. test_fuzz_snapshot.py does the rest."""
import array
import re
import struct
import threading

import mmgen
import pytest
from conftest import SANITIZER
from mmgen import Mode
from test_register import in_thread

M64 = 2**64 - 1
# The words of the header, and of each CPU after it.
(MAGIC, NR_CPUS, COUNTING, PATIENCE, GENERATION, GOAL, PENDING, NR_WAITS, EXPEDITE, KICKED, IMPATIENT, NR_DEFERRED, FIRST_SWITCHES,
 _, _, CHECKSUM) = range(16)
SWITCHES, EVEN, ODD, MODE, OPENED, TICKS, FIRST_TICK, KICKS = range(8)


def words(state):
    return list(struct.unpack(f"<{len(state) // 8}Q", state))


def sealed(found):
    """The words as a snapshot, with the checksum that belongs to them."""
    total = 0xcbf29ce484222325
    for at, word in enumerate(found):
        if at != CHECKSUM:
            total = (total ^ word) * 0x100000001b3 & M64
    return struct.pack(f"<{len(found)}Q", *found[:CHECKSUM], total, *found[CHECKSUM + 1:])


def of_cpu(cpu, word):
    return 16 + 8 * cpu + word


def two(low, high):
    return low | high << 32


def domain(**options):
    """Of two CPUs, one of which has paid its debt to the generation under way."""
    gen = mmgen.MmGen(2, **options)
    gen.start_poll()
    for cpu in (0, 1, 0):
        gen.cpu(cpu).quiescent()
    return gen


# ---- the bytes

def test_the_bytes_of_a_domain():
    """Near all wraps, with a word of each kind."""
    calls = []
    gen = mmgen.MmGen(2, online=[0], max_cpus=4, patience=1, kick=calls.append, first_generation=M64, first_switches=M64)
    with gen.register() as second:
        assert second.index == 1
        cookie = gen.start_poll()               # for 2**64 + 1
        gen.cpu(0).quiescent()                  # counts
        second.quiescent()                      # and opens generation 0
        gen.cpu(0).tick()                       # no switch since: its patience is out at once
        gen.wake()                              # and both are kicked
        second.idle_enter()                     # somebody waits: it is credited another switch
        assert (cookie.generation, len(calls)) == (1, 1)
        assert words(gen.snapshot()) == [
            0x0001006e65676d6d,                 # "mmgen", 0, version 1
            two(2, 4), two(0, 0), two(1, 2),    # CPUs, at most; continuous, increments; patience, and where register() looks first
            0, 1, two(1, 2 << 1),               # generation, goal; who is online, the parity, how many owe
            1, M64, 0, 0, 0, M64,               # waits, expedited up to, kicked in, patience out in, deferred, first switches
            0, 0, 0xed02904f69ee6e95,           # the checksum
            0, M64, 0, two(1, 0), 0, 2, 1, 1,   # CPU 0: switches, seen in an even, in an odd generation; mode, ticked in; opened, ticks,
            2, 2, 0, two(2, 0xfffffffe), 1, 1, 0, 1,            # ticks before the first; kicks
        ]
        assert gen.snapshot()[:8] == b"mmgen\0\1\0"


def test_the_bytes_of_a_continuous_domain():
    gen = mmgen.MmGen(3, online=1, continuous=True, increments=7, reclaimer=False)
    gen.defer(len, "")
    for _ in range(8):
        gen.cpu(0).quiescent()
    assert gen.run_callbacks() == 1
    expected = [
        0x0001006e65676d6d, two(3, 3), two(1, 7), 0, 8, 7, two(1, 1 << 1), 1, 0, M64, M64, 1, 0, 0, 0, 0,
        8, 7, 8, two(1, 0xffffffff), 8, 8, 0, 0,
        *[0] * 8, *[0] * 8,
    ]
    found = words(gen.snapshot())
    expected[CHECKSUM] = found[CHECKSUM]
    assert found == expected
    assert sealed(expected) == gen.snapshot()


def test_a_snapshot_changes_nothing_and_is_the_same_each_time():
    gen = domain()
    assert gen.snapshot() == gen.snapshot()
    assert len(gen.snapshot()) == 128 + 2 * 64
    assert len(mmgen.MmGen(1, max_cpus=2**20).snapshot()) == 128 + 64


def test_the_order_of_bytes_is_everybodys():
    assert mmgen.MmGen(1, first_switches=0x0102030405060708).snapshot()[128:136] == bytes(range(8, 0, -1))


# ---- what comes back

@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda state: array.array("Q", state),
                                  lambda state: memoryview(bytes(byte for one in state for byte in (one, 255)))[::2]])
def test_any_buffer_restores(kind):
    state = domain().snapshot()
    assert mmgen.MmGen.restore(kind(state)).snapshot() == state


def test_a_restored_domain_is_one_of_its_class_with_the_options_given():
    class Own(mmgen.MmGen):
        pass

    calls, stalls = [], []
    state = domain(patience=3, continuous=True).snapshot()
    gen = Own.restore(state, kick=calls.append, checked=True, trace=8, max_pending=1, when_full="raise", reclaimer=False,
                      on_stall=stalls.append, stall_after=0.01)
    assert type(gen) is Own
    assert (gen.checked, gen.continuous, gen.cpus, gen.nr_online) == (True, True, 2, 2)
    gen.switch(0)
    assert isinstance(in_thread(gen.cpu(0).switch), mmgen.WrongThreadError)
    assert in_thread(lambda: gen.wait(0.05, expedite=True)) is False
    assert len(calls) == len(stalls) == 1
    gen.defer(print)
    with pytest.raises(mmgen.FullError):
        gen.defer(print)
    assert len(gen._events()) == 3


def test_cookies_go_on():
    gen = mmgen.MmGen(2, first_generation=M64 - 1)
    cookies = [gen.start_poll()]
    for cpu in (0, 1, 0):
        gen.cpu(cpu).quiescent()
    cookies.append(gen.start_poll())
    assert [cookie.generation for cookie in cookies] == [0, 2]
    twin = mmgen.MmGen.restore(gen.snapshot())
    again = [twin.cookie(cookie.generation) for cookie in cookies]
    assert again[0] < again[1]
    with pytest.raises(ValueError, match="is another domain's"):
        twin.poll(cookies[0])
    over = []
    for cpu in (1, 0, 1, 0, 1):
        for one in (gen, twin):
            one.cpu(cpu).quiescent()
        over.append([twin.poll(cookie) for cookie in again])
        assert over[-1] == [gen.poll(cookie) for cookie in cookies]
    assert over == [[True, False]] * 4 + [[True, True]]
    assert twin.wait_for(again[1], 0)


def test_cookie():
    gen = mmgen.MmGen(2, first_generation=M64)
    assert gen.poll(gen.cookie(M64))                # over: so are all that were before
    assert gen.poll(gen.cookie(M64 - 5))
    with pytest.raises(ValueError, match=rf"^generation=0 is out of range: {M64} ends the last grace period that has begun$"):
        gen.cookie(0)
    first = gen.start_poll()
    assert gen.cookie(1) == first
    assert gen.cookie(0) < first
    assert not gen.poll(gen.cookie(0))
    for generation in (2, 2**63 - 2):
        with pytest.raises(ValueError, match=f"^generation={generation} is out of range: 1 ends the last"):
            gen.cookie(generation)
    for generation in (-1, 2**64):
        with pytest.raises(ValueError, match=rf"^generation={generation} is out of range: 0 to {M64}$"):
            gen.cookie(generation)
    for generation in (1.0, "1", None, first):
        with pytest.raises(TypeError, match="generation=.* not a whole number"):
            gen.cookie(generation)
    gen.close()
    with pytest.raises(mmgen.ClosedError):
        gen.cookie(1)
    continuous = mmgen.MmGen(1, continuous=True)
    continuous.cpu(0).quiescent()
    with pytest.raises(ValueError, match="generation=2 is out of range: 1 ends the last"):      # the goal is behind
        continuous.cookie(2)


def test_a_domain_goes_on_growing_where_it_was():
    gen = mmgen.MmGen(2, online=0, max_cpus=5, first_switches=M64)
    assert [gen.register().index for _ in range(3)] == [0, 1, 2]
    gen.cpu(0).offline()
    gen.cpu(2).offline()
    twin = mmgen.MmGen.restore(gen.snapshot())
    for one in (gen, twin):
        taken = [one.register() for _ in range(4)]
        assert [cpu.index for cpu in taken] == [0, 2, 3, 4]         # behind the last it looks on from the first
        assert [cpu.switches for cpu in taken] == [M64] * 4
        with pytest.raises(mmgen.FullError):
            one.register()
    assert gen.snapshot() == twin.snapshot()
    for one in (gen, twin):
        one.close()


def test_a_million_cpus():
    gen = mmgen.MmGen(2**20, online=range(1, 2**20, 2))
    gen.start_poll()
    gen.run(array.array("I", [word for cpu in range(1, 2**20, 4) for word in (cpu, mmgen.Op.QUIESCENT)]))
    state = gen.snapshot()
    twin = mmgen.MmGen.restore(state)
    assert twin.snapshot() == state
    assert twin.nr_online == 2**19


def test_a_kick_that_is_new_comes_in_the_generation_in_which_a_patience_ran_out():
    """Whoever switches only if it is kicked would be waited for without end."""
    gen = mmgen.MmGen(2, patience=2)
    gen.start_poll()
    assert [gen.tick(0), gen.tick(0), gen.tick(0)] == [False, True, False]
    state = gen.snapshot()
    assert mmgen.MmGen.restore(state).snapshot() == state
    calls = []
    twin = mmgen.MmGen.restore(state, kick=calls.append)
    assert twin.tick(0)
    twin.wake()
    assert [[holdout.index for holdout in call] for call in calls] == [[0, 1]]
    assert not twin.tick(0)


def test_a_restored_domain_knows_that_a_cpu_idles():
    gen = mmgen.MmGen(2)
    for cpu in (0, 1):
        gen.cpu(cpu).idle_enter()
    assert mmgen.MmGen.restore(gen.snapshot()).wait(10)


def test_a_restored_domain_knows_how_many_are_online():
    gen = mmgen.MmGen(2)
    gen.cpu(1).offline()
    assert not mmgen.MmGen.restore(gen.snapshot()).wait(0)
    gen.cpu(0).offline()
    assert mmgen.MmGen.restore(gen.snapshot()).wait(0)


# ---- what is refused

def test_pending_callbacks():
    gen = mmgen.MmGen(1, reclaimer=False)
    gen.defer(len, "")
    gen.retire(None)
    with pytest.raises(RuntimeError, match="^2 callbacks are pending: they are not part of a snapshot$"):
        gen.snapshot()
    gen.cpu(0).idle_enter()
    assert gen.run_callbacks(1) == 1
    with pytest.raises(RuntimeError, match="^1 callbacks are pending"):
        gen.snapshot()

    def within():
        with pytest.raises(RuntimeError, match="^1 callbacks are pending"):        # this
            gen.snapshot()
        ran.append(1)

    ran = []
    assert gen.run_callbacks() == 1
    gen.defer(within)
    assert gen.run_callbacks() == 1
    assert ran == [1]
    assert mmgen.MmGen.restore(gen.snapshot()).stats().deferred == 3


def test_a_closed_domain():
    gen = mmgen.MmGen(1)
    gen.close()
    with pytest.raises(mmgen.ClosedError, match="the domain is closed"):
        gen.snapshot()


def test_a_wake_that_is_owed():
    """Nobody would see to it in the restored domain: its idle CPUs would not be credited, its holdouts not kicked."""
    gen = mmgen.MmGen(2)
    gen.cpu(1).idle_enter()
    gen.start_poll()
    gen.switch(0)
    assert gen.tick(0)
    with pytest.raises(RuntimeError, match=r"a thread is in a call of one of the domain's CPUs, or owes a wake\(\)$"):
        gen.snapshot()
    gen.wake()
    assert len(gen.snapshot()) == 256
    for expedite in (False, True):
        gen = mmgen.MmGen(2, patience=2, kick=lambda holdouts: None)
        gen.wait(0, expedite=expedite)
        if expedite:
            for cpu in (0, 1):
                gen.switch(cpu)
            assert (gen.tick(0), gen.tick(1)) == (False, True)
        else:
            assert (gen.tick(0), gen.tick(0)) == (False, True)
        with pytest.raises(RuntimeError, match=r"or owes a wake\(\)$"):
            gen.snapshot()
        gen.wake()
        assert len(gen.snapshot()) == 256


@pytest.mark.parametrize(("state", "says"), [
    (None, "state=None has no buffer"), ("mmgen", "state='mmgen' has no buffer"), (256, "state=256 has no buffer"),
    ([0] * 256, "has no buffer")])
def test_what_has_no_bytes(state, says):
    with pytest.raises(TypeError, match=says):
        mmgen.MmGen.restore(state)


@pytest.mark.parametrize("option", ["cpus", "online", "continuous", "increments", "max_cpus", "patience", "first_generation",
                                    "first_switches"])
def test_an_option_that_is_part_of_the_state(option):
    with pytest.raises(TypeError, match=f"^{option} is part of the state, not an option of restore"):
        mmgen.MmGen.restore(domain().snapshot(), **{option: 1})
    with pytest.raises(TypeError, match="sideways"):
        mmgen.MmGen.restore(domain().snapshot(), sideways=1)


def test_truncated_at_every_length():
    state = domain(max_cpus=5).snapshot()
    for length in range(len(state)):
        with pytest.raises(ValueError, match=rf"^state=b.* of {length} bytes cannot be restored: it is (no snapshot|truncated)$"):
            mmgen.MmGen.restore(state[:length])
    for more in (b"\0", state):
        with pytest.raises(ValueError, match="something comes after its last CPU"):
            mmgen.MmGen.restore(state + more)


def test_any_bit_that_changed_on_the_way_is_found():
    state = bytearray(domain().snapshot())
    for at in range(8 * len(state)):
        state[at // 8] ^= 1 << at % 8
        with pytest.raises(ValueError, match="it is no snapshot|another version's|more CPUs|truncated|comes after|is damaged"):
            mmgen.MmGen.restore(state)
        state[at // 8] ^= 1 << at % 8
    assert mmgen.MmGen.restore(state).snapshot() == state


@pytest.mark.parametrize("state", [b"", b"mmgen", bytes(192), b"MMGEN\0\1\0" + bytes(184), b"PK\3\4" * 64, b"\xff" * 256])
def test_what_is_no_snapshot(state):
    says = re.escape(f"state={state[:16]!r} of {len(state)} bytes cannot be restored: it is no snapshot")
    with pytest.raises(ValueError, match=f"^{says}$"):
        mmgen.MmGen.restore(state)


def test_another_version():
    state = domain().snapshot()
    with pytest.raises(ValueError, match="its format is another version's"):
        mmgen.MmGen.restore(state[:6] + b"\2\0" + state[8:])


OWED = "what is owed is not what its CPUs owe"
CPU = "a CPU's words contradict each other"
SETTINGS = "its settings are none that a domain may have"
GOALS = "its goal is none that its generation leads to"
# Of domain(): generation 1 of 2 under way, which CPU 1 owes; switches 2 and 1; what was seen 1, 2 and 1, 0. Its words, and what then does
# not fit. Where nothing else did find it, it would be a hang, or a wait that ends early.
MADE_UP = {
    "nobody": ({NR_CPUS: two(0, 2)}, "it has more CPUs than a domain may, or none"),
    "fewer at most": ({NR_CPUS: two(2, 1)}, "it has more CPUs than a domain may, or none"),
    "more than may be": ({NR_CPUS: two(2, 2**20 + 1)}, "it has more CPUs than a domain may, or none"),
    "more than there are": ({NR_CPUS: two(3, 3)}, "it is truncated"),
    "fewer than there are": ({NR_CPUS: two(1, 2)}, "something comes after"),
    "continuous twice": ({COUNTING: two(2, 0)}, SETTINGS), "increments": ({COUNTING: two(0, 2**31 + 1)}, SETTINGS),
    "patience": ({PATIENCE: two(2**31 + 1, 0)}, SETTINGS), "hint": ({PATIENCE: two(0, 3)}, SETTINGS),
    "first switches of none": ({FIRST_SWITCHES: 1}, SETTINGS), "spare": ({13: 1}, SETTINGS), "spare too": ({14: 2**63}, SETTINGS),
    "a goal too far ahead": ({GOAL: 5}, GOALS), "a goal behind": ({GOAL: 0}, GOALS),
    "a goal so far behind that it is not seen": ({GOAL: 2**63 + 1, COUNTING: 1}, GOALS),
    "all have paid": ({PENDING: two(0, 2 << 1 | 1), of_cpu(1, ODD): 1, of_cpu(1, EVEN): 0}, OWED),
    "one more is owed": ({PENDING: two(2, 2 << 1 | 1)}, OWED), "one less is owed": ({PENDING: two(0, 2 << 1 | 1)}, OWED),
    "another parity": ({PENDING: two(1, 2 << 1)}, OWED), "another generation": ({GENERATION: 2, GOAL: 3}, OWED),
    "one less online": ({PENDING: two(1, 1 << 1 | 1)}, OWED), "one is not": ({of_cpu(0, MODE): 0}, OWED),
    "one has paid while nobody waits": ({GOAL: 1}, OWED),
    "nobody is online and somebody waits": ({of_cpu(0, MODE): 0, of_cpu(1, MODE): 0, PENDING: two(0, 1)}, OWED),
    "an idle one owes while somebody waits": ({of_cpu(1, MODE): 2}, CPU),
    "being credited": ({of_cpu(0, MODE): 3}, CPU), "no mode": ({of_cpu(0, MODE): 4}, CPU),
    "seen twice the same": ({of_cpu(0, EVEN): 2}, CPU), "more seen than there were": ({of_cpu(0, ODD): 3}, CPU),
    "more seen before than there were": ({of_cpu(0, EVEN): 3}, CPU),
    "so many since that they change their sign": ({of_cpu(1, SWITCHES): 2**62 + 1}, CPU),
}


@pytest.mark.parametrize("name", MADE_UP)
def test_what_was_made_up(name):
    state = words(domain().snapshot())
    assert (state[16:20], state[24:28]) == ([2, 1, 2, two(1, 0xffffffff)], [1, 1, 0, two(1, 0xffffffff)])
    assert sealed(state) == domain().snapshot()
    changes, says = MADE_UP[name]
    for at, word in changes.items():
        state[at] = word
    with pytest.raises(ValueError, match=says):
        mmgen.MmGen.restore(sealed(state))


def test_a_class_that_makes_another_domain_of_it():
    class Smaller(mmgen.MmGen):
        def __new__(cls, cpus, **options):
            return super().__new__(cls, 1, **options | {"max_cpus": 1})

    class Used(mmgen.MmGen):
        def __init__(self, cpus, **options):
            super().__init__(cpus, **options)
            self.cpu(0).online()

    class Waited(mmgen.MmGen):
        def __init__(self, cpus, **options):
            super().__init__(cpus, **options)
            self.start_poll()

    for kind in (Smaller, Used, Waited):
        with pytest.raises(RuntimeError, match="is not as restore.. has made it"):
            kind.restore(domain().snapshot())


def test_what_a_class_says_of_itself_does_not_matter():
    class Liar(mmgen.MmGen):
        cpus = nr_deferred = nr_run = generation = property(lambda self: 0)

    assert Liar.restore(domain().snapshot()).snapshot() == domain().snapshot()


def test_others_wait_and_register_meanwhile(two_cores):
    """Whatever a snapshot finds of what takes the control lock, it finds whole."""
    gen = mmgen.MmGen(2, max_cpus=40)
    stop, errors = threading.Event(), []

    def guarded(call):
        def run():
            try:
                while not stop.is_set():
                    call()
            except BaseException as error:
                errors.append(error)
        return threading.Thread(target=run)

    def visit():
        gen.register().leave()

    others = [guarded(call) for call in (gen.start_poll, visit, visit)]
    for thread in others:
        thread.start()
    for _ in range(300 if SANITIZER else 2000):
        twin = mmgen.MmGen.restore(gen.snapshot())
        assert twin.cpu(0).mode is Mode.RUNNING
        assert 2 <= twin.nr_online <= 4
    stop.set()
    for thread in others:
        thread.join(30)
    assert errors == []
