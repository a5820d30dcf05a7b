# from mmgen cimport mm_gen, mm_switch, mm_gen_tick, ...: the whole C interface, each part as its own .pxd declares it. A module that
# does calls import_mmgen() first, where it is imported itself.
from mmgen._batch cimport (
    MM_OP_IDLE_ENTER, MM_OP_IDLE_EXIT, MM_OP_OFFLINE, MM_OP_ONLINE, MM_OP_QUIESCENT, MM_OP_SWITCH, MM_OP_TICK, mm_gen_check, mm_gen_run,
    mm_op,
)
from mmgen._callbacks cimport (
    mm_gen_barrier, mm_gen_defer, mm_gen_first_callback, mm_gen_nr_deferred, mm_gen_nr_run, mm_gen_run_callbacks, mm_gen_take_callbacks,
)
from mmgen._capi cimport MMGEN_ABI, import_mmgen
from mmgen._core cimport (
    MM_CLOSED, MM_DRIVERLESS, MM_IDLE, MM_MAX_CPUS, MM_OFFLINE, MM_OPEN, MM_PROXIED, MM_RUNNING,
    mm_callback, mm_cpu, mm_cpu_of, mm_gen, mm_gen_expedite, mm_gen_idle_enter, mm_gen_idle_exit, mm_gen_offline, mm_gen_online,
    mm_gen_owes, mm_gen_poll, mm_gen_quiescent, mm_gen_register, mm_gen_start_poll, mm_gen_tick, mm_gen_wait, mm_gen_wait_for,
    mm_gen_wake, mm_switch,
)
from mmgen._cookie cimport Cookie
from mmgen._cpu cimport Cpu
from mmgen._domain cimport MmGen
from mmgen._lifetime cimport mm_gen_after_fork, mm_gen_close, mm_gen_create, mm_gen_destroy, mm_gen_nr_waits, mm_gen_state
from mmgen._snapshot cimport mm_gen_restore, mm_gen_snapshot
