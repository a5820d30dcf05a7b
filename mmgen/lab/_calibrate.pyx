# cython: language_level=3, binding=False, embedsignature=True, embedsignature.format=clinic, freethreading_compatible=True
"""What lines, atomics, fences and IPIs cost this machine, by the clock: one thread asks, its partner on another core answers."""
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport free
from libc.string cimport memset

from mmgen._sleep cimport mm_cpu_relax, mm_now, sched_yield
from mmgen._stdatomic cimport (
    atomic_u32, atomic_u64, fence, fetch_add_u32, fetch_sub_u32, load_u32, load_u64, memory_order_acq_rel, memory_order_acquire,
    memory_order_relaxed, memory_order_release, memory_order_seq_cst, store_u32, store_u64,
)
from mmgen.lab._interrupts cimport interrupt_core, membarrier_begin

cdef extern from "<stdlib.h>" nogil:
    int posix_memalign(void **block, size_t alignment, size_t size) noexcept

cdef enum:
    LINES = 64                      # that are fetched between two looks at the clock
    STRIDE = 64                     # words of 4 bytes from line to line: 256 bytes, so that none comes with another
    REPEATS = 1000                  # of what takes ns
    SETTLE_NS = 20_000              # how long the partner runs undisturbed before it is interrupted
    PATIENCE = 100_000              # looks before a thread gives its core away
    MINE = 0, WRITE, RUN, LEAVE     # whose turn it is, and to do what

cdef struct ground:
    atomic_u32 turn
    uint32_t pad0[63]
    atomic_u32 running, shot
    uint32_t pad1[62]
    atomic_u64 gap                  # the longest between two of the partner's looks at the clock
    uint32_t pad2[62]
    atomic_u32 words[LINES * STRIDE]


cdef void await_turn(ground *g, uint32_t turn) noexcept nogil:
    cdef uint32_t looks = 0
    while load_u32(&g.turn, memory_order_acquire) != turn:
        looks += 1
        if looks < PATIENCE:
            mm_cpu_relax()
        else:
            sched_yield()


cdef void run_until_shot(ground *g) noexcept nogil:
    cdef int64_t last = mm_now(), now, gap = 0
    store_u32(&g.running, 1, memory_order_release)
    while not load_u32(&g.shot, memory_order_acquire):
        now = mm_now()
        gap = max(gap, now - last)
        last = now
    store_u32(&g.shot, 0, memory_order_relaxed)
    store_u64(&g.gap, gap, memory_order_relaxed)
    store_u32(&g.running, 0, memory_order_relaxed)


cdef class Bench:
    """Where two threads measure. Thread-safety: one thread in partner(), one in the rest."""

    cdef ground *g
    cdef uint32_t command

    def __cinit__(self):
        if posix_memalign(<void **>&self.g, 256, sizeof(ground)):
            raise MemoryError("no memory to measure in")
        memset(self.g, 0, sizeof(ground))
        self.command = membarrier_begin()

    def __dealloc__(self):
        free(self.g)

    @property
    def interrupts(self):
        """Whether the kernel lets a process interrupt its threads (membarrier)."""
        return self.command != 0

    def partner(self):
        """Answer until leave()."""
        cdef ground *g = self.g
        cdef uint32_t turn, i, looks = 0
        with nogil:
            while True:
                turn = load_u32(&g.turn, memory_order_acquire)
                if turn == LEAVE:
                    break
                if turn == MINE:
                    looks += 1
                    if looks > PATIENCE:
                        sched_yield()
                    continue
                looks = 0
                if turn == WRITE:
                    for i in range(LINES):
                        fetch_add_u32(&g.words[i * STRIDE], 1, memory_order_relaxed)
                else:
                    run_until_shot(g)
                store_u32(&g.turn, MINE, memory_order_release)

    def leave(self):
        """Let the partner go."""
        store_u32(&self.g.turn, LEAVE, memory_order_release)

    def atomic(self):
        """ns of an atomic on a line that is here."""
        cdef int64_t begin = mm_now()
        cdef int _i
        with nogil:
            for _i in range(REPEATS):
                fetch_add_u32(&self.g.words[0], 1, memory_order_acq_rel)
                fetch_sub_u32(&self.g.words[0], 1, memory_order_acq_rel)
            begin = mm_now() - begin
        return begin / (2.0 * REPEATS)

    def fence(self):
        """ns of a full fence."""
        cdef int64_t begin = mm_now()
        cdef int _i
        with nogil:
            for _i in range(REPEATS):
                fence(memory_order_seq_cst)
            begin = mm_now() - begin
        return begin / (<double>REPEATS)

    def lines(self, write, /):
        """ns of an atomic (or, not `write`, a load) on each of some lines that the partner has just written."""
        cdef ground *g = self.g
        cdef int64_t took
        cdef uint32_t i, sum = 0
        cdef bint writes = write
        with nogil:
            store_u32(&g.turn, WRITE, memory_order_release)
            await_turn(g, MINE)
            took = mm_now()
            for i in range(LINES):
                # Not in order, so that no prefetcher is ahead.
                if writes:
                    fetch_add_u32(&g.words[(i * 37 % LINES) * STRIDE], 1, memory_order_acq_rel)
                else:
                    sum += load_u32(&g.words[(i * 37 % LINES) * STRIDE], memory_order_relaxed)
            took = mm_now() - took
            store_u32(&g.running, 0 if sum else 0, memory_order_relaxed)
        return took / (<double>LINES)

    def ipi(self, int core, /):
        """(ns from an interrupt of the partner's core until it has answered, ns for which it was interrupted)."""
        cdef ground *g = self.g
        cdef int64_t begin, took
        with nogil:
            store_u32(&g.turn, RUN, memory_order_release)
            while not load_u32(&g.running, memory_order_acquire):
                mm_cpu_relax()
            begin = mm_now()
            while mm_now() - begin < SETTLE_NS:
                mm_cpu_relax()
            begin = mm_now()
            interrupt_core(self.command, core)
            store_u32(&g.shot, 1, memory_order_release)
            while load_u32(&g.shot, memory_order_acquire):
                mm_cpu_relax()
            took = mm_now() - begin
            await_turn(g, MINE)
        return took, load_u64(&g.gap, memory_order_relaxed)
