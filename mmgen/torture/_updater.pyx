# cython: language_level=3, binding=False, embedsignature=True, embedsignature.format=clinic, freethreading_compatible=True
"""An updater of a torture, in one nogil loop: it unpublishes, gets a grace period in one way after the other, and says it is over."""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from mmgen._callbacks cimport mm_gen_defer, mm_gen_run_callbacks
from mmgen.torture._chance cimport mm_add, mm_draw, mm_spell
from mmgen._core cimport (
    MM_OPEN, mm_callback, mm_gen, mm_gen_expedite, mm_gen_poll, mm_gen_start_poll, mm_gen_wait_for,
)
from mmgen._domain cimport MmGen
from mmgen._lifetime cimport mm_gen_state
from mmgen.torture._pipe cimport Pipe, mm_object, mm_over, mm_pipe, mm_replace
from mmgen._sleep cimport EINTR, ENOMEM, ESHUTDOWN, ETIMEDOUT, mm_cpu_relax, mm_now, mm_sleep, mm_wake_all, sched_yield
from mmgen._stdatomic cimport (
    atomic_u32, atomic_u64, fetch_add_u64, load_u32, load_u64, memory_order_relaxed, store_u32, store_u64,
)

cdef enum:
    WAIT, POLL, DEFER, EXPEDITE, NR_WAYS
    MOST_DEFERRED = 32                  # callbacks pending before the updater waits for them
    SPINS = 256                         # looks at a cookie before the core is given to others

cdef struct updater:
    mm_gen *g
    mm_pipe *p
    uint64_t random
    int64_t pause                       # between two grace periods at most, in ns
    atomic_u32 stop
    atomic_u64 since                    # when the grace period began that it waits for, in ns; 0: none
    atomic_u64 way                      # how it waits for that
    atomic_u64 errors                   # calls that failed though the domain is open
    atomic_u64 ended[NR_WAYS]           # grace periods; [DEFER] is written by whoever runs callbacks
    uint64_t nr_deferred


cdef void run_deferred(mm_callback *callback) noexcept nogil:
    cdef mm_object *o = <mm_object *>callback
    cdef updater *u = <updater *>o.arg
    mm_over(o)
    fetch_add_u64(&u.ended[DEFER], 1, memory_order_relaxed)


# Sleep until `cookie` is reached: in one go, or by waits that time out and begin again. 0, or -ESHUTDOWN.
cdef int sleep(updater *u, uint64_t cookie) noexcept nogil:
    cdef int err = -EINTR
    cdef bint hasty = mm_draw(&u.random) % 4 == 0
    while err == -EINTR or err == -ETIMEDOUT:
        err = mm_gen_wait_for(u.g, cookie, mm_spell(&u.random, 1_000_000) if hasty else -1)
    return err


cdef int spin(updater *u, uint64_t cookie) noexcept nogil:
    cdef uint64_t looks = 0
    while not mm_gen_poll(u.g, cookie):
        looks += 1
        if looks % SPINS:
            mm_cpu_relax()
        else:
            sched_yield()
            if mm_gen_state(u.g) != MM_OPEN:
                return -ESHUTDOWN
    return 0


# Until at most `most` of this updater's callbacks are pending; any thread may be running them.
cdef int drain(updater *u, uint64_t most) noexcept nogil:
    while u.nr_deferred - load_u64(&u.ended[DEFER], memory_order_relaxed) > most:
        if mm_gen_run_callbacks(u.g, 1024) == 0:
            if mm_gen_state(u.g) != MM_OPEN:
                return -ESHUTDOWN
            mm_sleep(&u.stop, load_u32(&u.stop, memory_order_relaxed), mm_now() + 100_000)
    return 0


cdef int update(updater *u, uint64_t way) noexcept nogil:
    cdef mm_object *o = mm_replace(u.p, <uint32_t>(mm_draw(&u.random) % u.p.nr_slots))
    cdef uint64_t cookie
    cdef int err
    if o is NULL:
        return -ENOMEM
    store_u64(&u.way, way, memory_order_relaxed)
    store_u64(&u.since, mm_now(), memory_order_relaxed)
    if way == DEFER:
        o.arg = u
        err = mm_gen_defer(u.g, &o.callback, run_deferred)
        if err == 0:
            u.nr_deferred += 1
            err = drain(u, MOST_DEFERRED)
    else:
        cookie = mm_gen_start_poll(u.g)
        if way == EXPEDITE:
            mm_gen_expedite(u.g, cookie)
        err = spin(u, cookie) if way == POLL else sleep(u, cookie)
        if err == 0:
            mm_over(o)
            mm_add(&u.ended[way], 1)
    store_u64(&u.since, 0, memory_order_relaxed)
    return err


cdef void run(updater *u) noexcept nogil:
    cdef uint64_t nr = 0
    cdef int err = 0
    while err == 0 and load_u32(&u.stop, memory_order_relaxed) == 0:
        err = update(u, nr % NR_WAYS)
        nr += 1
        if u.pause and err == 0:
            mm_sleep(&u.stop, 0, mm_now() + mm_spell(&u.random, u.pause))
        if err == 0 and nr % 4 == 0:
            mm_gen_run_callbacks(u.g, 1024)
    store_u64(&u.way, DEFER, memory_order_relaxed)
    store_u64(&u.since, mm_now(), memory_order_relaxed)
    if err == 0:
        err = drain(u, 0)
    store_u64(&u.since, 0, memory_order_relaxed)
    if err and mm_gen_state(u.g) == MM_OPEN:
        mm_add(&u.errors, 1)


cdef class Updater:
    """What one thread needs to be an updater of `pipe` by `gen`'s grace periods, that pauses up to `pause_ns` between two.

    One thread calls run(), once. Everything else may be called by any thread.
    """

    cdef updater u
    cdef MmGen gen
    cdef Pipe pipe

    def __cinit__(self, MmGen gen not None, Pipe pipe not None, int64_t pause_ns, uint64_t seed, /):
        self.gen = gen
        self.pipe = pipe
        self.u.g = gen.g
        self.u.p = &pipe.p
        self.u.pause = pause_ns
        self.u.random = seed

    def run(self):
        """Update until stop(), and then until all that was deferred has run; or until the domain is closed."""
        with nogil:
            run(&self.u)

    def stop(self):
        """Have run() end."""
        store_u32(&self.u.stop, 1, memory_order_relaxed)
        mm_wake_all(&self.u.stop)

    @property
    def waiting(self):
        """(how, for how long in ns) it has waited for the grace period that is under way; None: for none."""
        cdef int64_t since = load_u64(&self.u.since, memory_order_relaxed)
        return (WAYS[load_u64(&self.u.way, memory_order_relaxed)], mm_now() - since) if since else None

    @property
    def errors(self):
        """How many of its calls failed though the domain was open: none may."""
        return load_u64(&self.u.errors, memory_order_relaxed)

    @property
    def ended(self):
        """How many grace periods have ended, by each way to wait for them."""
        cdef int way
        return {WAYS[way]: load_u64(&self.u.ended[way], memory_order_relaxed) for way in range(NR_WAYS)}


WAYS = ("C wait", "C poll", "C defer", "C expedite")
