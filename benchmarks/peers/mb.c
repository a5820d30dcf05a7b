/* liburcu's mb flavour: a section with its own fences. */
#define _LGPL_SOURCE
#include <urcu/urcu-mb.h>

#include "loop.h"

static void enter(void *arg)
{
    (void)arg;
    urcu_mb_register_thread();
}

static void leave(void *arg)
{
    (void)arg;
    urcu_mb_unregister_thread();
}

LOOP_RUN(section, urcu_mb_read_lock(); KEEP(); urcu_mb_read_unlock())
struct loop section = {section_run, enter, leave, NULL};

LOOP_RUN(synchronize, urcu_mb_synchronize_rcu())
struct loop synchronize = {synchronize_run, NULL, NULL, NULL};
