"""A machine in virtual time, its loop compiled by numba: mmgen's functions are called through their addresses, without Python."""
import mmgen
import numba
import numpy

CPUS, TICK_US, SECONDS = 16, 4000, 5


def machine(gen, slice_us):
    """The microseconds that each grace period took, one after the other, where a CPU switches about every slice_us."""
    api, g = gen.ctypes.api, gen.ctypes.address
    switch, quiet_tick, wake = api.mm_switch, api.mm_gen_tick, api.mm_gen_wake
    start_poll, poll = api.mm_gen_start_poll, api.mm_gen_poll

    @numba.njit
    def loop(g, seed):
        numpy.random.seed(seed)
        until = numpy.zeros(CPUS)
        took = []
        begun = 0
        cookie = start_poll(g)
        for now in range(SECONDS * 1_000_000):
            for cpu in range(CPUS):
                if until[cpu] <= now:
                    switch(g, cpu)
                    until[cpu] = now + numpy.random.exponential(slice_us)
                if (now + cpu * TICK_US // CPUS) % TICK_US == 0 and quiet_tick(g, cpu):
                    wake(g)
            if poll(g, cookie):
                took.append(now - begun)
                begun = now
                cookie = start_poll(g)
        return took

    return numpy.array(loop(g, 1))


if __name__ == "__main__":
    for slice_us in (1_000, 10_000, 100_000):
        with mmgen.MmGen(CPUS) as gen:
            took = machine(gen, slice_us) / TICK_US
            print(f"a switch every {slice_us / 1000:5.1f} ms: {len(took):3} grace periods, "
                  f"median {numpy.median(took):4.1f} ticks, longest {took.max():5.1f}")
