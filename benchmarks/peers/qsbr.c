/* liburcu's qsbr flavour: what a reader calls between its sections, and what an updater waits with. */
#define _LGPL_SOURCE                    /* inline, where the library offers it */
#include <urcu/urcu-qsbr.h>

#include "loop.h"

static void enter(void *arg)
{
    (void)arg;
    urcu_qsbr_register_thread();        /* and online */
}

static void leave(void *arg)
{
    (void)arg;
    urcu_qsbr_unregister_thread();
}

LOOP_RUN(quiescent_state, _urcu_qsbr_quiescent_state())
struct loop quiescent_state = {quiescent_state_run, enter, leave, NULL};

#undef urcu_qsbr_quiescent_state
extern void urcu_qsbr_quiescent_state(void);
LOOP_RUN(quiescent_state_call, urcu_qsbr_quiescent_state())
struct loop quiescent_state_call = {quiescent_state_call_run, enter, leave, NULL};

/* By a thread that is no reader: else it would wait for itself to be offline. */
LOOP_RUN(synchronize, urcu_qsbr_synchronize_rcu())
struct loop synchronize = {synchronize_run, NULL, NULL, NULL};

/* How often a grace period has begun: synchronize_rcu that did not wait would leave it. */
unsigned long grace_periods(void)
{
    return __atomic_load_n(&urcu_qsbr_gp.ctr, __ATOMIC_RELAXED) / URCU_QSBR_GP_CTR;
}

/* Whether the calling thread is a reader that grace periods wait for. */
int is_online(void)
{
    return URCU_TLS(urcu_qsbr_reader).registered && URCU_TLS(urcu_qsbr_reader).ctr != 0;
}
