# cython: language_level=3, freethreading_compatible=True
"""The table of the C interface's functions that include/mmgen.h describes, in a capsule: _C_API."""
from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport uint32_t

from mmgen._callbacks cimport mm_gen_barrier, mm_gen_defer, mm_gen_run_callbacks, mm_gen_take_callbacks
from mmgen._core cimport (
    MM_MAX_CPUS, mm_cpu, mm_gen, mm_gen_expedite, mm_gen_idle_enter, mm_gen_idle_exit, mm_gen_offline, mm_gen_online, mm_gen_owes,
    mm_gen_poll, mm_gen_register, mm_gen_start_poll, mm_gen_tick, mm_gen_tick_wanted, mm_gen_wait, mm_gen_wait_for, mm_gen_wake,
    mm_switch,
)
from mmgen._lifetime cimport mm_gen_after_fork, mm_gen_close, mm_gen_create, mm_gen_destroy

cdef extern from "include/mmgen.h":
    enum: MMGEN_ABI
    cdef struct mmgen_api:
        uint32_t abi, sizeof_mm_gen, sizeof_mm_cpu, max_cpus
        void *mm_switch
        void *mm_gen_tick
        void *mm_gen_tick_wanted
        void *mm_gen_wake
        void *mm_gen_start_poll
        void *mm_gen_poll
        void *mm_gen_wait_for
        void *mm_gen_wait
        void *mm_gen_register
        void *mm_gen_online
        void *mm_gen_offline
        void *mm_gen_idle_enter
        void *mm_gen_idle_exit
        void *mm_gen_owes
        void *mm_gen_expedite
        void *mm_gen_defer
        void *mm_gen_run_callbacks
        void *mm_gen_barrier
        void *mm_gen_take_callbacks
        void *mm_gen_create
        void *mm_gen_close
        void *mm_gen_after_fork
        void *mm_gen_destroy

cdef mmgen_api api = mmgen_api(
    MMGEN_ABI, sizeof(mm_gen), sizeof(mm_cpu), MM_MAX_CPUS,
    <void *>mm_switch, <void *>mm_gen_tick, <void *>mm_gen_tick_wanted, <void *>mm_gen_wake, <void *>mm_gen_start_poll,
    <void *>mm_gen_poll, <void *>mm_gen_wait_for, <void *>mm_gen_wait, <void *>mm_gen_register, <void *>mm_gen_online,
    <void *>mm_gen_offline, <void *>mm_gen_idle_enter, <void *>mm_gen_idle_exit, <void *>mm_gen_owes, <void *>mm_gen_expedite,
    <void *>mm_gen_defer, <void *>mm_gen_run_callbacks, <void *>mm_gen_barrier, <void *>mm_gen_take_callbacks,
    <void *>mm_gen_create, <void *>mm_gen_close, <void *>mm_gen_after_fork, <void *>mm_gen_destroy,
)
_C_API = PyCapsule_New(&api, "mmgen._capi._C_API", NULL)
