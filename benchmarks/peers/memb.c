/* liburcu's memb flavour: a section without a fence, since the updater makes every core execute one (membarrier). */
#define _LGPL_SOURCE
#include <urcu/urcu-memb.h>

#include "loop.h"

static void enter(void *arg)
{
    (void)arg;
    urcu_memb_register_thread();
}

static void leave(void *arg)
{
    (void)arg;
    urcu_memb_unregister_thread();
}

/* The compiler must not move anything out of the section either. */
LOOP_RUN(section, urcu_memb_read_lock(); KEEP(); urcu_memb_read_unlock())
struct loop section = {section_run, enter, leave, NULL};

LOOP_RUN(synchronize, urcu_memb_synchronize_rcu())
struct loop synchronize = {synchronize_run, NULL, NULL, NULL};
