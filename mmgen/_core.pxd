# The C interface, whole: a domain's layout, the hot path inline, the rest by name.
#
# A domain (mm_gen) counts mm switches on each CPU; a grace period is over when every CPU has switched. Its words that threads
# share each have a cache line; its CPUs follow it in memory, 64 bytes each. Every function here is nogil and thread-safe, with one
# condition: what names a CPU is called by the one thread that is that CPU. _core.pyx tells the whole story.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from mmgen._stdatomic cimport (
    atomic_u32, atomic_u64, load_u64, memory_order_acquire, memory_order_relaxed, store_u64,
)

cdef enum:
    MM_OFFLINE, MM_RUNNING, MM_IDLE, MM_PROXIED     # mm_cpu.mode; PROXIED: idle, and just being credited by another thread
    MM_MAX_CPUS = 1 << 20
    MM_OPEN = 0, MM_CLOSED, MM_DRIVERLESS           # a domain: in use; closed; the child's copy of one after a fork

cdef struct mm_cpu:                 # 64 bytes, written by the CPU's own thread, or by a proxy while it idles
    atomic_u64 nr_mm_switches
    atomic_u64 mm_switches[2]       # nr_mm_switches as the CPU's last tick of an even, of an odd generation saw it
    atomic_u32 mode
    uint32_t pad0
    atomic_u64 nr_opened            # generations that this CPU was the last to complete
    uint64_t pad[3]

cdef struct mm_gen:                 # four lines of 64 bytes; a domain's mm_cpu[nr_cpus] follow
    uint32_t nr_cpus
    uint32_t continuous             # nonzero: count also while nobody waits, as the sketch does
    uint32_t increments             # nonzero: how many generations a wait takes, for study
    uint32_t pad0[13]
    atomic_u64 generation           # how often every CPU has switched
    uint64_t pad1[7]
    atomic_u64 goal                 # the highest generation that anyone waits for
    uint64_t pad2[7]
    atomic_u64 pending              # [online:31 | parity:1 | complete:32]: complete CPUs still owe this generation a switch
    uint64_t pad3[7]

cdef inline mm_cpu *mm_cpu_of(mm_gen *g, uint32_t cpu) noexcept nogil:
    return <mm_cpu *>(g + 1) + cpu

# `cpu` switches its mm: it holds nothing that was unpublished before. Plain: only a proxy reads this word besides, after its claim.
cdef inline void mm_switch(mm_gen *g, uint32_t cpu) noexcept nogil:
    cdef atomic_u64 *nr = &mm_cpu_of(g, cpu).nr_mm_switches
    store_u64(nr, load_u64(nr, memory_order_relaxed) + 1, memory_order_relaxed)

# The tick of `cpu`, on its own thread. True: it opened a generation, and the caller owes mm_gen_wake(), outside its own locks.
cdef inline bint mm_gen_tick(mm_gen *g, uint32_t cpu) noexcept nogil:
    # Acquire, pairs with open_next's release of generation: who sees a generation sees its pending.
    cdef uint64_t gen = load_u64(&g.generation, memory_order_acquire)
    # Acquire, pairs with mm_gen_start_poll's release of goal: who counts for a waiter sees what it unpublished.
    if <int64_t>(load_u64(&g.goal, memory_order_acquire) - gen) <= 0 and not g.continuous:
        return False
    return mm_gen_tick_wanted(g, cpu, gen)

cdef bint mm_gen_tick_wanted(mm_gen *g, uint32_t cpu, uint64_t gen) noexcept nogil  # the rest of a tick; not to be called alone
cdef void mm_gen_wake(mm_gen *g) noexcept nogil         # after a tick that returned True: wakes who waits for what it opened

# A cookie is the generation that ends a grace period. timeout_ns: nanoseconds, -1 for none. The ints are 0 or a negative errno:
# -ETIMEDOUT; -EINTR, a signal was handled (wait again with the cookie); -ESHUTDOWN, the domain is closed; -EINVAL, wrong mode.
cdef uint64_t mm_gen_start_poll(mm_gen *g) noexcept nogil
cdef bint mm_gen_poll(mm_gen *g, uint64_t cookie) noexcept nogil
cdef int mm_gen_wait_for(mm_gen *g, uint64_t cookie, int64_t timeout_ns) noexcept nogil
cdef int mm_gen_wait(mm_gen *g, int64_t timeout_ns) noexcept nogil

cdef int mm_gen_online(mm_gen *g, uint32_t cpu) noexcept nogil
cdef int mm_gen_offline(mm_gen *g, uint32_t cpu) noexcept nogil
cdef int mm_gen_idle_enter(mm_gen *g, uint32_t cpu) noexcept nogil
cdef int mm_gen_idle_exit(mm_gen *g, uint32_t cpu) noexcept nogil

# A new domain, every CPU offline; NULL without memory. close wakes every sleeper with -ESHUTDOWN. destroy frees: after close, when
# no thread is in a call any more, nor owes a wake. after_fork, in a child before anything else, marks its copy: MM_DRIVERLESS,
# nothing in it works but close and destroy.
cdef mm_gen *mm_gen_create(uint32_t nr_cpus, uint64_t first_generation, uint64_t first_switches) noexcept nogil
cdef void mm_gen_close(mm_gen *g) noexcept nogil
cdef void mm_gen_after_fork(mm_gen *g) noexcept nogil
cdef void mm_gen_destroy(mm_gen *g) noexcept nogil

# What a look from outside may ask; what names a CPU may be asked by any thread, and is as fresh as a look can be.
cdef int mm_gen_state(mm_gen *g) noexcept nogil
cdef uint64_t mm_gen_nr_waits(mm_gen *g) noexcept nogil
cdef bint mm_gen_owes(mm_gen *g, uint32_t cpu) noexcept nogil
