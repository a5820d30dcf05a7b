"""What a grace period costs on a machine of 8 CPUs with a tick at 250 Hz, in virtual time: by how long a task runs at a time."""
import random

import mmgen
import mmgen.simpy
import simpy

CPUS, TASKS, HZ, SECONDS = 8, 4, 250, 10


class Object:
    """What tasks find and an updater replaces. A CPU holds what its task found, lazily, until it switches or idles."""
    freed = False


def machine(run_ms):
    """How long grace periods take where a task runs for `run_ms` ms on average, and then sleeps."""
    env, rng = simpy.Environment(), random.Random(1)                # its time is in ms
    gen = mmgen.simpy.SimMmGen(env, CPUS, hz=HZ, unit=1e-3)
    published, holds = Object(), [None] * CPUS

    def task(cpu, core):
        while True:
            yield env.timeout(rng.expovariate(1 / (2 * run_ms)))    # sleeps
            with core.request() as turn:
                yield turn
                if cpu.mode is mmgen.Mode.IDLE:
                    cpu.idle_exit()
                cpu.switch()
                holds[cpu.index] = published                        # and no longer what it held before
                yield env.timeout(rng.expovariate(1 / run_ms))      # runs
                assert not holds[cpu.index].freed
            if not core.queue:                                      # it is nobody else's turn
                holds[cpu.index] = None
                cpu.idle_enter()

    def updater():
        nonlocal published
        while True:
            yield env.timeout(rng.expovariate(1 / 20))
            old, published = published, Object()                    # from here on nobody finds the old one
            yield gen.grace_period()
            assert old not in holds
            old.freed = True

    for i in range(CPUS):
        core = simpy.Resource(env)
        for _ in range(TASKS):
            env.process(task(gen.cpu(i), core))
    env.process(updater())
    env.run(until=SECONDS * 1000)
    return gen.stats().wait_latency


print("a task runs   grace periods    p50 ms  ticks    max ms  ticks")
for run_ms in (0.5, 10):
    took = machine(run_ms)
    p50, longest = took.percentile_ns(50) / 1e6, took.max_ns / 1e6
    print(f"{run_ms:8} ms {took.count:15} {p50:9.1f} {p50 * HZ / 1000:6.1f} {longest:9.1f} {longest * HZ / 1000:6.1f}")
