# cython: language_level=3
"""Each operation n times in one nogil loop, so that what is timed is the operation and not its call from Python."""
from libc.stdint cimport uint64_t

from mmgen cimport MmGen, mm_gen_idle_enter, mm_gen_idle_exit, mm_gen_start_poll, mm_gen_tick, mm_gen_wake, mm_switch

cdef extern from *:
    """
    #define KEEP(x) __asm__ __volatile__("" : "+r"(x) : : "memory")
    """
    void KEEP(uint64_t) nogil


def empty(uint64_t n):
    """The floor."""
    cdef uint64_t i
    with nogil:
        for i in range(n):
            KEEP(i)


def increment(uint64_t n):
    """A bare per-CPU counter, in memory."""
    cdef uint64_t i, counter = 0
    cdef volatile uint64_t *word = &counter
    with nogil:
        for i in range(n):
            word[0] = word[0] + 1
            KEEP(i)


def switch(MmGen gen, uint64_t n):
    """mm_switch."""
    cdef uint64_t i
    with nogil:
        for i in range(n):
            mm_switch(gen.g, 0)
            KEEP(i)


def tick(MmGen gen, uint64_t n):
    """mm_gen_tick; while nobody waits, unless the domain is continuous."""
    cdef uint64_t i
    with nogil:
        for i in range(n):
            mm_gen_tick(gen.g, 0)
            KEEP(i)


def counted(MmGen gen, uint64_t n):
    """A switch and a tick that counts and, on a continuous domain of one CPU, opens a generation."""
    cdef uint64_t i
    with nogil:
        for i in range(n):
            mm_switch(gen.g, 0)
            mm_gen_tick(gen.g, 0)


def grace(MmGen gen, uint64_t n):
    """A whole grace period of a domain of one CPU: start_poll, and twice a switch, a tick and a wake."""
    cdef uint64_t i
    with nogil:
        for i in range(n):
            mm_gen_start_poll(gen.g)
            mm_switch(gen.g, 0)
            mm_gen_tick(gen.g, 0)
            mm_gen_wake(gen.g)
            mm_switch(gen.g, 0)
            mm_gen_tick(gen.g, 0)
            mm_gen_wake(gen.g)


def idle(MmGen gen, uint64_t n):
    """Into idle and out, while nobody waits."""
    cdef uint64_t i
    with nogil:
        for i in range(n):
            mm_gen_idle_enter(gen.g, 0)
            mm_gen_idle_exit(gen.g, 0)
