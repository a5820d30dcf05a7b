"""Grace periods counted by mm switches: an updater waits until every CPU has switched; a reader pays one plain increment.

MmGen       a domain of CPUs: gen.wait() returns when every CPU that ran has switched since the call
Cpu         one CPU of it, for the one thread that is that CPU
Machine     CPUs that are real threads, pinned to cores, with a tick and a workload
"""
from mmgen import _interpreter  # noqa: F401, I001 - first: refuses a sub-interpreter
from mmgen import _capi  # noqa: F401 - PyCapsule_Import() finds it only if it is here
from mmgen.domain import (
    Callback,
    ClosedError,
    Cookie,
    Cpu,
    CpuCounters,
    DomainStats,
    DriverlessError,
    FullError,
    Holdout,
    MmGen,
    Mode,
    Op,
    RegisteredCpu,
    WrongThreadError,
    mm_gen_tick,
    mm_gen_wait,
    mm_gen_wake,
)
from mmgen.machine import CpuStats, Machine, MachineError, MachineStats
from mmgen.stall import StalledCpu, StallReport
from mmgen.workload import Busy, Calls, Idle, Replay

__all__ = [
    "Busy", "Callback", "Calls", "ClosedError", "Cookie", "Cpu", "CpuCounters", "CpuStats", "DomainStats", "DriverlessError", "FullError",
    "Holdout", "Idle", "Machine", "MachineError", "MachineStats", "MmGen", "Mode", "Op", "RegisteredCpu", "Replay", "StallReport",
    "StalledCpu", "WrongThreadError", "get_include", "mm_gen_tick", "mm_gen_wait", "mm_gen_wake",
]
__version__ = "0.1.0"


def get_include() -> str:
    """The directory to compile with (-I), for #include <mmgen.h>; `python -m mmgen --cflags` prints the flag."""
    return f"{__path__[0]}/include"
