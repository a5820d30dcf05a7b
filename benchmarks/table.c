/* mmgen from C, through the table of functions: what a library pays that is not compiled against the layouts. */
#include <mmgen.h>

#include "loop.h"

struct table_target { const struct mmgen_api *mmgen; struct mm_gen *g; };

/* The pointer is read again each time, as it would be from wherever the caller keeps it. */
LOOP_RUN(table_switch, ((struct table_target *)arg)->mmgen->mm_switch(((struct table_target *)arg)->g, 0))
struct loop table_switch = {table_switch_run, NULL, NULL, NULL};

LOOP_RUN(table_tick, ((struct table_target *)arg)->mmgen->mm_gen_tick(((struct table_target *)arg)->g, 0))
struct loop table_tick = {table_tick_run, NULL, NULL, NULL};

/* The inline functions of the header. */
LOOP_RUN(header_switch, mm_switch(((struct table_target *)arg)->g, 0))
struct loop header_switch = {header_switch_run, NULL, NULL, NULL};
