"""How many recorded events a second a replay goes through, under each policy and idle rule: pytest benchmarks/test_replay.py.

The recorded machine is the one in the package, 60 times one after the other, alone and 16 times side by side: 2 CPUs and 32.
"""
import numpy as np
import pytest
from mmgen import mmtrace

pytest.importorskip("mmgen.lab", reason="needs numpy", exc_type=ImportError)

from mmgen.lab import Generation, Refcount, Shootdown
from mmgen.lab.replay import replay, steps_of, waits
from mmgen.lab.replay.replay import RecordedCase, run
from mmgen.lab.traces import Trace, read

POLICIES = {"refcount": Refcount(), "shootdown": Shootdown(), "shootdown trim": Shootdown(trim=True),
            **{f"generation {idle}": Generation(idle) for idle in ("hang", "drop", "kick")}}
machines = {}                           # by how many times, one after the other and side by side


def machine(times, beside):
    """The machine so many times: threads and mms have numbers of their own each time."""
    if (times, beside) not in machines:
        one = read(mmtrace.bundled())
        columns = {name: [] for name in ("t_ns", "cpu", "kind", "tid", "mm", "next_tid", "next_mm")}
        nr_tids, length = 1 + int(max(one.tid.max(), one.next_tid.max())), int(one.t_ns[-1]) + 1000
        for copy in range(times * beside):
            own = {"t_ns": copy // beside * length + copy % beside * 7, "cpu": copy % beside * one.cpus, "kind": 0}
            for name, column in columns.items():
                values = getattr(one, name).astype(np.int64)
                if name in own:
                    column.append(values + own[name])
                else:
                    column.append(np.where(values, values + copy * (nr_tids if "tid" in name else one.nr_mms), 0))
        columns = {name: np.concatenate(parts) for name, parts in columns.items()}
        order = np.argsort(columns["t_ns"], kind="stable")
        machines[times, beside] = Trace(name="many", cpus=beside * one.cpus, hz=one.hz,
                                        **{name: column[order] for name, column in columns.items()})
    return machines[times, beside]


def measured(benchmark, events, call, *args, rounds=5):
    benchmark.pedantic(call, args, rounds=rounds, warmup_rounds=1)
    if benchmark.stats:
        benchmark.extra_info["events_per_s"] = round(events / benchmark.stats.stats.median)


@pytest.fixture(params=[1, 16], ids=["2 CPUs", "32 CPUs"])
def many(request):
    return machine(60 // request.param or 1, request.param)


def test_steps(benchmark, many):
    assert not steps_of(many).contradictions
    measured(benchmark, len(many), steps_of, many)


@pytest.mark.parametrize("name", POLICIES)
def test_policy(benchmark, many, name):
    steps = steps_of(many)
    case = RecordedCase(cpus=many.cpus, hz=many.hz, seconds=many.seconds, policy=POLICIES[name], trace=many.name)
    counts = run(steps, case, lambda ns: None).counts
    assert counts["exits"] == many.counts["teardown"]
    assert counts["use_after_frees"] == 0
    measured(benchmark, len(many), run, steps, case, lambda ns: None)


@pytest.mark.parametrize("idle", ["hang", "drop", "kick"])
def test_waits(benchmark, many, idle):
    steps = steps_of(many)
    assert waits(steps, idle).ns == many.t_ns[-1]
    measured(benchmark, len(many), waits, steps, idle)


def test_all(benchmark, many):
    """Every policy, and for each idle rule the waits alone and those that arrive."""
    assert replay(many).steps.contradictions == 0
    measured(benchmark, len(many), replay, many, rounds=3)
