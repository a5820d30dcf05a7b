# When things happen: a timer wheel for the CPUs, each of which has one time at most, and queues for what happens a constant time later.
from libc.stdint cimport int64_t, uint32_t

from mmgen.lab._policy cimport lab_cpu

cdef struct lab_wheel:
    lab_cpu *cpus
    uint32_t *slots                 # the first CPU of each slot, linked by lab_cpu.link; NO_CPU: none
    uint32_t mask                   # slots - 1
    uint32_t shift                  # a slot is 1 << shift ns
    int64_t opened                  # slots before this one, counted from time 0, have been opened: their CPUs are in the heap
    uint32_t nr                     # CPUs in slots
    uint32_t *heap                  # by time, then by CPU
    uint32_t nr_heap, room

cdef struct lab_event:
    int64_t time
    uint32_t cpu
    uint32_t mm

cdef struct lab_queue:
    lab_event *events               # a ring
    uint32_t first, nr, room        # room: a power of two, or 0

cdef bint wheel_begin(lab_wheel *w, lab_cpu *cpus, uint32_t nr_cpus, double mean_ns) noexcept nogil     # False: no memory
cdef void wheel_end(lab_wheel *w) noexcept nogil
cdef bint wheel_add(lab_wheel *w, uint32_t cpu) noexcept nogil      # at cpus[cpu].next; False: no memory
cdef void wheel_remove(lab_wheel *w, uint32_t cpu) noexcept nogil   # if it is there
# Open slots until there is a CPU in the heap or all up to `limit` are open. False: no memory.
cdef bint wheel_open(lab_wheel *w, int64_t limit) noexcept nogil
cdef void wheel_take(lab_wheel *w) noexcept nogil                   # the first of the heap, out of it

cdef bint queue_add(lab_queue *q, int64_t time, uint32_t cpu, uint32_t mm) noexcept nogil               # False: no memory
cdef inline lab_event *queue_first(lab_queue *q) noexcept nogil:
    return &q.events[q.first & (q.room - 1)]
cdef inline void queue_take(lab_queue *q) noexcept nogil:
    q.first += 1
    q.nr -= 1
