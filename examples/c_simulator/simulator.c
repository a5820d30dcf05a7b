/* A machine in virtual time: an event loop of our own around the transition code of mmgen. Python is there for the set-up alone. */
#include <Python.h>
#include <mmgen.h>

enum { CPUS = 64, TICK_US = 4000, END_US = 10000000 };

/* The table of functions; NULL: Python has said why. */
static const struct mmgen_api *set_up(const char *python)
{
    const struct mmgen_api *mmgen;
    PyConfig config;
    PyConfig_InitPythonConfig(&config);
    PyConfig_SetBytesString(&config, &config.program_name, python);         /* in whose environment mmgen is installed */
    if (PyStatus_Exception(Py_InitializeFromConfig(&config)))
        return NULL;
    mmgen = mmgen_import();
    if (mmgen == NULL)
        PyErr_Print();
    PyEval_SaveThread();                        /* from here on nothing needs Python, nor its lock */
    return mmgen;
}

int main(int argc, char **argv)
{
    const struct mmgen_api *mmgen = set_up(argc > 1 ? argv[1] : "python3");
    struct mm_gen *g = mmgen == NULL ? NULL : mmgen->mm_gen_create(CPUS, CPUS, 0, 0);
    uint64_t due[2 * CPUS];                     /* in us: each CPU's next tick, and each CPU's next switch */
    uint64_t events = 0, periods = 0, begun = 0, longest = 0, now = 0, cookie;
    if (g == NULL)
        return 1;
    for (uint32_t cpu = 0; cpu < CPUS; cpu++) {
        mmgen->mm_gen_online(g, cpu);
        due[cpu] = 1 + TICK_US * cpu / CPUS;    /* spread over a tick's time */
        due[CPUS + cpu] = 100 * (cpu + 1);      /* CPU 0 switches every 0.1 ms, the last one every 6.4 ms */
    }
    cookie = mmgen->mm_gen_start_poll(g);
    for (; now < END_US; events++) {
        uint32_t first = 0, cpu;
        for (uint32_t event = 1; event < 2 * CPUS; event++)
            if (due[event] < due[first])
                first = event;
        cpu = first % CPUS;
        now = due[first];
        due[first] += first < CPUS ? TICK_US : 100 * (cpu + 1);
        if (first >= CPUS)
            mm_switch(g, cpu);                  /* inline: an increment */
        else if (mm_gen_tick(mmgen, g, cpu))    /* inline, as far as that nobody waits */
            mmgen->mm_gen_wake(g);              /* it opened a generation */
        if (mmgen->mm_gen_poll(g, cookie)) {
            longest = now - begun > longest ? now - begun : longest;
            begun = now, periods++;
            cookie = mmgen->mm_gen_start_poll(g);
        }
    }
    printf("%d events, %d grace periods, the longest %.1f ms\n", (int)events, (int)periods, (double)longest / 1e3);
    mmgen->mm_gen_close(g);
    mmgen->mm_gen_destroy(g);
    return 0;
}
