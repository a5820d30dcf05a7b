"""simulate() as a user calls it: what it takes and refuses, Ctrl-C, memory, its result."""
import json
import os
import pickle
import signal
import threading
import time

import numpy as np
import pytest
from mmgen.lab import Case, Costs, Generation, Load, Refcount, Shootdown, simulate
from mmgen.lab.simulate import MM_BYTES


@pytest.mark.parametrize(("make", "says"), [
    (lambda: Case(cpus=0), "cpus=0 is out of range: 1 to 65536"),
    (lambda: Case(cpus=65_537), "cpus=65537 is out of range: 1 to 65536"),
    (lambda: Case(hz=10_001), "hz=10001 is out of range: 1 to 10000"),
    (lambda: Case(seconds=0), r"seconds=0 is out of range: 1e-06 to 100000"),
    (lambda: Case(seconds=float("nan")), r"seconds=nan is out of range"),
    (lambda: Case(seed=-1), "seed=-1 is out of range: 0 to 18446744073709551615"),
    (lambda: Load(kind="fibers"), "kind='fibers' is none of processes, threads"),
    (lambda: Load(mms=65), "mms=65 is out of range: 1 to 64"),
    (lambda: Load(kind="threads", mms=65_537), "mms=65537 is out of range: 1 to 65536"),
    (lambda: Load(switch_us=0), r"switch_us=0 is out of range: 0.001 to 1e\+09"),
    (lambda: Load(idle=1.5), "idle=1.5 is out of range: 0 to 1"),
    (lambda: Load(idle=0.6, kthread=0.5), "idle=0.6 and kthread=0.5 are together more than 1"),
    (lambda: Load(kind="threads", exits=0.1), "exits and migrate go with kind='processes'"),
    (lambda: Load(waiters=10**7), "waiters=10000000 is out of range: 0 to 1000000"),
    (lambda: Costs(line=-1), "line=-1 is out of range: 0 to 1000000000"),
    (lambda: Refcount(broken="no-ipi"), "broken='no-ipi' is none of no-grab"),
    (lambda: Generation(idle="sleep"), "idle='sleep' is none of hang, drop, kick"),
    (lambda: Generation(patience=0), "patience=0 is out of range: 1 to 4294967295"),
])
def test_out_of_range(make, says):
    with pytest.raises(ValueError, match=f"^{says}"):
        make()


@pytest.mark.parametrize(("make", "says"), [
    (lambda: Case(cpus=1.5), "cpus=1.5 is of type float, not a whole number"),
    (lambda: Case(policy="refcount"), "policy='refcount' is of type str: not one of mmgen.lab's"),
    (lambda: Case(load=None), "load=None is of type NoneType"),
    (lambda: Load(switch_us="10"), "switch_us='10' is of type str, not a number"),
    (lambda: Costs(line=1.5), "line=1.5 is of type float"),
    (lambda: simulate(7), "case=7: a mmgen.lab.Case and nothing else"),
    (lambda: simulate(Case(), cpus=2), "a mmgen.lab.Case and nothing else"),
    (lambda: simulate(cores=2), "unexpected keyword argument 'cores'"),
])
def test_of_a_wrong_type(make, says):
    with pytest.raises(TypeError, match=says):
        make()


def test_a_case_and_its_fields_are_the_same():
    assert simulate(Case(cpus=3, seconds=0.01)) == simulate(cpus=3, seconds=0.01)


def test_a_result_in_full():
    r = simulate(cpus=8, hz=1000, seconds=0.1, policy=Generation(), load=Load(exits=0.05, idle=0.1))
    plain = json.loads(json.dumps(r.to_dict()))
    assert plain["case"]["policy"] == {"name": "generation", "idle": "drop", "patience": 4, "continuous": False, "broken": None}
    assert plain["case"]["load"]["exits"] == 0.05
    assert plain["switches_per_s"] == pytest.approx(r.switches / 0.1)
    assert plain["held_bytes_peak"] == r.held_peak * MM_BYTES
    assert plain["latency_percentiles_ns"]["p50"] <= plain["latency_percentiles_ns"]["p99"] <= plain["latency_percentiles_ns"]["max"]
    assert plain["generations"] > 0
    assert plain["cpu_ticks_per_wall_s"] == pytest.approx(r.ticks / r.wall_s)
    assert plain["events_per_wall_s"] > plain["cpu_ticks_per_wall_s"]
    rows = r.histogram()
    assert rows.dtype == np.int64
    assert rows[:, 2].sum() == r.frees
    assert pickle.loads(pickle.dumps(r)) == r           # to be sent between processes


def test_a_result_of_nothing():
    r = simulate(cpus=1, seconds=1e-6, load=Load(switch_us=1e6), policy=Shootdown())
    assert r.histogram().shape == (0, 3)
    assert r.overhead_ns_per_switch == 0
    assert r.latency_percentiles_ns == {"p50": None, "p90": None, "p99": None, "max": None}


def test_ticks_stop_while_idle_and_are_spread_over_the_period():
    busy = simulate(cpus=10, hz=100, seconds=0.5, load=Load(switch_us=1000))
    assert busy.ticks == 10 * 50
    assert simulate(cpus=10, hz=100, seconds=0.005, load=Load(switch_us=1000)).ticks == 5
    idle = simulate(cpus=10, hz=100, seconds=0.5, load=Load(switch_us=1000, idle=1, idle_us=9000, distribution="exponential"))
    assert 0.05 * 500 < idle.ticks < 0.15 * 500


@pytest.mark.parametrize(("distribution", "us", "least", "most"), [
    ("fixed", 100, 10_000, 10_000), ("exponential", 100, 9_500, 10_500),
    ("bursty", 100 * 0.9 + 10_000 * 0.1, 850, 1_000),           # one task in ten lasts 10 ms
])
def test_distributions_have_the_mean_that_they_say(distribution, us, least, most):
    r = simulate(cpus=100, seconds=1, policy=Shootdown(), load=Load(switch_us=100, distribution=distribution, burst=10, pause_us=10_000))
    assert least <= r.switches / 100 <= most
    assert r.switches / 100 == pytest.approx(1e6 / us, rel=0.1)


def test_bursts_are_bursts():
    """In a burst tasks are as short as without it: so the number in 10 ms varies more than the mean tells."""
    def spread(distribution):
        numbers = [simulate(cpus=1, seconds=0.01, seed=seed, policy=Shootdown(), load=Load(
            switch_us=1090 if distribution == "exponential" else 100, distribution=distribution, burst=10, pause_us=10_000)).switches
            for seed in range(200)]
        return np.var(numbers) / np.mean(numbers)
    assert spread("exponential") < 2
    assert spread("bursty") > 4


def test_a_shared_count_bounds_the_rate_and_nothing_else_does():
    """As many threads as CPUs, each switch into idle and out of it: the count's line is handed on every line + atomic ns, and no faster."""
    load = Load(kind="threads", mms=1, switch_us=1.6, idle=1.0, idle_us=1.6)
    counted = simulate(cpus=192, seconds=0.005, policy=Refcount(), load=load, costs=Costs(line=1000))
    assert counted.rates["switches_per_s"] == pytest.approx(1e9 / 1002, rel=0.05)
    assert counted.lines == pytest.approx(counted.atomics, rel=0.01)
    for policy in Shootdown(), Generation(), Generation(idle="hang"):
        free = simulate(cpus=192, seconds=0.005, policy=policy, load=load, costs=Costs(line=1000))
        assert free.rates["switches_per_s"] > 100 * counted.rates["switches_per_s"]


def test_ctrl_c_stops_it_within_50_ms():
    """Of 100,000 virtual seconds; with the result so far. The time is from the signal to the exception."""
    sent = []

    def send():
        time.sleep(0.3)
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    for load in Load(switch_us=None, waiters=1), Load(exits=0.1, idle=0.3, migrate=0.1):
        late = []
        for _ in range(5):                              # the machine may be busy: one that is in time will do
            thread = threading.Thread(target=send)
            thread.start()
            with pytest.raises(KeyboardInterrupt) as caught:
                simulate(cpus=65_536, hz=1000, seconds=1e5, load=load)
            late.append(time.monotonic() - sent[-1])
            thread.join()
            r = caught.value.args[0]
            assert 0 < r.seconds < 1e5
            assert r.ticks > 0
            if late[-1] < 0.05:
                break
        assert min(late) < 0.05


def test_it_shows_how_far_it_is():
    seen = []
    simulate(cpus=1000, hz=1000, seconds=1, load=Load(switch_us=500), show=lambda done, seconds: seen.append((done, seconds)))
    assert seen == sorted(seen)
    assert len(seen) > 3
    assert all(0 < done <= 1 and seconds == pytest.approx(done) for done, seconds in seen)


def test_several_at_once():
    """In threads: each is a machine of its own."""
    case = Case(cpus=64, seconds=0.2, load=Load(exits=0.1))
    want = simulate(case)
    results = []
    threads = [threading.Thread(target=lambda: results.append(simulate(case))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [want] * 4


RSS = """
import os, sys
from mmgen.lab import *
def rss():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
n, policy, load = 65_536, eval(sys.argv[1]), eval(sys.argv[2])
simulate(cpus=1, hz=1000, seconds=0.001, policy=policy, load=load)
before, most = rss(), 0
def show(done, seconds):
    global most
    most = max(most, rss())
simulate(cpus=n, hz=1000, seconds=0.02 if load.switch_us is None else 0.1, policy=policy, load=load, show=show)
print((most - before) / n)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux's /proc")
@pytest.mark.unsanitized("measures memory, of which a sanitizer takes much")
@pytest.mark.parametrize("policy", ["Refcount()", "Shootdown()", "Generation()", "Generation(idle='kick')"])
@pytest.mark.parametrize("load", ["Load(switch_us=None, waiters=1)", "Load(switch_us=1000, idle=0.1)"], ids=["ticks", "tasks"])
def test_below_200_bytes_a_cpu(python, policy, load):
    out = python(RSS, policy, load)
    assert out.returncode == 0, out.stderr
    assert 30 < float(out.stdout) < 200
