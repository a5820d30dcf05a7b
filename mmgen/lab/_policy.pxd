# What a policy is to a machine, and a machine to a policy: a table of functions each. A policy keeps no clock and counts nothing; what its
# operations cost, and that nobody uses what it frees, is the machine's business. So one policy's code runs on any machine.
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

cdef enum:
    INIT_MM = 0                     # the kernel's own mm, which is never freed
    NO_MM = 0xffffffff              # what a kernel thread has, and the idle task: it borrows the mm that it finds, lazily
    OUTSIDE = 0xffffffff            # whose operation it is, where it is no CPU's
    LAB_WAKE = 1                    # a tick owes a wake
    LAB_OPENED = 2                  # and has opened a generation
    LAB_IPIS_DONE = 0x80000000         # in the mm that an IPI is about: all of them have arrived

cdef struct lab_cpu:                # 32 bytes
    uint32_t active_mm              # the mm that the CPU uses
    uint32_t mm                     # its task's own: active_mm, or NO_MM
    # The rest is the virtual machine's.
    int64_t next                    # when its task is over
    uint32_t link                   # the next CPU in its slot of the timer wheel
    uint32_t debt                   # ns that ticks and interrupts have taken from its task
    uint32_t slot                   # which of its processes it runs, or ran last
    unsigned char state
    unsigned char queued            # whether the timer wheel has it

# Each is called on `cpu`, by that CPU's own thread where CPUs are threads.
cdef struct lab_policy:
    # From a task with mm `prev` to one with mm `next`; NO_MM: a kernel thread, or the idle task. The policy calls machine.use().
    void (*context_switch)(lab_machine *m, uint32_t cpu, uint32_t prev, uint32_t next) noexcept nogil
    # The last task of mm exits: the CPU's own, if that has mm; then it is a kernel thread from here on. The policy frees mm when nobody
    # uses it any more: machine.free_mm().
    void (*exit_mmap)(lab_machine *m, uint32_t cpu, uint32_t mm) noexcept nogil
    void (*tick)(lab_machine *m, uint32_t cpu) noexcept nogil
    # The idle task is on, and the tick stops; the tick is back, and the idle task about to be switched away from.
    void (*idle_enter)(lab_machine *m, uint32_t cpu) noexcept nogil
    void (*idle_exit)(lab_machine *m, uint32_t cpu) noexcept nogil
    # A CPU is unplugged: no task with an mm will run on it any more (a kernel thread does); it has left. One is plugged in.
    void (*cpu_dying)(lab_machine *m, uint32_t cpu) noexcept nogil
    void (*cpu_dead)(lab_machine *m, uint32_t cpu) noexcept nogil
    void (*cpu_online)(lab_machine *m, uint32_t cpu) noexcept nogil
    # An IPI arrives that the policy has sent for mm; all those that machine.ipi_wait() waited for have.
    void (*ipi)(lab_machine *m, uint32_t cpu, uint32_t mm) noexcept nogil
    void (*ipi_done)(lab_machine *m, uint32_t cpu, uint32_t mm) noexcept nogil
    # A mm's number has been given to a new one.
    void (*forget)(lab_machine *m, uint32_t mm) noexcept nogil
    # NULL, or: CPUs first to last - 1 tick and switch to a task with an mm, each once; up to the first whose tick opens a generation.
    # The CPU after the last that did. counted: how many of those ticks counted, all or none. due: LAB_OPENED, LAB_WAKE if woken() is due
    # for the last of them all the same, or 0.
    uint32_t (*run)(lab_machine *m, uint32_t first, uint32_t last, uint32_t *counted, uint32_t *due) noexcept nogil
    void (*woken)(lab_machine *m, uint32_t cpu) noexcept nogil
    void (*end)(lab_machine *m) noexcept nogil

cdef struct lab_machine:
    const lab_policy *policy
    void *own                       # the policy's
    lab_cpu *cpus                   # cpu_of(m, cpu) finds one
    uint32_t nr_cpus
    uint32_t spread                 # where CPUs are threads they are 1 << spread structs apart, each on lines of its own
    bint threads                    # and a policy's functions run at the same time
    # `cpu` uses mm from now on: active_mm.
    void (*use)(lab_machine *m, uint32_t cpu, uint32_t mm) noexcept nogil
    # mm_count += n, atomically; what it is then.
    int32_t (*count)(lab_machine *m, uint32_t cpu, uint32_t mm, int32_t n) noexcept nogil
    # Interrupt `cpu`: policy.ipi(). policy.ipi_done() when all that were sent for mm have arrived, at once if there were none.
    void (*ipi)(lab_machine *m, uint32_t sender, uint32_t cpu, uint32_t mm) noexcept nogil
    void (*ipi_wait)(lab_machine *m, uint32_t sender, uint32_t mm, bint any_sent) noexcept nogil
    void (*free_mm)(lab_machine *m, uint32_t mm) noexcept nogil
    # mm_cpumask: `cpu` enters it, leaves it, leaves every mm's; each(arg, cpu) for each in it; nobody is in it any more.
    void (*mask_set)(lab_machine *m, uint32_t cpu, uint32_t mm) noexcept nogil
    void (*mask_clear)(lab_machine *m, uint32_t cpu, uint32_t mm) noexcept nogil
    void (*mask_clear_all)(lab_machine *m, uint32_t cpu) noexcept nogil
    void (*mask_each)(lab_machine *m, uint32_t mm, void (*each)(void *arg, uint32_t cpu) noexcept nogil, void *arg) noexcept nogil
    void (*mask_empty)(lab_machine *m, uint32_t mm) noexcept nogil
    # What the domain does in a call, for the account: a tick counts (and opens); the control lock is taken; so many CPUs are looked at
    # whose lines are not there yet; the generation is held, so many looked at, `idle` CPUs claimed, `owing` of them credited, and the hold
    # released (and that opens); a CPU changes its own line atomically, and fences.
    void (*paid)(lab_machine *m, uint32_t cpu, bint opened) noexcept nogil
    void (*locked)(lab_machine *m, uint32_t cpu) noexcept nogil
    void (*looked)(lab_machine *m, uint32_t nr) noexcept nogil
    void (*credited)(lab_machine *m, uint32_t cpu, uint32_t looks, uint32_t idle, uint32_t owing, bint opened) noexcept nogil
    void (*fenced)(lab_machine *m, uint32_t cpu) noexcept nogil
    void (*no_memory)(lab_machine *m) noexcept nogil

cdef inline lab_cpu *cpu_of(lab_machine *m, uint32_t cpu) noexcept nogil:
    return &m.cpus[<size_t>cpu << m.spread]
