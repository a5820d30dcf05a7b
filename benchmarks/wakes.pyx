# cython: language_level=3, freethreading_compatible=True
"""From the last tick of a grace period to when who slept in mm_gen_wait runs, beside a bare futex: the same two threads, in turn.

One thread is the domain's only CPU and wakes, the other sleeps. The CPU opens the first of the two generations that a wait takes before the
other may fall asleep, gives it time to, and then makes the switch and the tick that open the second: from there on the clock runs.
"""
import threading

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free

from mmgen cimport MmGen, mm_gen_quiescent, mm_gen_start_poll, mm_gen_tick, mm_gen_wait_for, mm_gen_wake, mm_switch

cdef extern from *:
    """
    #define _GNU_SOURCE
    #include <linux/futex.h>
    #include <stdatomic.h>
    #include <sys/resource.h>
    #include <sys/syscall.h>
    #include <time.h>
    #include <unistd.h>
    typedef _Atomic(unsigned int) futex;
    static unsigned int get(futex *word) { return atomic_load_explicit(word, memory_order_acquire); }
    static void put(futex *word, unsigned int value) { atomic_store_explicit(word, value, memory_order_release); }
    static void futex_sleep(futex *word, unsigned int seen)
    {
        while (get(word) == seen)
            syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    }
    static void futex_wake(futex *word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0); }
    static int64_t now(void)
    {
        struct timespec ts;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
    }
    static long slept(void)             /* how often the calling thread gave up its core to wait */
    {
        struct rusage usage;
        getrusage(RUSAGE_THREAD, &usage);
        return usage.ru_nvcsw;
    }
    """
    ctypedef struct futex:
        pass
    unsigned int get(futex *word) noexcept nogil
    void put(futex *word, unsigned int value) noexcept nogil
    void futex_sleep(futex *word, unsigned int seen) noexcept nogil
    void futex_wake(futex *word) noexcept nogil
    int64_t now() noexcept nogil
    long slept() noexcept nogil

cdef enum:
    FALL_ASLEEP_NS = 150_000            # spinning comes first (3 us), then the way into the kernel and the core's own rest


cdef class Wakes:
    """`rounds` wakes of each kind: ours and theirs are their ns, once run() has returned."""

    cdef MmGen gen
    cdef int rounds
    cdef futex word                     # what the bare one sleeps on
    cdef futex ready, go                # how far the sleeper is, and the waker
    cdef int64_t *begun
    cdef int64_t *woken
    cdef readonly list ours, theirs
    cdef readonly long nr_slept         # how often the sleeper gave up its core

    def __cinit__(self, MmGen gen not None, int rounds):
        self.gen, self.rounds = gen, rounds
        self.begun = <int64_t *>calloc(4 * rounds, sizeof(int64_t))
        if self.begun is NULL:
            raise MemoryError(f"no memory for {rounds} rounds")
        self.woken = self.begun + 2 * rounds
        put(&self.word, 0)
        put(&self.ready, 0)
        put(&self.go, 0)

    def __dealloc__(self):
        free(self.begun)

    def sleep(self, pin):
        """In a thread of its own."""
        cdef uint64_t cookie = 0
        cdef long before
        cdef int i
        pin()
        with nogil:
            before = slept()
            for i in range(2 * self.rounds):
                if i % 2 == 0:
                    cookie = mm_gen_start_poll(self.gen.g)
                put(&self.ready, 2 * i + 1)
                while get(&self.go) != 2 * i + 1:           # the first generation opens
                    pass
                put(&self.ready, 2 * i + 2)
                if i % 2 == 0:
                    mm_gen_wait_for(self.gen.g, cookie, -1)
                else:
                    futex_sleep(&self.word, i // 2)
                self.woken[i] = now()
            self.nr_slept = slept() - before

    def run(self, pin):
        """Be the CPU, and wake; pin() is called in the sleeper's thread."""
        cdef int64_t begin
        cdef int i
        thread = threading.Thread(target=self.sleep, args=(pin,), daemon=True)
        thread.start()
        with nogil:
            for i in range(2 * self.rounds):
                while get(&self.ready) != 2 * i + 1:
                    pass
                if i % 2 == 0:
                    mm_gen_quiescent(self.gen.g, 0)
                put(&self.go, 2 * i + 1)
                while get(&self.ready) != 2 * i + 2:
                    pass
                begin = now()
                while now() - begin < FALL_ASLEEP_NS:
                    pass
                if i % 2 == 0:
                    mm_switch(self.gen.g, 0)
                    self.begun[i] = now()
                    if mm_gen_tick(self.gen.g, 0):
                        mm_gen_wake(self.gen.g)
                else:
                    self.begun[i] = now()
                    put(&self.word, i // 2 + 1)
                    futex_wake(&self.word)
        thread.join()
        self.ours = [self.woken[i] - self.begun[i] for i in range(0, 2 * self.rounds, 2)]
        self.theirs = [self.woken[i] - self.begun[i] for i in range(1, 2 * self.rounds, 2)]
