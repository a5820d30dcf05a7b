# cython: language_level=3, freethreading_compatible=True
"""A domain's state as bytes: 64 for each CPU, and 128 before them.

Words of 64 bits, little-endian, that never hold an address: a snapshot is the same for the same operations, whoever applied them, and
can be restored elsewhere. What is not in it: deferred callbacks (none may be pending), who sleeps, the kick, the trace, latencies.
"""
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

from mmgen._control cimport control_of, mm_control
from mmgen._core cimport (
    MM_IDLE, MM_MAX_CPUS, MM_OFFLINE, MM_ONLINE_SHIFT, MM_OPEN, MM_PARITY_SHIFT, MM_RUNNING, mm_cpu, mm_cpu_of,
)
from mmgen._domain cimport MmGen
from mmgen._lifetime cimport mm_gen_create
from mmgen._sleep cimport EBUSY, ENOSPC, ESHUTDOWN, pthread_mutex_lock, pthread_mutex_unlock
from mmgen._stdatomic cimport load_u32, load_u64, memory_order_relaxed, store_u32, store_u64

from mmgen._arguments import shown

cdef extern from *:
    """
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    #define MM_LITTLE_ENDIAN(word) __builtin_bswap64(word)
    #else
    #define MM_LITTLE_ENDIAN(word) (word)
    #endif
    """
    uint64_t MM_LITTLE_ENDIAN(uint64_t word) noexcept nogil

cdef enum:                          # the words before the CPUs'
    MAGIC, NR_CPUS, COUNTING, PATIENCE, GENERATION, GOAL, PENDING, NR_WAITS, EXPEDITE, KICKED, IMPATIENT, NR_DEFERRED, FIRST_SWITCHES
    HEADER = 16                     # words; what is left is 0
    PER_CPU = 8
cdef uint64_t FORMAT = 0x0001006e65676d6d           # "mmgen", 0, and the version, 1


cdef inline uint64_t two(uint32_t low, uint32_t high) noexcept nogil:
    return <uint64_t>high << 32 | low


cdef inline void put(uint8_t *state, size_t at, uint64_t word) noexcept nogil:
    word = MM_LITTLE_ENDIAN(word)
    memcpy(state + 8 * at, &word, 8)


cdef inline uint64_t get(const uint8_t *state, size_t at) noexcept nogil:
    cdef uint64_t word
    memcpy(&word, state + 8 * at, 8)
    return MM_LITTLE_ENDIAN(word)


cdef inline uint32_t low(const uint8_t *state, size_t at) noexcept nogil:
    return <uint32_t>get(state, at)


cdef inline uint32_t high(const uint8_t *state, size_t at) noexcept nogil:
    return get(state, at) >> 32


cdef size_t mm_snapshot_size(uint32_t nr_cpus) noexcept nogil:
    return 8 * (HEADER + PER_CPU * <size_t>nr_cpus)


# ---- out of a domain, with both its locks ---------------------------------------------------------------------------------------

cdef void save_cpu(mm_cpu *c, uint8_t *state, size_t at) noexcept nogil:
    put(state, at, load_u64(&c.nr_mm_switches, memory_order_relaxed))
    put(state, at + 1, load_u64(&c.mm_switches[0], memory_order_relaxed))
    put(state, at + 2, load_u64(&c.mm_switches[1], memory_order_relaxed))
    put(state, at + 3, two(load_u32(&c.mode, memory_order_relaxed), c.ticked))
    put(state, at + 4, load_u64(&c.nr_opened, memory_order_relaxed))
    put(state, at + 5, load_u64(&c.nr_ticks, memory_order_relaxed))
    put(state, at + 6, c.first_tick)
    put(state, at + 7, load_u64(&c.nr_kicks, memory_order_relaxed))


cdef int64_t save(mm_gen *g, uint8_t *state, size_t size) noexcept nogil:
    cdef mm_control *control = control_of(g)
    cdef uint32_t nr_cpus = load_u32(&g.nr_cpus, memory_order_relaxed), cpu
    cdef uint64_t nr_deferred = load_u64(&control.nr_deferred, memory_order_relaxed)
    if load_u32(&control.state, memory_order_relaxed) != MM_OPEN:
        return -ESHUTDOWN
    if nr_deferred != load_u64(&control.nr_run, memory_order_relaxed):
        return -EBUSY
    if size < mm_snapshot_size(nr_cpus):
        return -ENOSPC
    for cpu in range(HEADER):
        put(state, cpu, 0)
    put(state, MAGIC, FORMAT)
    put(state, NR_CPUS, two(nr_cpus, control.max_cpus))
    put(state, COUNTING, two(g.continuous, g.increments))
    put(state, PATIENCE, two(g.patience, control.hint))
    put(state, GENERATION, load_u64(&g.generation, memory_order_relaxed))
    put(state, GOAL, load_u64(&g.goal, memory_order_relaxed))
    put(state, PENDING, load_u64(&g.pending, memory_order_relaxed))
    put(state, NR_WAITS, control.nr_waits)
    put(state, EXPEDITE, control.expedite)
    put(state, KICKED, control.kicked)
    put(state, IMPATIENT, load_u64(&control.impatient, memory_order_relaxed))
    put(state, NR_DEFERRED, nr_deferred)
    if nr_cpus < control.max_cpus:
        put(state, FIRST_SWITCHES, load_u64(&mm_cpu_of(g, nr_cpus).nr_mm_switches, memory_order_relaxed))
    for cpu in range(nr_cpus):
        save_cpu(mm_cpu_of(g, cpu), state, HEADER + PER_CPU * <size_t>cpu)
    return mm_snapshot_size(nr_cpus) if mm_snapshot_fault(state, mm_snapshot_size(nr_cpus)) is NULL else -EBUSY


cdef int64_t mm_gen_snapshot(mm_gen *g, void *state, size_t size) noexcept nogil:
    cdef int64_t took
    pthread_mutex_lock(&control_of(g).queue_lock)
    pthread_mutex_lock(&control_of(g).lock)
    took = save(g, <uint8_t *>state, size)
    pthread_mutex_unlock(&control_of(g).lock)
    pthread_mutex_unlock(&control_of(g).queue_lock)
    return took


# ---- and into one ---------------------------------------------------------------------------------------------------------------

# Whether a CPU's words are such as it can have; and whether it is online, and owes generation `gen` a switch.
cdef bint whole_cpu(const uint8_t *state, size_t at, uint64_t gen, uint32_t *online, uint32_t *owing) noexcept nogil:
    cdef uint64_t nr = get(state, at), curr = get(state, at + 1 + (gen & 1)), prev = get(state, at + 2 - (gen & 1))
    cdef uint32_t mode = low(state, at + 3)
    if mode == MM_OFFLINE:
        return True
    online[0] += 1
    owing[0] += <int64_t>(curr - prev) < 0
    return (mode == MM_RUNNING or mode == MM_IDLE) and <int64_t>(nr - curr) >= 0 and <int64_t>(nr - prev) >= 0


cdef const char *mm_snapshot_fault(const uint8_t *state, size_t size) noexcept nogil:
    cdef uint32_t cpu, online = 0, owing = 0
    cdef uint64_t gen
    if size < 8 or get(state, MAGIC) << 16 != FORMAT << 16:
        return "it is no snapshot"
    if get(state, MAGIC) != FORMAT:
        return "its format is another version's"
    if size < 8 * HEADER:
        return "it is truncated"
    if not 1 <= low(state, NR_CPUS) <= high(state, NR_CPUS) <= MM_MAX_CPUS:
        return "it has more CPUs than a domain may"
    if size < mm_snapshot_size(low(state, NR_CPUS)):
        return "it is truncated"
    if size > mm_snapshot_size(low(state, NR_CPUS)):
        return "something comes after its last CPU"
    if (low(state, COUNTING) > 1 or max(high(state, COUNTING), low(state, PATIENCE)) > <uint32_t>1 << 31
            or high(state, PATIENCE) > high(state, NR_CPUS)):
        return "its settings are none that a domain may have"
    gen = get(state, GENERATION)
    for cpu in range(low(state, NR_CPUS)):
        if not whole_cpu(state, HEADER + PER_CPU * <size_t>cpu, gen, &online, &owing):
            return "a CPU's words contradict each other"
    if (get(state, PENDING) != (<uint64_t>online << MM_ONLINE_SHIFT | (gen & 1) << MM_PARITY_SHIFT | owing) or (online and not owing)
            or <int64_t>(get(state, GOAL) - gen) > max(<int64_t>3, <int64_t>high(state, COUNTING))):
        return "what is owed is not what its CPUs owe"
    return NULL


cdef void mm_snapshot_load(mm_gen *g, const uint8_t *state) noexcept nogil:
    cdef mm_control *control = control_of(g)
    cdef uint32_t nr_cpus = low(state, NR_CPUS), cpu
    cdef mm_cpu *c
    cdef size_t at
    g.continuous = low(state, COUNTING)
    g.increments = high(state, COUNTING)
    g.patience = low(state, PATIENCE)
    control.hint = high(state, PATIENCE)
    control.nr_waits = get(state, NR_WAITS)
    control.expedite = get(state, EXPEDITE)
    control.kicked = get(state, KICKED)
    store_u64(&control.impatient, get(state, IMPATIENT), memory_order_relaxed)
    store_u64(&control.nr_deferred, get(state, NR_DEFERRED), memory_order_relaxed)
    store_u64(&control.nr_run, get(state, NR_DEFERRED), memory_order_relaxed)
    for cpu in range(nr_cpus):
        c = mm_cpu_of(g, cpu)
        at = HEADER + PER_CPU * <size_t>cpu
        store_u64(&c.nr_mm_switches, get(state, at), memory_order_relaxed)
        store_u64(&c.mm_switches[0], get(state, at + 1), memory_order_relaxed)
        store_u64(&c.mm_switches[1], get(state, at + 2), memory_order_relaxed)
        store_u32(&c.mode, low(state, at + 3), memory_order_relaxed)
        c.ticked = high(state, at + 3)
        store_u64(&c.nr_opened, get(state, at + 4), memory_order_relaxed)
        store_u64(&c.nr_ticks, get(state, at + 5), memory_order_relaxed)
        c.first_tick = get(state, at + 6)
        store_u64(&c.nr_kicks, get(state, at + 7), memory_order_relaxed)
    store_u64(&g.pending, get(state, PENDING), memory_order_relaxed)
    store_u64(&g.goal, get(state, GOAL), memory_order_relaxed)
    store_u64(&g.generation, get(state, GENERATION), memory_order_relaxed)


cdef mm_gen *mm_gen_restore(const void *state, size_t size) noexcept nogil:
    cdef const uint8_t *words = <const uint8_t *>state
    cdef mm_gen *g
    if mm_snapshot_fault(words, size) is not NULL:
        return NULL
    g = mm_gen_create(low(words, NR_CPUS), high(words, NR_CPUS), get(words, GENERATION), get(words, FIRST_SWITCHES))
    if g is not NULL:
        mm_snapshot_load(g, words)
    return g


# ---- for Python -----------------------------------------------------------------------------------------------------------------

def snapshot(MmGen gen not None, /):
    """mmgen.MmGen.snapshot()."""
    cdef int64_t took = -ENOSPC
    cdef char *at
    cdef size_t size
    while took == -ENOSPC:                          # it may grow meanwhile
        size = mm_snapshot_size(gen.cpus)
        state = bytes(size)
        at = state
        with nogil:
            took = mm_gen_snapshot(gen.g, at, size)
    if took == -ESHUTDOWN:
        gen._check_open()
    if took < 0:
        pending = gen.nr_deferred - gen.nr_run
        raise RuntimeError(f"{pending} callbacks are pending: they are not part of a snapshot" if pending
                           else "a thread is in a call of one of the domain's CPUs")
    return state


def shape(bytes state not None, /):
    """(cpus, max_cpus, first_switches) of the domain that was saved; ValueError if it is no snapshot."""
    cdef const char *fault = mm_snapshot_fault(state, len(state))
    if fault is not NULL:
        expected = f", of {mm_snapshot_size(low(state, NR_CPUS))}" if len(state) >= 8 * HEADER else ""
        raise ValueError(f"state={shown(state[:8])}... cannot be restored: {fault.decode()} ({len(state)} bytes{expected})")
    return low(state, NR_CPUS), high(state, NR_CPUS), get(state, FIRST_SWITCHES)


def load(MmGen gen not None, bytes state not None, /):
    """Put a snapshot into a new domain of its shape, all of whose CPUs are offline."""
    assert shape(state)[:2] == (gen.cpus, control_of(gen.g).max_cpus)
    mm_snapshot_load(gen.g, state)
