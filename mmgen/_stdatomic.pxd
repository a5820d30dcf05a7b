# C11 atomics, declared for Cython: every atomic access of the package goes through these names, with its order spelled out.
#
# The types are opaque structs, so that Cython refuses `x += 1` and every other access that does not say its order.
from libc.stdint cimport uint32_t, uint64_t

cdef extern from *:
    """
    #ifndef MMGEN_STDATOMIC
    #define MMGEN_STDATOMIC
    #include <stdint.h>
    #ifdef __cplusplus
    /* <atomic> has the same names, orders and (for these two types) layout. */
    #include <atomic>
    #define _Atomic(T) std::atomic<T>
    using namespace std;
    #else
    #include <stdatomic.h>
    #endif
    #endif
    """
    ctypedef struct atomic_u32 "_Atomic(uint32_t)":
        pass
    ctypedef struct atomic_u64 "_Atomic(uint64_t)":
        pass

    ctypedef enum memory_order:
        memory_order_relaxed
        memory_order_acquire
        memory_order_release
        memory_order_acq_rel
        memory_order_seq_cst

    uint32_t load_u32 "atomic_load_explicit"(atomic_u32 *word, memory_order order) noexcept nogil
    void store_u32 "atomic_store_explicit"(atomic_u32 *word, uint32_t value, memory_order order) noexcept nogil
    uint32_t exchange_u32 "atomic_exchange_explicit"(atomic_u32 *word, uint32_t value, memory_order order) noexcept nogil
    uint32_t fetch_add_u32 "atomic_fetch_add_explicit"(atomic_u32 *word, uint32_t n, memory_order order) noexcept nogil
    uint32_t fetch_sub_u32 "atomic_fetch_sub_explicit"(atomic_u32 *word, uint32_t n, memory_order order) noexcept nogil
    uint32_t fetch_or_u32 "atomic_fetch_or_explicit"(atomic_u32 *word, uint32_t bits, memory_order order) noexcept nogil
    uint32_t fetch_and_u32 "atomic_fetch_and_explicit"(atomic_u32 *word, uint32_t bits, memory_order order) noexcept nogil
    bint cas_u32 "atomic_compare_exchange_strong_explicit"(
        atomic_u32 *word, uint32_t *expected, uint32_t desired, memory_order success, memory_order failure) noexcept nogil

    uint64_t load_u64 "atomic_load_explicit"(atomic_u64 *word, memory_order order) noexcept nogil
    void store_u64 "atomic_store_explicit"(atomic_u64 *word, uint64_t value, memory_order order) noexcept nogil
    uint64_t fetch_add_u64 "atomic_fetch_add_explicit"(atomic_u64 *word, uint64_t n, memory_order order) noexcept nogil
    uint64_t fetch_sub_u64 "atomic_fetch_sub_explicit"(atomic_u64 *word, uint64_t n, memory_order order) noexcept nogil
    bint cas_u64 "atomic_compare_exchange_strong_explicit"(
        atomic_u64 *word, uint64_t *expected, uint64_t desired, memory_order success, memory_order failure) noexcept nogil

    void fence "atomic_thread_fence"(memory_order order) noexcept nogil
