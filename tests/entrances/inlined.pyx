# cython: language_level=3, freethreading_compatible=True
"""Operations through the Cython interface, its hot path inlined."""
from mmgen cimport (
    MM_OP_IDLE_ENTER, MM_OP_IDLE_EXIT, MM_OP_OFFLINE, MM_OP_ONLINE, MM_OP_QUIESCENT, MM_OP_SWITCH, MM_OP_TICK, MmGen, import_mmgen,
    mm_gen_idle_enter, mm_gen_idle_exit, mm_gen_offline, mm_gen_online, mm_gen_quiescent, mm_gen_start_poll, mm_gen_tick, mm_gen_wake,
    mm_op, mm_switch,
)

import_mmgen()


def apply(MmGen gen not None, bytes ops not None):
    """Apply pairs of (cpu, op); what is no op begins a grace period."""
    cdef const mm_op *op = <const mm_op *><const char *>ops
    cdef size_t i, nr = len(ops) // sizeof(mm_op)
    cdef int err = 0
    with nogil:
        for i in range(nr):
            if op[i].op == MM_OP_SWITCH:
                mm_switch(gen.g, op[i].cpu)
            elif op[i].op == MM_OP_TICK:
                if mm_gen_tick(gen.g, op[i].cpu):
                    mm_gen_wake(gen.g)
            elif op[i].op == MM_OP_QUIESCENT:
                mm_gen_quiescent(gen.g, op[i].cpu)
            elif op[i].op == MM_OP_IDLE_ENTER:
                err |= mm_gen_idle_enter(gen.g, op[i].cpu)
            elif op[i].op == MM_OP_IDLE_EXIT:
                err |= mm_gen_idle_exit(gen.g, op[i].cpu)
            elif op[i].op == MM_OP_ONLINE:
                err |= mm_gen_online(gen.g, op[i].cpu)
            elif op[i].op == MM_OP_OFFLINE:
                err |= mm_gen_offline(gen.g, op[i].cpu)
            else:
                mm_gen_start_poll(gen.g)
    return err
