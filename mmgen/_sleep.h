/* How a thread sleeps until a word changes, and is woken: a private futex on Linux, elsewhere a table of pthread conditions.
 *
 * A sleeper gives the value that it saw; it does not fall asleep if the word has changed since. Deadlines are absolute
 * nanoseconds of CLOCK_MONOTONIC (mm_now), -1 for none. Spurious returns are allowed: the caller looks at its word again. */
#ifndef MMGEN_SLEEP_H
#define MMGEN_SLEEP_H
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

/* The half of a 64-bit word that changes at every increment. */
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define MM_LOW_HALF(word) ((void *)((char *)(word) + 4))
#else
#define MM_LOW_HALF(word) ((void *)(word))
#endif

#if defined(__x86_64__) || defined(__i386__)
#define mm_cpu_relax() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define mm_cpu_relax() __asm__ __volatile__("yield" ::: "memory")
#else
#define mm_cpu_relax() ((void)0)
#endif

static inline int64_t mm_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

#if defined(__linux__) && !defined(MMGEN_NO_FUTEX)          /* the tests build the other half on Linux, too */
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

/* On 32 bits the call that takes this struct timespec has another number. */
#if defined(SYS_futex_time64) && __SIZEOF_LONG__ == 4
#define MM_FUTEX (sizeof(time_t) == 8 ? SYS_futex_time64 : SYS_futex)
#else
#define MM_FUTEX SYS_futex
#endif

/* 0: woken, or the word had changed; -ETIMEDOUT; -EINTR: a signal was handled (FUTEX_WAIT_BITSET takes an absolute time). */
static inline int mm_sleep(void *word, uint32_t seen, int64_t deadline)
{
    struct timespec ts = {.tv_sec = deadline / 1000000000, .tv_nsec = deadline % 1000000000};
    if (syscall(MM_FUTEX, word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, seen, deadline < 0 ? NULL : &ts, NULL,
                FUTEX_BITSET_MATCH_ANY) == 0 || errno == EAGAIN)
        return 0;
    return -errno;
}

static inline void mm_wake_all(void *word)
{
    syscall(MM_FUTEX, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, INT_MAX, NULL, NULL, 0);
}

#else
/* Each module that includes this has a table of its own: who sleeps on a word and who wakes it do so in one module. */
static struct { pthread_mutex_t lock; pthread_cond_t changed; } mm_parking[16] = {
#define MM_PLACE {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER}
    MM_PLACE, MM_PLACE, MM_PLACE, MM_PLACE, MM_PLACE, MM_PLACE, MM_PLACE, MM_PLACE,
    MM_PLACE, MM_PLACE, MM_PLACE, MM_PLACE, MM_PLACE, MM_PLACE, MM_PLACE, MM_PLACE,
};
#define MM_PARKING(word) (&mm_parking[((uintptr_t)(word) >> 6) % 16])

/* As above, but never -EINTR: the caller sleeps in slices if it must notice signals. A condition's timed wait counts on
 * CLOCK_REALTIME, so a deadline is translated and, should that clock be set back meanwhile, comes late by as much. */
static inline int mm_sleep(void *word, uint32_t seen, int64_t deadline)
{
    int err = 0;
    pthread_mutex_lock(&MM_PARKING(word)->lock);
    if (atomic_load_explicit((_Atomic(uint32_t) *)word, memory_order_relaxed) == seen) {
        if (deadline < 0) {
            pthread_cond_wait(&MM_PARKING(word)->changed, &MM_PARKING(word)->lock);
        } else {
            struct timespec ts;
            clock_gettime(CLOCK_REALTIME, &ts);
            int64_t left = deadline - mm_now();
            int64_t most = 1000000000000000000;     /* 31 years */
            int64_t until = (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec + (left < 0 ? 0 : left < most ? left : most);
            ts.tv_sec = until / 1000000000;
            ts.tv_nsec = until % 1000000000;
            err = pthread_cond_timedwait(&MM_PARKING(word)->changed, &MM_PARKING(word)->lock, &ts);
        }
    }
    pthread_mutex_unlock(&MM_PARKING(word)->lock);
    return -err;
}

static inline void mm_wake_all(void *word)
{
    pthread_mutex_lock(&MM_PARKING(word)->lock);
    pthread_cond_broadcast(&MM_PARKING(word)->changed);
    pthread_mutex_unlock(&MM_PARKING(word)->lock);
}

/* In a child, whose other threads are gone. */
static void mm_parking_reset(void)
{
    for (int i = 0; i < 16; i++) {
        pthread_mutex_init(&mm_parking[i].lock, NULL);
        pthread_cond_init(&mm_parking[i].changed, NULL);
    }
}

__attribute__((constructor)) static void mm_parking_begin(void)
{
    pthread_atfork(NULL, NULL, mm_parking_reset);
}
#endif
#endif
