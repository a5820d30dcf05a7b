# cython: language_level=3, binding=False, embedsignature=True, embedsignature.format=clinic, freethreading_compatible=True
"""Waits that arrive when they arrive, however long those before them take (an open loop): the two nogil loops."""
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free

from mmgen._core cimport MM_OPEN, mm_gen_poll, mm_gen_start_poll, mm_gen_wait_for
from mmgen._domain cimport MmGen
from mmgen._lifetime cimport mm_gen_state
from mmgen._sleep cimport EINTR, MM_LOW_HALF, mm_now, mm_sleep, mm_wake_all
from mmgen._stdatomic cimport (
    atomic_u32, atomic_u64, load_u32, load_u64, memory_order_acquire, memory_order_relaxed, memory_order_release, store_u32,
    store_u64,
)

cdef enum:
    SLICE_NS = 10_000_000               # how soon a stop() is noticed that comes just before the sleep

cdef struct arrival:
    int64_t due                         # ns from the beginning
    int64_t begun                       # ns of CLOCK_MONOTONIC
    int64_t took                        # ns; -1: not over yet
    uint64_t cookie
    bint at_once                        # over when it began


cdef class Arrivals:
    """A wait in `gen` at each of `times` (sorted, ns from the beginning).

    begin() and finish() are each called by one thread, once: the first begins each wait at its time, the second sleeps until each
    is over. They return when all are over, or after stop(). Everything else may be called by any thread.
    """

    cdef MmGen gen
    cdef arrival *a
    cdef readonly Py_ssize_t nr
    cdef atomic_u64 begun, done
    cdef atomic_u32 stopping

    def __cinit__(self, MmGen gen not None, const int64_t[::1] times, /):
        cdef Py_ssize_t i
        self.gen = gen
        self.nr = times.shape[0]
        self.a = <arrival *>calloc(max(self.nr, 1), sizeof(arrival))
        if self.a is NULL:
            raise MemoryError(f"no memory for {self.nr} arrivals")
        for i in range(self.nr):
            self.a[i].due = times[i]
            self.a[i].took = -1

    def __dealloc__(self):
        free(self.a)

    def begin(self, int64_t origin, /):
        """Begin each wait at origin + its time (ns of CLOCK_MONOTONIC)."""
        cdef arrival *a
        cdef Py_ssize_t i
        with nogil:
            for i in range(self.nr):
                a = &self.a[i]
                while mm_now() < origin + a.due and not load_u32(&self.stopping, memory_order_relaxed):
                    mm_sleep(&self.stopping, 0, origin + a.due)
                if load_u32(&self.stopping, memory_order_relaxed) or mm_gen_state(self.gen.g) != MM_OPEN:
                    break
                a.begun = mm_now()
                a.cookie = mm_gen_start_poll(self.gen.g)
                if mm_gen_poll(self.gen.g, a.cookie):
                    a.took = mm_now() - a.begun
                    a.at_once = True
                store_u64(&self.begun, i + 1, memory_order_release)          # pairs with finish()'s acquire
                mm_wake_all(MM_LOW_HALF(&self.begun))

    def finish(self):
        """Sleep until each wait that was begun is over, in order: they end in the order in which they begin."""
        cdef arrival *a
        cdef Py_ssize_t i
        cdef int err
        with nogil:
            for i in range(self.nr):
                a = &self.a[i]
                while (load_u64(&self.begun, memory_order_acquire) == <uint64_t>i
                        and not load_u32(&self.stopping, memory_order_relaxed)):
                    mm_sleep(MM_LOW_HALF(&self.begun), i, mm_now() + SLICE_NS)
                if load_u32(&self.stopping, memory_order_relaxed):
                    break
                if not a.at_once:
                    err = -EINTR
                    while err == -EINTR:
                        err = mm_gen_wait_for(self.gen.g, a.cookie, -1)
                    if err:
                        break
                    a.took = mm_now() - a.begun
                store_u64(&self.done, i + 1, memory_order_release)           # pairs with over()'s acquire

    def stop(self):
        """Have both loops end, finish() as soon as the wait that it is in is over or its domain closed."""
        store_u32(&self.stopping, 1, memory_order_relaxed)
        mm_wake_all(&self.stopping)
        mm_wake_all(MM_LOW_HALF(&self.begun))

    @property
    def nr_begun(self):
        """How many waits have begun."""
        return load_u64(&self.begun, memory_order_acquire)

    @property
    def nr_over(self):
        """How many waits are over."""
        return load_u64(&self.done, memory_order_acquire)

    def over(self, Py_ssize_t first=0, /):
        """[(due_ns, took_ns, at_once), ...] of the waits that are over, from the `first`, in the order of their arrival.

        due_ns counts from the beginning, took_ns from when the wait began; at_once: it was over when the call that began it
        returned, since every CPU online was idle.
        """
        cdef Py_ssize_t i
        return [(self.a[i].due, self.a[i].took, self.a[i].at_once)
                for i in range(max(first, 0), <Py_ssize_t>load_u64(&self.done, memory_order_acquire))]
