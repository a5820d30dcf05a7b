"""Each policy on machines so small that every time and count is worked out here, by hand."""
import pytest
from conftest import ALONE
from lab_script import NO, YES, play
from mmgen.lab import Case, Costs, Generation, Load, Refcount, Shootdown

# No Python in what they look at, nor a second thread.
pytestmark = [pytest.mark.once, *ALONE]

COSTS = Costs(line=100, atomic=2, fence=17, ipi=10_600, interrupt=2_000, look=0)
# Tasks of 10 us; CPU 0's first ends at 0, CPU 1's at 5 us, and it is CPU 0 that ticks at 0, and nobody again.
LOAD = {"mms": 1, "switch_us": 10, "distribution": "fixed", "idle": 0.5, "exits": 0.5, "migrate": 0.5}
TO_IDLE, STAY = (NO, YES), (NO, NO, NO)         # exit? idle? and, to a process, take another CPU's?
# CPU 0 goes idle, lazy on mm 1. CPU 1 takes mm 1 from CPU 0, which has mm 2 then; at 15 us mm 1 exits there.
LAZY = [*TO_IDLE, NO, NO, YES, 0.0, YES, NO, NO]


def case(policy, us, load=LOAD, **more):
    return Case(cpus=2, hz=1, seconds=us / 1e6, policy=policy, load=Load(**load | more), costs=COSTS)


def pool(cpus, ns, **costs):
    """CPUs whose threads share one mm, each switch into idle and out of it, 10 us apart."""
    load = Load(kind="threads", mms=1, switch_us=10, idle=1, idle_us=10, distribution="fixed")
    return Case(cpus=cpus, hz=1, seconds=ns / 1e9, policy=Refcount(), load=load, costs=Costs(**{"line": 100, "atomic": 2} | costs))


# ---- refcount

def test_refcount_alone():
    """Switches at 0, 10,002, 20,004, ... 90,018: the count's atomic takes 2 ns of each."""
    r = play(pool(1, 100_000), *[YES] * 5)
    assert (r.switches, r.atomics, r.lines, r.overhead_ns) == (10, 10, 0, 20)
    assert r.rates["switches_per_s"] == pytest.approx(100_000)
    assert r.overhead_ns_per_switch == 2


def test_refcount_two_cpus_hand_the_line_to_and_fro():
    """CPU 0 at 0, 10,002; CPU 1 at 5,000, 15,102. The line is CPU 0's at first."""
    r = play(pool(2, 20_000), YES, YES)
    assert (r.switches, r.atomics, r.lines, r.overhead_ns) == (4, 4, 3, 2 + 3 * 102)


def test_refcount_who_comes_while_the_line_is_on_its_way_waits():
    """CPU 0 has it until 2; CPU 1 from 5,000 to 15,002; CPU 0 asks at 10,002, and has it from 15,002 to 25,004."""
    r = play(pool(2, 15_000, line=10_000), YES, YES)
    assert (r.switches, r.atomics, r.lines) == (3, 3, 2)
    assert r.overhead_ns == 2 + 10_002 + 15_002


def test_refcount_frees_when_the_last_lazy_cpu_leaves():
    """mm 1: CPU 0 grabs it at 0. At 15,000 it exits on CPU 1: grab (102), mmput's drop (2), and the drop as CPU 1 switches away (2). CPU 1
    switches again at 15,106 + 10,000. At 30,002 CPU 0 leaves idle for mm 2, and its drop (102) is the last.
    """
    r = play(case(Refcount(), 35, idle_us=30), *LAZY, *STAY, NO)
    assert (r.switches, r.atomics, r.lines, r.ipis) == (5, 5, 2, 0)
    assert r.overhead_ns == 2 + 106 + 102
    assert (r.exits, r.frees, r.held, r.held_peak) == (1, 1, 0, 1)
    assert r.latency_percentiles_ns["max"] == 30_002 + 102 - 15_000
    assert r.held_mean == (30_002 - 15_000) / 35_000


# ---- shootdown

def test_shootdown_interrupts_who_is_lazy():
    """mm 1 exits at 15,000: the IPI is answered at 25,600, CPU 0 is on init_mm, and the mm freed. CPU 0 leaves idle at 30,000."""
    r = play(case(Shootdown(), 35, idle_us=30), *LAZY, NO)
    assert (r.switches, r.events, r.ipis, r.atomics, r.lines) == (4, 4 + 2, 1, 0, 0)
    assert r.overhead_ns == 10_600 + 2_000
    assert (r.exits, r.frees, r.latency_percentiles_ns["max"]) == (1, 1, 10_600)
    assert r.held_mean == 10_600 / 35_000


@pytest.mark.parametrize(("trim", "ipis"), [(False, 1), (True, 0)])
def test_shootdown_interrupts_who_has_been_there(trim, ipis):
    """CPU 0 has left mm 1 at 8,000, for mm 2: it is in mm_cpumask still, or trimmed."""
    draws = [*LAZY[:6], NO, *LAZY[6:]]
    r = play(case(Shootdown(trim=trim), 17, idle_us=8), *draws)
    assert (r.exits, r.ipis, r.frees) == (1, ipis, not ipis)
    r = play(case(Shootdown(trim=trim), 26, idle_us=8), *draws)
    assert (r.frees, r.latency_percentiles_ns["max"]) == (1, 10_600 * ipis)
    assert r.overhead_ns == ipis * (10_600 + 2_000)


# CPU 0 is unplugged at 10 us, as 0.0 says, while it is lazy on mm 1.
UNPLUGGED = [*LAZY[:6], 0.0, *LAZY[6:]]
HOTPLUG = {"idle_us": 30, "hotplug_per_s": 1e5}


def test_shootdown_an_unplugged_cpu_has_left_the_mm():
    r = play(case(Shootdown(), 16, **HOTPLUG), *UNPLUGGED)
    assert (r.hotplugs, r.exits, r.frees, r.ipis, r.use_after_frees) == (1, 1, 1, 0, 0)
    assert r.latency_percentiles_ns["max"] == 0


def test_shootdown_unfixed_it_has_not():
    """It leaves the mask at 10,000 and mm 1 a millisecond later: the exit at 15,000 finds nobody to interrupt."""
    r = play(case(Shootdown(broken="unfixed-hotplug"), 16, **HOTPLUG), *UNPLUGGED)
    assert (r.exits, r.ipis, r.use_after_frees) == (1, 0, 1)
    assert r.first_use_after_free == (1, 0, 15_000)


# ---- generation

def waiting(policy, seconds, **load):
    """Ticks of CPU 0 at 0, 1, 2, ... ms, of CPU 1 in between; an mm that no CPU uses exits at 0, by CPU 1."""
    return Case(cpus=2, hz=1000, seconds=seconds, policy=policy, load=Load(mms=1, waiters=1, distribution="fixed", **load), costs=COSTS)


def test_generation_two_of_them_free_an_mm():
    """A switch at each tick. Nobody waited: both CPUs count for generation 0 (0, 0.5 ms), then for 1 (1, 1.5 ms): freed by CPU 1, whose
    tick has fenced (17) and fetched the count's line (102). The next exits at once, and takes 2 ms. No CPU has idled, so nobody looks for
    one, nor takes the lock for that.
    """
    r = play(waiting(Generation(), 0.004, switch_us=None))
    assert (r.ticks, r.switches, r.generations, r.exits, r.frees, r.grace_periods) == (8, 8, 4, 3, 2, 2)
    assert r.latencies[0][2] == 1
    assert r.latency_percentiles_ns["max"] == 2_000_000 + 17 + 102
    first = play(waiting(Generation(), 0.0016, switch_us=None))
    assert first.latency_percentiles_ns["max"] == 1_500_000 + 17 + 102
    # Lock: exit by CPU 1 and by CPU 0 (102 each, fetched). Ticks: a generation fetched, fence, count (100 + 17 + 102), but for CPU 1 at
    # 1.5 ms, which has opened generation 1 itself.
    assert first.overhead_ns == 102 + 102 + 219 + 219 + 219 + 119
    # Locks 2, generations 3, counts 4.
    assert first.lines == 2 + 3 + 4
    assert first.atomics == 2 + 4
    assert r.looks == 0


# CPU 0 goes idle at 0 for 10 ms; CPU 1 switches to and fro.
IDLE = {"switch_us": 400, "idle": 0.5, "idle_us": 10_000, "waiter_us": 1e6}


def test_generation_an_idle_cpu_hangs_the_sketch():
    """CPU 0 counts for generation 0 at 10 ms, when it is back, and for 1 at 11 ms."""
    r = play(waiting(Generation(idle="hang"), 0.012, **IDLE), YES)
    assert (r.frees, r.generations, r.ipis) == (1, 2, 0)
    assert r.latency_percentiles_ns["max"] == 11_000_000 + 17 + 102
    assert r.looks == 0


def test_generation_an_idle_cpu_drops_its_mm():
    """CPU 0 is credited as it goes idle, and in generation 1: CPU 1's ticks at 0.5 and 1.5 ms are all. The lock comes from CPU 0 once."""
    r = play(waiting(Generation(idle="drop"), 0.002, **IDLE), YES)
    assert (r.frees, r.generations, r.ipis) == (1, 2, 0)
    assert r.latency_percentiles_ns["max"] == 1_500_000 + 17 + 2 + 2
    # The exit: the lock. CPU 0: its mode, and finds itself; the lock (when the exit is done with it, at 102); hold, look at CPU 1, claim,
    # credit, release. CPU 1 at 0.5 ms: counts, finds CPU 0, and the same. At 1.5 ms: counts, finds it and takes the lock; nobody waits.
    assert r.atomics == 1 + (1 + 1 + 4) + (1 + 1 + 4) + (1 + 1)
    assert r.lines == 1 + (1 + 1 + 1 + 1) + (2 + 1 + 1 + 1) + 1
    assert r.looks == 2 + 2 + 1
    assert r.overhead_ns == 102 + (102 + 102 + 102 + 3 * 2) + (100 + 17 + 102 + 102 + 4 * 2) + (17 + 2 + 2)


def test_generation_the_last_to_idle_opens_them_all():
    """CPU 0 idles at 0, and CPU 1 at 0.2 ms and the 102 ns that the exit took: it claims both, its own credit opens generation 1; both
    again, two credits: generation 2, and the mm is freed.
    """
    r = play(waiting(Generation(idle="drop"), 0.0003, **IDLE), YES, YES)
    assert (r.frees, r.generations, r.ticks) == (1, 2, 0)
    # Its mode; a look that finds CPU 0; the lock; hold, a look at itself, 2 claims, a credit, release; hold, 2 claims, 2 credits, release.
    took = (2 + 17) + 102 + (102 + 2 * 2 + 2 + 2) + (2 + 2 * 2 + 2 * 2 + 2)
    assert r.latency_percentiles_ns["max"] == 200_000 + 102 + took
    assert r.overhead_ns == 102 + (102 + 102 + 102 + 3 * 2) + took
    assert r.atomics == 1 + (1 + 1 + 4) + (1 + 1 + 5 + 6)
    assert r.lines == 1 + 4 + (1 + 1 + 1 + 1)
    assert r.looks == 2 + 2


def test_generation_an_idle_cpu_is_kicked():
    """CPU 1 counts at 0.5 ms; at 1.5 and 2.5 ms it has nothing to count: patience 2 is out, the IPI is answered 10.6 us later. So again."""
    r = play(waiting(Generation(idle="kick", patience=2), 0.006, **IDLE), YES)
    assert (r.frees, r.generations, r.ipis) == (1, 2, 2)
    assert r.latency_percentiles_ns["max"] == 5_510_600 + 2_000 + 17 + 102 + 102
    assert r.looks == 2 * 2                         # at both, to see who owes


def test_generation_more_patience_takes_longer():
    took = [play(waiting(Generation(idle="kick", patience=n), 0.009, **IDLE), YES).latency_percentiles_ns["max"] for n in (1, 2, 3)]
    assert [ns // 500_000 for ns in took] == [7, 11, 15]
