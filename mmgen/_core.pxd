# The C interface, whole: a domain's layout, the hot path inline, the rest by name.
#
# A domain (mm_gen) counts mm switches on each CPU; a grace period is over when every CPU has switched. Its words that threads
# share each have a cache line; its CPUs follow it in memory, 64 bytes each. Every function here is nogil and thread-safe, with one
# condition: what names a CPU is called by the one thread that is that CPU. _core.pyx tells the whole story.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from mmgen._stdatomic cimport (
    atomic_u32, atomic_u64, load_u64, memory_order_acquire, memory_order_relaxed, store_u64,
)
from mmgen._trace cimport mm_trace

cdef enum:
    MM_OFFLINE, MM_RUNNING, MM_IDLE, MM_PROXIED     # mm_cpu.mode; PROXIED: idle, and just being credited by another thread
    MM_MAX_CPUS = 1 << 20
    MM_PARITY_SHIFT = 32                            # in mm_gen.pending
    MM_ONLINE_SHIFT = 33
    MM_OPEN = 0, MM_CLOSED, MM_DRIVERLESS           # a domain: in use; closed; the child's copy of one after a fork

cdef struct mm_cpu:                 # 64 bytes, written by the CPU's own thread, or by a proxy while it idles
    atomic_u64 nr_mm_switches
    atomic_u64 mm_switches[2]       # nr_mm_switches as the CPU's last tick of an even, of an odd generation saw it
    atomic_u32 mode
    uint32_t ticked                 # the low half of the generation that first_tick is of
    atomic_u64 nr_opened            # generations that this CPU was the last to complete
    atomic_u64 nr_ticks             # ticks that somebody wanted: on demand, those while somebody waited
    uint64_t first_tick             # nr_ticks before the CPU's first tick of a generation, where there is a patience
    atomic_u64 nr_kicks             # how often it was named a holdout, by whoever did

cdef struct mm_callback:            # _callbacks.pxd
    mm_callback *next
    uint64_t cookie
    void (*fn)(mm_callback *callback) noexcept nogil

cdef struct mm_gen:                 # four lines of 64 bytes; a domain's mm_cpu[nr_cpus] follow
    atomic_u32 nr_cpus              # grows under the control lock, up to what mm_gen_create was given
    uint32_t continuous             # nonzero: count also while nobody waits, as the sketch does
    uint32_t increments             # nonzero: how many generations a wait takes, for study
    uint32_t patience               # nonzero: a CPU that has ticked so often in a generation has its holdouts kicked
    void (*kick)(void *arg, mm_gen *g) noexcept nogil   # NULL, or makes the CPUs that owe (mm_gen_owes) switch and tick
    void *kick_arg
    mm_trace *trace                 # NULL: no events are kept
    atomic_u64 idled                # nonzero: some CPU has been idle, at some time
    uint64_t pad0[2]
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

# The tick of `cpu`, on its own thread. True: it opened a generation, or its patience ran out; the caller then owes mm_gen_wake(),
# outside its own locks.
cdef inline bint mm_gen_tick(mm_gen *g, uint32_t cpu) noexcept nogil:
    # Acquire, pairs with open_next's release of generation: who sees a generation sees its pending (litmus: tick-generation). In a
    # tick that counts, the fence would do.
    cdef uint64_t gen = load_u64(&g.generation, memory_order_acquire)
    # Acquire, pairs with mm_gen_begin's release of goal: who counts for a waiter sees what it unpublished (litmus: tick-goal).
    if <int64_t>(load_u64(&g.goal, memory_order_acquire) - gen) <= 0 and not g.continuous:
        return False
    return mm_gen_tick_wanted(g, cpu, gen)

# All that a CPU owes the scheme between two sections, in one call: a switch, a tick and, if it is due, the wake.
cdef inline void mm_gen_quiescent(mm_gen *g, uint32_t cpu) noexcept nogil:
    mm_switch(g, cpu)
    if mm_gen_tick(g, cpu):
        mm_gen_wake(g)

cdef bint mm_gen_tick_wanted(mm_gen *g, uint32_t cpu, uint64_t gen) noexcept nogil  # the rest of a tick; not to be called alone
cdef void mm_gen_wake(mm_gen *g) noexcept nogil         # after a tick that returned True: wakes who waits, kicks

# A cookie is the generation that ends a grace period. timeout_ns: nanoseconds, -1 for none. The ints are 0 or a negative errno:
# -ETIMEDOUT; -EINTR, a signal was handled (wait again with the cookie); -ESHUTDOWN, the domain is closed; -EINVAL, wrong mode.
cdef uint64_t mm_gen_start_poll(mm_gen *g) noexcept nogil
cdef uint64_t mm_gen_begin(mm_gen *g, bint *opened) noexcept nogil      # start_poll in two halves, for who holds a lock: the second
cdef void mm_gen_announce(mm_gen *g) noexcept nogil                     # is due if opened, and outside that lock
cdef void mm_gen_wake_sleepers(mm_gen *g) noexcept nogil                # a part of mm_gen_wake
cdef bint mm_gen_poll(mm_gen *g, uint64_t cookie) noexcept nogil
cdef int mm_gen_wait_for(mm_gen *g, uint64_t cookie, int64_t timeout_ns) noexcept nogil
cdef int mm_gen_wait(mm_gen *g, int64_t timeout_ns) noexcept nogil

# From now on until `cookie` is reached, kick the holdouts as soon as a generation opens, and those of this one now.
cdef void mm_gen_expedite(mm_gen *g, uint64_t cookie) noexcept nogil

# A CPU that was offline, brought online for the calling thread, as mm_gen_online(): which; -EBUSY: the domain is full; -ESHUTDOWN.
cdef int mm_gen_register(mm_gen *g) noexcept nogil
cdef int mm_gen_online(mm_gen *g, uint32_t cpu) noexcept nogil
cdef int mm_gen_offline(mm_gen *g, uint32_t cpu) noexcept nogil
cdef int mm_gen_idle_enter(mm_gen *g, uint32_t cpu) noexcept nogil
cdef int mm_gen_idle_exit(mm_gen *g, uint32_t cpu) noexcept nogil

# Whether CPU `cpu` owes the generation under way a switch, as fresh as a look from outside can be; any thread.
cdef bint mm_gen_owes(mm_gen *g, uint32_t cpu) noexcept nogil
