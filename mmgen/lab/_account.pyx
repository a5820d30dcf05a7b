# cython: language_level=3, freethreading_compatible=True
"""The virtual machine's account: mms, the lines that CPUs take from one another, IPIs, what all that costs, and who uses what was freed.

A line is where its last writer is. Who else writes it waits until it is free, and then for its transfer; so a line that everybody wants
is handed round at the rate of its transfers. A CPU asks for one line at a time, so nobody waits for more than all the others.
"""
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset

from mmgen._latency cimport mm_latency_record
from mmgen.lab._policy cimport INIT_MM, LAB_IPIS_DONE, lab_cpu, lab_machine
from mmgen.lab._timeline cimport MARK_EXITED, MARK_FREED, MARK_PAID, series_add, timeline_mark
from mmgen.lab._virtual cimport MM_EXITED, MM_FREED, MM_WAITER, lab_mm
from mmgen.lab._wheel cimport queue_add


# ---- lines ---------------------------------------------------------------------------------------------------------------------

# An atomic of `cpu` on the line whose state this is.
cdef inline void write_line(virtual *v, int64_t *busy, uint32_t *owner, uint32_t cpu) noexcept nogil:
    cdef int64_t at = v.now + v.spent, start = at, cost = v.costs.atomic
    if owner[0] != cpu:
        owner[0] = cpu
        cost += v.costs.line
        v.n.lines += 1
    if busy[0] > at:
        start = min(busy[0], at + v.most_wait)
    busy[0] = start + cost
    v.spent = start + cost - v.now
    v.n.atomics += 1


cdef int32_t count(lab_machine *m, uint32_t cpu, uint32_t mm, int32_t n) noexcept nogil:
    cdef virtual *v = <virtual *>m
    cdef lab_mm *it = &v.mms[mm]
    write_line(v, &it.busy, &it.owner, cpu)
    it.mm_count += n
    return it.mm_count


# A tick that counts: it fetches the new generation, fences, and writes the word that counts who still owes.
cdef void paid(lab_machine *m, uint32_t cpu, bint opened) noexcept nogil:
    cdef virtual *v = <virtual *>m
    if cpu != v.opener:
        v.n.lines += 1
        v.spent += v.costs.line
    v.spent += v.costs.fence
    write_line(v, &v.pending_busy, &v.pending_owner, cpu)
    if opened:
        v.opener = cpu
    if v.timeline is not NULL:
        timeline_mark(v.timeline, v.now, cpu, MARK_PAID, v.timeline.generation)


cdef void paid_by_all(virtual *v, uint32_t first, uint32_t last, bint opened) noexcept nogil:
    cdef uint32_t nr = last - first, cpu
    cdef bint has_opener = first <= v.opener < last
    cdef int64_t now = v.now, one = v.costs.line + v.costs.fence + v.costs.line + v.costs.atomic
    # Nobody waits for another's write where even the one that need not fetch the generation, and so comes early, finds it done.
    if (nr > 1 and v.pending_owner != first and v.m.nr_cpus <= v.period // (2 * v.costs.line + v.costs.atomic + 1)
            and v.pending_busy <= v.base + <int64_t>(<uint64_t>first * <uint64_t>v.period // v.m.nr_cpus)):
        v.n.lines += 2 * nr - has_opener
        v.n.atomics += nr
        v.spent = one - (v.costs.line if v.opener == last - 1 else 0)
        v.n.overhead_ns += nr * one - (v.costs.line if has_opener else 0) - v.spent
        v.pending_busy = now + v.spent
        v.pending_owner = last - 1
    else:
        for cpu in range(first, last):
            v.now = v.base + <int64_t>(<uint64_t>cpu * <uint64_t>v.period // v.m.nr_cpus)
            v.spent = 0
            paid(&v.m, cpu, False)
            v.n.overhead_ns += v.spent
        v.now = now
        v.n.overhead_ns -= v.spent
    if opened:
        v.opener = last - 1


cdef void locked(lab_machine *m, uint32_t cpu) noexcept nogil:
    cdef virtual *v = <virtual *>m
    write_line(v, &v.lock_busy, &v.lock_owner, cpu)


cdef void looked(lab_machine *m, uint32_t nr) noexcept nogil:
    cdef virtual *v = <virtual *>m
    v.n.lines += nr
    v.n.looks += nr
    v.spent += nr * v.costs.look
    v.work += nr


cdef void credited(lab_machine *m, uint32_t cpu, uint32_t looks, uint32_t idle, uint32_t owing, bint opened) noexcept nogil:
    cdef virtual *v = <virtual *>m
    cdef uint32_t _credit
    write_line(v, &v.pending_busy, &v.pending_owner, cpu)
    looked(m, looks)
    v.n.atomics += idle                             # the claims: the look has fetched these lines
    v.spent += idle * v.costs.atomic
    for _credit in range(owing + 1):                # and the release
        write_line(v, &v.pending_busy, &v.pending_owner, cpu)
    if opened:
        v.opener = cpu


cdef void fenced(lab_machine *m, uint32_t cpu) noexcept nogil:
    cdef virtual *v = <virtual *>m
    v.n.atomics += 1
    v.spent += v.costs.atomic + v.costs.fence


# ---- IPIs ----------------------------------------------------------------------------------------------------------------------

cdef void send(virtual *v, uint32_t cpu, uint32_t mm) noexcept nogil:
    cdef int64_t time = v.now + v.costs.ipi
    if not queue_add(&v.ipis, time, cpu, mm):
        v.failed = True
    elif time < v.other:
        v.other = time


cdef void ipi(lab_machine *m, uint32_t sender, uint32_t cpu, uint32_t mm) noexcept nogil:
    (<virtual *>m).n.ipis += 1
    send(<virtual *>m, cpu, mm)


cdef void ipi_wait(lab_machine *m, uint32_t sender, uint32_t mm, bint any_sent) noexcept nogil:
    cdef virtual *v = <virtual *>m
    if any_sent:
        v.spent += v.costs.ipi
        send(v, sender, mm | LAB_IPIS_DONE)
    else:
        m.policy.ipi_done(m, sender, mm)


# ---- mms -----------------------------------------------------------------------------------------------------------------------

# Somebody uses mm although it is freed, or it is freed although somebody uses it. `cpu`: who is about to, or frees it.
cdef void used_after_free(virtual *v, uint32_t mm, uint32_t cpu) noexcept nogil:
    cdef uint32_t i
    v.n.use_after_frees += 1
    if v.n.use_after_frees > 1:
        return
    for i in range(v.m.nr_cpus):
        if v.m.cpus[i].active_mm == mm:
            cpu = i
            break
    v.bad_mm = v.mms[mm].serial
    v.bad_cpu = cpu
    v.bad_time = v.now + v.spent
    v.stop = not v.keep_going


cdef void use(lab_machine *m, uint32_t cpu, uint32_t mm) noexcept nogil:
    cdef virtual *v = <virtual *>m
    cdef lab_cpu *c = &m.cpus[cpu]
    v.mms[c.active_mm].nr_active -= 1
    c.active_mm = mm
    v.mms[mm].nr_active += 1
    if v.mms[mm].state & MM_FREED:
        used_after_free(v, mm, cpu)


cdef void settle(virtual *v) noexcept nogil:
    v.held_ns += <double>v.held * <double>(v.now - v.held_since)
    series_add(&v.series, v.held, v.held_since, v.now)
    v.held_since = v.now


cdef void free_mm(lab_machine *m, uint32_t mm) noexcept nogil:
    cdef virtual *v = <virtual *>m
    cdef lab_mm *it = &v.mms[mm]
    cdef int64_t took, pause
    cdef uint32_t before = it.state
    it.state |= MM_FREED
    if it.nr_active or before & MM_FREED:
        used_after_free(v, mm, v.current)       # and nobody is given its number again
    if before & MM_FREED or not before & MM_EXITED:
        return                                  # a task that still has it will show
    if not it.nr_active:
        m.policy.forget(m, mm)
        it.next = v.free_mms
        v.free_mms = mm
    settle(v)
    v.held -= 1
    v.series.peak = max(v.series.peak, v.held)      # of the bucket that begins just now, if one does
    v.n.frees += 1
    took = max(v.now + v.spent - it.exited, 0)      # the CPU that exited may still be at it
    mm_latency_record(v.latency, took)
    if v.timeline is not NULL:
        timeline_mark(v.timeline, v.now + v.spent, v.current, MARK_FREED, it.serial)
    if before & MM_WAITER:
        pause = v.load.life_ns
        if mm == v.exiting and pause == 0:
            pause = v.period                    # or time would never pass
        if pause == 0:
            v.due += 1
        elif not queue_add(&v.waits, v.now + pause, 0, 0):
            v.failed = True
        elif v.now + pause < v.other:
            v.other = v.now + pause


cdef uint32_t fork_mm(virtual *v, uint32_t cpu) noexcept nogil:
    cdef uint32_t mm = v.free_mms, room
    cdef lab_mm *mms
    if mm != NOBODY:
        v.free_mms = v.mms[mm].next
    else:
        if v.nr_mms == v.room:
            room = v.room + v.room // 2 + 64
            mms = <lab_mm *>realloc(v.mms, <size_t>room * sizeof(lab_mm)) if room < LAB_IPIS_DONE else NULL
            if mms is NULL:
                v.failed = True
                return INIT_MM
            v.mms = mms
            v.room = room
        mm = v.nr_mms
        v.nr_mms += 1
    memset(&v.mms[mm], 0, sizeof(lab_mm))
    v.mms[mm].owner = cpu
    v.mms[mm].mm_count = 1
    v.mms[mm].serial = v.serial
    v.serial += 1
    v.n.forks += 1
    return mm


cdef void exit_mm(virtual *v, uint32_t cpu, uint32_t mm, uint32_t state) noexcept nogil:
    cdef lab_mm *it = &v.mms[mm]
    if it.state & MM_FREED:
        used_after_free(v, mm, cpu)
        return
    it.state |= MM_EXITED | state
    it.exited = v.now + v.spent
    settle(v)
    v.held += 1
    v.held_peak = max(v.held_peak, v.held)
    v.series.peak = max(v.series.peak, v.held)
    if v.timeline is not NULL:
        timeline_mark(v.timeline, it.exited, cpu, MARK_EXITED, it.serial)
    v.n.exits += 1
    v.exiting = mm
    v.m.policy.exit_mmap(&v.m, cpu, mm)
    v.exiting = NOBODY


cdef void no_memory(lab_machine *m) noexcept nogil:
    (<virtual *>m).failed = True


cdef bint account_begin(virtual *v, uint32_t nr_mms) noexcept nogil:
    v.m.use = use
    v.m.count = count
    v.m.ipi = ipi
    v.m.ipi_wait = ipi_wait
    v.m.free_mm = free_mm
    v.m.paid = paid
    v.m.locked = locked
    v.m.looked = looked
    v.m.credited = credited
    v.m.fenced = fenced
    v.m.no_memory = no_memory
    v.free_mms = v.exiting = NOBODY
    v.pending_owner = v.lock_owner = v.opener = NOBODY
    v.most_wait = v.m.nr_cpus * (v.costs.line + v.costs.atomic)
    v.mms = <lab_mm *>realloc(NULL, <size_t>nr_mms * sizeof(lab_mm))
    v.room = nr_mms
    return v.mms is not NULL


cdef void account_end(virtual *v) noexcept nogil:
    free(v.mms)
