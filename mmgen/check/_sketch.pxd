# The sketch of 2 December 2020, transliterated: for the checker to refute. Nothing else may use it.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from mmgen._stdatomic cimport atomic_u32, atomic_u64

cdef enum:
    MM_SKETCH_CPUS = 4

cdef struct mm_sketch:
    atomic_u64 nr_mm_switches[MM_SKETCH_CPUS]           # rq->nr_mm_switches
    atomic_u64 switches[2][MM_SKETCH_CPUS]
    atomic_u64 generation
    atomic_u32 complete
    uint32_t nr_online_cpus

cdef void mm_sketch_switch(mm_sketch *s, int cpu) noexcept nogil
cdef bint mm_sketch_tick(mm_sketch *s, int cpu) noexcept nogil
cdef uint32_t mm_sketch_begin(mm_sketch *s) noexcept nogil              # mm_gen_wait up to wait_event
cdef bint mm_sketch_over(mm_sketch *s, uint32_t gen) noexcept nogil     # wait_event's condition
