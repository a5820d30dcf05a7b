"""The virtual machine's speed on its reference case, and SimPy's on the same model, in one run: pytest benchmarks/test_lab.py.

The reference case: one switch with each tick of each CPU, and one waiter that always waits.
"""
import mmgen
import pytest

lab = pytest.importorskip("mmgen.lab", reason="needs numpy", exc_type=ImportError)

HZ = 1000
SIMPY_CPUS = 64
SIMPY_S = 0.5                           # of virtual time: what SimPy does in a tenth of a second
medians = {}                            # CPU-ticks a second of the median round, by who did them


def reference(cpus, seconds):
    return lab.simulate(cpus=cpus, hz=HZ, seconds=seconds, policy=lab.Generation(), load=lab.Load(switch_us=None, waiters=1))


def in_simpy(seconds):
    """A process for each CPU, an event for each of its ticks: how many ticks and generations there were, and how many waits ended."""
    simpy = pytest.importorskip("simpy")
    environment, gen = simpy.Environment(), mmgen.MmGen(SIMPY_CPUS, reclaimer=False)
    cookie, ticks, waits = gen.start_poll(), 0, 0

    def run(index):
        nonlocal cookie, ticks, waits
        cpu = gen.cpu(index)
        cpu.switch()
        yield environment.timeout(index / SIMPY_CPUS / HZ)
        while True:
            ticks += 1
            if cpu.tick():
                gen.wake()
                if gen.poll(cookie):
                    waits += 1
                    cookie = gen.start_poll()
            cpu.switch()
            yield environment.timeout(1 / HZ)

    for index in range(SIMPY_CPUS):
        environment.process(run(index))
    environment.run(until=seconds - 0.5 / SIMPY_CPUS / HZ)              # between two ticks, whatever adding up floats does
    return ticks, gen.generation, waits


def measured(benchmark, name, ticks, call, *args, rounds):
    benchmark.pedantic(call, args, rounds=rounds, warmup_rounds=1)
    if benchmark.stats:
        medians[name] = ticks / benchmark.stats.stats.median
        benchmark.extra_info["cpu_ticks_per_s"] = round(medians[name])


@pytest.mark.parametrize(("cpus", "seconds", "least"), [(64, 60.0, 100e6), (1024, 4.0, 60e6), (65_536, 0.1, 30e6)])
def test_reference_case(benchmark, cpus, seconds, least):
    ticks = round(cpus * HZ * seconds)
    assert reference(cpus, seconds).ticks == ticks
    measured(benchmark, cpus, ticks, reference, cpus, seconds, rounds=20)
    if benchmark.stats:
        assert ticks / benchmark.stats.stats.min > least                # others may be at work on this machine


def test_reference_case_in_simpy(benchmark):
    ticks, generations, waits = in_simpy(SIMPY_S)
    same = reference(SIMPY_CPUS, SIMPY_S)
    assert (ticks, generations, waits) == (same.ticks, same.generations, same.frees)
    measured(benchmark, "simpy", ticks, in_simpy, SIMPY_S, rounds=5)


def test_fifty_times_simpy():
    if not {SIMPY_CPUS, "simpy"} <= medians.keys():
        pytest.skip("needs both measured in this run")
    assert medians[SIMPY_CPUS] > 50 * medians["simpy"]


@pytest.mark.parametrize("policy", [lab.Refcount(), lab.Shootdown(), lab.Generation()], ids=lambda policy: policy.name)
def test_tasks_of_random_length(benchmark, policy):
    """What goes by the timer wheel: half of the switches are into idle, and processes exit."""
    load = lab.Load(switch_us=100, idle=0.5, idle_us=100, exits=0.01, migrate=0.01)
    r = lab.simulate(cpus=256, hz=250, seconds=0.2, policy=policy, load=load)
    measured(benchmark, policy.name, r.ticks, lambda: lab.simulate(r.case), rounds=5)
    if benchmark.stats:
        benchmark.extra_info["events_per_s"] = round((r.events + r.ticks) / benchmark.stats.stats.median)
