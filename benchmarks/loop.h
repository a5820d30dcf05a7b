/* What is measured is a loop: one operation n times, with nothing else between two looks at the clock.
 *
 * enter and leave, where they are not NULL, are called by the thread that is to run the loop, before the first and after the last run. */
#ifndef LOOP_H
#define LOOP_H
#include <stddef.h>
#include <stdint.h>

struct loop {
    void (*run)(void *arg, uint64_t n);
    void (*enter)(void *arg);
    void (*leave)(void *arg);
    void *arg;
};

/* Nothing moves across, and no load or store before is dropped for one after. */
#define KEEP() __asm__ __volatile__("" ::: "memory")

/* A loop over `operation`, not inlined, so that its machine code can be looked at by name. */
#define LOOP_RUN(name, operation)                                           \
    __attribute__((noinline)) static void name##_run(void *arg, uint64_t n) \
    {                                                                       \
        (void)arg;                                                          \
        for (uint64_t i = 0; i < n; i++) {                                  \
            operation;                                                      \
            KEEP();                                                         \
        }                                                                   \
    }
#endif
