# cython: language_level=3, freethreading_compatible=True
"""The table of the C interface's functions that include/mmgen.h describes, in a capsule: _C_API; and each domain's capsule."""
from cpython.pycapsule cimport PyCapsule_GetContext, PyCapsule_GetPointer, PyCapsule_New, PyCapsule_SetContext
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc

from mmgen._batch cimport mm_gen_run
from mmgen._callbacks cimport (
    mm_gen_barrier, mm_gen_defer, mm_gen_first_callback, mm_gen_nr_deferred, mm_gen_nr_run, mm_gen_run_callbacks, mm_gen_take_callbacks,
)
from mmgen._core cimport (
    MM_MAX_CPUS, mm_gen_expedite, mm_gen_idle_enter, mm_gen_idle_exit, mm_gen_offline, mm_gen_online, mm_gen_owes, mm_gen_poll,
    mm_gen_quiescent, mm_gen_register, mm_gen_start_poll, mm_gen_tick, mm_gen_tick_wanted, mm_gen_wait, mm_gen_wait_for, mm_gen_wake,
    mm_switch,
)
from mmgen._domain cimport MmGen
from mmgen._lifetime cimport mm_gen_after_fork, mm_gen_close, mm_gen_create, mm_gen_destroy, mm_gen_nr_waits, mm_gen_state
from mmgen._snapshot cimport mm_gen_restore, mm_gen_snapshot

cdef extern from "include/mmgen.h":
    enum: HEADERS_ABI "MMGEN_ABI"
    const char *MMGEN_DOMAIN
    cdef struct mmgen_api:
        uint32_t abi, sizeof_api, sizeof_mm_gen, sizeof_mm_cpu, sizeof_mm_callback, max_cpus
        void *mm_switch
        void *mm_gen_tick
        void *mm_gen_tick_wanted
        void *mm_gen_wake
        void *mm_gen_quiescent
        void *mm_gen_start_poll
        void *mm_gen_poll
        void *mm_gen_wait_for
        void *mm_gen_wait
        void *mm_gen_expedite
        void *mm_gen_register
        void *mm_gen_online
        void *mm_gen_offline
        void *mm_gen_idle_enter
        void *mm_gen_idle_exit
        void *mm_gen_owes
        void *mm_gen_run
        void *mm_gen_defer
        void *mm_gen_run_callbacks
        void *mm_gen_barrier
        void *mm_gen_first_callback
        void *mm_gen_nr_deferred
        void *mm_gen_nr_run
        void *mm_gen_take_callbacks
        void *mm_gen_create
        void *mm_gen_state
        void *mm_gen_nr_waits
        void *mm_gen_snapshot
        void *mm_gen_restore
        void *mm_gen_close
        void *mm_gen_after_fork
        void *mm_gen_destroy
    cdef struct mmgen_domain:
        uint32_t abi
        void *g
        const mmgen_api *api

assert HEADERS_ABI == MMGEN_ABI

cdef mmgen_api api = mmgen_api(
    abi=MMGEN_ABI, sizeof_api=sizeof(mmgen_api), sizeof_mm_gen=sizeof(mm_gen), sizeof_mm_cpu=sizeof(mm_cpu),
    sizeof_mm_callback=sizeof(mm_callback), max_cpus=MM_MAX_CPUS,
    mm_switch=<void *>mm_switch, mm_gen_tick=<void *>mm_gen_tick, mm_gen_tick_wanted=<void *>mm_gen_tick_wanted,
    mm_gen_wake=<void *>mm_gen_wake, mm_gen_quiescent=<void *>mm_gen_quiescent, mm_gen_start_poll=<void *>mm_gen_start_poll,
    mm_gen_poll=<void *>mm_gen_poll, mm_gen_wait_for=<void *>mm_gen_wait_for, mm_gen_wait=<void *>mm_gen_wait,
    mm_gen_expedite=<void *>mm_gen_expedite, mm_gen_register=<void *>mm_gen_register, mm_gen_online=<void *>mm_gen_online,
    mm_gen_offline=<void *>mm_gen_offline, mm_gen_idle_enter=<void *>mm_gen_idle_enter, mm_gen_idle_exit=<void *>mm_gen_idle_exit,
    mm_gen_owes=<void *>mm_gen_owes, mm_gen_run=<void *>mm_gen_run, mm_gen_defer=<void *>mm_gen_defer,
    mm_gen_run_callbacks=<void *>mm_gen_run_callbacks, mm_gen_barrier=<void *>mm_gen_barrier,
    mm_gen_first_callback=<void *>mm_gen_first_callback, mm_gen_nr_deferred=<void *>mm_gen_nr_deferred,
    mm_gen_nr_run=<void *>mm_gen_nr_run, mm_gen_take_callbacks=<void *>mm_gen_take_callbacks, mm_gen_create=<void *>mm_gen_create,
    mm_gen_state=<void *>mm_gen_state, mm_gen_nr_waits=<void *>mm_gen_nr_waits, mm_gen_snapshot=<void *>mm_gen_snapshot,
    mm_gen_restore=<void *>mm_gen_restore, mm_gen_close=<void *>mm_gen_close, mm_gen_after_fork=<void *>mm_gen_after_fork,
    mm_gen_destroy=<void *>mm_gen_destroy,
)
_C_API = PyCapsule_New(&api, "mmgen._capi._C_API", NULL)
TABLE = <uintptr_t>&api                     # its address


def address(MmGen gen not None, /):
    """Where the domain's mm_gen is in memory; as long as the domain lives."""
    return <uintptr_t>gen.g


cdef void forget(object capsule) noexcept:
    Py_DECREF(<object>PyCapsule_GetContext(capsule))
    free(PyCapsule_GetPointer(capsule, MMGEN_DOMAIN))


def capsule(MmGen gen not None, /):
    """mmgen.MmGen.capsule."""
    cdef mmgen_domain *domain = <mmgen_domain *>malloc(sizeof(mmgen_domain))
    if domain is NULL:
        raise MemoryError("no memory for a capsule")
    domain.abi = MMGEN_ABI
    domain.g = gen.g
    domain.api = &api
    made = PyCapsule_New(domain, MMGEN_DOMAIN, forget)
    PyCapsule_SetContext(made, <void *>gen)
    Py_INCREF(gen)
    return made
