# cython: language_level=3, binding=False, embedsignature=True, embedsignature.format=clinic, freethreading_compatible=True
"""What a torture publishes, and what it has unpublished, each object with its age (the pipe of Linux's rcutorture).

An object's age is 0 while it is published and 1 once it is unpublished. From then on it grows by one whenever a grace period ends
that was begun after the unpublishing, by whichever updater. A reader that found the object before it was unpublished may use it at
age 1, until its section ends. It never sees 2: the first such grace period ended only when that reader had switched. So 2 or more,
at any use, is a grace period that ended too early, and says by how many.

An object whose own grace period has ended is also poisoned, and freed at last. If grace periods are broken a reader still holds it
then, and what reports that must not itself read freed memory. So it is freed only when MM_OLDEST grace periods have ended and it has
lain in quarantine besides, which does not take the word of the protocol under test: by time, and by counters of the readers'
sections that nothing else looks at. All that is checked is atomic: to be poisoned while it is read is a failure, not a data race.
"""
cimport cython
from libc.stdint cimport uintptr_t
from libc.stdlib cimport calloc, free, malloc

from mmgen._sleep cimport mm_now, pthread_mutex_destroy, pthread_mutex_init, pthread_mutex_lock, pthread_mutex_unlock
from mmgen._stdatomic cimport (
    cas_u64, fetch_add_u64, load_u64, memory_order_acq_rel, memory_order_relaxed, memory_order_release, store_u64,
)

cdef enum:
    QUARANTINE_NS = 20_000_000          # longer by far than a store stays unseen by the other cores
cdef uint64_t MAGIC = 0x6d6d67656e000000        # "mmgen"
cdef uint64_t POISON = 0x6b6b6b6b6b6b6b6b       # Linux: POISON_FREE


# What word i of object `stamp` holds; the first is the same in all.
cdef inline uint64_t word(uint64_t stamp, int i) noexcept nogil:
    return MAGIC + stamp * i


cdef mm_object *make(mm_pipe *p) noexcept nogil:
    cdef mm_object *o = <mm_object *>malloc(sizeof(mm_object))
    cdef uint64_t stamp
    cdef int i
    if o is NULL:
        return NULL
    pthread_mutex_lock(&p.lock)
    p.nr_made += 1
    stamp = p.nr_made
    pthread_mutex_unlock(&p.lock)
    o.pipe = p
    o.next = NULL
    o.over = o.named = 0
    store_u64(&o.stamp, stamp, memory_order_relaxed)
    store_u64(&o.age, 0, memory_order_relaxed)
    for i in range(MM_WORDS):
        store_u64(&o.words[i], word(stamp, i), memory_order_relaxed)
    return o


cdef mm_object *mm_replace(mm_pipe *p, uint32_t slot) noexcept nogil:
    cdef mm_object *new = make(p)
    cdef mm_object *old
    cdef uint64_t found = load_u64(mm_slot(p, slot), memory_order_relaxed)
    if new is NULL:
        return NULL
    # Release, pairs with the reader's acquire of the slot: it reads the object whole. Acquire, pairs with the release of whoever
    # published the old one.
    while not cas_u64(mm_slot(p, slot), &found, <uint64_t><uintptr_t>new, memory_order_acq_rel, memory_order_relaxed):
        pass
    old = <mm_object *><uintptr_t>found
    pthread_mutex_lock(&p.lock)
    store_u64(&old.age, 1, memory_order_relaxed)            # before it is in the list, where it ages
    p.nr_unpublished += 1
    old.order = p.nr_unpublished
    p.last[0] = old
    p.last = &old.next
    pthread_mutex_unlock(&p.lock)
    return old


# Free the oldest list of the quarantine, if that is safe, and move the others on; with the lock.
cdef void rotate(mm_pipe *p) noexcept nogil:
    cdef mm_object *o
    cdef mm_object *next
    cdef uint32_t i
    if mm_now() - p.rotated < QUARANTINE_NS:
        return
    # The oldest list was complete a whole rotation before `seen` was taken. Who was in no section then, or has left that section
    # since, holds none of it: it has found what it holds later than that, and the time makes up for what relaxed leaves open.
    for i in range(p.nr_readers):
        if p.seen[i] & 1 and load_u64(mm_sections(p, i), memory_order_relaxed) == p.seen[i]:
            return
    o = p.quarantine[MM_LISTS - 1]
    while o is not NULL:
        next = o.next
        free(o)
        p.nr_freed += 1
        o = next
    for i in range(MM_LISTS - 1, 0, -1):
        p.quarantine[i] = p.quarantine[i - 1]
    p.quarantine[0] = NULL
    for i in range(p.nr_readers):
        p.seen[i] = load_u64(mm_sections(p, i), memory_order_relaxed)
    p.rotated = mm_now()


cdef void mm_over(mm_object *o) noexcept nogil:
    cdef mm_pipe *p = o.pipe
    cdef mm_object **at = &p.first
    cdef mm_object *old
    cdef uint64_t order = o.order
    cdef int i
    pthread_mutex_lock(&p.lock)
    o.over = 1
    p.nr_over += 1
    # Whatever was unpublished before `o` was so before this grace period began, whoever did it: the lock came between.
    while at[0] is not NULL and at[0].order <= order:
        old = at[0]
        fetch_add_u64(&old.age, 1, memory_order_relaxed)
        if old is o:
            for i in range(MM_WORDS):
                store_u64(&o.words[i], POISON, memory_order_relaxed)
        if old.over and not old.named and load_u64(&old.age, memory_order_relaxed) >= MM_OLDEST:
            at[0] = old.next
            if p.last == &old.next:
                p.last = at
            old.next = p.quarantine[0]
            p.quarantine[0] = old
        else:
            at = &old.next
    rotate(p)
    pthread_mutex_unlock(&p.lock)


cdef int mm_use(mm_object *o, uint64_t stamp, uint64_t *age) noexcept nogil:
    cdef uint64_t seen
    cdef bint changed = load_u64(&o.stamp, memory_order_relaxed) != stamp
    cdef int i
    age[0] = load_u64(&o.age, memory_order_relaxed)
    for i in range(MM_WORDS):
        seen = load_u64(&o.words[i], memory_order_relaxed)
        if seen == POISON:
            return MM_POISONED
        changed = changed or seen != word(stamp, i)
    if changed:
        return MM_CHANGED
    return MM_TOO_OLD if age[0] > 1 else MM_FINE


cdef void free_list(mm_object *o) noexcept nogil:
    cdef mm_object *next
    while o is not NULL:
        next = o.next
        free(o)
        o = next


@cython.final
@cython.no_gc                    # refers to nothing that could refer to it; and __dealloc__ needs the pipe
cdef class Unpublished:
    """An object that was unpublished, for the updater that did it: Pipe.replace() makes it. Its memory stays while this lives."""

    cdef mm_object *o
    cdef Pipe pipe

    def __init__(self):
        raise TypeError("Pipe.replace() makes what is unpublished")

    def __dealloc__(self):
        if self.o is not NULL:
            pthread_mutex_lock(&self.pipe.p.lock)
            self.o.named = 0
            pthread_mutex_unlock(&self.pipe.p.lock)

    def over(self):
        """A grace period that was begun since has ended: poison the object. RuntimeError the second time."""
        pthread_mutex_lock(&self.pipe.p.lock)
        again = self.o.over
        self.o.over = 1
        pthread_mutex_unlock(&self.pipe.p.lock)
        if again:
            raise RuntimeError(f"object {self.stamp} is poisoned already")
        with nogil:
            mm_over(self.o)

    def use(self):
        """(what, age) that a reader's use of it would find: what is 0 for fine, 1 too old, 2 poisoned, 3 changed."""
        cdef uint64_t age
        what = mm_use(self.o, load_u64(&self.o.stamp, memory_order_relaxed), &age)
        return what, age

    @property
    def stamp(self):
        """Which object, counted from 1."""
        return load_u64(&self.o.stamp, memory_order_relaxed)


cdef class Pipe:
    """`slots` published objects, and those that were unpublished, for `readers` readers.

    Thread-safety: any thread may call anything. The memory is freed with the Pipe, which readers and updaters refer to.
    """

    def __cinit__(self, uint32_t slots, uint32_t readers, /):
        cdef uint32_t i
        cdef mm_object *o
        if not 1 <= slots <= 1024 or not 1 <= readers <= 1 << 20:
            raise ValueError(f"{slots} slots for {readers} readers are out of range: 1 to 1024, 1 to {1 << 20}")
        pthread_mutex_init(&self.p.lock, NULL)
        self.p.last = &self.p.first
        self.p.rotated = mm_now()
        self.p.nr_readers = readers
        self.p.seen = <uint64_t *>calloc(readers, sizeof(uint64_t))
        self.p.slots = <atomic_u64 *>calloc(slots, 64)
        self.p.sections = <atomic_u64 *>calloc(readers, 64)
        if self.p.seen is NULL or self.p.slots is NULL or self.p.sections is NULL:
            raise MemoryError(f"no memory for {slots} slots and {readers} readers")
        for i in range(slots):
            o = make(&self.p)
            if o is NULL:
                raise MemoryError("no memory for an object")
            store_u64(mm_slot(&self.p, i), <uint64_t><uintptr_t>o, memory_order_release)
            self.p.nr_slots = i + 1

    def __dealloc__(self):
        cdef uint32_t slot
        cdef int i
        for slot in range(self.p.nr_slots):
            free(<void *><uintptr_t>load_u64(mm_slot(&self.p, slot), memory_order_relaxed))
        free_list(self.p.first)
        for i in range(MM_LISTS):
            free_list(self.p.quarantine[i])
        free(self.p.seen)
        free(self.p.slots)
        free(self.p.sections)
        pthread_mutex_destroy(&self.p.lock)

    def replace(self, uint32_t slot, /):
        """Publish a new object in `slot`: the Unpublished that was there. IndexError for a slot that is none, MemoryError."""
        cdef Unpublished old
        cdef mm_object *o
        if slot >= self.p.nr_slots:
            raise IndexError(f"slot {slot} is out of range: the pipe has {self.p.nr_slots} (0 to {self.p.nr_slots - 1})")
        with nogil:
            o = mm_replace(&self.p, slot)
        if o is NULL:
            raise MemoryError("no memory for an object")
        old = Unpublished.__new__(Unpublished)
        old.pipe = self
        old.o = o
        pthread_mutex_lock(&self.p.lock)
        o.named = 1                     # nobody else poisons it, so it has not been freed meanwhile
        pthread_mutex_unlock(&self.p.lock)
        return old

    @property
    def counts(self):
        """(unpublished, whose grace period has ended, freed), in objects so far."""
        pthread_mutex_lock(&self.p.lock)
        counts = self.p.nr_unpublished, self.p.nr_over, self.p.nr_freed
        pthread_mutex_unlock(&self.p.lock)
        return counts
