# cython: language_level=3, binding=False, embedsignature=True, embedsignature.format=clinic, freethreading_compatible=True
"""The extension classes under mmgen.domain: a domain and a CPU of it, each method one call of the protocol in _core."""
import enum
import operator

from libc.stdint cimport int64_t, uint64_t

cimport cython

cdef extern from "Python.h":
    Py_ssize_t PyNumber_AsSsize_t(object number, void *if_too_large) except? -1

from mmgen._core cimport (
    MM_DRIVERLESS, MM_IDLE, MM_MAX_CPUS, MM_OFFLINE, MM_OPEN, MM_PROXIED, MM_RUNNING, mm_cpu_of, mm_gen_after_fork, mm_gen_close,
    mm_gen_create, mm_gen_destroy, mm_gen_idle_enter, mm_gen_idle_exit, mm_gen_nr_waits, mm_gen_offline, mm_gen_online, mm_gen_owes,
    mm_gen_poll, mm_gen_start_poll, mm_gen_state, mm_gen_tick, mm_gen_wait_for, mm_gen_wake, mm_switch,
)
from mmgen._sleep cimport EINTR, ETIMEDOUT
from mmgen._stdatomic cimport load_u32, load_u64, memory_order_relaxed

INTERRUPTED = -EINTR
TIMED_OUT = -ETIMEDOUT


class Mode(enum.IntEnum):
    """What a CPU is doing. PROXIED is IDLE, for the moment in which a waiter counts a switch for it."""

    OFFLINE = MM_OFFLINE
    RUNNING = MM_RUNNING
    IDLE = MM_IDLE
    PROXIED = MM_PROXIED


class ClosedError(RuntimeError):
    """The domain is closed: its waits never end, its CPUs take no switch."""


class DriverlessError(ClosedError):
    """The domain is a forked child's copy: the threads that drove its CPUs are in the parent. Make a new one."""


for public in (Mode, ClosedError, DriverlessError):
    public.__module__ = "mmgen"         # where users find it
del public


cdef int whole(object value, str name, object least, object most) except -1:
    if not least <= operator.index(value) <= most:
        raise ValueError(f"{name}={value} is out of range: {least} to {most}")
    return 0


cdef class MmGen:
    def __cinit__(self, cpus, *, online=None, continuous=False, increments=None, first_generation=0, first_switches=0):
        whole(cpus, "cpus", 1, MM_MAX_CPUS)
        if increments is not None:
            whole(increments, "increments", 1, 2**31)
        whole(first_generation, "first_generation", 0, 2**64 - 1)
        whole(first_switches, "first_switches", 0, 2**64 - 1)
        if online is None:
            online = range(cpus)
        elif hasattr(online, "__index__"):
            whole(online, "online", 0, cpus)
            online = range(online)
        else:
            online = sorted({operator.index(cpu) for cpu in online})
            for cpu in online:
                if not 0 <= cpu < cpus:
                    raise IndexError(f"online: CPU {cpu} is out of range: the domain has {cpus} (0 to {cpus - 1})")
        self.g = mm_gen_create(cpus, first_generation, first_switches)
        if self.g is NULL:
            raise MemoryError(f"no memory for a domain of {cpus} CPUs (64 bytes each)")
        self.g.continuous = bool(continuous)
        self.g.increments = increments or 0
        for cpu in online:
            mm_gen_online(self.g, cpu)

    def __dealloc__(self):
        if self.g is not NULL:
            mm_gen_destroy(self.g)

    @property
    def cpus(self):
        """How many CPUs the domain has, online or not."""
        return self.g.nr_cpus

    @property
    def nr_online(self):
        """How many CPUs are online, idle ones among them."""
        return load_u64(&self.g.pending, memory_order_relaxed) >> 33

    @property
    def generation(self):
        """How often every online CPU has switched, modulo 2**64."""
        return load_u64(&self.g.generation, memory_order_relaxed)

    @property
    def continuous(self):
        """Whether generations are counted also while nobody waits."""
        return bool(self.g.continuous)

    @property
    def nr_waits(self):
        """How many waits have begun."""
        return mm_gen_nr_waits(self.g)

    @property
    def closed(self):
        """Whether the domain is closed, or a forked child's copy."""
        return mm_gen_state(self.g) != MM_OPEN

    def switch(self, cpu, /):
        """CPU `cpu` switches its mm: it holds no reference from before. Called by the CPU's own thread.

        Raises IndexError for a CPU the domain does not have, RuntimeError unless it is RUNNING.
        """
        mm_switch(self.g, running(self, cpu, "switch"))

    def tick(self, cpu, /):
        """The tick of CPU `cpu`, on its own thread. True: it opened a generation, and the caller owes wake().

        Raises as switch() does.
        """
        return mm_gen_tick(self.g, running(self, cpu, "tick"))

    def wake(self):
        """Wake who waits for the generation that a tick opened; credit the idle if somebody waits on. Any thread."""
        with nogil:
            mm_gen_wake(self.g)

    def _start_poll(self):
        cdef uint64_t cookie
        check_open(self)
        with nogil:
            cookie = mm_gen_start_poll(self.g)
        return cookie

    def _poll(self, uint64_t cookie, /):
        return mm_gen_poll(self.g, cookie)

    def _wait_for(self, uint64_t cookie, int64_t timeout_ns, /):
        """0: the grace period is over; TIMED_OUT; INTERRUPTED."""
        cdef int err
        with nogil:
            err = mm_gen_wait_for(self.g, cookie, timeout_ns)
        if err and err != -EINTR and err != -ETIMEDOUT:
            check_open(self)
            raise OSError(-err, "the wait failed")
        return err

    def _owing(self):
        """(index, mode, switches) of each CPU that owes the generation under way a switch."""
        cdef uint32_t cpu
        return [(cpu, load_u32(&mm_cpu_of(self.g, cpu).mode, memory_order_relaxed),
                 load_u64(&mm_cpu_of(self.g, cpu).nr_mm_switches, memory_order_relaxed))
                for cpu in range(self.g.nr_cpus) if mm_gen_owes(self.g, cpu)]

    def _check_open(self):
        """Raise ClosedError or DriverlessError unless the domain is open."""
        check_open(self)

    def _close(self, str why=""):
        with cython.critical_section(self):         # why goes with the close that was first
            if self.why is None:
                self.why = why
        with nogil:
            mm_gen_close(self.g)

    def _after_fork(self):
        mm_gen_after_fork(self.g)


cdef int check_open(MmGen gen) except -1:
    state = mm_gen_state(gen.g)
    if state == MM_DRIVERLESS:
        raise DriverlessError("this domain was forked: its CPUs' threads are in the parent process")
    if state != MM_OPEN:
        with cython.critical_section(gen):
            why = gen.why
        raise ClosedError("the domain is closed" + (f": {why}" if why else ""))
    return 0


# What to raise when CPU `cpu` is not in the mode that `call` needs.
cdef object wrong_mode(MmGen gen, uint32_t cpu, str call):
    check_open(gen)
    mode = Mode(load_u32(&mm_cpu_of(gen.g, cpu).mode, memory_order_relaxed))
    raise RuntimeError(f"{call}() on CPU {cpu}, which is {mode.name}")


cdef uint32_t index(MmGen gen, object cpu) except? 0xffffffff:
    cdef Py_ssize_t i = PyNumber_AsSsize_t(cpu, NULL)           # clips: out of range stays out of range
    if not 0 <= i < gen.g.nr_cpus:
        raise IndexError(f"CPU {cpu} is out of range: the domain has {gen.g.nr_cpus} (0 to {gen.g.nr_cpus - 1})")
    return i


cdef uint32_t running(MmGen gen, object cpu, str call) except? 0xffffffff:
    cdef uint32_t i = index(gen, cpu)
    if load_u32(&mm_cpu_of(gen.g, i).mode, memory_order_relaxed) != MM_RUNNING:
        wrong_mode(gen, i, call)
    return i


cdef class Cpu:
    def __cinit__(self, MmGen gen not None, cpu, /):
        self.cpu = index(gen, cpu)
        self.g = gen.g
        self.gen = gen

    @property
    def index(self):
        """Which CPU of the domain this is, from 0."""
        return self.cpu

    @property
    def switches(self):
        """The CPU's mm switches so far, modulo 2**64; going idle is one, and so is what a waiter credits meanwhile."""
        return load_u64(&mm_cpu_of(self.g, self.cpu).nr_mm_switches, memory_order_relaxed)

    @property
    def opened(self):
        """How many generations this CPU's tick has opened: those that it was the last to complete."""
        return load_u64(&mm_cpu_of(self.g, self.cpu).nr_opened, memory_order_relaxed)

    @property
    def mode(self):
        """RUNNING, IDLE, PROXIED or OFFLINE."""
        return Mode(load_u32(&mm_cpu_of(self.g, self.cpu).mode, memory_order_relaxed))

    def switch(self):
        """This CPU switches its mm: it holds no reference from before. Raises RuntimeError unless it is RUNNING."""
        if load_u32(&mm_cpu_of(self.g, self.cpu).mode, memory_order_relaxed) != MM_RUNNING:
            wrong_mode(self.gen, self.cpu, "switch")
        mm_switch(self.g, self.cpu)

    def tick(self):
        """This CPU's tick. True: it opened a generation, and the caller owes gen.wake(). RuntimeError unless RUNNING."""
        if load_u32(&mm_cpu_of(self.g, self.cpu).mode, memory_order_relaxed) != MM_RUNNING:
            wrong_mode(self.gen, self.cpu, "tick")
        return mm_gen_tick(self.g, self.cpu)

    def online(self):
        """Bring this CPU up: waits that begin from now on wait for it, too. Raises RuntimeError unless it is OFFLINE."""
        cdef int err
        with nogil:
            err = mm_gen_online(self.g, self.cpu)
        if err:
            wrong_mode(self.gen, self.cpu, "online")

    def offline(self):
        """Take this CPU down; it holds no reference any more. From IDLE it leaves idle first. RuntimeError if it is OFFLINE."""
        cdef int err
        with nogil:
            err = mm_gen_offline(self.g, self.cpu)
        if err:
            wrong_mode(self.gen, self.cpu, "offline")

    def idle_enter(self):
        """This CPU drops its mm and idles: it holds no reference, needs no tick, delays no wait. RuntimeError unless RUNNING."""
        cdef int err
        with nogil:
            err = mm_gen_idle_enter(self.g, self.cpu)
        if err:
            wrong_mode(self.gen, self.cpu, "idle_enter")

    def idle_exit(self):
        """This CPU runs again; only after this may it read what others publish. Raises RuntimeError unless it is IDLE."""
        cdef int err
        with nogil:
            err = mm_gen_idle_exit(self.g, self.cpu)
        if err:
            wrong_mode(self.gen, self.cpu, "idle_exit")

    def _leave_idle(self):
        """idle_exit() if the CPU idles; nothing else, in a closed domain either."""
        with nogil:
            mm_gen_idle_exit(self.g, self.cpu)
