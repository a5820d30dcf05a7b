# cython: language_level=3, freethreading_compatible=True
"""The real machine's mms: memory that is allocated and freed, a count that CPUs contend for, mm_cpumask, and who uses what was freed.

The detector needs no luck: a CPU publishes which mm it uses before it does, and who frees an mm looks at every CPU. Under a policy that
is right the freer comes after the use's end, and sees that. A CPU also looks, at each switch, tick and poll, whether its mm still lives.
"""
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from mmgen._latency cimport mm_latency_record
from mmgen._sleep cimport mm_now, mm_wake_all, pthread_mutex_destroy, pthread_mutex_init, pthread_mutex_lock, pthread_mutex_unlock
from mmgen._stdatomic cimport (
    atomic_u32, cas_u64, fence, fetch_add_u32, fetch_add_u64, fetch_and_u32, fetch_or_u32, fetch_sub_u64, load_u32, load_u64,
    memory_order_acq_rel, memory_order_acquire, memory_order_relaxed, memory_order_release, memory_order_seq_cst, store_u32, store_u64,
)
from mmgen.lab._account cimport NOBODY
from mmgen.lab._policy cimport INIT_MM, cpu_of, lab_machine
from mmgen.lab._real cimport CHUNK_MMS, CHUNK_SHIFT, MOST_CHUNKS, TO_STOP, mm_at, real_mm
from mmgen.lab._virtual cimport MM_EXITED, MM_FREED, MM_WAITER
from mmgen.lab._wheel cimport queue_add, queue_first

cdef extern from "<stdlib.h>" nogil:
    int posix_memalign(void **block, size_t alignment, size_t size) noexcept
cdef extern from *:
    """
    static inline void look(const char *memory) { (void)*(const volatile char *)memory; }
    """
    void look(const char *memory) noexcept nogil
    uint32_t trailing_zeros "__builtin_ctz"(unsigned int) noexcept nogil

cdef enum:
    POISON = 0x6b                   # the kernel's, for what is freed


# ---- who uses what -------------------------------------------------------------------------------------------------------------

cdef void tell(real_cpu *c, uint32_t what) noexcept nogil:
    fetch_or_u32(&c.told, what, memory_order_release)       # pairs with the acquire of whoever polls
    fence(memory_order_seq_cst)                             # between the word and the look; pairs with the one before a sleep
    if load_u32(&c.asleep, memory_order_relaxed):
        mm_wake_all(&c.told)


cdef void used_after_free(real *r, uint64_t life, uint32_t cpu) noexcept nogil:
    cdef uint32_t i
    if fetch_add_u64(&r.use_after_frees, 1, memory_order_relaxed):
        return
    r.bad_mm = life >> 1
    r.bad_cpu = cpu
    r.bad_time = mm_now() - r.begin
    if not r.keep_going:
        for i in range(r.m.nr_cpus):
            tell(r.cpus[i], TO_STOP)


# A CPU uses an mm's memory: a switch to it, and leaving it.
cdef inline void touch(real *r, real_mm *it) noexcept nogil:
    if r.mm_bytes and not r.broken:             # a broken policy's may be freed
        look(it.memory)


cdef void use(lab_machine *m, uint32_t cpu, uint32_t mm) noexcept nogil:
    cdef real *r = <real *>m
    cdef real_cpu *c = r.cpus[cpu]
    cdef real_mm *it = mm_at(r, mm)
    touch(r, c.using)
    store_u32(&c.active, mm, memory_order_release)
    cpu_of(m, cpu).active_mm = mm
    c.using = it
    c.life = load_u64(&it.life, memory_order_relaxed)
    if c.life & 1:
        used_after_free(r, c.life, cpu)
    else:
        touch(r, it)


cdef int32_t count(lab_machine *m, uint32_t cpu, uint32_t mm, int32_t n) noexcept nogil:
    cdef real *r = <real *>m
    r.cpus[cpu].atomics += 1
    # Acq_rel: who drops the last reference comes after every other's use.
    return <int32_t>fetch_add_u32(&mm_at(r, mm).count, <uint32_t>n, memory_order_acq_rel) + n


# ---- the life of an mm ---------------------------------------------------------------------------------------------------------

# A number that nobody has had; with the lock. NOBODY: no memory.
cdef uint32_t new_number(real *r) noexcept nogil:
    cdef void *chunk
    if r.nr_mms >> CHUNK_SHIFT == MOST_CHUNKS:
        return NOBODY
    if r.nr_mms & (CHUNK_MMS - 1) == 0:
        if posix_memalign(&chunk, 64, CHUNK_MMS * r.stride):
            return NOBODY
        memset(chunk, 0, CHUNK_MMS * r.stride)
        r.chunks[r.nr_mms >> CHUNK_SHIFT] = <char *>chunk
    r.nr_mms += 1
    return r.nr_mms - 1


cdef uint32_t fork_real(real *r) noexcept nogil:
    cdef char *memory = <char *>malloc(r.mm_bytes + 1)
    cdef real_mm *it
    cdef uint32_t mm = NOBODY
    cdef uint64_t serial
    if memory is not NULL:
        memset(memory, 0, r.mm_bytes)
        pthread_mutex_lock(&r.lock)
        mm = r.free_mms
        if mm != NOBODY:
            r.free_mms = mm_at(r, mm).next
        else:
            mm = new_number(r)
        serial = r.serial
        r.serial += 1
        pthread_mutex_unlock(&r.lock)
    if mm == NOBODY:
        free(memory)
        no_memory(&r.m)
        return INIT_MM
    it = mm_at(r, mm)
    it.memory = memory
    store_u32(&it.count, 1, memory_order_relaxed)
    store_u32(&it.state, 0, memory_order_relaxed)
    store_u64(&it.life, serial << 1, memory_order_relaxed)
    return mm


cdef void exit_real(real_cpu *c, uint32_t mm, uint32_t state) noexcept nogil:
    cdef real *r = c.r
    cdef real_mm *it = mm_at(r, mm)
    cdef uint64_t life = load_u64(&it.life, memory_order_relaxed), held, peak
    if life & 1:
        used_after_free(r, life, c.cpu)
        return
    it.exit_cpu = c.cpu
    store_u64(&it.exited, mm_now(), memory_order_relaxed)
    fetch_or_u32(&it.state, MM_EXITED | state, memory_order_relaxed)
    c.exits += 1
    held = fetch_add_u64(&r.held, 1, memory_order_relaxed) + 1
    peak = load_u64(&r.held_peak, memory_order_relaxed)
    while held > peak and not cas_u64(&r.held_peak, &peak, held, memory_order_relaxed, memory_order_relaxed):
        pass
    store_u32(&c.exiting, mm, memory_order_relaxed)
    r.m.policy.exit_mmap(&r.m, c.cpu, mm)
    store_u32(&c.exiting, NOBODY, memory_order_relaxed)


# The next waiter exits after so long.
cdef void wait_again(real *r, int64_t now, int64_t pause) noexcept nogil:
    pthread_mutex_lock(&r.wait_lock)
    if not queue_add(&r.waits, now + pause, 0, 0):
        no_memory(&r.m)
    store_u64(&r.next_wait, queue_first(&r.waits).time, memory_order_relaxed)
    pthread_mutex_unlock(&r.wait_lock)


cdef void free_mm(lab_machine *m, uint32_t mm) noexcept nogil:
    cdef real *r = <real *>m
    cdef real_mm *it = mm_at(r, mm)
    cdef uint32_t before = fetch_or_u32(&it.state, MM_FREED, memory_order_acq_rel), cpu
    cdef uint64_t life = load_u64(&it.life, memory_order_relaxed)
    cdef int64_t now, pause
    cdef bint used = False
    if before & MM_FREED or not before & MM_EXITED:
        used_after_free(r, life, 0)
        return
    store_u64(&it.life, life | 1, memory_order_relaxed)
    for cpu in range(m.nr_cpus):
        if load_u32(&r.cpus[cpu].active, memory_order_acquire) == mm:
            used = True
            used_after_free(r, life, cpu)
    now = mm_now()
    mm_latency_record(r.latency, now - <int64_t>load_u64(&it.exited, memory_order_relaxed))
    fetch_add_u64(&r.frees, 1, memory_order_relaxed)
    fetch_sub_u64(&r.held, 1, memory_order_relaxed)
    pause = r.load.life_ns
    if pause == 0 and load_u32(&r.cpus[it.exit_cpu].exiting, memory_order_relaxed) == mm:
        pause = r.period                    # freed as it exits: as in virtual time
    if not used:                            # else nobody is given its number again
        memset(it.memory, POISON, r.mm_bytes)
        free(it.memory)
        it.memory = NULL
        m.policy.forget(m, mm)
        pthread_mutex_lock(&r.lock)
        it.next = r.free_mms
        r.free_mms = mm
        pthread_mutex_unlock(&r.lock)
    if before & MM_WAITER:
        wait_again(r, now, pause)


cdef void no_memory(lab_machine *m) noexcept nogil:
    cdef uint32_t cpu
    store_u32(&(<real *>m).failed, 1, memory_order_relaxed)
    for cpu in range(m.nr_cpus):
        tell((<real *>m).cpus[cpu], TO_STOP)


# ---- what is counted -----------------------------------------------------------------------------------------------------------

cdef void paid(lab_machine *m, uint32_t cpu, bint opened) noexcept nogil:
    (<real *>m).cpus[cpu].atomics += 1


cdef void locked(lab_machine *m, uint32_t cpu) noexcept nogil:
    (<real *>m).cpus[cpu].atomics += 1


cdef void looked(lab_machine *m, uint32_t nr) noexcept nogil:
    pass                                        # nobody knows which lines that moved


cdef void credited(lab_machine *m, uint32_t cpu, uint32_t looks, uint32_t idle, uint32_t owing, bint opened) noexcept nogil:
    (<real *>m).cpus[cpu].atomics += 2 + idle + owing


cdef void fenced(lab_machine *m, uint32_t cpu) noexcept nogil:
    (<real *>m).cpus[cpu].atomics += 1


# ---- mm_cpumask: words that are changed atomically -----------------------------------------------------------------------------

cdef inline atomic_u32 *mask_of(real *r, uint32_t mm) noexcept nogil:
    return <atomic_u32 *>(mm_at(r, mm) + 1)


cdef void mask_set(lab_machine *m, uint32_t cpu, uint32_t mm) noexcept nogil:
    cdef atomic_u32 *word = mask_of(<real *>m, mm) + (cpu >> 5)
    if not load_u32(word, memory_order_relaxed) >> (cpu & 31) & 1:
        fetch_or_u32(word, <uint32_t>1 << (cpu & 31), memory_order_relaxed)


# Release, pairs with mask_each's acquire: who does not find a CPU here comes after its use.
cdef void mask_clear(lab_machine *m, uint32_t cpu, uint32_t mm) noexcept nogil:
    fetch_and_u32(mask_of(<real *>m, mm) + (cpu >> 5), ~(<uint32_t>1 << (cpu & 31)), memory_order_release)


cdef void mask_clear_all(lab_machine *m, uint32_t cpu) noexcept nogil:
    pass                                        # no CPU is unplugged here


cdef void mask_each(lab_machine *m, uint32_t mm, void (*each)(void *arg, uint32_t cpu) noexcept nogil, void *arg) noexcept nogil:
    cdef uint32_t i, bits
    for i in range((<real *>m).mask_words):
        bits = load_u32(mask_of(<real *>m, mm) + i, memory_order_acquire)
        while bits:
            each(arg, (i << 5) + trailing_zeros(bits))
            bits &= bits - 1


cdef void mask_empty(lab_machine *m, uint32_t mm) noexcept nogil:
    cdef uint32_t i
    for i in range((<real *>m).mask_words):
        store_u32(mask_of(<real *>m, mm) + i, 0, memory_order_relaxed)


# ---- all of it -----------------------------------------------------------------------------------------------------------------

cdef void mms_begin(real *r) noexcept nogil:
    r.m.use = use
    r.m.count = count
    r.m.free_mm = free_mm
    r.m.paid = paid
    r.m.locked = locked
    r.m.looked = looked
    r.m.credited = credited
    r.m.fenced = fenced
    r.m.no_memory = no_memory
    r.m.mask_set = mask_set
    r.m.mask_clear = mask_clear
    r.m.mask_clear_all = mask_clear_all
    r.m.mask_each = mask_each
    r.m.mask_empty = mask_empty
    r.mask_words = (r.m.nr_cpus + 31) >> 5
    r.stride = sizeof(real_mm) + ((r.mask_words * 4 + 63) & ~<size_t>63)
    r.free_mms = NOBODY
    r.chunks = <char **>calloc(MOST_CHUNKS, sizeof(void *))
    pthread_mutex_init(&r.lock, NULL)
    pthread_mutex_init(&r.wait_lock, NULL)


cdef void mms_end(real *r) noexcept nogil:
    cdef uint32_t mm
    if r.chunks is not NULL:
        for mm in range(r.nr_mms):
            free(mm_at(r, mm).memory)
        for mm in range((r.nr_mms + CHUNK_MMS - 1) >> CHUNK_SHIFT):
            free(r.chunks[mm])
    free(r.chunks)
    free(r.waits.events)
    pthread_mutex_destroy(&r.lock)
    pthread_mutex_destroy(&r.wait_lock)
