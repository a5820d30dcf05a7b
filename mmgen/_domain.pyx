# cython: language_level=3, binding=False, always_allow_keywords=False, freethreading_compatible=True
# cython: embedsignature=True, embedsignature.format=clinic
"""The extension class under mmgen.MmGen: a domain, each method one call of the protocol."""
import enum

cimport cython
from cpython.exc cimport PyErr_WriteUnraisable
from cpython.pythread cimport PyThread_get_thread_ident
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF, PyObject
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free, malloc

from mmgen._callbacks cimport (
    mm_gen_barrier_until, mm_gen_defer, mm_gen_first_callback, mm_gen_nr_deferred, mm_gen_nr_run, mm_gen_run_callbacks,
    mm_gen_take_callbacks,
)
from mmgen._cookie cimport Cookie, cookie_of, own_cookie
from mmgen._core cimport (
    MM_DRIVERLESS, MM_IDLE, MM_MAX_CPUS, MM_OFFLINE, MM_ONLINE_SHIFT, MM_OPEN, MM_PROXIED, MM_RUNNING, mm_callback, mm_cpu,
    mm_cpu_of, mm_gen_expedite, mm_gen_online, mm_gen_owes, mm_gen_poll, mm_gen_register, mm_gen_start_poll, mm_gen_tick,
    mm_gen_wait_for, mm_gen_wake, mm_switch,
)
from mmgen._lifetime cimport mm_gen_after_fork, mm_gen_close, mm_gen_create, mm_gen_destroy, mm_gen_nr_waits, mm_gen_state
from mmgen._sleep cimport EINTR, ESHUTDOWN, ETIMEDOUT
from mmgen._stdatomic cimport cas_u64, load_u32, load_u64, memory_order_relaxed, store_u64
from mmgen._trace cimport mm_trace_create, mm_trace_read

from mmgen._arguments import integer, shown, whole

cdef extern from "Python.h":
    Py_ssize_t PyNumber_AsSsize_t(object number, void *if_too_large) except? -1
    PyObject *PyObject_CallObject(object fn, object args)           # NULL with the error set, which nothing here looks at

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


class FullError(RuntimeError):
    """No room: every CPU of the domain is taken, or as many callbacks are pending as may be."""


class WrongThreadError(RuntimeError):
    """In a checked domain: a thread used a CPU that belongs to another, or waits for a CPU that is itself."""


for public in (Mode, ClosedError, DriverlessError, FullError, WrongThreadError):
    public.__module__ = "mmgen"         # where users find it
del public


# ---- Python's callbacks and kick ------------------------------------------------------------------------------------------------

cdef struct py_callback:
    mm_callback callback                # first, so that either pointer is the other
    PyObject *call                      # (fn, args), a reference of its own


cdef object taken(mm_callback *callback):
    call = <object>(<py_callback *>callback).call
    Py_DECREF(call)
    free(callback)
    return call


# Call fn(*args); what it raises goes to sys.unraisablehook. Not by `except`, which takes the error from where the hook's caller looks.
cdef void call(object fn, tuple args) noexcept:
    cdef PyObject *result = PyObject_CallObject(fn, args)
    if result is NULL:
        PyErr_WriteUnraisable(fn)
    Py_XDECREF(result)


cdef void run_py(mm_callback *callback) noexcept nogil:
    with gil:
        fn, args = taken(callback)
        if fn is not None:
            call(fn, args)


cdef void kick_py(void *arg, mm_gen *g) noexcept nogil:
    with gil:
        gen = <MmGen>arg
        call(gen.kick, (gen.holdouts(),))


# Which CPUs `online` names, of `cpus`. Each is looked at as it comes: there may be no end of them.
cdef list chosen(object online, uint32_t cpus):
    named = set()
    for one in online:
        cpu = integer(one, "online: CPU")
        if not 0 <= cpu < cpus:
            raise IndexError(f"online: CPU {shown(cpu)} is out of range: the domain has {cpus} (0 to {cpus - 1})")
        named.add(cpu)
    return sorted(named)


# ---- the domain -----------------------------------------------------------------------------------------------------------------

cdef class MmGen:
    def __cinit__(self, cpus, *, online=None, continuous=False, increments=None, max_cpus=None, checked=False, kick=None, patience=None,
                  trace=0, first_generation=0, first_switches=0, **_):
        cpus = whole(cpus, "cpus", 1, MM_MAX_CPUS)
        max_cpus = cpus if max_cpus is None else whole(max_cpus, "max_cpus", cpus, MM_MAX_CPUS)
        if increments is not None:
            increments = whole(increments, "increments", 1, 2**31)
        if patience is not None:
            patience = whole(patience, "patience", 1, 2**31)
        trace = whole(trace, "trace", 0, 2**24)
        first_generation = whole(first_generation, "first_generation", 0, 2**64 - 1)
        first_switches = whole(first_switches, "first_switches", 0, 2**64 - 1)
        if kick is not None and not callable(kick):
            raise TypeError(f"kick={shown(kick)} is not callable")
        if online is None:
            online = range(cpus)
        elif hasattr(type(online), "__index__"):
            online = range(whole(online, "online", 0, cpus))
        else:
            online = chosen(online, cpus)
        self.g = mm_gen_create(cpus, max_cpus, first_generation, first_switches)
        if self.g is NULL:
            raise MemoryError(f"no memory for a domain of {max_cpus} CPUs (64 bytes each)")
        self.g.continuous = bool(continuous)
        self.g.increments = increments or 0
        self.g.patience = patience or 0
        if kick is not None:
            self.kick = kick
            self.g.kick_arg = <void *>self
            self.g.kick = kick_py
        if trace:
            self.g.trace = mm_trace_create(max_cpus + 1, 1 << (trace - 1).bit_length())
            if self.g.trace is NULL:
                raise MemoryError(f"no memory to trace {trace} events on each of {max_cpus} CPUs (32 bytes each)")
        if checked:
            self.owners = <atomic_u64 *>calloc(max_cpus, sizeof(atomic_u64))
            if self.owners is NULL:
                raise MemoryError(f"no memory to check {max_cpus} CPUs (8 bytes each)")
        for cpu in online:
            mm_gen_online(self.g, cpu)

    def __dealloc__(self):
        cdef mm_callback *callback
        cdef mm_callback *next
        free(self.owners)
        if self.g is not NULL:
            callback = mm_gen_take_callbacks(self.g)
            while callback is not NULL:
                next = callback.next
                if callback.fn is run_py:
                    taken(callback)
                callback = next
            mm_gen_destroy(self.g)

    @property
    def cpus(self):
        """How many CPUs the domain has, online or not."""
        return load_u32(&self.g.nr_cpus, memory_order_relaxed)

    @property
    def nr_online(self):
        """How many CPUs are online, idle ones among them."""
        return load_u64(&self.g.pending, memory_order_relaxed) >> MM_ONLINE_SHIFT

    @property
    def generation(self):
        """How often every online CPU has switched, modulo 2**64."""
        return load_u64(&self.g.generation, memory_order_relaxed)

    @property
    def continuous(self):
        """Whether generations are counted also while nobody waits."""
        return bool(self.g.continuous)

    @property
    def checked(self):
        """Whether each CPU is checked to be used by one thread."""
        return self.owners is not NULL

    @property
    def nr_waits(self):
        """How many grace periods have been asked for."""
        return mm_gen_nr_waits(self.g)

    @property
    def nr_deferred(self):
        """How many callbacks have been deferred."""
        return mm_gen_nr_deferred(self.g)

    @property
    def nr_run(self):
        """How many callbacks have run."""
        return mm_gen_nr_run(self.g)

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
        """The tick of CPU `cpu`, on its own thread. True: the caller owes wake(), since it opened a generation (or ran out of patience).

        Raises as switch() does.
        """
        return mm_gen_tick(self.g, running(self, cpu, "tick"))

    def wake(self):
        """Wake who waits for the generation that a tick opened; credit the idle and kick if somebody waits on. Any thread."""
        with nogil:
            mm_gen_wake(self.g)

    def start_poll(self):
        """Begin a grace period without waiting for it: a Cookie, for poll() and wait_for(). Any thread.

        Raises ClosedError or DriverlessError.
        """
        cdef uint64_t generation
        check_open(self)
        with nogil:
            generation = mm_gen_start_poll(self.g)
        return cookie_of(self, generation)

    def cookie(self, generation, /):
        """The Cookie of a grace period that has begun, by the generation that ends it: after restore(), or from C.

        Raises ValueError for one that none of them is waited for with, ClosedError or DriverlessError. Any thread.
        """
        cdef uint64_t ends = whole(generation, "generation", 0, 2**64 - 1), now, goal
        check_open(self)
        now = load_u64(&self.g.generation, memory_order_relaxed)
        goal = load_u64(&self.g.goal, memory_order_relaxed)
        if <int64_t>(ends - now) > 0 and <int64_t>(ends - goal) > 0:
            raise ValueError(f"generation={ends} is out of range: {now if <int64_t>(goal - now) < 0 else goal} ends the last grace period "
                             "that has begun")
        return cookie_of(self, ends)

    def poll(self, Cookie cookie not None, /):
        """Whether the grace period that `cookie` stands for is over. Never sleeps. ValueError for another domain's cookie."""
        return mm_gen_poll(self.g, own_cookie(self, cookie))

    def _wait_for(self, Cookie cookie not None, int64_t timeout_ns, /):
        """0: the grace period is over; TIMED_OUT; INTERRUPTED."""
        cdef uint64_t generation = own_cookie(self, cookie)
        cdef int err
        with nogil:
            err = mm_gen_wait_for(self.g, generation, timeout_ns)
        return ended(self, err)

    def _check_kick(self):
        """ValueError for a domain without a kick."""
        if self.g.kick is NULL:
            raise ValueError("expedite=True needs a domain with a kick")

    def _expedite(self, Cookie cookie not None, /):
        cdef uint64_t generation = own_cookie(self, cookie)
        self._check_kick()
        with nogil:
            mm_gen_expedite(self.g, generation)

    def _register(self):
        """Bring an offline CPU online for the calling thread: its index."""
        cdef int cpu
        with nogil:
            cpu = mm_gen_register(self.g)
        if cpu == -ESHUTDOWN:
            check_open(self)
        if cpu < 0:
            raise FullError(f"the domain is full: its {self.cpus} CPUs are all online; MmGen(..., max_cpus=N) lets it grow")
        if self.owners is not NULL:
            store_u64(&self.owners[cpu], PyThread_get_thread_ident(), memory_order_relaxed)
        return cpu

    def _check_waiter(self):
        """WrongThreadError if the calling thread is a running CPU of this checked domain."""
        cdef uint64_t me = PyThread_get_thread_ident()
        cdef uint32_t cpu
        if self.owners is NULL:
            return
        for cpu in range(load_u32(&self.g.nr_cpus, memory_order_relaxed)):
            if (load_u64(&self.owners[cpu], memory_order_relaxed) == me
                    and load_u32(&mm_cpu_of(self.g, cpu).mode, memory_order_relaxed) == MM_RUNNING):
                raise WrongThreadError(f"this thread is CPU {cpu}, which runs: it would wait for itself; cpu.wait() counts it as idle")

    def _owing(self):
        """(index, mode, switches) of each CPU that owes the generation under way a switch."""
        cdef uint32_t cpu
        return [(cpu, load_u32(&mm_cpu_of(self.g, cpu).mode, memory_order_relaxed),
                 load_u64(&mm_cpu_of(self.g, cpu).nr_mm_switches, memory_order_relaxed))
                for cpu in range(self.cpus) if mm_gen_owes(self.g, cpu)]

    def _counters(self):
        """(mode, switches, ticks, opened, kicks) of each CPU."""
        cdef uint32_t i
        cdef mm_cpu *c
        counters = []
        for i in range(self.cpus):
            c = mm_cpu_of(self.g, i)
            counters.append((load_u32(&c.mode, memory_order_relaxed), load_u64(&c.nr_mm_switches, memory_order_relaxed),
                             load_u64(&c.nr_ticks, memory_order_relaxed), load_u64(&c.nr_opened, memory_order_relaxed),
                             load_u64(&c.nr_kicks, memory_order_relaxed)))
        return counters

    def _events(self):
        """For each CPU, and then for everybody else, [(t_ns, what, argument), ...] of the events that were kept; None: not traced."""
        if self.g.trace is NULL:
            return None
        return [mm_trace_read(self.g.trace, ring) for ring in range(self.g.trace.nr_rings)]

    def _defer(self, fn, tuple args, /):
        cdef py_callback *callback
        cdef int err
        check_open(self)
        callback = <py_callback *>malloc(sizeof(py_callback))
        if callback is NULL:
            raise MemoryError("no memory for a callback")
        call = (fn, args)
        Py_INCREF(call)
        callback.call = <PyObject *>call
        with nogil:
            err = mm_gen_defer(self.g, &callback.callback, run_py)
        if err:
            taken(&callback.callback)
            check_open(self)

    def _run_callbacks(self, size_t limit, /):
        return mm_gen_run_callbacks(self.g, limit)

    def _first_callback(self):
        """The cookie of the first callback that has not run, or None."""
        cdef uint64_t generation
        return cookie_of(self, generation) if mm_gen_first_callback(self.g, &generation) else None

    def _barrier(self, uint64_t nr_deferred, int64_t timeout_ns, /):
        """As _wait_for(), for the first nr_deferred callbacks to have run."""
        cdef int err
        with nogil:
            err = mm_gen_barrier_until(self.g, nr_deferred, timeout_ns)
        return ended(self, err)

    def _take_callbacks(self):
        """[(fn, args), ...] of those that have not run, and now never will; C's own are left to who asks mm_gen_take_callbacks()."""
        cdef mm_callback *callback = mm_gen_take_callbacks(self.g)
        cdef mm_callback *next
        calls = []
        while callback is not NULL:
            next = callback.next
            if callback.fn is run_py:
                calls.append(taken(callback))
            callback = next
        return calls

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


# What became of a wait.
cdef object ended(MmGen gen, int err):
    if err and err != -EINTR and err != -ETIMEDOUT:
        check_open(gen)
        raise OSError(-err, "the wait failed")
    return err


# What to raise when CPU `cpu` is not in the mode that `call` needs.
cdef object wrong_mode(MmGen gen, uint32_t cpu, str call):
    check_open(gen)
    mode = Mode(load_u32(&mm_cpu_of(gen.g, cpu).mode, memory_order_relaxed))
    raise RuntimeError(f"{call}() on CPU {cpu}, which is {mode.name}")


# In a checked domain: CPU `cpu` is the calling thread's, from its first call on until it goes offline.
cdef int own(MmGen gen, uint32_t cpu, str call) except -1:
    cdef uint64_t me = PyThread_get_thread_ident(), owner = 0
    if not cas_u64(&gen.owners[cpu], &owner, me, memory_order_relaxed, memory_order_relaxed) and owner != me:
        raise WrongThreadError(f"{call}() on CPU {cpu} by thread {me}: the CPU belongs to thread {owner}")
    return 0


cdef uint32_t index(MmGen gen, object cpu) except? 0xffffffff:
    cdef Py_ssize_t i = PyNumber_AsSsize_t(cpu, NULL)           # clips: out of range stays out of range
    cdef uint32_t nr = load_u32(&gen.g.nr_cpus, memory_order_relaxed)
    if not 0 <= i < nr:
        raise IndexError(f"CPU {shown(cpu)} is out of range: the domain has {nr} (0 to {nr - 1})")
    return i


cdef uint32_t running(MmGen gen, object cpu, str call) except? 0xffffffff:
    cdef uint32_t i = index(gen, cpu)
    if gen.owners is not NULL:
        own(gen, i, call)
    if load_u32(&mm_cpu_of(gen.g, i).mode, memory_order_relaxed) != MM_RUNNING:
        wrong_mode(gen, i, call)
    return i
