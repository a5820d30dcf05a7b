# cython: language_level=3, freethreading_compatible=True, auto_pickle=False
"""The search: every order of all steps, breadth first, so that what it finds first is shortest.

A state is memory, the threads' stacks and the ghost; it is known by a hash of these, of 63 bits, but for what follows from the
rest or is never read again. Kept of each state are its hash, the state before it and the choice that led on: five bytes
and a table's slot. A state is made again by going there: breadth first, the states of one depth come in the order of their
paths, so most of the way is the way to the state before, and a copy of each state on it is at hand.
"""
import threading

from libc.stdint cimport UINT32_MAX, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy

from mmgen.check._control cimport control_of
from mmgen.check._core cimport MM_IDLE, MM_OFFLINE, MM_ONLINE_SHIFT, MM_PARITY_SHIFT, MM_PROXIED, MM_RUNNING, mm_cpu, mm_cpu_of
from mmgen.check._steps cimport (
    MM_ADD, MM_ASLEEP, MM_CAS, MM_EXCHANGE, MM_FENCE, MM_LOAD, MM_LOCK, MM_MAX_THREADS, MM_NOBODY, MM_REST, MM_SLEEP, MM_STORE,
    MM_SUB, MM_UNLOCK, MM_WAKE, MM_YIELD, mm_access, mm_enabled, mm_flush_one, mm_step, mm_steps, mm_steps_of, mm_thread,
)
from mmgen.check._world cimport (
    NR_OPS, MM_ENDLESS, MM_STUCK, mm_alone, mm_at_rest, mm_begin, mm_check, mm_drain, mm_ghost, mm_hash, mm_may, mm_stuck, mm_world,
    mm_world_begin, mm_world_of,
)

OPS = ("switch", "tick", "idle_enter", "idle_exit", "online", "offline", "begin", "poll", "wait", "wait_timed", "expedite", "defer",
       "run_callbacks", "barrier", "close")
HARMS = ("", "a wait returned early: a CPU that was in a section when it began has not been quiescent since",
         "a CPU uses what has been freed: its section had found it before the unpublish could be seen",
         "a wait that nothing will end, though every CPU goes on switching and ticking",
         "nobody who has begun anything can go on",
         "an operation that does not end",
         "complete went below 0",
         "complete is not the CPUs that owe, and the holds",
         "the parity in pending is not generation's, and nobody is opening",
         "the number online is not pending's, and the lock is free",
         "a CPU's counters are touched by another thread without a claim, or by the CPU while it idles",
         "a callback that neither ran nor was given back",
         "a barrier returned before what was deferred before it had run",
         "a call is refused, though the CPU's mode fits and the domain is open",
         "all are between two operations, and a lock is held",
         "a CPU is in use after the domain was closed",
         "the search is void: a thread buffered more stores than there is room for")
assert len(OPS) == NR_OPS

cdef enum:
    STEP, FLUSH, TIMEOUT, BEGIN                         # a choice is 32 times a thread, plus one of these, or plus BEGIN + an operation
    STACK_USED = 4096                                   # of a stack, at most

cdef mm_steps *steps = mm_steps_of()
cdef mm_world *world = mm_world_of()
busy = threading.Lock()                                 # the threads' stacks are one set: one search at a time in a process


# ---- a copy of a state ----------------------------------------------------------------------------------------------------------

cdef size_t copy_bytes() noexcept nogil:
    return sizeof(mm_ghost) + world.bytes + steps.nr_threads * (sizeof(mm_thread) + STACK_USED)


cdef bint keep(char *copy) noexcept nogil:
    cdef size_t used
    cdef int t
    memcpy(copy, &world.ghost, sizeof(mm_ghost))
    copy += sizeof(mm_ghost)
    memcpy(copy, world.block, world.bytes)
    copy += world.bytes
    memcpy(copy, steps.threads, steps.nr_threads * sizeof(mm_thread))
    copy += steps.nr_threads * sizeof(mm_thread)
    for t in range(steps.nr_threads):
        used = steps.stack[t] - <char *>steps.threads[t].sp
        if used > STACK_USED:
            return False
        memcpy(copy, steps.threads[t].sp, used)
        copy += used
    return True


cdef void go_back(char *copy) noexcept nogil:
    cdef size_t used
    cdef int t
    memcpy(&world.ghost, copy, sizeof(mm_ghost))
    copy += sizeof(mm_ghost)
    memcpy(world.block, copy, world.bytes)
    copy += world.bytes
    memcpy(steps.threads, copy, steps.nr_threads * sizeof(mm_thread))
    copy += steps.nr_threads * sizeof(mm_thread)
    for t in range(steps.nr_threads):
        used = steps.stack[t] - <char *>steps.threads[t].sp
        memcpy(steps.threads[t].sp, copy, used)
        copy += used


# ---- choices --------------------------------------------------------------------------------------------------------------------

cdef int choices(uint8_t *into) noexcept nogil:
    cdef int t, op, nr = 0, last = world.ghost.last
    cdef uint32_t may
    cdef mm_thread *thread
    cdef bint preempts = False
    if world.preemptions >= 0 and last != MM_NOBODY and mm_enabled(last):
        preempts = world.ghost.preemptions == world.preemptions
    for t in range(steps.nr_threads):
        thread = &steps.threads[t]
        if thread.nr_buffered:
            into[nr] = 32 * t + FLUSH
            nr += 1
        if preempts and t != last:
            continue
        if thread.next.what == MM_REST:
            may = mm_may(t)
            for op in range(NR_OPS):
                if may & 1 << op:
                    into[nr] = 32 * t + BEGIN + op
                    nr += 1
        else:
            if mm_enabled(t):
                into[nr] = 32 * t + STEP
                nr += 1
            if thread.may_time_out and (thread.next.what == MM_SLEEP or (thread.next.what == MM_ASLEEP and not thread.woken)):
                into[nr] = 32 * t + TIMEOUT
                nr += 1
    return nr


cdef void choose(int choice) noexcept nogil:
    cdef int t = choice // 32, what = choice % 32, last = world.ghost.last
    if what == FLUSH:
        mm_flush_one(t)
    else:
        if world.preemptions >= 0:
            if last != MM_NOBODY and t != last and mm_enabled(last):
                world.ghost.preemptions += 1
            world.ghost.last = t
        if what >= BEGIN:
            mm_begin(t, what - BEGIN)
        else:
            if what == TIMEOUT:
                steps.threads[t].timed_out = True
            mm_step(t)
        if world.preemptions >= 0 and steps.threads[t].next.what == MM_REST:
            world.ghost.last = MM_NOBODY
    mm_check()


# ---- the table of states --------------------------------------------------------------------------------------------------------

cdef struct slot:
    uint64_t hash                                       # 0: free
    uint16_t ops_left                                   # with which it was reached: more would be new

cdef class Search:
    """One search, or the replay of one path."""

    cdef slot *table
    cdef size_t nr_slots, nr_used
    cdef uint32_t *parents
    cdef uint8_t *how
    cdef size_t nr_states, room, next
    cdef char **copies                                  # of the states on the way to the one at hand
    cdef uint32_t *way
    cdef int nr_copies, depth_at_hand
    cdef readonly size_t transitions, drained
    cdef readonly int depth
    cdef readonly int harm
    cdef bint begun
    cdef int last_choice                                # that showed the harm, after the state looked at; -1: the state itself

    def __cinit__(self, *, int cpus, int waiters, allowed, int ops, int waits, int cpu_waits, int preemptions, bint continuous,
                  bint buffered, bint invariants, bint every, bint sketched, int variant, int patience, uint64_t first_generation,
                  uint64_t first_switches):
        cdef uint32_t mask = 0
        for op in allowed:
            mask |= 1 << OPS.index(op)
        if not busy.acquire(blocking=False):
            raise RuntimeError("a search is under way in this process: one at a time")
        self.begun = True
        self.last_choice = -1
        mm_world_begin(cpus, waiters, mask, ops, waits, cpu_waits, preemptions, continuous, buffered, invariants, every, sketched,
                       variant, patience, first_generation, first_switches)
        self.nr_slots = 1 << 16
        self.table = <slot *>calloc(self.nr_slots, sizeof(slot))
        self.copies = <char **>calloc(1 << 16, sizeof(char *))
        self.way = <uint32_t *>calloc(1 << 16, sizeof(uint32_t))
        if self.table is NULL or self.copies is NULL or self.way is NULL or not self.add(0, 0) or not self.keep_at(0):
            raise MemoryError("no memory for a search")

    def __dealloc__(self):
        self.close()

    def close(self):
        """Give back its memory, and let another search begin."""
        cdef int i
        if not self.begun:
            return
        self.begun = False
        free(self.table)
        free(self.parents)
        free(self.how)
        for i in range(self.nr_copies):
            free(self.copies[i])
        free(self.copies)
        free(self.way)
        busy.release()

    @property
    def states(self):
        """How many states have been found."""
        return self.nr_used

    @property
    def waiting(self):
        """How many of them have not been looked at: 0 when the search has closed."""
        return self.nr_states - self.next

    # The state at hand, unless it is known, is noted to be looked at. False: no memory.
    cdef bint add(self, uint32_t parent, uint8_t choice) noexcept nogil:
        cdef uint64_t hash = mm_hash() | 1
        cdef size_t i = (hash >> 1) & (self.nr_slots - 1)
        cdef void *more
        while self.table[i].hash and self.table[i].hash != hash:
            i = (i + 1) & (self.nr_slots - 1)
        if self.table[i].hash and self.table[i].ops_left >= world.ghost.ops_left:
            return True
        if self.nr_states == self.room:
            self.room = self.room * 2 if self.room else 1 << 16
            more = realloc(self.parents, self.room * sizeof(uint32_t))
            if more is NULL:
                return False
            self.parents = <uint32_t *>more
            more = realloc(self.how, self.room)
            if more is NULL:
                return False
            self.how = <uint8_t *>more
        self.parents[self.nr_states] = parent
        self.how[self.nr_states] = choice
        self.nr_states += 1
        self.nr_used += self.table[i].hash == 0
        self.table[i].hash = hash
        self.table[i].ops_left = world.ghost.ops_left
        if self.nr_states == UINT32_MAX:
            return False
        return self.nr_used * 8 < self.nr_slots * 5 or self.grow()

    cdef bint grow(self) noexcept nogil:
        cdef slot *old = self.table
        cdef size_t nr = self.nr_slots, i, at
        self.table = <slot *>calloc(nr * 2, sizeof(slot))
        if self.table is NULL:
            self.table = old
            return False
        self.nr_slots = nr * 2
        for i in range(nr):
            if old[i].hash:
                at = (old[i].hash >> 1) & (self.nr_slots - 1)
                while self.table[at].hash:
                    at = (at + 1) & (self.nr_slots - 1)
                self.table[at] = old[i]
        free(old)
        return True

    cdef bint keep_at(self, int depth) noexcept nogil:
        if depth == self.nr_copies:
            if depth == 1 << 16:
                return False
            self.copies[depth] = <char *>malloc(copy_bytes())
            if self.copies[depth] is NULL:
                return False
            self.nr_copies += 1
        return keep(self.copies[depth])

    # Make `state` the one at hand, its copy the last of those on its way. -1: no memory.
    cdef int go_to(self, uint32_t state) noexcept nogil:
        cdef uint32_t at = state
        cdef int depth = 0, known, i
        while at:
            depth += 1
            at = self.parents[at]
        if depth >= 1 << 16:
            return -1
        at = state
        known = depth
        # Up from the state, until the way to the last one is met: what is above is still there.
        for i in range(depth, -1, -1):
            known = i
            if i <= self.depth_at_hand and self.way[i] == at:
                break
            self.way[i] = at
            at = self.parents[at]
        go_back(self.copies[known])
        for i in range(known + 1, depth + 1):
            choose(self.how[self.way[i]])
            if not self.keep_at(i):
                return -1
        self.depth_at_hand = depth
        return depth

    # Look at up to `nr` more states. False: no memory.
    cdef bint look(self, size_t nr) noexcept nogil:
        cdef uint8_t choice[MM_MAX_THREADS * 16]
        cdef uint32_t state
        cdef int i, depth, nr_choices
        while nr and self.next < self.nr_states:
            nr -= 1
            state = self.next
            self.next += 1
            depth = self.go_to(state)
            if depth < 0:
                return False
            self.depth = depth
            nr_choices = choices(choice)
            if mm_at_rest():
                mm_drain()
                self.drained += 1
            elif mm_stuck():
                world.ghost.harm = MM_STUCK
            else:
                mm_alone()
                if world.ghost.harm != MM_ENDLESS:
                    world.ghost.harm = 0                # the search comes to it, and says how
            if world.ghost.harm:
                self.harm = world.ghost.harm
                return True
            for i in range(nr_choices):
                go_back(self.copies[depth])
                choose(choice[i])
                self.transitions += 1
                if world.ghost.harm:
                    self.harm = world.ghost.harm
                    self.last_choice = choice[i]
                    return True
                if not self.add(state, choice[i]):
                    return False
        return True

    def run(self, size_t nr):
        """Look at up to `nr` more states; True: go on. Raises MemoryError; what has been found so far stays."""
        cdef bint fine
        with nogil:
            fine = self.look(nr)
        if not fine:
            raise MemoryError(f"no memory for more than {self.nr_states} states")
        return self.harm == 0 and self.next < self.nr_states

    def path(self):
        """The choices that led to the harm, or to the last state looked at."""
        cdef uint32_t at = self.next - 1
        way = [self.last_choice] if self.last_choice >= 0 else []
        while at:
            way.append(self.how[at])
            at = self.parents[at]
        return way[::-1]

    # ---- one path -----------------------------------------------------------------------------------------------------------------

    def play(self, int choice):
        """Make one choice: what the thread did, as a list of texts; None if it cannot be made here, and then nothing is done."""
        cdef uint8_t possible[MM_MAX_THREADS * 16]
        cdef int i
        for i in range(choices(possible)):
            if possible[i] == choice:
                break
        else:
            return None
        made.nr = 0
        steps.made = note
        choose(choice)
        steps.made = NULL
        self.harm = world.ghost.harm
        return [text for i in range(made.nr) if (text := said(&made.accesses[i], made.results[i]))]

    def settle(self):
        """From the state at hand: everybody ends what he is at, and a fair schedule follows. The harm, if there is any."""
        if not world.ghost.harm and not mm_at_rest():
            mm_alone()
        if not world.ghost.harm:
            mm_drain()
        self.harm = world.ghost.harm
        return self.harm


cdef struct mm_made:
    int nr
    mm_access accesses[64]
    uint64_t results[64]

cdef mm_made made

cdef void note(int _thread, mm_access *access, uint64_t result) noexcept nogil:
    if made.nr < 64:
        made.accesses[made.nr] = access[0]
        made.results[made.nr] = result
        made.nr += 1


MODES = {MM_OFFLINE: "OFFLINE", MM_RUNNING: "RUNNING", MM_IDLE: "IDLE", MM_PROXIED: "PROXIED"}
VERBS = {MM_LOAD: "load", MM_STORE: "store", MM_EXCHANGE: "exchange", MM_ADD: "add to", MM_SUB: "subtract from", MM_CAS: "swap",
         MM_LOCK: "lock", MM_UNLOCK: "unlock", MM_SLEEP: "look at", MM_ASLEEP: "woken, of", MM_WAKE: "wake who sleeps on"}

cdef str name_of(void *word):
    cdef mm_cpu *c
    cdef int i
    g = world.g
    for name, address in (("generation", <size_t>&g.generation), ("goal", <size_t>&g.goal), ("pending", <size_t>&g.pending),
                          ("nr_cpus", <size_t>&g.nr_cpus), ("the control lock", <size_t>&control_of(g).lock),
                          ("idled", <size_t>&g.idled), ("sleepers", <size_t>&control_of(g).sleepers),
                          ("state", <size_t>&control_of(g).state),
                          ("impatient", <size_t>&control_of(g).impatient), ("the queue lock", <size_t>&control_of(g).queue_lock),
                          ("nr_deferred", <size_t>&control_of(g).nr_deferred), ("nr_run", <size_t>&control_of(g).nr_run),
                          ("barriers", <size_t>&control_of(g).barriers), ("running", <size_t>&control_of(g).running),
                          ("generation", <size_t>&world.ghost.sketch.generation), ("complete", <size_t>&world.ghost.sketch.complete)):
        if <size_t>word == address:
            return name
    for i in range(world.cpus):
        c = mm_cpu_of(g, i)
        for name, address in (("nr_mm_switches", <size_t>&c.nr_mm_switches), ("mm_switches[0]", <size_t>&c.mm_switches[0]),
                              ("mm_switches[1]", <size_t>&c.mm_switches[1]), ("mode", <size_t>&c.mode),
                              ("nr_mm_switches", <size_t>&world.ghost.sketch.nr_mm_switches[i]),
                              ("mm_switches[0]", <size_t>&world.ghost.sketch.switches[0][i]),
                              ("mm_switches[1]", <size_t>&world.ghost.sketch.switches[1][i])):
            if <size_t>word == address:
                return f"cpu{i}.{name}"
    for i in range(steps.nr_threads):
        if word == <void *>&world.ghost.object[i]:
            return f"{thread_name(i)}'s object"
    return ""                                           # a statistic


cdef str value_of(str name, uint64_t value):
    if name == "pending":
        return f"[{value >> MM_ONLINE_SHIFT} online, parity {value >> MM_PARITY_SHIFT & 1}, {<uint32_t>value} owed]"
    if name.endswith(".mode"):
        return MODES.get(value, str(value))
    return str(value if value < 1 << 63 else <object>value - (1 << 64))


cdef str said(mm_access *a, uint64_t result):
    if a.what == MM_FENCE:
        return "fence" if steps.buffered else ""
    if a.what == MM_YIELD:
        return "yield"
    name = name_of(a.word)
    if not name:
        return ""
    text = f"{VERBS[a.what]} {name}"
    if a.what == MM_LOAD or a.what == MM_SLEEP:
        return f"{text}: {value_of(name, result)}"
    if a.what == MM_STORE:
        return f"{text}: {value_of(name, a.value)}"
    if a.what == MM_EXCHANGE:
        return f"{text}: {value_of(name, result)} for {value_of(name, a.value)}"
    if a.what == MM_ADD or a.what == MM_SUB:
        now = result + a.value if a.what == MM_ADD else result - a.value
        return f"{text}: {value_of(name, result)} becomes {value_of(name, now)}"
    if a.what == MM_CAS:
        if result == a.expected:
            return f"{text}: {value_of(name, result)} becomes {value_of(name, a.value)}"
        return f"{text}: fails, it is {value_of(name, result)}"
    return text


def thread_name(int thread):
    """Of the thread with that number, from 0: the CPUs come first."""
    return f"cpu{thread}" if thread < world.cpus else f"waiter{thread - world.cpus}"
