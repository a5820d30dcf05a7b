# The virtual machine: what there is of it at a moment of virtual time.
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from mmgen._latency cimport Latency, mm_latency
from mmgen.lab._bitgen cimport bitgen_t
from mmgen.lab._cpumask cimport lab_mask
from mmgen.lab._policy cimport lab_machine
from mmgen.lab._timeline cimport lab_series, lab_timeline
from mmgen.lab._wheel cimport lab_queue, lab_wheel

cdef enum:
    CPU_USER, CPU_KTHREAD, CPU_IDLE, CPU_DYING, CPU_OFFLINE         # lab_cpu.state
    MM_EXITED = 1, MM_FREED = 2, MM_WAITER = 4                      # lab_mm.state: bits
    FIXED = 0, EXPONENTIAL = 1, BURSTY = 2                          # lab_load.distribution

cdef struct lab_mm:                 # 40 bytes
    int64_t busy                    # its count's line: until when it is on its way to whoever asked last
    uint32_t owner                  # and who that was
    int32_t mm_count
    uint32_t nr_active              # CPUs that use it, for the detector: no policy sees this
    uint32_t state
    int64_t exited
    uint32_t serial                 # mms are numbered as they are forked
    uint32_t next                   # in the list of numbers that are free

cdef struct lab_costs:              # ns
    int64_t line, atomic, fence, ipi, interrupt, look, per_switch

cdef struct lab_load:
    uint32_t slots                  # processes of a CPU
    uint32_t pools                  # not 0: they are threads, and have so many mms together
    uint32_t distribution
    bint at_ticks                   # a task ends with a tick
    double switch_ns, pause_ns, idle_ns, kthread_ns                 # how long things last, at the mean
    double idle, kthread, exits, migrate                            # how often, of the switches
    double burst                    # switches of a burst
    uint32_t waiters
    int64_t life_ns, hotplug_ns, unplug_ns, offline_ns

cdef struct lab_counts:
    uint64_t switches, ticks, events, atomics, ipis, lines, looks, overhead_ns, forks, exits, frees, hotplugs, use_after_frees

cdef struct virtual:
    lab_machine m                   # first: a policy's functions are given this
    lab_costs costs
    lab_load load
    lab_counts n
    bitgen_t *random
    int64_t now, end, period        # ns
    int64_t spent                   # what the policy has cost its CPU in the event that is just being gone through
    int64_t most_wait               # for a line
    uint64_t work                   # CPUs that the domain has looked at since the last look at the clock
    uint32_t current                # whose event it is
    bint failed, stop, keep_going, fast
    # The ticks: CPU `cursor` ticks next, in the period that began at `base`; offset = cursor * period // nr_cpus, kept up by the rest.
    uint32_t cursor, rest
    int64_t base, offset
    lab_wheel wheel
    lab_queue ipis, waits, dying, offline
    int64_t other, next_hotplug     # when the first of the queues is due; the next unplug
    uint32_t due, nr_online         # waiters that exit now; CPUs neither dying nor offline
    uint32_t *processes             # mm by CPU and slot
    # The account.
    lab_mm *mms
    uint32_t nr_mms, room, free_mms, serial
    uint32_t exiting                # the mm whose exit this is, until exit_mmap() returns
    int64_t pending_busy, lock_busy
    uint32_t pending_owner, lock_owner, opener
    lab_mask *masks                 # mm_cpumask, by mm, where the policy has any
    uint32_t nr_masks
    uint64_t held, held_peak
    double held_ns                  # mms held times ns
    int64_t held_since
    mm_latency *latency
    lab_series series               # of the held mms
    lab_timeline *timeline          # NULL: nobody asked for one
    uint32_t bad_mm, bad_cpu        # the first use after free
    int64_t bad_time

# A virtual machine as Python sees it: what all of them tell. A subclass has its events, and go_on().
cdef class Machine:
    cdef virtual v
    cdef Latency latency
    cdef bint begun                 # there is a policy to end
    cdef begin(self, policy, costs, uint32_t nr_mms, int64_t end_ns)     # v.m.nr_cpus and v.period are set
    cdef no_memory(self)
