# cython: language_level=3, binding=False, always_allow_keywords=False, freethreading_compatible=True
# cython: embedsignature=True, embedsignature.format=clinic
"""The extension class mmgen.Cpu: one CPU of a domain, each method one call of the protocol.

The handles that users have are of this very class: CPython calls a method of an extension class at once, without looking further,
where the object is of just that class.
"""
cimport cython
from cpython.pythread cimport PyThread_get_thread_ident

from mmgen._core cimport (
    MM_RUNNING, mm_cpu_of, mm_gen_idle_enter, mm_gen_idle_exit, mm_gen_offline, mm_gen_online, mm_gen_tick, mm_gen_wake, mm_switch,
)
from mmgen._domain cimport index, own, wrong_mode
from mmgen._stdatomic cimport load_u32, load_u64, memory_order_relaxed, store_u64

from mmgen._arguments import to_ns
from mmgen._domain import Mode


# Whether the CPU may be used, as far as a glance tells: the rest is in a function of its own, so that a switch needs no stack.
cdef inline bint runs(Cpu cpu) noexcept:
    return cpu.gen.owners is NULL and load_u32(&mm_cpu_of(cpu.g, cpu.cpu).mode, memory_order_relaxed) == MM_RUNNING


cdef int check(Cpu cpu, str call) except -1:
    if cpu.gen.owners is not NULL:
        own(cpu.gen, cpu.cpu, call)
    if load_u32(&mm_cpu_of(cpu.g, cpu.cpu).mode, memory_order_relaxed) != MM_RUNNING:
        wrong_mode(cpu.gen, cpu.cpu, call)
    return 0


cdef class Cpu:
    """The handle of one CPU of a domain, for the one thread that is this CPU: Cpu(gen, index), or gen.cpu(index).

    Thread-safety: one thread per CPU. index, switches, ticks, opened, kicks and mode may be read by any thread.
    """

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
    def ticks(self):
        """The CPU's ticks that somebody wanted: on demand, those while somebody waited."""
        return load_u64(&mm_cpu_of(self.g, self.cpu).nr_ticks, memory_order_relaxed)

    @property
    def opened(self):
        """How many generations this CPU's tick has opened: those that it was the last to complete."""
        return load_u64(&mm_cpu_of(self.g, self.cpu).nr_opened, memory_order_relaxed)

    @property
    def kicks(self):
        """How often a kick named this CPU as a holdout."""
        return load_u64(&mm_cpu_of(self.g, self.cpu).nr_kicks, memory_order_relaxed)

    @property
    def mode(self):
        """RUNNING, IDLE, PROXIED or OFFLINE."""
        return Mode(load_u32(&mm_cpu_of(self.g, self.cpu).mode, memory_order_relaxed))

    def switch(self):
        """This CPU switches its mm: it holds no reference from before. Raises RuntimeError unless it is RUNNING."""
        if not runs(self):
            check(self, "switch")
        mm_switch(self.g, self.cpu)

    def tick(self):
        """This CPU's tick. True: the caller owes gen.wake(), since it opened a generation (or ran out of patience).

        Raises RuntimeError unless the CPU is RUNNING.
        """
        if not runs(self):
            check(self, "tick")
        return mm_gen_tick(self.g, self.cpu)

    def quiescent(self):
        """Switch, tick and, if it is due, wake: the one call per loop of a thread that has no tick of its own.

        Raises RuntimeError unless the CPU is RUNNING.
        """
        if not runs(self):
            check(self, "quiescent")
        mm_switch(self.g, self.cpu)
        if mm_gen_tick(self.g, self.cpu):
            with nogil:
                mm_gen_wake(self.g)

    def online(self):
        """Bring this CPU up: waits that begin from now on wait for it, too. Raises RuntimeError unless it is OFFLINE."""
        cdef int err
        with nogil:
            err = mm_gen_online(self.g, self.cpu)
        if err:
            wrong_mode(self.gen, self.cpu, "online")
        if self.gen.owners is not NULL:
            store_u64(&self.gen.owners[self.cpu], PyThread_get_thread_ident(), memory_order_relaxed)

    def offline(self):
        """Take this CPU down; it holds no reference any more. From IDLE it leaves idle first. RuntimeError if it is OFFLINE."""
        cdef int err
        if self.gen.owners is not NULL:
            own(self.gen, self.cpu, "offline")
            store_u64(&self.gen.owners[self.cpu], 0, memory_order_relaxed)      # before another thread may find it offline
        with nogil:
            err = mm_gen_offline(self.g, self.cpu)
        if err:
            wrong_mode(self.gen, self.cpu, "offline")

    def idle_enter(self):
        """This CPU drops its mm and idles: it holds no reference, needs no tick, delays no wait. RuntimeError unless RUNNING."""
        cdef int err
        if self.gen.owners is not NULL:
            own(self.gen, self.cpu, "idle_enter")
        with nogil:
            err = mm_gen_idle_enter(self.g, self.cpu)
        if err:
            wrong_mode(self.gen, self.cpu, "idle_enter")

    def idle_exit(self):
        """This CPU runs again; only after this may it read what others publish. Raises RuntimeError unless it is IDLE."""
        cdef int err
        if self.gen.owners is not NULL:
            own(self.gen, self.cpu, "idle_exit")
        with nogil:
            err = mm_gen_idle_exit(self.g, self.cpu)
        if err:
            wrong_mode(self.gen, self.cpu, "idle_exit")

    def idle(self):
        """A context in which this CPU idles: around what blocks. It holds no reference then, needs no tick and delays no wait.

        Raises RuntimeError, as the context is entered, unless the CPU is RUNNING.
        """
        return Idle(self)

    def wait(self, timeout=None):
        """Wait, on this CPU's own thread, for a full grace period; as MmGen.wait(), which would wait for its caller here.

        The CPU counts as idle meanwhile: the wait drops every reference that the thread holds to what others publish.
        timeout: seconds, None for ever. Raises RuntimeError unless the CPU is RUNNING, and what MmGen.wait() raises.
        """
        timeout_ns = to_ns(timeout)
        with self.idle():
            return self.gen._sleep(self.gen.start_poll(), timeout_ns)

    def _leave_idle(self):
        """idle_exit() if the CPU idles; nothing else, in a closed domain either."""
        with nogil:
            mm_gen_idle_exit(self.g, self.cpu)


@cython.final
cdef class Idle:
    """The context of Cpu.idle()."""

    cdef Cpu cpu

    def __init__(self, Cpu cpu not None, /):
        self.cpu = cpu

    def __enter__(self):
        self.cpu.idle_enter()

    def __exit__(self, kind, error, trace, /):
        self.cpu._leave_idle()
