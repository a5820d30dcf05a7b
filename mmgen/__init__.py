"""Grace periods counted by mm switches: an updater waits until every CPU has switched; a reader pays one plain increment.

MmGen       a domain of CPUs: gen.wait() returns when every CPU that ran has switched since the call
Cpu         one CPU of it, for the one thread that is that CPU
Machine     CPUs that are real threads, pinned to cores, with a tick and a workload
"""
from mmgen.domain import ClosedError, Cpu, DriverlessError, Holdout, MmGen, Mode, mm_gen_tick, mm_gen_wait, mm_gen_wake
from mmgen.machine import CpuStats, Machine, MachineError, MachineStats
from mmgen.workload import Busy, Idle, Replay

__all__ = [
    "Busy", "ClosedError", "Cpu", "CpuStats", "DriverlessError", "Holdout", "Idle", "Machine", "MachineError", "MachineStats",
    "MmGen", "Mode", "Replay", "mm_gen_tick", "mm_gen_wait", "mm_gen_wake",
]
__version__ = "0.1.0"
