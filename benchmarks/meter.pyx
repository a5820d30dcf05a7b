# cython: language_level=3, freethreading_compatible=True
"""Two loops, timed in turn by one thread, while a helper on another core runs what goes on beside each."""
import threading

from libc.stdint cimport int64_t, uint64_t, uintptr_t

from loop cimport loop

cdef extern from *:
    """
    #include <stdatomic.h>
    #include <time.h>
    static int64_t now(void)
    {
        struct timespec ts;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
    }
    typedef _Atomic(int) atomic_side;
    static void doze(int64_t ns)
    {
        struct timespec ts = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
        nanosleep(&ts, NULL);
    }
    static int get(atomic_side *side) { return atomic_load_explicit(side, memory_order_acquire); }
    static void put(atomic_side *side, int value) { atomic_store_explicit(side, value, memory_order_release); }
    """
    int64_t now() noexcept nogil
    void doze(int64_t ns) noexcept nogil
    ctypedef struct atomic_side:
        pass
    int get(atomic_side *side) noexcept nogil
    void put(atomic_side *side, int value) noexcept nogil

cdef enum:
    NEITHER = 2                         # beside 0, ours, and 1, theirs
    STOP = 3
    BESIDE = 32                         # operations of the helper between two looks at what it is to do


# What has the address of a struct loop; None: NULL.
cdef loop *loop_of(object one) except? NULL:
    return NULL if one is None else <loop *><uintptr_t>one.address


cdef class Helper:
    """A thread that runs one of two loops, or neither; the meter says which, and waits until it does."""

    cdef loop *loops[2]
    cdef atomic_side wanted, at
    cdef uint64_t each
    cdef object thread

    def __cinit__(self, ours, theirs, uint64_t each, pin):
        self.loops[0], self.loops[1] = loop_of(ours), loop_of(theirs)
        self.each = each
        put(&self.wanted, NEITHER)
        put(&self.at, STOP)
        self.thread = threading.Thread(target=self.help, args=(pin,), daemon=True)
        self.thread.start()
        with nogil:
            while get(&self.at) == STOP:
                pass

    def help(self, pin):
        cdef int side, i
        pin()
        with nogil:
            for i in range(2):
                if self.loops[i] is not NULL and self.loops[i].enter is not NULL:
                    self.loops[i].enter(self.loops[i].arg)
            while True:
                side = get(&self.wanted)
                put(&self.at, side)
                if side == STOP:
                    break
                if side != NEITHER and self.loops[side] is not NULL:
                    self.loops[side].run(self.loops[side].arg, self.each)
            for i in range(2):
                if self.loops[i] is not NULL and self.loops[i].leave is not NULL:
                    self.loops[i].leave(self.loops[i].arg)


cdef class Meter:
    """Times `ours` and `theirs` (which have the address of a struct loop), each with its loop beside it on another core, if it has one.

    rest_ns: one operation at a time, each after a sleep of up to that long: it begins at any moment between two ticks.
    driven: what goes on beside needs the loop to go on, too, before it can be left: an updater, whose readers are timed.
    Made, used and closed by one thread; pin is called in the helper's.
    """

    cdef loop *loops[2]
    cdef Helper helper
    cdef tuple keep
    cdef bint driven
    cdef int order
    cdef double rest_ns
    cdef uint64_t state

    def __cinit__(self, ours, theirs=None, *, beside_ours=None, beside_theirs=None, bint driven=False,
                  uint64_t each=BESIDE, double rest_ns=0, pin=None):
        self.loops[0], self.loops[1] = loop_of(ours), loop_of(theirs)
        self.keep = (ours, theirs, beside_ours, beside_theirs)
        self.driven, self.rest_ns = driven, rest_ns
        if beside_ours is not None or beside_theirs is not None:
            self.helper = Helper(beside_ours, beside_theirs, each, pin)
        for i in range(2):
            if self.loops[i] is not NULL and self.loops[i].enter is not NULL:
                self.loops[i].enter(self.loops[i].arg)

    def close(self):
        """End the helper."""
        if self.helper is not None:
            with nogil:
                self.beside(STOP, NEITHER)
            self.helper.thread.join()
            self.helper = None
        for i in range(2):
            if self.loops[i] is not NULL and self.loops[i].leave is not NULL:
                self.loops[i].leave(self.loops[i].arg)

    # Have the helper run what belongs to `side`; it may be in what belongs to `was`.
    cdef void beside(self, int side, int was) noexcept nogil:
        put(&self.helper.wanted, side)
        while get(&self.helper.at) != side:
            if self.driven and was < 2:
                self.loops[was].run(self.loops[was].arg, 1)

    # From 0 to 1: as in Knuth's MMIX, of which the upper bits are good enough.
    cdef double random(self) noexcept nogil:
        self.state = self.state * <uint64_t>6364136223846793005 + <uint64_t>1442695040888963407
        return (self.state >> 11) * 2.0**-53

    cdef int64_t time(self, int side, uint64_t n) noexcept nogil:
        cdef int64_t begin, end
        if self.helper is not None:
            self.beside(side, NEITHER)
        if n > 1:
            self.loops[side].run(self.loops[side].arg, n // 16)         # its lines and branches are warm, and the helper's
        elif self.rest_ns:
            doze(<int64_t>(self.random() * self.rest_ns))
        begin = now()
        self.loops[side].run(self.loops[side].arg, n)
        end = now()
        if self.helper is not None:
            self.beside(NEITHER, side)
        return end - begin

    def round(self, uint64_t n_ours, uint64_t n_theirs):
        """(ns of n_ours operations, ns of n_theirs): one after the other, in an order that changes from round to round."""
        cdef int64_t ns[2]
        cdef int side, i
        ns[0] = ns[1] = 0
        self.order ^= 1
        with nogil:
            for i in range(2):
                side = i ^ self.order
                if self.loops[side] is not NULL:
                    ns[side] = self.time(side, n_theirs if side else n_ours)
        return ns[0], ns[1]
