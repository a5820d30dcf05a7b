# cython: language_level=3, binding=False, embedsignature=True, embedsignature.format=clinic, freethreading_compatible=True
"""How long things took: a log-linear histogram of nanoseconds.

Values below 32 ns are exact; above, each power of two is cut into 32 equal buckets (as in HdrHistogram).
"""
from libc.math cimport ceil
from libc.string cimport memset

from mmgen._stdatomic cimport cas_u64, fetch_add_u64, load_u64, memory_order_relaxed

from mmgen._arguments import real, shown


cdef extern from *:
    int leading_zeros "__builtin_clzll"(unsigned long long) noexcept nogil


cdef void mm_latency_record(mm_latency *l, uint64_t ns) noexcept nogil:
    cdef unsigned int shift = 63 - MM_SUB_BITS - leading_zeros(ns | 1 << MM_SUB_BITS)
    cdef uint64_t longest = load_u64(&l.longest, memory_order_relaxed)
    # Below 64, shift is 0 and the value is its own index; above, (ns >> shift) is from 32 to 63.
    fetch_add_u64(&l.bucket[(shift << MM_SUB_BITS) + (ns >> shift)], 1, memory_order_relaxed)
    fetch_add_u64(&l.total, ns, memory_order_relaxed)
    fetch_add_u64(&l.count, 1, memory_order_relaxed)
    while ns > longest and not cas_u64(&l.longest, &longest, ns, memory_order_relaxed, memory_order_relaxed):
        pass


# The middle of bucket i; its width goes to *width.
cdef uint64_t middle(int i, uint64_t *width) noexcept nogil:
    cdef unsigned int shift = (i >> MM_SUB_BITS) - 1 if i >> MM_SUB_BITS else 0
    width[0] = <uint64_t>1 << shift
    return (<uint64_t>(i - <int>(shift << MM_SUB_BITS)) << shift) + (width[0] >> 1)


cdef class Latency:
    """A histogram of durations in nanoseconds.

    Thread-safety: record() and every reader may run at once, from any thread; count, total_ns and the buckets may then differ by
    what is just being recorded.
    """

    def __cinit__(self):
        memset(&self.l, 0, sizeof(mm_latency))

    def record(self, uint64_t ns, /):
        """Count a duration of `ns` nanoseconds (0 to 2**64 - 1; OverflowError outside)."""
        mm_latency_record(&self.l, ns)

    @property
    def count(self):
        """How many durations have been recorded."""
        return load_u64(&self.l.count, memory_order_relaxed)

    @property
    def total_ns(self):
        """Their sum, in nanoseconds, modulo 2**64."""
        return load_u64(&self.l.total, memory_order_relaxed)

    @property
    def max_ns(self):
        """The longest, exactly, in nanoseconds; 0 before the first."""
        return load_u64(&self.l.longest, memory_order_relaxed)

    def percentile_ns(self, percent, /):
        """The duration in ns that `percent` % of those recorded do not exceed, to 1/64 of itself; None before the first.

        Raises ValueError unless percent is from 0 to 100.
        """
        cdef uint64_t wanted, seen = 0, width, value
        cdef double share = real(percent, "percent")
        cdef int i
        if not 0 <= share <= 100:
            raise ValueError(f"percent={shown(percent)} is out of range: 0 to 100")
        if not self.count:
            return None
        wanted = max(<uint64_t>ceil(self.count * share / 100), <uint64_t>1)
        for i in range(MM_BUCKETS):
            seen += load_u64(&self.l.bucket[i], memory_order_relaxed)
            if seen >= wanted:
                value = middle(i, &width)
                return min(value, self.max_ns)
        return self.max_ns

    def buckets(self):
        """[(least_ns, width_ns, count), ...] of the buckets that hold anything, in order."""
        cdef uint64_t width, value, n
        cdef int i
        found = []
        for i in range(MM_BUCKETS):
            n = load_u64(&self.l.bucket[i], memory_order_relaxed)
            if n:
                value = middle(i, &width)
                found.append((value - (width >> 1), width, n))
        return found
