# A histogram of durations that any number of threads record into without a lock, and that can be read meanwhile.
from libc.stdint cimport uint64_t

from mmgen._stdatomic cimport atomic_u64

cdef enum:
    MM_SUB_BITS = 5                                     # 32 buckets an octave: a percentile is off by 1/64 at most
    MM_BUCKETS = (64 - MM_SUB_BITS + 1) << MM_SUB_BITS

cdef struct mm_latency:
    atomic_u64 count
    atomic_u64 total
    atomic_u64 longest
    atomic_u64 bucket[MM_BUCKETS]

cdef void mm_latency_record(mm_latency *l, uint64_t ns) noexcept nogil

cdef class Latency:
    cdef mm_latency l
