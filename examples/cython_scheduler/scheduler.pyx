# cython: language_level=3
"""A machine whose CPUs switch between tasks of two address spaces each, in virtual time; what a grace period of it takes."""
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from mmgen cimport MmGen, import_mmgen, mm_gen_poll, mm_gen_start_poll, mm_gen_tick, mm_gen_wake, mm_switch

import mmgen

import_mmgen()                              # ImportError if the mmgen that is installed is not the one this was compiled with

cdef struct cpu_state:
    uint64_t until                          # when the task that runs has used up its slice, in us
    uint64_t tick                           # when the next tick is due
    uint64_t random
    uint32_t mm                             # whose address space is loaded

cdef uint64_t draw(cpu_state *c, uint64_t below) noexcept nogil:        # xorshift64
    c.random ^= c.random << 13
    c.random ^= c.random >> 7
    c.random ^= c.random << 17
    return c.random % below

cdef void schedule(MmGen gen, cpu_state *c, uint32_t cpu, uint64_t now, uint64_t slice_us) noexcept nogil:
    cdef uint32_t mm = draw(c, 2)           # the next task's
    if mm != c.mm:
        c.mm = mm
        mm_switch(gen.g, cpu)
    c.until = now + 1 + draw(c, 2 * slice_us)

def simulate(uint32_t cpus, uint64_t seconds, uint64_t slice_us, uint64_t hz=250):
    """[how many microseconds each grace period took], one after the other, on a machine of so many CPUs."""
    cdef MmGen gen = mmgen.MmGen(cpus)
    cdef cpu_state *c = <cpu_state *>malloc(cpus * sizeof(cpu_state))
    cdef uint64_t now, cookie, begun = 0, took = 0, end = seconds * 1000000, tick_us = 1000000 // hz
    cdef uint32_t cpu
    for cpu in range(cpus):                 # ticks are spread over a tick's time, as Linux's skew_tick does
        c[cpu] = cpu_state(until=0, tick=1 + cpu * tick_us // cpus, random=cpu + 1, mm=0)
    periods = []
    cookie = mm_gen_start_poll(gen.g)
    with nogil:
        for now in range(end):
            for cpu in range(cpus):
                if c[cpu].until <= now:
                    schedule(gen, &c[cpu], cpu, now, slice_us)
                if c[cpu].tick <= now:
                    c[cpu].tick += tick_us
                    if mm_gen_tick(gen.g, cpu):
                        mm_gen_wake(gen.g)
            if mm_gen_poll(gen.g, cookie):
                took, begun = now - begun, now
                cookie = mm_gen_start_poll(gen.g)
                with gil:
                    periods.append(took)
    free(c)
    return periods
