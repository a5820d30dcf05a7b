# cython: language_level=3, freethreading_compatible=True
"""A domain's state as bytes: 64 for each CPU, and 128 before them.

Words of 64 bits, little-endian, that never hold an address: a snapshot is the same for the same operations, whoever applied them, and
can be restored elsewhere. What is not in it: deferred callbacks (none may be pending), who sleeps, the kick, the trace, latencies.

The checksum finds what was damaged on the way. What was made up, it does not: hence mm_snapshot_fault() asks for all that the protocol
counts on in a domain at rest, where nobody is in a call nor owes a wake. From there on the protocol goes on as from any other state.
"""
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

from mmgen._callbacks cimport mm_gen_nr_deferred, mm_gen_nr_run
from mmgen._control cimport control_of, mm_control
from mmgen._core cimport (
    MM_IDLE, MM_MAX_CPUS, MM_OFFLINE, MM_ONLINE_SHIFT, MM_OPEN, MM_PARITY_SHIFT, MM_RUNNING, mm_cpu, mm_cpu_of,
)
from mmgen._domain cimport MmGen
from mmgen._lifetime cimport mm_gen_create, mm_gen_nr_waits
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
    CHECKSUM = 15                   # of all the others; those between are 0
    HEADER = 16                     # words
    PER_CPU = 8
cdef uint64_t FORMAT = 0x0001006e65676d6d           # "mmgen", 0, and the version, 1
cdef uint64_t FAR = <uint64_t>1 << 62               # further apart no two counters get that are compared by signed difference


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


# FNV-1a, of words. Each step is one to one, so it differs wherever a single word does.
cdef uint64_t mm_snapshot_checksum(const uint8_t *state, size_t size) noexcept nogil:
    cdef uint64_t sum = 0xcbf29ce484222325
    cdef size_t at
    for at in range(size // 8):
        if at != CHECKSUM:
            sum = (sum ^ get(state, at)) * <uint64_t>0x100000001b3
    return sum


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


# Whether mm_gen_wake() would kick. That a generation was opened and the idle not credited since, which it sees to as well, is a fault.
cdef bint owes_a_kick(mm_gen *g) noexcept nogil:
    cdef mm_control *control = control_of(g)
    cdef uint64_t gen = load_u64(&g.generation, memory_order_relaxed)
    return (g.kick is not NULL and control.kicked != gen and <int64_t>(load_u64(&g.goal, memory_order_relaxed) - gen) > 0
            and (load_u64(&control.impatient, memory_order_relaxed) == gen or <int64_t>(control.expedite - gen) > 0))


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
    size = mm_snapshot_size(nr_cpus)
    put(state, CHECKSUM, mm_snapshot_checksum(state, size))
    return -EBUSY if owes_a_kick(g) or mm_snapshot_fault(state, size) is not NULL else <int64_t>size


cdef int64_t mm_gen_snapshot(mm_gen *g, void *state, size_t size) noexcept nogil:
    cdef int64_t took
    pthread_mutex_lock(&control_of(g).queue_lock)
    pthread_mutex_lock(&control_of(g).lock)
    took = save(g, <uint8_t *>state, size)
    pthread_mutex_unlock(&control_of(g).lock)
    pthread_mutex_unlock(&control_of(g).queue_lock)
    return took


# ---- and into one ---------------------------------------------------------------------------------------------------------------

# Whether a CPU's words are such as it can have, at rest. And counts it, if it is online, and owes generation `gen` a switch.
cdef bint whole_cpu(const uint8_t *state, size_t at, uint64_t gen, bint waited_for, uint32_t *online, uint32_t *owing) noexcept nogil:
    cdef uint64_t nr = get(state, at), curr = get(state, at + 1 + (gen & 1)), prev = get(state, at + 2 - (gen & 1))
    cdef uint32_t mode = low(state, at + 3)
    cdef bint owes = <int64_t>(curr - prev) < 0
    if mode == MM_OFFLINE:
        return True                     # it gets the others anew when it comes online
    online[0] += 1
    owing[0] += owes
    if mode == MM_IDLE:
        if owes and waited_for:
            return False                # nobody would credit it before the next wake, which may never come
    elif mode != MM_RUNNING:
        return False
    # Its switches are counted from its snapshots on. Were those equal, it would owe neither this generation nor the next, which then
    # never ends; and so it would if they were so far apart that the difference changes its sign before the CPU has ticked.
    return curr != prev and nr - curr < FAR and nr - prev < FAR


cdef const char *mm_snapshot_fault(const uint8_t *state, size_t size) noexcept nogil:
    cdef uint32_t cpu, nr_cpus, online = 0, owing = 0
    cdef uint64_t gen
    cdef int64_t ahead
    cdef bint continuous
    if size < 8 or get(state, MAGIC) << 16 != FORMAT << 16:
        return "it is no snapshot"
    if get(state, MAGIC) != FORMAT:
        return "its format is another version's"
    if size < 8 * HEADER:
        return "it is truncated"
    nr_cpus = low(state, NR_CPUS)
    if not 1 <= nr_cpus <= high(state, NR_CPUS) <= MM_MAX_CPUS:
        return "it has more CPUs than a domain may, or none"
    if size < mm_snapshot_size(nr_cpus):
        return "it is truncated"
    if size > mm_snapshot_size(nr_cpus):
        return "something comes after its last CPU"
    if get(state, CHECKSUM) != mm_snapshot_checksum(state, size):
        return "it is damaged: its checksum is another's"
    if (low(state, COUNTING) > 1 or max(high(state, COUNTING), low(state, PATIENCE)) > <uint32_t>1 << 31
            or high(state, PATIENCE) > nr_cpus or (nr_cpus == high(state, NR_CPUS) and get(state, FIRST_SWITCHES))
            or get(state, FIRST_SWITCHES + 1) or get(state, FIRST_SWITCHES + 2)):
        return "its settings are none that a domain may have"
    gen = get(state, GENERATION)
    continuous = low(state, COUNTING)
    ahead = get(state, GOAL) - gen
    if ahead > max(<int64_t>3, <int64_t>high(state, COUNTING)) or ahead < (-<int64_t>FAR if continuous else 0):
        return "its goal is none that its generation leads to"
    for cpu in range(nr_cpus):
        if not whole_cpu(state, HEADER + PER_CPU * <size_t>cpu, gen, ahead > 0, &online, &owing):
            return "a CPU's words contradict each other"
    if (get(state, PENDING) != (<uint64_t>online << MM_ONLINE_SHIFT | (gen & 1) << MM_PARITY_SHIFT | owing) or (online and not owing)
            # Who begins to wait where nobody does counts on it that no CPU has ticked in this generation: two then are enough.
            or (ahead == 0 and not continuous and owing != online)
            # And where nobody is online nobody is waited for.
            or (ahead > 0 and not online)):
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
    control.online = get(state, PENDING) >> MM_ONLINE_SHIFT
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
        if low(state, at + 3) == MM_IDLE:
            store_u64(&g.idled, 1, memory_order_relaxed)
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
        size = mm_snapshot_size(load_u32(&gen.g.nr_cpus, memory_order_relaxed))
        state = bytes(size)
        at = state
        with nogil:
            took = mm_gen_snapshot(gen.g, at, size)
    if took == -ESHUTDOWN:
        gen._check_open()
    if took < 0:
        pending = mm_gen_nr_deferred(gen.g) - mm_gen_nr_run(gen.g)
        raise RuntimeError(f"{pending} callbacks are pending: they are not part of a snapshot" if pending
                           else "a thread is in a call of one of the domain's CPUs, or owes a wake()")
    return state


def shape(bytes state not None, /):
    """(cpus, max_cpus, first_switches) of the domain that was saved; ValueError if it is no snapshot."""
    cdef const uint8_t *words = state
    cdef size_t size = len(state)
    cdef const char *fault
    with nogil:
        fault = mm_snapshot_fault(words, size)
    if fault is not NULL:
        raise ValueError(f"state={shown(state[:16])} of {size} bytes cannot be restored: {fault.decode()}")
    return low(words, NR_CPUS), high(words, NR_CPUS), get(words, FIRST_SWITCHES)


def load(MmGen gen not None, bytes state not None, /):
    """Put a snapshot, of which shape() has told the shape, into a new domain of that shape, all of whose CPUs are offline."""
    cdef const uint8_t *words = state
    cdef mm_control *control = control_of(gen.g)
    cdef uint64_t generation
    gen._check_open()
    # A subclass may have made another of it, or have used it already.
    if (len(state) < 8 * HEADER or low(words, NR_CPUS) != load_u32(&gen.g.nr_cpus, memory_order_relaxed)
            or len(state) != mm_snapshot_size(low(words, NR_CPUS)) or high(words, NR_CPUS) != control.max_cpus
            or load_u64(&gen.g.pending, memory_order_relaxed) >> MM_ONLINE_SHIFT or mm_gen_nr_waits(gen.g)):
        raise RuntimeError("the domain to restore into is not as restore() has made it")
    with nogil:
        mm_snapshot_load(gen.g, words)
    if owes_a_kick(gen.g):
        # A patience ran out, and there was no kick. Now there is one: it may run out in this generation again.
        generation = load_u64(&gen.g.generation, memory_order_relaxed)
        store_u64(&control.impatient, generation - 1, memory_order_relaxed)
