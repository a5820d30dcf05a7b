/* mmgen for C11 and C++17: a domain's layout, the hot path inline, the rest through a table of functions.
 *
 * Grace periods counted by mm switches: mm_gen_wait() returns when every CPU that was online and not idle has switched since. What names
 * a CPU is called by the one thread that is that CPU, its tick too; everything else by any thread. mmgen/_core.pxd says the same to Cython.
 *
 * The table comes from a process that hosts Python, or is hosted by it. Where Python.h was included before this header:
 *
 *     const struct mmgen_api *mmgen = mmgen_import();                     NULL: an exception says why
 *     const struct mmgen_domain *domain = mmgen_domain_of(capsule);       the capsule that a Python MmGen's .capsule is; likewise
 *
 * Elsewhere somebody else passes on the table's address (Python: mmgen._capi.TABLE), and mmgen_mismatch() says whether it is this
 * header's. From there on no function needs Python's lock, nor Python. */
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

enum mm_mode { MM_OFFLINE, MM_RUNNING, MM_IDLE, MM_PROXIED };          /* PROXIED: idle, and just being credited by another thread */
enum mm_state { MM_OPEN, MM_CLOSED, MM_DRIVERLESS };                    /* in use; closed; the child's copy of one after a fork */

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
    MMGEN_ATOMIC(uint64_t) idled;
    uint64_t pad0[2];
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

struct mm_op { uint32_t cpu, op; };         /* of a batch: what happens (below) on which CPU */
enum {
    MM_OP_SWITCH,
    MM_OP_TICK,                             /* and the wake, if it is due */
    MM_OP_QUIESCENT,                        /* a switch, a tick and the wake, if it is due */
    MM_OP_IDLE_ENTER, MM_OP_IDLE_EXIT, MM_OP_ONLINE, MM_OP_OFFLINE
};

/* Cookies are the generation that ends a grace period; timeouts are nanoseconds, -1 for none; an int is 0 or a negative errno where
 * nothing else is said: -ETIMEDOUT; -EINTR, a signal was handled (wait again with the cookie); -ESHUTDOWN, closed; -EINVAL, wrong mode. */
struct mmgen_api {
    uint32_t abi, sizeof_api, sizeof_mm_gen, sizeof_mm_cpu, sizeof_mm_callback, max_cpus;
    /* A CPU's own thread. */
    void (*mm_switch)(struct mm_gen *g, uint32_t cpu);
    int (*mm_gen_tick)(struct mm_gen *g, uint32_t cpu);         /* nonzero: the caller owes mm_gen_wake, outside its own locks */
    int (*mm_gen_tick_wanted)(struct mm_gen *g, uint32_t cpu, uint64_t generation);     /* for mm_gen_tick below */
    void (*mm_gen_wake)(struct mm_gen *g);
    void (*mm_gen_quiescent)(struct mm_gen *g, uint32_t cpu);   /* a switch, a tick and, if it is due, the wake */
    /* Grace periods. */
    uint64_t (*mm_gen_start_poll)(struct mm_gen *g);
    int (*mm_gen_poll)(struct mm_gen *g, uint64_t cookie);      /* nonzero: it is over */
    int (*mm_gen_wait_for)(struct mm_gen *g, uint64_t cookie, int64_t timeout_ns);
    int (*mm_gen_wait)(struct mm_gen *g, int64_t timeout_ns);
    void (*mm_gen_expedite)(struct mm_gen *g, uint64_t cookie); /* until it is reached, kick the holdouts at once */
    /* A CPU's own thread, now and then. */
    int (*mm_gen_register)(struct mm_gen *g);                   /* which CPU it is now; -EBUSY: the domain is full */
    int (*mm_gen_online)(struct mm_gen *g, uint32_t cpu);
    int (*mm_gen_offline)(struct mm_gen *g, uint32_t cpu);
    int (*mm_gen_idle_enter)(struct mm_gen *g, uint32_t cpu);
    int (*mm_gen_idle_exit)(struct mm_gen *g, uint32_t cpu);
    int (*mm_gen_owes)(struct mm_gen *g, uint32_t cpu);         /* nonzero: a switch, to the generation under way; any thread */
    /* A batch: how many of ops[0..nr) were applied; fewer if ops[that] is none, or its CPU's mode does not allow it. */
    size_t (*mm_gen_run)(struct mm_gen *g, const struct mm_op *ops, size_t nr);
    /* Callbacks, in the order in which they were deferred. */
    int (*mm_gen_defer)(struct mm_gen *g, struct mm_callback *callback, void (*fn)(struct mm_callback *callback));
    size_t (*mm_gen_run_callbacks)(struct mm_gen *g, size_t limit);     /* how many were due and have run */
    int (*mm_gen_barrier)(struct mm_gen *g, int64_t timeout_ns);        /* until all that were deferred before have run */
    int (*mm_gen_first_callback)(struct mm_gen *g, uint64_t *cookie);   /* zero: there is none */
    uint64_t (*mm_gen_nr_deferred)(struct mm_gen *g);
    uint64_t (*mm_gen_nr_run)(struct mm_gen *g);
    struct mm_callback *(*mm_gen_take_callbacks)(struct mm_gen *g);     /* those that never ran, after close */
    /* A domain. Every CPU is offline at first; mm_gen_register may let it grow to max_cpus; NULL: no memory. */
    struct mm_gen *(*mm_gen_create)(uint32_t nr_cpus, uint32_t max_cpus, uint64_t first_generation, uint64_t first_switches);
    int (*mm_gen_state)(struct mm_gen *g);                      /* enum mm_state */
    uint64_t (*mm_gen_nr_waits)(struct mm_gen *g);
    /* Its state as bytes, while no thread is in a call that names a CPU, nor owes a wake: how many; -ENOSPC: more than size (128, and 64
     * for each CPU, are enough); -EBUSY: a callback is pending, or there is such a thread; -ESHUTDOWN. And a new domain in that state;
     * NULL: it is no snapshot, or there is no memory. */
    int64_t (*mm_gen_snapshot)(struct mm_gen *g, void *state, size_t size);
    struct mm_gen *(*mm_gen_restore)(const void *state, size_t size);
    void (*mm_gen_close)(struct mm_gen *g);                     /* wakes every sleeper with -ESHUTDOWN */
    void (*mm_gen_after_fork)(struct mm_gen *g);                /* in a child, before anything else: its copy is dead */
    void (*mm_gen_destroy)(struct mm_gen *g);                   /* after close, when no thread is in a call nor owes a wake */
};

struct mmgen_domain {                       /* what a Python MmGen's capsule points to, as long as the capsule lives */
    uint32_t abi;
    struct mm_gen *g;
    const struct mmgen_api *api;
};
#define MMGEN_DOMAIN "mmgen.domain"         /* the capsule's name */

/* NULL, or why the table is not the one that this header describes. */
static inline const char *mmgen_mismatch(const struct mmgen_api *mmgen)
{
    if (mmgen->abi != MMGEN_ABI)
        return "compiled with the mmgen.h of another ABI than the installed mmgen has: compile again";
    if (mmgen->sizeof_api < sizeof(struct mmgen_api))
        return "compiled with a newer mmgen.h than the installed mmgen has: install that mmgen, or compile again";
    if (mmgen->sizeof_mm_gen != sizeof(struct mm_gen) || mmgen->sizeof_mm_cpu != sizeof(struct mm_cpu)
        || mmgen->sizeof_mm_callback != sizeof(struct mm_callback))
        return "compiled with other layouts than the installed mmgen has: another compiler, or other flags";
    return NULL;
}

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

/* All that a CPU owes the scheme between two sections: a switch, a tick and, if it is due, the wake. */
static inline void mm_gen_quiescent(const struct mmgen_api *mmgen, struct mm_gen *g, uint32_t cpu)
{
    mm_switch(g, cpu);
    if (mm_gen_tick(mmgen, g, cpu))
        mmgen->mm_gen_wake(g);
}

#ifdef Py_PYTHON_H
/* The table; NULL with an ImportError if there is none that this header describes. With Python's lock, as what follows. */
static inline const struct mmgen_api *mmgen_import(void)
{
    const struct mmgen_api *mmgen = (const struct mmgen_api *)PyCapsule_Import("mmgen._capi._C_API", 0);
    const char *mismatch = mmgen == NULL ? NULL : mmgen_mismatch(mmgen);
    if (mismatch == NULL)
        return mmgen;
    PyErr_SetString(PyExc_ImportError, mismatch);
    return NULL;
}

/* What a Python MmGen's capsule points to; NULL with a TypeError if it is something else, an ImportError if it is of another ABI. */
static inline const struct mmgen_domain *mmgen_domain_of(PyObject *capsule)
{
    const struct mmgen_domain *domain;
    const char *mismatch;
    if (!PyCapsule_IsValid(capsule, MMGEN_DOMAIN)) {
        PyErr_Format(PyExc_TypeError, "%R is not the capsule of an mmgen.MmGen", capsule);
        return NULL;
    }
    domain = (const struct mmgen_domain *)PyCapsule_GetPointer(capsule, MMGEN_DOMAIN);
    mismatch = domain->abi != MMGEN_ABI ? "the domain is of an mmgen with another ABI than this mmgen.h's" : mmgen_mismatch(domain->api);
    if (mismatch == NULL)
        return domain;
    PyErr_SetString(PyExc_ImportError, mismatch);
    return NULL;
}
#endif

#ifdef __cplusplus
}
#endif
#endif
