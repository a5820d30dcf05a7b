"""How cost grows with the number of CPUs, one thread being all of them; and what a CPU takes in memory."""
import gc
import statistics

import host
import mmgen
import pytest

SIZES = [2**k for k in range(1, 21)]
ROUNDS = 5
OPERATIONS = 400_000                            # in a round, of some 5 ms; more where there are more CPUs


def per_operation(meter, n):
    """The median ns of an operation, of `ROUNDS` rounds of n."""
    return statistics.median(meter.round(n, 0)[0] / n for _ in range(ROUNDS))


@pytest.mark.benchmark(disable_gc=True)
def test_growth(benchmark, ours, rows, core):
    """Four curves, ns against CPUs: a switch, a tick nobody waits for, a switch and a tick that counts, and a generation of them all."""
    rows.more["growth"] = {"cpus": SIZES, "switch": [], "tick": [], "counted": [], "generation": []}
    benchmark.pedantic(lambda: [one_size(ours, rows.more["growth"], cpus) for cpus in SIZES], rounds=1)
    rows.notes.append(f"growth: {len(SIZES)} sizes up to {SIZES[-1]:,} CPUs, for docs/performance.md")


def one_size(ours, growth, cpus):
    batch, meter = ours["batches"].Batch, ours["meter"].Meter
    # Every CPU once at least; whole generations.
    n = max(OPERATIONS // cpus, 1) * cpus
    on_demand, continuous = mmgen.MmGen(cpus), mmgen.MmGen(cpus, continuous=True)
    for name, gen in (("switch", on_demand), ("tick", on_demand), ("counted", continuous)):
        growth[name].append(per_operation(meter(batch(f"sweep_{name}", gen)), n))
    generation = continuous.generation
    assert generation >= ROUNDS * n // cpus                 # all that should count did
    assert on_demand.generation == 0
    growth["generation"].append(per_operation(meter(batch("turnover", on_demand)), n // cpus))
    assert on_demand.generation >= ROUNDS * (n // cpus)


def test_memory(benchmark, ours, rows):
    """Resident bytes a CPU, of a domain of a million that are online, and the size that is declared."""
    found = []

    def measure():
        gc.collect()
        before = host.resident()
        gen = mmgen.MmGen(2**20)
        found.append((host.resident() - before) / gen.cpus)

    benchmark.pedantic(measure, rounds=3)
    rows.more["memory"] = {"bytes_per_cpu": ours["batches"].sizeof_mm_cpu(), "resident_per_cpu": max(found)}
    rows.notes.append(f"memory per CPU: {rows.more['memory']['bytes_per_cpu']} bytes, resident {max(found):.1f}; to be 64")
