/* Concurrency Kit's epochs. A record belongs to one thread at a time; the updater has one of its own. */
#include <ck_epoch.h>

#include "loop.h"

static ck_epoch_t epoch;
static ck_epoch_record_t reader, updater;

__attribute__((constructor)) static void begin(void)
{
    ck_epoch_init(&epoch);
    ck_epoch_register(&epoch, &reader, NULL);
    ck_epoch_register(&epoch, &updater, NULL);
}

LOOP_RUN(section, ck_epoch_begin(&reader, NULL); KEEP(); ck_epoch_end(&reader, NULL))
struct loop section = {section_run, NULL, NULL, NULL};

LOOP_RUN(synchronize, ck_epoch_synchronize(&updater))
struct loop synchronize = {synchronize_run, NULL, NULL, NULL};

unsigned long grace_periods(void)
{
    return ck_epoch_value(&epoch);
}
