# Chance, and counting, for the threads of a torture.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from mmgen._stdatomic cimport atomic_u64, load_u64, memory_order_relaxed, store_u64

# The next of splitmix64 (Steele, Lea, Flood 2014).
cdef inline uint64_t mm_draw(uint64_t *random) noexcept nogil:
    cdef uint64_t z
    random[0] += <uint64_t>0x9e3779b97f4a7c15
    z = random[0]
    z = (z ^ (z >> 30)) * <uint64_t>0xbf58476d1ce4e5b9
    z = (z ^ (z >> 27)) * <uint64_t>0x94d049bb133111eb
    return z ^ (z >> 31)

# What happens `chance` times in 65536.
cdef inline bint mm_happens(uint64_t *random, uint32_t chance) noexcept nogil:
    return (mm_draw(random) >> 48) < chance

# Up to `most` ns, short spells as likely as long ones: its order of magnitude is drawn first, of twelve.
cdef inline int64_t mm_spell(uint64_t *random, int64_t most) noexcept nogil:
    cdef uint64_t z = mm_draw(random)
    return <int64_t>((z >> 16) % <uint64_t>((most >> (z % 12)) + 1))

cdef inline void mm_add(atomic_u64 *word, uint64_t n) noexcept nogil:      # its only writer's
    store_u64(word, load_u64(word, memory_order_relaxed) + n, memory_order_relaxed)
