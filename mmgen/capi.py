"""The C interface from outside: its functions for ctypes and, through ctypes, numba."""
from ctypes import CFUNCTYPE, POINTER, Structure, c_int, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Any, NamedTuple

from mmgen import _capi, _domain

__all__ = ["Api", "Interface"]


class Api(Structure):
    """The table of functions, as include/mmgen.h describes it: a domain is its address, an int; nothing is checked.

    Called from Python each releases the GIL. Any thread may call them, as the header says: what names a CPU, the thread that is that CPU.
    """

    _fields_ = [
        ("abi", c_uint32), ("sizeof_api", c_uint32), ("sizeof_mm_gen", c_uint32), ("sizeof_mm_cpu", c_uint32),
        ("sizeof_mm_callback", c_uint32), ("max_cpus", c_uint32),
        ("mm_switch", CFUNCTYPE(None, c_void_p, c_uint32)),
        ("mm_gen_tick", CFUNCTYPE(c_int, c_void_p, c_uint32)),
        ("mm_gen_tick_wanted", CFUNCTYPE(c_int, c_void_p, c_uint32, c_uint64)),
        ("mm_gen_wake", CFUNCTYPE(None, c_void_p)),
        ("mm_gen_quiescent", CFUNCTYPE(None, c_void_p, c_uint32)),
        ("mm_gen_start_poll", CFUNCTYPE(c_uint64, c_void_p)),
        ("mm_gen_poll", CFUNCTYPE(c_int, c_void_p, c_uint64)),
        ("mm_gen_wait_for", CFUNCTYPE(c_int, c_void_p, c_uint64, c_int64)),
        ("mm_gen_wait", CFUNCTYPE(c_int, c_void_p, c_int64)),
        ("mm_gen_expedite", CFUNCTYPE(None, c_void_p, c_uint64)),
        ("mm_gen_register", CFUNCTYPE(c_int, c_void_p)),
        ("mm_gen_online", CFUNCTYPE(c_int, c_void_p, c_uint32)),
        ("mm_gen_offline", CFUNCTYPE(c_int, c_void_p, c_uint32)),
        ("mm_gen_idle_enter", CFUNCTYPE(c_int, c_void_p, c_uint32)),
        ("mm_gen_idle_exit", CFUNCTYPE(c_int, c_void_p, c_uint32)),
        ("mm_gen_owes", CFUNCTYPE(c_int, c_void_p, c_uint32)),
        ("mm_gen_run", CFUNCTYPE(c_size_t, c_void_p, c_void_p, c_size_t)),
        ("mm_gen_defer", CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p)),
        ("mm_gen_run_callbacks", CFUNCTYPE(c_size_t, c_void_p, c_size_t)),
        ("mm_gen_barrier", CFUNCTYPE(c_int, c_void_p, c_int64)),
        ("mm_gen_first_callback", CFUNCTYPE(c_int, c_void_p, POINTER(c_uint64))),
        ("mm_gen_nr_deferred", CFUNCTYPE(c_uint64, c_void_p)),
        ("mm_gen_nr_run", CFUNCTYPE(c_uint64, c_void_p)),
        ("mm_gen_take_callbacks", CFUNCTYPE(c_void_p, c_void_p)),
        ("mm_gen_create", CFUNCTYPE(c_void_p, c_uint32, c_uint32, c_uint64, c_uint64)),
        ("mm_gen_state", CFUNCTYPE(c_int, c_void_p)),
        ("mm_gen_nr_waits", CFUNCTYPE(c_uint64, c_void_p)),
        ("mm_gen_snapshot", CFUNCTYPE(c_int64, c_void_p, c_void_p, c_size_t)),
        ("mm_gen_restore", CFUNCTYPE(c_void_p, c_void_p, c_size_t)),
        ("mm_gen_close", CFUNCTYPE(None, c_void_p)),
        ("mm_gen_after_fork", CFUNCTYPE(None, c_void_p)),
        ("mm_gen_destroy", CFUNCTYPE(None, c_void_p)),
    ]


class Interface(NamedTuple):
    """A domain for ctypes and numba: MmGen.ctypes."""

    address: int
    """of the domain's mm_gen: the first argument of the functions; valid as long as `domain`, which this keeps"""
    api: Any
    """the functions: an Api"""
    domain: _domain.MmGen


def interface(gen: _domain.MmGen) -> Interface:
    """mmgen.MmGen.ctypes."""
    return Interface(_capi.address(gen), Api.from_address(_capi.TABLE), gen)
