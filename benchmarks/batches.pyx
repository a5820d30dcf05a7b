# cython: language_level=3, freethreading_compatible=True
"""mmgen's own operations, each in a loop (loop.h), inlined as in any Cython module that cimports them."""
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport uint8_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memset

from loop cimport KEEP, loop
from mmgen cimport (
    MM_OP_SWITCH, MmGen, mm_cpu, mm_gen, mm_gen_check, mm_gen_idle_enter, mm_gen_idle_exit, mm_gen_poll, mm_gen_quiescent, mm_gen_run,
    mm_gen_start_poll, mm_gen_tick, mm_gen_wait, mm_gen_wake, mm_op, mm_switch,
)

from mmgen._capi import _C_API

cdef enum:
    SWITCHES_A_TICK = 1000
    OPS = 4096                          # of a batch
    CPUS_OF_A_BATCH = 64

cdef struct target:
    const void *mmgen                   # the function table, for table.c
    mm_gen *g                           # the first two as it has them
    uint32_t cpu, nr_cpus               # which; of a sweep, where it is, and how many there are


cdef void switch_run(void *arg, uint64_t n) noexcept nogil:
    cdef mm_gen *g = (<target *>arg).g
    cdef uint32_t cpu = (<target *>arg).cpu
    cdef uint64_t _i
    for _i in range(n):
        mm_switch(g, cpu)
        KEEP()


cdef mm_op switches[OPS]                # one on each CPU in turn; written when the first Batch is made


# Both passes of a batch of Python's: it is checked, and applied.
cdef void batch_run(void *arg, uint64_t n) noexcept nogil:
    cdef mm_gen *g = (<target *>arg).g
    cdef uint8_t modes[CPUS_OF_A_BATCH]
    cdef size_t nr
    while n:
        nr = min(n, <uint64_t>OPS)
        memset(modes, 0, sizeof(modes))
        if mm_gen_check(g, switches, nr, modes, CPUS_OF_A_BATCH) == nr:
            mm_gen_run(g, switches, nr)
        n -= nr


cdef void tick_run(void *arg, uint64_t n) noexcept nogil:
    cdef mm_gen *g = (<target *>arg).g
    cdef uint32_t cpu = (<target *>arg).cpu
    cdef uint64_t _i
    for _i in range(n):
        mm_gen_tick(g, cpu)
        KEEP()


# Switches with a tick now and then, as a CPU has them; and the wake, if it is due.
cdef void ticked_run(void *arg, uint64_t n) noexcept nogil:
    cdef mm_gen *g = (<target *>arg).g
    cdef uint32_t cpu = (<target *>arg).cpu
    cdef uint64_t _i
    while n:
        for _i in range(min(n, <uint64_t>SWITCHES_A_TICK)):
            mm_switch(g, cpu)
            KEEP()
        n -= min(n, <uint64_t>SWITCHES_A_TICK)
        if mm_gen_tick(g, cpu):
            mm_gen_wake(g)


cdef void quiescent_run(void *arg, uint64_t n) noexcept nogil:
    cdef mm_gen *g = (<target *>arg).g
    cdef uint32_t cpu = (<target *>arg).cpu
    cdef uint64_t _i
    for _i in range(n):
        mm_gen_quiescent(g, cpu)
        KEEP()


cdef void wait_run(void *arg, uint64_t n) noexcept nogil:
    cdef mm_gen *g = (<target *>arg).g
    cdef uint64_t _i
    for _i in range(n):
        mm_gen_wait(g, -1)
        KEEP()


cdef void idle_run(void *arg, uint64_t n) noexcept nogil:
    cdef mm_gen *g = (<target *>arg).g
    cdef uint32_t cpu = (<target *>arg).cpu
    cdef uint64_t _i
    for _i in range(n):
        mm_gen_idle_enter(g, cpu)
        mm_gen_idle_exit(g, cpu)
        KEEP()


# A whole grace period of a domain of one CPU: start_poll, and twice a switch, a tick that counts and opens, and a wake.
cdef void grace_run(void *arg, uint64_t n) noexcept nogil:
    cdef mm_gen *g = (<target *>arg).g
    cdef uint64_t _i
    for _i in range(n):
        mm_gen_start_poll(g)
        mm_gen_quiescent(g, 0)
        mm_gen_quiescent(g, 0)
        KEEP()


# One thread is one CPU after another, as a simulator is. An operation is one CPU's.
cdef inline uint32_t after(target *t, uint32_t cpu) noexcept nogil:
    return cpu + 1 if cpu + 1 < t.nr_cpus else 0


cdef void sweep_switch_run(void *arg, uint64_t n) noexcept nogil:
    cdef target *t = <target *>arg
    cdef mm_gen *g = t.g
    cdef uint32_t cpu = t.cpu
    cdef uint64_t _i
    for _i in range(n):
        mm_switch(g, cpu)
        KEEP()
        cpu = after(t, cpu)
    t.cpu = cpu


cdef void sweep_tick_run(void *arg, uint64_t n) noexcept nogil:
    cdef target *t = <target *>arg
    cdef mm_gen *g = t.g
    cdef uint32_t cpu = t.cpu
    cdef uint64_t _i
    for _i in range(n):
        mm_gen_tick(g, cpu)
        KEEP()
        cpu = after(t, cpu)
    t.cpu = cpu


# A switch and a tick, which counts on a continuous domain, and opens a generation on the last CPU.
cdef void sweep_counted_run(void *arg, uint64_t n) noexcept nogil:
    cdef target *t = <target *>arg
    cdef mm_gen *g = t.g
    cdef uint32_t cpu = t.cpu
    cdef uint64_t _i
    for _i in range(n):
        mm_switch(g, cpu)
        mm_gen_tick(g, cpu)
        KEEP()
        cpu = after(t, cpu)
    t.cpu = cpu


# A generation is the operation here: while a grace period is always under way, every CPU switches and ticks, the last one wakes.
cdef void turnover_run(void *arg, uint64_t n) noexcept nogil:
    cdef target *t = <target *>arg
    cdef mm_gen *g = t.g
    cdef uint64_t _i, cookie = mm_gen_start_poll(g)
    cdef uint32_t cpu
    for _i in range(n):
        if mm_gen_poll(g, cookie):
            cookie = mm_gen_start_poll(g)
        for cpu in range(t.nr_cpus):
            mm_gen_quiescent(g, cpu)
        KEEP()


cdef class Batch:
    """The loop `name` over CPU `cpu` of `gen`, as an address: that of a struct loop."""

    cdef loop l
    cdef target t
    cdef readonly MmGen gen

    def __cinit__(self, str name, MmGen gen not None, uint32_t cpu=0):
        self.gen = gen
        self.t.mmgen = PyCapsule_GetPointer(_C_API, "mmgen._capi._C_API")
        self.t.g, self.t.cpu, self.t.nr_cpus = gen.g, cpu, gen.cpus
        self.l.arg = &self.t
        if name == "switch":
            self.l.run = switch_run
        elif name == "batch":
            assert gen.cpus == CPUS_OF_A_BATCH
            for cpu in range(OPS):
                switches[cpu] = mm_op(cpu=cpu % CPUS_OF_A_BATCH, op=MM_OP_SWITCH)
            self.l.run = batch_run
        elif name == "tick":
            self.l.run = tick_run
        elif name == "ticked":
            self.l.run = ticked_run
        elif name == "quiescent":
            self.l.run = quiescent_run
        elif name == "wait":
            self.l.run = wait_run
        elif name == "idle":
            self.l.run = idle_run
        elif name == "grace":
            self.l.run = grace_run
        elif name == "sweep_switch":
            self.l.run = sweep_switch_run
        elif name == "sweep_tick":
            self.l.run = sweep_tick_run
        elif name == "sweep_counted":
            self.l.run = sweep_counted_run
        elif name == "turnover":
            self.l.run = turnover_run
        else:
            raise ValueError(f"no batch {name}")

    @property
    def address(self):
        """Of the struct loop."""
        return <uintptr_t>&self.l

    @property
    def target(self):
        """Of the loop's own argument, for a loop of table.c."""
        return <uintptr_t>&self.t


def sizeof_mm_cpu():
    """Bytes of memory per CPU."""
    return sizeof(mm_cpu)
