/* Operations through mmgen.h: the inline functions, or the table alone. C11 and C++17. */
#include <Python.h>
#include <mmgen.h>

static int inlined(const struct mmgen_api *mmgen, struct mm_gen *g, struct mm_op op)
{
    switch (op.op) {
    case MM_OP_SWITCH:
        mm_switch(g, op.cpu);
        return 0;
    case MM_OP_TICK:
        if (mm_gen_tick(mmgen, g, op.cpu))
            mmgen->mm_gen_wake(g);
        return 0;
    default:
        mm_gen_quiescent(mmgen, g, op.cpu);
        return 0;
    }
}

static int by_table(const struct mmgen_api *mmgen, struct mm_gen *g, struct mm_op op)
{
    switch (op.op) {
    case MM_OP_SWITCH:
        mmgen->mm_switch(g, op.cpu);
        return 0;
    case MM_OP_TICK:
        if (mmgen->mm_gen_tick(g, op.cpu))
            mmgen->mm_gen_wake(g);
        return 0;
    case MM_OP_QUIESCENT:
        mmgen->mm_gen_quiescent(g, op.cpu);
        return 0;
    case MM_OP_IDLE_ENTER:
        return mmgen->mm_gen_idle_enter(g, op.cpu);
    case MM_OP_IDLE_EXIT:
        return mmgen->mm_gen_idle_exit(g, op.cpu);
    case MM_OP_ONLINE:
        return mmgen->mm_gen_online(g, op.cpu);
    case MM_OP_OFFLINE:
        return mmgen->mm_gen_offline(g, op.cpu);
    default:
        mmgen->mm_gen_start_poll(g);
        return 0;
    }
}

/* apply(capsule, ops, table): pairs of (cpu, op), through the inline functions where there is one unless `table`; the state after. */
static PyObject *apply(PyObject *self, PyObject *args)
{
    const struct mmgen_domain *domain;
    PyObject *capsule, *state = NULL;
    Py_buffer ops;
    const struct mm_op *op;
    int table, err = 0;
    size_t i, size;
    (void)self;
    if (!PyArg_ParseTuple(args, "Oy*p", &capsule, &ops, &table))
        return NULL;
    domain = mmgen_domain_of(capsule);
    if (domain != NULL) {
        op = (const struct mm_op *)ops.buf;
        Py_BEGIN_ALLOW_THREADS
        for (i = 0; i < (size_t)ops.len / sizeof(*op); i++)
            err |= table || op[i].op > MM_OP_QUIESCENT ? by_table(domain->api, domain->g, op[i]) : inlined(domain->api, domain->g, op[i]);
        Py_END_ALLOW_THREADS
        size = 128 + 64 * (size_t)MMGEN_LOAD(&domain->g->nr_cpus, relaxed);
        state = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
        if (state != NULL && (err != 0 || domain->api->mm_gen_snapshot(domain->g, PyBytes_AS_STRING(state), size) != (int64_t)size)) {
            Py_CLEAR(state);
            PyErr_Format(PyExc_RuntimeError, "%d", err);
        }
    }
    PyBuffer_Release(&ops);
    return state;
}

/* alone(nr): a domain of C's own, near the wrap, driven, saved and restored; its generation, or a negative line of this file. */
#define SURE(condition) if (!(condition)) return PyLong_FromLong(-__LINE__)
static PyObject *alone(PyObject *self, PyObject *arg)
{
    const struct mmgen_api *mmgen = mmgen_import();
    uint32_t nr = (uint32_t)PyLong_AsUnsignedLong(arg), cpu, round;
    struct mm_gen *g;
    uint64_t cookie;
    char state[128 + 64 * 8];
    int64_t size;
    (void)self;
    if (mmgen == NULL)
        return NULL;
    SURE(nr <= 8 && mmgen->max_cpus == 1 << 20);
    g = mmgen->mm_gen_create(nr, nr, UINT64_MAX, UINT64_MAX);
    for (cpu = 0; cpu < nr; cpu++)
        SURE(mmgen->mm_gen_online(g, cpu) == 0 && mmgen->mm_gen_online(g, cpu) < 0);
    cookie = mmgen->mm_gen_start_poll(g);
    SURE(mmgen->mm_gen_nr_waits(g) == 1);
    for (round = 0; !mmgen->mm_gen_poll(g, cookie); round++) {
        size = mmgen->mm_gen_snapshot(g, state, sizeof(state));
        SURE(size == 128 + 64 * (int64_t)nr && mmgen->mm_gen_snapshot(g, state, 127) < 0);
        mmgen->mm_gen_close(g);
        SURE(mmgen->mm_gen_state(g) == MM_CLOSED && mmgen->mm_gen_snapshot(g, state, sizeof(state)) < 0);
        mmgen->mm_gen_destroy(g);
        SURE(mmgen->mm_gen_restore(state, (size_t)size - 1) == NULL);
        g = mmgen->mm_gen_restore(state, (size_t)size);
        SURE(g != NULL && mmgen->mm_gen_state(g) == MM_OPEN);
        for (cpu = 0; cpu < nr; cpu++) {
            SURE(mmgen->mm_gen_owes(g, cpu));
            mm_gen_quiescent(mmgen, g, cpu);
        }
    }
    SURE(round == 2);
    cookie = MMGEN_LOAD(&g->generation, relaxed);
    mmgen->mm_gen_close(g);
    mmgen->mm_gen_destroy(g);
    return PyLong_FromUnsignedLongLong(cookie);
}

static PyMethodDef methods[] = {{"apply", apply, METH_VARARGS, NULL}, {"alone", alone, METH_O, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "header", NULL, -1, methods, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit_header(void)
{
    PyObject *m = mmgen_import() == NULL ? NULL : PyModule_Create(&module);
#ifdef Py_GIL_DISABLED
    if (m != NULL)
        PyUnstable_Module_SetGIL(m, Py_MOD_GIL_NOT_USED);
#endif
    return m;
}
