"""The protocol in one thread, step by step: who is waited for, who is credited, and that a wait ends exactly when it may."""
import mmgen
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmgen import Mode

STARTS = [0, 1, 2**31 - 1, 2**32 - 2, 2**32 - 1, 2**32, 2**63 - 2, 2**63 - 1, 2**64 - 3, 2**64 - 1]


def turn(gen, cpu):
    """CPU `cpu` switches and ticks."""
    gen.switch(cpu)
    if gen.tick(cpu):
        gen.wake()


def rounds_until(gen, cookie, cpus):
    """How many rounds of switch and tick on `cpus` it takes until the wait is over."""
    for nr in range(10):
        if gen.poll(cookie):
            return nr
        for cpu in cpus:
            turn(gen, cpu)
    raise AssertionError(f"still waiting after {nr} rounds")


@pytest.mark.parametrize("first_switches", STARTS)
@pytest.mark.parametrize("first_generation", STARTS)
@pytest.mark.parametrize(("continuous", "rounds"), [(False, 2), (True, 3)])
def test_a_wait_takes_two_generations_on_demand_and_three_else(continuous, rounds, first_generation, first_switches):
    gen = mmgen.MmGen(3, continuous=continuous, first_generation=first_generation, first_switches=first_switches)
    for _ in range(4):
        assert rounds_until(gen, gen.start_poll(), range(3)) == rounds
    assert gen.generation == (first_generation + 4 * rounds) % 2**64
    assert gen.cpu(1).switches == (first_switches + 4 * rounds) % 2**64


@pytest.mark.parametrize("first_generation", STARTS)
def test_a_wait_that_joins_takes_three(first_generation):
    gen = mmgen.MmGen(2, first_generation=first_generation)
    first = gen.start_poll()
    turn(gen, 0)
    second = gen.start_poll()
    assert (first.generation, second.generation) == ((first_generation + 2) % 2**64, (first_generation + 3) % 2**64)
    assert rounds_until(gen, first, [1, 0]) == 2
    assert not gen.poll(second)
    assert rounds_until(gen, second, [1, 0]) == 1


def test_waits_share_generations():
    gen = mmgen.MmGen(2)
    cookies = [gen.start_poll() for _ in range(1000)]
    assert rounds_until(gen, cookies[-1], [0, 1]) == 3
    assert all(map(gen.poll, cookies))
    assert gen.generation == 3
    assert gen.nr_waits == 1000


def test_an_unwanted_tick_changes_nothing():
    gen = mmgen.MmGen(2)
    for _ in range(5):
        turn(gen, 0)
        turn(gen, 1)
    assert gen.generation == 0
    assert [h.index for h in gen.holdouts()] == [0, 1]


def test_a_tick_without_a_switch_does_not_count():
    gen = mmgen.MmGen(1)
    cookie = gen.start_poll()
    for _ in range(5):
        assert not gen.tick(0)
    assert rounds_until(gen, cookie, [0]) == 2


def test_ticks_after_the_one_that_counted_only_move_the_baseline():
    gen = mmgen.MmGen(2)
    cookie = gen.start_poll()
    turn(gen, 0)
    turn(gen, 0)                    # counted already: the baseline of the next generation is now 2
    turn(gen, 1)
    assert gen.generation == 1
    assert not gen.tick(0)
    assert [h.index for h in gen.holdouts()] == [0, 1]
    turn(gen, 0)
    turn(gen, 1)
    assert gen.poll(cookie)


def test_idle_cpus_are_credited_at_once_and_nobody_else_is():
    gen = mmgen.MmGen(3)
    cpus = [gen.cpu(i) for i in range(3)]
    cpus[1].idle_enter()
    cpus[2].idle_enter()
    cookie = gen.start_poll()
    assert [h.index for h in gen.holdouts()] == [0]
    assert rounds_until(gen, cookie, [0]) == 2
    cpus[0].idle_enter()
    cookie = gen.start_poll()
    assert gen.poll(cookie)
    cpus[2].idle_exit()
    cookie = gen.start_poll()
    assert [(h.index, h.mode) for h in gen.holdouts()] == [(2, Mode.RUNNING)]
    assert rounds_until(gen, cookie, [2]) == 2


def test_going_idle_answers_a_wait_under_way():
    gen = mmgen.MmGen(2)
    cookie = gen.start_poll()
    turn(gen, 0)
    gen.cpu(1).idle_enter()
    assert not gen.poll(cookie)
    gen.cpu(0).idle_enter()
    assert gen.poll(cookie)


def test_offline_cpus_are_not_waited_for():
    gen = mmgen.MmGen(4, online=[1, 3])
    assert gen.nr_online == 2
    cookie = gen.start_poll()
    assert rounds_until(gen, cookie, [1, 3]) == 2
    cookie = gen.start_poll()
    turn(gen, 1)
    gen.cpu(3).offline()
    assert not gen.poll(cookie)
    assert rounds_until(gen, cookie, [1]) == 1
    cookie = gen.start_poll()
    gen.cpu(1).offline()
    assert gen.poll(cookie)
    assert gen.nr_online == 0
    assert gen.poll(gen.start_poll())
    assert gen.wait()
    gen.cpu(0).online()
    cookie = gen.start_poll()
    assert rounds_until(gen, cookie, [0]) == 2


def test_a_cpu_that_comes_while_a_wait_is_under_way_owes_too():
    gen = mmgen.MmGen(2, online=1)
    cookie = gen.start_poll()
    gen.cpu(1).online()
    turn(gen, 0)
    assert gen.generation == 0
    assert rounds_until(gen, cookie, [1, 0]) == 2


def test_offline_from_idle_leaves_idle_first():
    gen = mmgen.MmGen(2)
    gen.cpu(1).idle_enter()
    gen.cpu(1).offline()
    assert gen.cpu(1).mode is Mode.OFFLINE
    assert gen.nr_online == 1
    assert rounds_until(gen, gen.start_poll(), [0]) == 2


@pytest.mark.parametrize("increments", [1, 2, 3, 7])
@pytest.mark.parametrize("continuous", [False, True])
def test_increments_are_what_a_wait_takes(continuous, increments):
    gen = mmgen.MmGen(2, continuous=continuous, increments=increments)
    assert rounds_until(gen, gen.start_poll(), [0, 1]) == increments


def test_a_million_cpus():
    gen = mmgen.MmGen(2**20)
    assert gen.nr_online == gen.cpus == 2**20
    cookie = gen.start_poll()
    for _ in range(2):
        for cpu in range(2**20):
            gen.switch(cpu)
            if gen.tick(cpu):
                gen.wake()
    assert gen.poll(cookie)


OPS = ["switch", "tick", "tick_no_wake", "wait", "idle_enter", "idle_exit", "online", "offline"]


class Oracle:
    """Who must have been quiescent before which wait may end, in plain Python."""

    def __init__(self, gen):
        self.gen = gen
        self.modes = [gen.cpu(i).mode for i in range(gen.cpus)]
        self.waits = []                                 # (cookie, the CPUs that have not been quiescent since)
        self.unwoken = False

    def quiescent(self, cpu):
        for _, owing in self.waits:
            owing.discard(cpu)

    def apply(self, op, i):
        """Do `op` on CPU `i` where its mode allows it."""
        gen, cpu, mode = self.gen, self.gen.cpu(i), self.modes[i]
        if op == "wait":
            self.waits.append((gen.start_poll(), {j for j, m in enumerate(self.modes) if m is Mode.RUNNING}))
        elif op == "online" and mode is Mode.OFFLINE:
            cpu.online()
            self.modes[i] = Mode.RUNNING
        elif op == "idle_exit" and mode is Mode.IDLE:
            cpu.idle_exit()
            self.modes[i] = Mode.RUNNING
        elif op == "offline" and mode is not Mode.OFFLINE:
            self.quiescent(i)
            cpu.offline()
            self.modes[i] = Mode.OFFLINE
        elif mode is Mode.RUNNING:
            if op == "switch":
                self.quiescent(i)
                cpu.switch()
            elif op.startswith("tick"):
                if cpu.tick():
                    self.unwoken = True
                if op == "tick" and self.unwoken:
                    gen.wake()
                    self.unwoken = False
            elif op == "idle_enter":
                self.quiescent(i)
                cpu.idle_enter()
                self.modes[i] = Mode.IDLE
        assert [gen.cpu(j).mode for j in range(gen.cpus)] == self.modes
        assert gen.nr_online == sum(m is not Mode.OFFLINE for m in self.modes)

    def released_too_early(self):
        return any(owing and self.gen.poll(cookie) for cookie, owing in self.waits)

    def check(self):
        assert not self.released_too_early()

    def settle(self):
        """A fair schedule releases every waiter."""
        if self.unwoken:
            self.gen.wake()
        for _ in range(6):
            for i, mode in enumerate(self.modes):
                if mode is Mode.RUNNING:
                    self.apply("switch", i)
                    self.apply("tick", i)
                    self.check()
        assert all(self.gen.poll(cookie) for cookie, _ in self.waits)


steps = st.lists(st.tuples(st.sampled_from(OPS), st.integers(0, 3)), max_size=80)


@given(cpus=st.integers(1, 4), continuous=st.booleans(), first_generation=st.sampled_from(STARTS),
       first_switches=st.sampled_from(STARTS), offline=st.sets(st.integers(0, 3)), steps=steps)
def test_no_wait_ends_early_and_every_wait_ends(cpus, continuous, first_generation, first_switches, offline, steps):
    gen = mmgen.MmGen(cpus, online=set(range(cpus)) - offline, continuous=continuous, first_generation=first_generation,
                      first_switches=first_switches)
    oracle = Oracle(gen)
    for op, cpu in steps:
        oracle.apply(op, cpu % cpus)
        oracle.check()
    oracle.settle()


@pytest.mark.parametrize(("continuous", "increments"), [(True, 2), (True, 1), (False, 1)])
def test_the_oracle_sees_one_increment_too_few(continuous, increments):
    gen = mmgen.MmGen(2, continuous=continuous, increments=increments)
    oracle = Oracle(gen)
    script = "switch0 tick0 switch0 wait0 switch1 tick1 tick0 switch1 tick1"
    if (continuous, increments) == (False, 1):
        script = "switch0 wait0 tick0 switch1 tick1"
    for step in script.split():
        oracle.apply(step[:-1], int(step[-1]))
    assert oracle.released_too_early()
