/* mmgen for C11 and C++17: a domain's layout, the hot path inline, the rest through a table of functions.
 *
 * Grace periods counted by mm switches: mm_gen_wait() returns when every CPU that was online and not idle has switched since. What names
 * a CPU is called by the one thread that is that CPU, its tick too; everything else by any thread. mmgen/_core.pxd says the same to Cython.
 *
 * The table is the pointer in the capsule mmgen._capi._C_API, got in a process that hosts Python, or is hosted by it:
 *
 *     const struct mmgen_api *mmgen = PyCapsule_Import("mmgen._capi._C_API", 0);
 *     if (mmgen == NULL || mmgen->abi != MMGEN_ABI) ... an error
 *
 * No function needs Python's lock, nor Python, from there on. */
#ifndef MMGEN_H
#define MMGEN_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MMGEN_ABI 1                         /* of the layouts and the table below */

#ifdef __cplusplus
#include <atomic>
#define MMGEN_ATOMIC(T) std::atomic<T>
#define MMGEN_ORDER(order) std::memory_order_##order
#define MMGEN_LOAD(word, order) std::atomic_load_explicit(word, MMGEN_ORDER(order))
#define MMGEN_STORE(word, value, order) std::atomic_store_explicit(word, value, MMGEN_ORDER(order))
extern "C" {
#else
#include <stdatomic.h>
#define MMGEN_ATOMIC(T) _Atomic(T)
#define MMGEN_LOAD(word, order) atomic_load_explicit(word, memory_order_##order)
#define MMGEN_STORE(word, value, order) atomic_store_explicit(word, value, memory_order_##order)
#endif

enum mm_mode { MM_OFFLINE, MM_RUNNING, MM_IDLE, MM_PROXIED };

struct mm_cpu {                             /* 64 bytes, on a line of its own */
    MMGEN_ATOMIC(uint64_t) nr_mm_switches;
    MMGEN_ATOMIC(uint64_t) mm_switches[2];
    MMGEN_ATOMIC(uint32_t) mode;
    uint32_t ticked;
    MMGEN_ATOMIC(uint64_t) nr_opened, nr_ticks;
    uint64_t first_tick;
    MMGEN_ATOMIC(uint64_t) nr_kicks;
};

struct mm_gen {                             /* 256 bytes; its mm_cpu[nr_cpus] follow */
    MMGEN_ATOMIC(uint32_t) nr_cpus;
    uint32_t continuous, increments, patience;
    void (*kick)(void *arg, struct mm_gen *g);                  /* set before use: makes the CPUs that owe switch and tick */
    void *kick_arg, *trace;
#if UINTPTR_MAX == 0xffffffff
    uint32_t pad_pointers[3];
#endif
    uint64_t pad0[3];
    MMGEN_ATOMIC(uint64_t) generation;
    uint64_t pad1[7];
    MMGEN_ATOMIC(uint64_t) goal;
    uint64_t pad2[7];
    MMGEN_ATOMIC(uint64_t) pending;
    uint64_t pad3[7];
};

struct mm_callback {                        /* the caller's memory, until fn is called */
    struct mm_callback *next;
    uint64_t cookie;
    void (*fn)(struct mm_callback *callback);
};

/* Cookies are the generation that ends a grace period; timeouts are nanoseconds, -1 for none; an int is 0 or a negative errno:
 * -ETIMEDOUT; -EINTR, a signal was handled (wait again with the cookie); -ESHUTDOWN, closed; -EINVAL, wrong mode. */
struct mmgen_api {
    uint32_t abi, sizeof_mm_gen, sizeof_mm_cpu, max_cpus;
    void (*mm_switch)(struct mm_gen *g, uint32_t cpu);
    int (*mm_gen_tick)(struct mm_gen *g, uint32_t cpu);
    int (*mm_gen_tick_wanted)(struct mm_gen *g, uint32_t cpu, uint64_t generation);     /* for mm_gen_tick below */
    void (*mm_gen_wake)(struct mm_gen *g);
    uint64_t (*mm_gen_start_poll)(struct mm_gen *g);
    int (*mm_gen_poll)(struct mm_gen *g, uint64_t cookie);
    int (*mm_gen_wait_for)(struct mm_gen *g, uint64_t cookie, int64_t timeout_ns);
    int (*mm_gen_wait)(struct mm_gen *g, int64_t timeout_ns);
    int (*mm_gen_register)(struct mm_gen *g);                   /* which CPU; -EBUSY: the domain is full */
    int (*mm_gen_online)(struct mm_gen *g, uint32_t cpu);
    int (*mm_gen_offline)(struct mm_gen *g, uint32_t cpu);
    int (*mm_gen_idle_enter)(struct mm_gen *g, uint32_t cpu);
    int (*mm_gen_idle_exit)(struct mm_gen *g, uint32_t cpu);
    int (*mm_gen_owes)(struct mm_gen *g, uint32_t cpu);
    void (*mm_gen_expedite)(struct mm_gen *g, uint64_t cookie);
    int (*mm_gen_defer)(struct mm_gen *g, struct mm_callback *callback, void (*fn)(struct mm_callback *callback));
    size_t (*mm_gen_run_callbacks)(struct mm_gen *g, size_t limit);
    int (*mm_gen_barrier)(struct mm_gen *g, int64_t timeout_ns);
    struct mm_callback *(*mm_gen_take_callbacks)(struct mm_gen *g);     /* those that never ran, after close */
    /* Every CPU offline; mm_gen_register may let it grow to max_cpus. */
    struct mm_gen *(*mm_gen_create)(uint32_t nr_cpus, uint32_t max_cpus, uint64_t first_generation, uint64_t first_switches);
    void (*mm_gen_close)(struct mm_gen *g);                     /* wakes every sleeper with -ESHUTDOWN */
    void (*mm_gen_after_fork)(struct mm_gen *g);                /* in a child, before anything else: its copy is dead */
    void (*mm_gen_destroy)(struct mm_gen *g);                   /* after close, when no thread is in a call nor owes a wake */
};

static inline struct mm_cpu *mm_cpu_of(struct mm_gen *g, uint32_t cpu)
{
    return (struct mm_cpu *)(void *)(g + 1) + cpu;
}

/* CPU `cpu` switches its mm: it holds nothing that was unpublished before. */
static inline void mm_switch(struct mm_gen *g, uint32_t cpu)
{
    MMGEN_ATOMIC(uint64_t) *nr = &mm_cpu_of(g, cpu)->nr_mm_switches;
    MMGEN_STORE(nr, MMGEN_LOAD(nr, relaxed) + 1, relaxed);
}

/* The tick of CPU `cpu`, on its own thread. True: it opened a generation, and the caller owes mm_gen_wake(), outside its own locks. The
 * orders pair with those of the protocol, in mmgen/_core.pyx. */
static inline bool mm_gen_tick(const struct mmgen_api *mmgen, struct mm_gen *g, uint32_t cpu)
{
    uint64_t generation = MMGEN_LOAD(&g->generation, acquire);
    if ((int64_t)(MMGEN_LOAD(&g->goal, acquire) - generation) <= 0 && !g->continuous)
        return false;                       /* nobody waits */
    return mmgen->mm_gen_tick_wanted(g, cpu, generation) != 0;
}

#ifdef __cplusplus
}
#endif
#endif
