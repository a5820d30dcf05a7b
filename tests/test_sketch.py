"""The faults of the sketch, each shown on its transliteration, and its absence on ours. Fault 8 is typos and gaps: by reading."""
import mmgen
import pytest
from sketch import Sketch

FAULT_1 = "switch0 tick0 switch0 WAIT switch1 tick1 tick0 switch1 tick1"


def play(domain, script, begin_wait):
    """Run `script` step by step; (whether the wait has returned, CPU 0's switches at WAIT, and at the end)."""
    ended = at_wait = None
    switches = 0
    for step in script.split():
        if step == "WAIT":
            ended, at_wait = begin_wait(), switches
        elif step.startswith("switch"):
            domain.switch(int(step[6:]))
            switches += step == "switch0"
        elif domain.tick(int(step[4:])) and hasattr(domain, "wake"):
            domain.wake()
    return ended(), at_wait, switches


def begin(gen):
    def wait():
        cookie = gen.start_poll()
        return lambda: gen.poll(cookie)

    return wait


def test_1_the_sketch_releases_a_waiter_before_cpu_0_has_switched():
    sketch = Sketch(2, complete=2, owing=True)
    assert play(sketch, FAULT_1, sketch.wait) == (True, 2, 2)


@pytest.mark.parametrize("continuous", [False, True])
def test_1_ours_waits_for_cpu_0(continuous):
    gen = mmgen.MmGen(2, continuous=continuous)
    assert play(gen, FAULT_1, begin(gen)) == (False, 2, 2)
    cookie_ended = begin(gen)
    assert not cookie_ended()()


def test_1_two_increments_have_the_fault_on_our_machinery_too():
    gen = mmgen.MmGen(2, continuous=True, increments=2)
    assert play(gen, FAULT_1, begin(gen)) == (True, 2, 2)


@pytest.mark.parametrize("continuous", [False, True])
def test_1_step_by_step(continuous):
    gen = mmgen.MmGen(2, continuous=continuous)
    gen.switch(0)
    assert not gen.tick(0)
    gen.switch(0)
    cookie = gen.start_poll()
    assert cookie.generation == (3 if continuous else 2)
    gen.switch(1)
    assert gen.tick(1) == continuous            # on demand CPU 0's tick came before anybody waited, and did not count
    assert gen.generation == continuous
    assert gen.tick(0) != continuous
    gen.switch(1)
    assert gen.tick(1) == continuous
    assert gen.generation == 1 + continuous
    assert not gen.poll(cookie)                # CPU 0 has not switched since the wait began
    gen.switch(0)
    assert gen.tick(0) != continuous
    if continuous:
        gen.switch(1)
        assert gen.tick(1)
    assert gen.poll(cookie)


def turns(domain, cpus, rounds=50):
    for _ in range(rounds):
        for cpu in cpus:
            domain.switch(cpu)
            domain.tick(cpu)


def test_2_counters_that_start_at_0_never_complete_a_generation():
    sketch = Sketch(2, complete=2)
    turns(sketch, [0, 1])
    assert sketch.generation == 0
    gen = mmgen.MmGen(2, continuous=True)
    turns(gen, [0, 1])
    assert gen.generation == 50


def test_3_complete_that_starts_at_minus_1_counts_away_from_0():
    sketch = Sketch(2, owing=True)
    turns(sketch, [0, 1])
    assert sketch.generation == 0
    assert sketch.complete == -3


def test_4_past_2_to_32_the_sketch_returns_at_once():
    assert Sketch(2, generation=2**32).wait()()
    gen = mmgen.MmGen(2, first_generation=2**32)
    assert not begin(gen)()()


def test_5_a_cpu_that_leaves_hangs_the_sketch():
    sketch = Sketch(2, complete=2, owing=True)
    ended = sketch.wait()
    turns(sketch, [0, 1], 1)
    sketch.online.remove(1)
    turns(sketch, [0])
    assert not ended()

    gen = mmgen.MmGen(2)
    ended = begin(gen)()
    turns(gen, [0, 1], 1)
    gen.cpu(1).offline()
    turns(gen, [0])
    assert ended()


def test_5_a_cpu_that_arrives_completes_a_generation_of_the_sketch_for_another():
    sketch = Sketch(2, complete=2, owing=True)
    sketch.online.add(2)
    turns(sketch, [1, 2], 1)
    assert sketch.generation == 1               # without CPU 0

    gen = mmgen.MmGen(3, online=2, continuous=True)
    gen.cpu(2).online()
    turns(gen, [1, 2])
    assert gen.generation == 0


def test_6_an_idle_cpu_hangs_the_sketch():
    sketch = Sketch(2, complete=2, owing=True)
    ended = sketch.wait()
    turns(sketch, [0], 1000)
    assert not ended()

    gen = mmgen.MmGen(2)
    gen.cpu(1).idle_enter()
    ended = begin(gen)()
    assert not ended()
    for _ in range(3):
        gen.switch(0)
        if gen.tick(0):
            gen.wake()
    assert ended()


def test_7_the_sketch_counts_though_nobody_waits():
    sketch = Sketch(2, complete=2, owing=True)
    turns(sketch, [0, 1], 10)
    assert sketch.generation == 10
    gen = mmgen.MmGen(2)
    turns(gen, [0, 1], 10)
    assert gen.generation == 0
