# cython: language_level=3, freethreading_compatible=True
"""Threads as coroutines that stop before each access to a word that threads share.

Memory is sequentially consistent, or, with `buffered`, as it is behind store buffers: a store waits in its thread's buffer, first in
first out, where that thread alone sees it, until the search lets it through. A release is then nothing more (the buffer is in order);
a seq_cst fence, an unlock and a read-modify-write that releases let the buffer through first; an acquire by itself, a lock too,
does not. That is weaker than x86, where every locked instruction does, and stronger than C11: loads are not late, nor are
stores out of order. Those are the litmus tests' subject.
"""
from libc.stdlib cimport malloc
from libc.string cimport memset

from mmgen._sleep cimport ETIMEDOUT
from mmgen._stdatomic cimport memory_order_acquire, memory_order_relaxed, memory_order_release, memory_order_seq_cst

cdef extern from "_coroutine.h" nogil:
    enum: MM_COROUTINES
    void mm_coroutine_switch(void **save, void *to)
    void *mm_coroutine_new(char *top, void (*entry)() noexcept nogil)

cdef enum:
    # What the checked code and its hooks use is below 2 KB; a signal's handler may run here, too, and needs room for all registers.
    STACK_BYTES = 1 << 16
    STACK_LEFT = 1024                   # how deep calls go from where a thread stops to where it stops next, about

if not MM_COROUTINES:
    raise ImportError("mmgen.check steps threads as coroutines, which it can on x86-64 and aarch64 only")

cdef mm_steps steps
cdef void *searcher                 # where the search goes on when a thread stops
cdef char *memory = NULL

cdef mm_steps *mm_steps_of() noexcept nogil:
    return &steps


cdef bint broken(int variant) noexcept nogil:
    return steps.broken == variant


# ---- threads --------------------------------------------------------------------------------------------------------------------

cdef void entry() noexcept nogil:
    while True:
        steps.body(steps.current)
        steps.threads[steps.current].next.what = MM_REST
        steps.threads[steps.current].mover = steps.threads[steps.current].loops = steps.threads[steps.current].stirred = False
        mm_coroutine_switch(&steps.threads[steps.current].sp, searcher)


cdef int mm_steps_begin(int nr_threads) except -1:
    global memory
    cdef int t
    if memory is NULL:
        memory = <char *>malloc(MM_MAX_THREADS * STACK_BYTES + 16)
        if memory is NULL:
            raise MemoryError("no memory for the threads' stacks")
    memset(&steps, 0, sizeof(steps))
    steps.current = MM_NOBODY
    steps.nr_threads = nr_threads
    for t in range(nr_threads):
        steps.stack[t] = <char *>(<size_t>(memory + (t + 1) * STACK_BYTES + 15) & ~<size_t>15)
        steps.threads[t].sp = mm_coroutine_new(steps.stack[t], entry)
    return 0


cdef void mm_step(int thread) noexcept nogil:
    steps.current = thread
    # What calls that have returned left there tells nothing; cleared, it does not tell equal states apart either.
    memset(<char *>steps.threads[thread].sp - STACK_LEFT, 0, STACK_LEFT)
    mm_coroutine_switch(&searcher, steps.threads[thread].sp)
    steps.current = MM_NOBODY


cdef bint mm_enabled(int thread) noexcept nogil:
    cdef mm_thread *t = &steps.threads[thread]
    if t.next.what == MM_LOCK:
        return mm_peek(t.next.word, 4) == 0
    if t.next.what == MM_ASLEEP:
        return t.woken
    if t.next.what == MM_YIELD:
        return not t.yielded
    return t.next.what != MM_REST


# ---- memory ---------------------------------------------------------------------------------------------------------------------

cdef uint64_t mm_peek(void *word, int bytes) noexcept nogil:
    return (<uint32_t *>word)[0] if bytes == 4 else (<uint64_t *>word)[0]


# Something has changed: who yielded may look again.
cdef inline void stir(int thread) noexcept nogil:
    cdef int t
    for t in range(steps.nr_threads):
        if t != thread:
            steps.threads[t].yielded = False
            steps.threads[t].stirred = steps.threads[t].loops


cdef void write(int thread, void *word, int bytes, uint64_t value) noexcept nogil:
    cdef uint64_t was = mm_peek(word, bytes)
    if bytes == 4:
        (<uint32_t *>word)[0] = <uint32_t>value
    else:
        (<uint64_t *>word)[0] = value
    stir(thread)
    steps.wrote(thread, word, was, value)


cdef void mm_flush_one(int thread) noexcept nogil:
    cdef mm_thread *t = &steps.threads[thread]
    cdef mm_buffered first = t.buffer[0]
    cdef int i
    t.nr_buffered -= 1
    for i in range(t.nr_buffered):
        t.buffer[i] = t.buffer[i + 1]
    memset(&t.buffer[t.nr_buffered], 0, sizeof(mm_buffered))
    write(thread, first.word, first.bytes, first.value)


cdef void flush(int thread) noexcept nogil:
    while steps.threads[thread].nr_buffered:
        mm_flush_one(thread)


cdef void store(int thread, mm_access *a, bint hidden) noexcept nogil:
    cdef mm_thread *t = &steps.threads[thread]
    if not steps.buffered:
        write(thread, a.word, a.bytes, a.value)
        return
    if t.nr_buffered == MM_MAX_BUFFERED:
        steps.overflow = True
        mm_flush_one(thread)
    t.buffer[t.nr_buffered].word = a.word
    t.buffer[t.nr_buffered].value = a.value
    t.buffer[t.nr_buffered].bytes = a.bytes
    t.buffer[t.nr_buffered].hidden = hidden
    t.nr_buffered += 1
    while t.nr_buffered and t.buffer[0].hidden:         # nobody could tell when
        mm_flush_one(thread)


# What the thread itself sees there.
cdef uint64_t look(int thread, mm_access *a) noexcept nogil:
    cdef mm_thread *t = &steps.threads[thread]
    cdef int i
    for i in range(t.nr_buffered - 1, -1, -1):
        if t.buffer[i].word == a.word:
            return t.buffer[i].value
    return mm_peek(a.word, a.bytes)


# Before a read-modify-write: what it releases, and what its own thread stored there.
cdef void flush_for(int thread, mm_access *a) noexcept nogil:
    cdef mm_thread *t = &steps.threads[thread]
    cdef int i
    if a.order != memory_order_relaxed and a.order != memory_order_acquire:
        flush(thread)
        return
    for i in range(t.nr_buffered):
        if t.buffer[i].word == a.word:
            flush(thread)
            return


# ---- an access ------------------------------------------------------------------------------------------------------------------

# Stop, be let on, and do it: the word's value before.
cdef uint64_t access(int what, void *word, int bytes, uint64_t value, uint64_t expected, memory_order order) noexcept nogil:
    cdef int thread = steps.current
    cdef mm_thread *t
    cdef mm_access a
    cdef uint64_t was = 0
    cdef bint hidden
    cdef int i
    a.what, a.bytes, a.order, a.word, a.value, a.expected = what, bytes, order, word, value, expected
    if thread == MM_NOBODY:                             # setting up, nothing runs yet
        return outside(&a)
    t = &steps.threads[thread]
    hidden = steps.hidden(thread, &a) or (t.mover and what != MM_LOCK and what != MM_YIELD and what != MM_ASLEEP)
    t.next = a
    if not hidden:
        mm_coroutine_switch(&t.sp, searcher)
    t.mover = what == MM_LOCK and not steps.every
    if what == MM_LOAD:
        was = look(thread, &a)
    elif what == MM_STORE:
        store(thread, &a, hidden)
    elif what == MM_FENCE:
        if order == memory_order_seq_cst:
            flush(thread)
    elif what == MM_LOCK:
        write(thread, word, 4, thread + 1)
    elif what == MM_UNLOCK:
        flush(thread)
        write(thread, word, 4, 0)
    elif what == MM_SLEEP:
        was = look(thread, &a)
    elif what == MM_WAKE:
        for i in range(steps.nr_threads):
            if steps.threads[i].next.what == MM_ASLEEP and steps.threads[i].next.word == word:
                steps.threads[i].woken = True
    elif what != MM_YIELD and what != MM_ASLEEP:        # read, modify, write
        flush_for(thread, &a)
        was = mm_peek(word, bytes)
        if what == MM_ADD:
            write(thread, word, bytes, was + value)
        elif what == MM_SUB:
            write(thread, word, bytes, was - value)
        elif what == MM_EXCHANGE or was == expected:
            write(thread, word, bytes, value)
    if steps.made is not NULL:
        steps.made(thread, &a, was)
    return was


cdef uint64_t outside(mm_access *a) noexcept nogil:
    cdef uint64_t was = mm_peek(a.word, a.bytes) if a.bytes else 0
    cdef uint64_t now = was
    if a.what == MM_ADD:
        now = was + a.value
    elif a.what == MM_SUB:
        now = was - a.value
    elif a.what in (MM_STORE, MM_EXCHANGE) or (a.what == MM_CAS and was == a.expected):
        now = a.value
    if a.bytes == 4:
        (<uint32_t *>a.word)[0] = <uint32_t>now
    elif a.bytes:
        (<uint64_t *>a.word)[0] = now
    return was


cdef uint32_t load_u32(atomic_u32 *word, memory_order order) noexcept nogil:
    return <uint32_t>access(MM_LOAD, word, 4, 0, 0, order)


cdef uint64_t load_u64(atomic_u64 *word, memory_order order) noexcept nogil:
    return access(MM_LOAD, word, 8, 0, 0, order)


cdef void store_u32(atomic_u32 *word, uint32_t value, memory_order order) noexcept nogil:
    access(MM_STORE, word, 4, value, 0, order)


cdef void store_u64(atomic_u64 *word, uint64_t value, memory_order order) noexcept nogil:
    access(MM_STORE, word, 8, value, 0, order)


cdef uint32_t exchange_u32(atomic_u32 *word, uint32_t value, memory_order order) noexcept nogil:
    return <uint32_t>access(MM_EXCHANGE, word, 4, value, 0, order)


cdef uint32_t fetch_add_u32(atomic_u32 *word, uint32_t n, memory_order order) noexcept nogil:
    return <uint32_t>access(MM_ADD, word, 4, n, 0, order)


cdef uint64_t fetch_add_u64(atomic_u64 *word, uint64_t n, memory_order order) noexcept nogil:
    return access(MM_ADD, word, 8, n, 0, order)


cdef uint32_t fetch_sub_u32(atomic_u32 *word, uint32_t n, memory_order order) noexcept nogil:
    return <uint32_t>access(MM_SUB, word, 4, n, 0, order)


cdef uint64_t fetch_sub_u64(atomic_u64 *word, uint64_t n, memory_order order) noexcept nogil:
    return access(MM_SUB, word, 8, n, 0, order)


cdef bint cas_u32(atomic_u32 *word, uint32_t *expected, uint32_t desired, memory_order success, memory_order failure) noexcept nogil:
    cdef uint32_t was = <uint32_t>access(MM_CAS, word, 4, desired, expected[0], success)
    if was == expected[0]:
        return True
    expected[0] = was
    return False


cdef bint cas_u64(atomic_u64 *word, uint64_t *expected, uint64_t desired, memory_order success, memory_order failure) noexcept nogil:
    cdef uint64_t was = access(MM_CAS, word, 8, desired, expected[0], success)
    if was == expected[0]:
        return True
    expected[0] = was
    return False


cdef void fence(memory_order order) noexcept nogil:
    access(MM_FENCE, NULL, 0, 0, 0, order)


# ---- the lock, the futex --------------------------------------------------------------------------------------------------------

cdef int64_t mm_now() noexcept nogil:
    return 0                                            # time is a choice of the search's


cdef int mm_sleep(void *word, uint32_t seen, int64_t deadline) noexcept nogil:
    cdef mm_thread *t = &steps.threads[steps.current]
    t.may_time_out = deadline >= 0
    cdef bint changed = access(MM_SLEEP, word, 4, seen, 0, memory_order_relaxed) != seen
    if not changed and not t.timed_out:
        stir(steps.current)                             # that it sleeps is what mm_gen_close may wait to see
        access(MM_ASLEEP, word, 4, 0, 0, memory_order_relaxed)
    cdef bint timed_out = t.timed_out
    t.woken = t.timed_out = t.may_time_out = False
    return -ETIMEDOUT if timed_out else 0


cdef void mm_wake_all(void *word) noexcept nogil:
    access(MM_WAKE, word, 4, 0, 0, memory_order_relaxed)


cdef void mm_cpu_relax() noexcept nogil:
    pass


# Who goes round a loop waits here until something changes: what it looked at last, it would find the same. So what made it yield must
# be what it looked at last: an older look may have been overtaken, and it would wait here in vain. Where it looks at more than
# one word (`loops`), it goes round again at once if anything has changed since it came by here last.
cdef int sched_yield() noexcept nogil:
    cdef mm_thread *t = &steps.threads[steps.current]
    t.yielded = not t.stirred
    t.stirred = False
    access(MM_YIELD, NULL, 0, 0, 0, memory_order_relaxed)
    return 0


cdef int pthread_mutex_init(pthread_mutex_t *lock, void *attributes) noexcept nogil:
    memset(lock, 0, sizeof(pthread_mutex_t))            # its first word: who holds it, plus 1
    return 0


cdef int pthread_mutex_lock(pthread_mutex_t *lock) noexcept nogil:
    access(MM_LOCK, lock, 4, 0, 0, memory_order_acquire)
    return 0


cdef int pthread_mutex_unlock(pthread_mutex_t *lock) noexcept nogil:
    access(MM_UNLOCK, lock, 4, 0, 0, memory_order_release)
    return 0


cdef int pthread_mutex_destroy(pthread_mutex_t *lock) noexcept nogil:
    return 0
