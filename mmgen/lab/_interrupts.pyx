# cython: language_level=3, freethreading_compatible=True
"""The real machine's IPIs: membarrier interrupts the core, and then a word says what the interrupt was for.

The system call returns when the core has been interrupted (a fence is all that the kernel does there), so its handler is this: what the
thread does when it next looks at its word, at once if it runs, woken if it sleeps. Who waits for the answers answers others meanwhile.
"""
from libc.stdint cimport int64_t, uint32_t

from mmgen._sleep cimport mm_cpu_relax, mm_now, sched_yield
from mmgen._stdatomic cimport (
    exchange_u32, fetch_add_u32, fetch_add_u64, fetch_and_u32, fetch_or_u32, fetch_sub_u32, load_u32, memory_order_acquire,
    memory_order_relaxed, memory_order_release, store_u32,
)
from mmgen.lab._mms cimport tell
from mmgen.lab._policy cimport NO_MM, OUTSIDE, lab_machine
from mmgen.lab._real cimport TO_ANSWER, TO_STOP, TO_SWITCH
from mmgen.lab._virtual cimport CPU_IDLE

cdef extern from *:
    """
    #ifdef __linux__
    #include <sys/syscall.h>
    #include <unistd.h>
    /* linux/membarrier.h, which may be older than the kernel. */
    enum { MM_EXPEDITED = 1 << 3, MM_REGISTER = 1 << 4, MM_RSEQ = 1 << 7, MM_REGISTER_RSEQ = 1 << 8, MM_ONE_CPU = 1 };
    #ifdef SYS_membarrier
    static int mm_membarrier(int command, unsigned flags, int cpu) { return syscall(SYS_membarrier, command, flags, cpu); }
    #else
    static int mm_membarrier(int command, unsigned flags, int cpu) { (void)command; (void)flags; (void)cpu; return -1; }
    #endif
    #else
    enum { MM_EXPEDITED = 1 << 3, MM_REGISTER = 1 << 4, MM_RSEQ = 1 << 7, MM_REGISTER_RSEQ = 1 << 8, MM_ONE_CPU = 1 };
    static int mm_membarrier(int command, unsigned flags, int cpu) { (void)command; (void)flags; (void)cpu; return -1; }
    #endif
    """
    enum: MM_EXPEDITED, MM_REGISTER, MM_RSEQ, MM_REGISTER_RSEQ, MM_ONE_CPU
    int mm_membarrier(int command, unsigned flags, int cpu) noexcept nogil

cdef enum:
    SPINS = 20_000                  # 0.5 ms of looks before a wait gives its core away: another CPU may have to run on it


cdef uint32_t membarrier_begin() noexcept nogil:
    # From Linux 5.10 it interrupts one core, else every one that runs a thread of this process.
    if mm_membarrier(MM_REGISTER_RSEQ, 0, 0) == 0 and mm_membarrier(MM_RSEQ, MM_ONE_CPU, 0) == 0:
        return MM_RSEQ
    if mm_membarrier(MM_REGISTER, 0, 0) == 0:
        return MM_EXPEDITED
    return 0


cdef void interrupt_core(uint32_t command, int core) noexcept nogil:
    if command == MM_RSEQ and core >= 0:
        mm_membarrier(MM_RSEQ, MM_ONE_CPU, core)
    elif command:
        mm_membarrier(command, 0, 0)


# Its task has been kept from its work so long.
cdef void delay(real_cpu *c, long long ns) noexcept nogil:
    c.overhead_ns += ns
    if c.state != CPU_IDLE and not c.r.load.at_ticks:
        c.next += ns


cdef void ipi(lab_machine *m, uint32_t sender, uint32_t cpu, uint32_t mm) noexcept nogil:
    cdef real *r = <real *>m
    cdef real_cpu *c = r.cpus[cpu]
    fetch_add_u64(&r.ipis, 1, memory_order_relaxed)
    fetch_add_u32(&c.coming, 1, memory_order_relaxed)
    interrupt_core(r.private_expedited, c.core)
    fetch_sub_u32(&c.coming, 1, memory_order_relaxed)
    if sender == OUTSIDE:
        tell(c, TO_SWITCH)
        return
    store_u32(&r.cpus[sender].shot, mm, memory_order_relaxed)
    fetch_add_u32(&r.cpus[sender].unanswered, 1, memory_order_relaxed)
    fetch_or_u32(&c.inbox[sender >> 5], <uint32_t>1 << (sender & 31), memory_order_release)     # pairs with heed's acquire
    tell(c, TO_ANSWER)


cdef void ipi_wait(lab_machine *m, uint32_t sender, uint32_t mm, bint any_sent) noexcept nogil:
    cdef real *r = <real *>m
    cdef real_cpu *c = r.cpus[sender]
    cdef uint32_t spins = 0
    # Acquire, pairs with the release of whoever answers: it has left the mm.
    while load_u32(&c.unanswered, memory_order_acquire):
        if load_u32(&r.abandoned, memory_order_relaxed):
            return                              # somebody died, and will not answer: the mm stays
        if load_u32(&c.told, memory_order_acquire) & ~<uint32_t>TO_STOP:
            heed(c)
        spins += 1
        if spins < SPINS:
            mm_cpu_relax()
        else:
            sched_yield()
    m.policy.ipi_done(m, sender, mm)


cdef bint heed(real_cpu *c) noexcept nogil:
    cdef real *r = c.r
    cdef uint32_t told = fetch_and_u32(&c.told, TO_STOP, memory_order_acquire), i, bits, sender
    cdef int64_t begin
    if told & (TO_ANSWER | TO_SWITCH):
        begin = mm_now()
        if told & TO_ANSWER:
            for i in range(r.mask_words):
                bits = exchange_u32(&c.inbox[i], 0, memory_order_acquire) if load_u32(&c.inbox[i], memory_order_relaxed) else 0
                for sender in range(32 if bits else 0):
                    if bits >> sender & 1:
                        r.m.policy.ipi(&r.m, c.cpu, load_u32(&r.cpus[(i << 5) + sender].shot, memory_order_relaxed))
                        fetch_sub_u32(&r.cpus[(i << 5) + sender].unanswered, 1, memory_order_release)
                        c.events += 1
        if told & TO_SWITCH:
            r.m.policy.ipi(&r.m, c.cpu, NO_MM)
            c.events += 1
        delay(c, mm_now() - begin)
    return told & TO_STOP


cdef void interrupts_begin(real *r) noexcept nogil:
    r.m.ipi = ipi
    r.m.ipi_wait = ipi_wait
    r.private_expedited = membarrier_begin()
