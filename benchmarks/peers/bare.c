/* What the bare machine does: the floor under every loop, counters, locked operations, fences, and lines that go between two cores. */
#include <stdatomic.h>

#include "loop.h"

struct line { _Alignas(64) _Atomic(uint64_t) word; };
static struct line shared, counters[2], table;

LOOP_RUN(empty, (void)0)
struct loop empty = {empty_run, NULL, NULL, NULL};

/* A per-CPU counter, which one thread writes. */
static inline void add(_Atomic(uint64_t) *word)
{
    atomic_store_explicit(word, atomic_load_explicit(word, memory_order_relaxed) + 1, memory_order_relaxed);
}

LOOP_RUN(increment, add(&((struct line *)arg)->word))
struct loop increment = {increment_run, NULL, NULL, &counters[0]};

/* What a refcounted lazy mm pays at a switch: mmgrab() and mmdrop(), of an mm that other cores hold, too. */
LOOP_RUN(refcount, atomic_fetch_add_explicit(&((struct line *)arg)->word, 1, memory_order_relaxed); KEEP();
         atomic_fetch_sub_explicit(&((struct line *)arg)->word, 1, memory_order_acq_rel))
struct loop refcount = {refcount_run, NULL, NULL, &shared};

/* What C11 asks of a counted tick (the protocol's own two), and nothing else. */
LOOP_RUN(fence_and_decrement, atomic_thread_fence(memory_order_seq_cst);
         atomic_fetch_sub_explicit(&((struct line *)arg)->word, 1, memory_order_acq_rel))
struct loop fence_and_decrement = {fence_and_decrement_run, NULL, NULL, &shared};

LOOP_RUN(decrement, atomic_fetch_sub_explicit(&((struct line *)arg)->word, 1, memory_order_acq_rel))
struct loop decrement = {decrement_run, NULL, NULL, &shared};

/* A line there and back: ping makes its word odd and waits for pong, on another core, to make it even. */
LOOP_RUN(ping, add(&((struct line *)arg)->word);
         while (atomic_load_explicit(&((struct line *)arg)->word, memory_order_acquire) & 1) ;)
struct loop ping = {ping_run, NULL, NULL, &table};

LOOP_RUN(pong, if (atomic_load_explicit(&((struct line *)arg)->word, memory_order_acquire) & 1) add(&((struct line *)arg)->word))
struct loop pong = {pong_run, NULL, NULL, &table};

uint64_t counted(void)
{
    return atomic_load_explicit(&counters[0].word, memory_order_relaxed);
}

uint64_t references(void)
{
    return atomic_load_explicit(&shared.word, memory_order_relaxed);
}

uint64_t passes(void)
{
    return atomic_load_explicit(&table.word, memory_order_relaxed);
}
