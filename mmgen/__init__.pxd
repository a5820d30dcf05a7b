# from mmgen cimport mm_gen, mm_switch, mm_gen_tick, ...: the C interface, as _core.pxd, _callbacks.pxd and _lifetime.pxd declare it.
from mmgen._callbacks cimport (
    mm_gen_barrier, mm_gen_defer, mm_gen_first_callback, mm_gen_nr_deferred, mm_gen_nr_run, mm_gen_run_callbacks, mm_gen_take_callbacks,
)
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
