# cython: language_level=3, freethreading_compatible=True
"""The timer wheel: hashed slots of CPUs, and a heap of those whose slot has come.

A slot is about as wide as two CPUs' times are apart, and a turn of the wheel some four times as long as they last: what is due later
stays in its slot for another turn. So an operation takes some ten ns, for any number of CPUs, and in order of time and CPU.
"""
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memset

from mmgen.lab._policy cimport lab_cpu

cdef enum:
    NO_CPU = 0xffffffff
    LEAST_SLOTS = 64


cdef bint wheel_begin(lab_wheel *w, lab_cpu *cpus, uint32_t nr_cpus, double mean_ns) noexcept nogil:
    cdef uint32_t slots = LEAST_SLOTS
    memset(w, 0, sizeof(lab_wheel))
    while slots < 2 * nr_cpus:
        slots *= 2
    while w.shift < 40 and (<double>slots) * (<int64_t>1 << w.shift) < 4 * mean_ns:
        w.shift += 1
    w.cpus = cpus
    w.mask = slots - 1
    w.slots = <uint32_t *>malloc(slots * sizeof(uint32_t))
    if w.slots is NULL:
        return False
    memset(w.slots, 0xff, slots * sizeof(uint32_t))
    return True


cdef void wheel_end(lab_wheel *w) noexcept nogil:
    free(w.slots)
    free(w.heap)


cdef inline bint before(const lab_cpu *cpus, uint32_t a, uint32_t b) noexcept nogil:
    return cpus[a].next < cpus[b].next or (cpus[a].next == cpus[b].next and a < b)


# Let `cpu` sink from place i to where it belongs.
cdef void sift_down(lab_wheel *w, uint32_t i, uint32_t cpu) noexcept nogil:
    cdef uint32_t child
    while True:
        child = 2 * i + 1
        if child >= w.nr_heap:
            break
        if child + 1 < w.nr_heap and before(w.cpus, w.heap[child + 1], w.heap[child]):
            child += 1
        if not before(w.cpus, w.heap[child], cpu):
            break
        w.heap[i] = w.heap[child]
        i = child
    w.heap[i] = cpu


cdef void sift_up(lab_wheel *w, uint32_t i, uint32_t cpu) noexcept nogil:
    while i and before(w.cpus, cpu, w.heap[(i - 1) // 2]):
        w.heap[i] = w.heap[(i - 1) // 2]
        i = (i - 1) // 2
    w.heap[i] = cpu


cdef bint heap_add(lab_wheel *w, uint32_t cpu) noexcept nogil:
    cdef uint32_t *heap
    if w.nr_heap == w.room:
        heap = <uint32_t *>realloc(w.heap, (2 * w.room + 64) * sizeof(uint32_t))
        if heap is NULL:
            return False
        w.heap = heap
        w.room = 2 * w.room + 64
    w.nr_heap += 1
    sift_up(w, w.nr_heap - 1, cpu)
    return True


cdef bint wheel_add(lab_wheel *w, uint32_t cpu) noexcept nogil:
    cdef lab_cpu *c = &w.cpus[cpu]
    cdef int64_t slot = c.next >> w.shift
    c.queued = 1
    if slot < w.opened:
        return heap_add(w, cpu)
    c.link = w.slots[slot & w.mask]
    w.slots[slot & w.mask] = cpu
    w.nr += 1
    return True


cdef void wheel_take(lab_wheel *w) noexcept nogil:
    w.cpus[w.heap[0]].queued = 0
    w.nr_heap -= 1
    if w.nr_heap:
        sift_down(w, 0, w.heap[w.nr_heap])


cdef void wheel_remove(lab_wheel *w, uint32_t cpu) noexcept nogil:
    cdef lab_cpu *c = &w.cpus[cpu]
    cdef int64_t slot = c.next >> w.shift
    cdef uint32_t *at
    cdef uint32_t i = 0, last
    if not c.queued:
        return
    c.queued = 0
    if slot >= w.opened:
        at = &w.slots[slot & w.mask]
        while at[0] != cpu:
            at = &w.cpus[at[0]].link
        at[0] = c.link
        w.nr -= 1
        return
    while w.heap[i] != cpu:
        i += 1
    w.nr_heap -= 1
    last = w.heap[w.nr_heap]
    if i == w.nr_heap:
        return
    if i and before(w.cpus, last, w.heap[(i - 1) // 2]):
        sift_up(w, i, last)
    else:
        sift_down(w, i, last)


cdef bint wheel_open(lab_wheel *w, int64_t limit) noexcept nogil:
    cdef int64_t last = limit >> w.shift
    cdef uint32_t cpu, later
    cdef uint32_t *slot
    while w.nr_heap == 0 and w.opened <= last:
        if w.nr == 0:
            w.opened = last + 1
            break
        slot = &w.slots[w.opened & w.mask]
        cpu = slot[0]
        slot[0] = NO_CPU
        w.opened += 1
        while cpu != NO_CPU:
            later = w.cpus[cpu].link
            if w.cpus[cpu].next >> w.shift < w.opened:
                w.nr -= 1
                if not heap_add(w, cpu):
                    return False
            else:
                w.cpus[cpu].link = slot[0]
                slot[0] = cpu
            cpu = later
    return True


cdef bint queue_add(lab_queue *q, int64_t time, uint32_t cpu, uint32_t mm) noexcept nogil:
    cdef lab_event *events
    cdef lab_event *event
    cdef uint32_t i
    if q.nr == q.room:
        events = <lab_event *>calloc(2 * q.room if q.room else 16, sizeof(lab_event))
        if events is NULL:
            return False
        for i in range(q.nr):
            events[i] = q.events[(q.first + i) & (q.room - 1)]
        free(q.events)
        q.events = events
        q.first = 0
        q.room = 2 * q.room if q.room else 16
    event = &q.events[(q.first + q.nr) & (q.room - 1)]
    event.time = time
    event.cpu = cpu
    event.mm = mm
    q.nr += 1
    return True
