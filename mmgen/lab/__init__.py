"""Three ways to free a lazy mm, side by side on one workload, on a machine of any size in virtual time, or on real threads. Needs numpy.

    from mmgen.lab import Generation, Load, Refcount, simulate
    for policy in Refcount(), Generation(idle="drop"):
        result = simulate(cpus=192, policy=policy, load=Load(kind="threads", mms=1, switch_us=1.6, idle=1.0, idle_us=1.6), seconds=0.01)
        print(policy.name, result.rates["switches_per_s"])

docs/lab.md says what is modelled, and what is not.
"""
from mmgen.lab.calibrate import Calibration, calibrate
from mmgen.lab.compare import Comparison, compare
from mmgen.lab.costs import Costs
from mmgen.lab.grid import Grid
from mmgen.lab.load import Load
from mmgen.lab.policies import Generation, Policy, Refcount, Shootdown
from mmgen.lab.real import measure
from mmgen.lab.results import columns, each, read
from mmgen.lab.simulate import Case, Result, UseAfterFree, simulate
from mmgen.lab.sweep import Swept, sweep
from mmgen.lab.validate import Validation, validate

__all__ = ["Calibration", "Case", "Comparison", "Costs", "Generation", "Grid", "Load", "Policy", "Refcount", "Result", "Shootdown", "Swept",
           "UseAfterFree", "Validation", "calibrate", "columns", "compare", "each", "measure", "read", "simulate", "sweep", "validate"]
