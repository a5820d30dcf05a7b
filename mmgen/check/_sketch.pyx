# cython: language_level=3, freethreading_compatible=True
"""The sketch's lines, in its order and with its types; its one mending is that mm_gen_tick returns what it computes."""
from mmgen._stdatomic cimport memory_order_relaxed, memory_order_release, memory_order_seq_cst
from mmgen.check._steps cimport fence, fetch_sub_u32, load_u64, store_u32, store_u64


cdef void mm_sketch_switch(mm_sketch *s, int cpu) noexcept nogil:
    store_u64(&s.nr_mm_switches[cpu], load_u64(&s.nr_mm_switches[cpu], memory_order_relaxed) + 1, memory_order_relaxed)


cdef bint mm_sketch_tick(mm_sketch *s, int cpu) noexcept nogil:
    cdef uint64_t switches = load_u64(&s.nr_mm_switches[cpu], memory_order_relaxed)
    cdef int idx = load_u64(&s.generation, memory_order_relaxed) & 1
    cdef uint64_t prev = load_u64(&s.switches[idx ^ 1][cpu], memory_order_relaxed)
    cdef uint64_t curr = load_u64(&s.switches[idx][cpu], memory_order_relaxed)
    if prev == switches:                                # we haven't switched since the last generation
        return False
    store_u64(&s.switches[idx][cpu], switches, memory_order_relaxed)
    if <int64_t>(curr - prev) < 0 and fetch_sub_u32(&s.complete, 1, memory_order_seq_cst) == 1:     # atomic_dec_and_test
        store_u32(&s.complete, s.nr_online_cpus, memory_order_relaxed)
        fence(memory_order_release)                     # smp_wmb()
        store_u64(&s.generation, load_u64(&s.generation, memory_order_relaxed) + 1, memory_order_relaxed)
        return True
    return False


cdef uint32_t mm_sketch_begin(mm_sketch *s) noexcept nogil:
    return <uint32_t>load_u64(&s.generation, memory_order_relaxed)      # unsigned int gen = READ_ONCE(mm_foo.generation)


cdef bint mm_sketch_over(mm_sketch *s, uint32_t gen) noexcept nogil:
    return load_u64(&s.generation, memory_order_relaxed) - gen > 1
