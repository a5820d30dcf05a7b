/* The kernel's own ways of waiting for every CPU, or of interrupting it. */
#define _GNU_SOURCE
#include <linux/membarrier.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "loop.h"

static uint64_t failed;                         /* a call that is refused is fast */

static void membarrier(int command)
{
    if (syscall(SYS_membarrier, command, 0, 0) != 0)
        __atomic_fetch_add(&failed, 1, __ATOMIC_RELAXED);
}

static void enter(void *arg)
{
    (void)arg;
    membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
}

/* An IPI to each core that runs a thread of this process. */
LOOP_RUN(expedited, membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED))
struct loop expedited = {expedited_run, enter, NULL, NULL};

/* A grace period of the kernel's RCU: every CPU has switched, ticked in user mode or idled. */
LOOP_RUN(global, membarrier(MEMBARRIER_CMD_GLOBAL))
struct loop global = {global_run, NULL, NULL, NULL};

/* munmap of n pages one by one, which other cores' TLBs may hold: an IPI each. Their mapping, all at once, is in the time. */
static void unmap_run(void *arg, uint64_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *map = mmap(NULL, n * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    (void)arg;
    if (map == MAP_FAILED) {
        failed++;
        return;
    }
    while (n--)
        if (munmap(map + n * page, page) != 0)
            failed++;
}
struct loop unmap = {unmap_run, NULL, NULL, NULL};

uint64_t failures(void)
{
    return __atomic_load_n(&failed, __ATOMIC_RELAXED);
}
