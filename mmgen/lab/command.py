"""`mmgen lab simulate` and `mmgen lab measure`: what its arguments ask for, and what it prints."""
import argparse
import dataclasses
import json
from typing import Any

from mmgen._arguments import shown
from mmgen.lab.costs import Costs
from mmgen.lab.load import Load
from mmgen.lab.policies import POLICIES, Policy
from mmgen.lab.real import check, cores, measure
from mmgen.lab.simulate import Case, Result, UseAfterFree, simulate
from mmgen.output import report_to
from mmgen.progress import progress
from mmgen.run import duration

BROKEN = 1
# The arguments that are a policy's own, by its field.
POLICY_ARGUMENTS = {"idle": "idle_rule", "patience": "patience", "continuous": "continuous", "trim": "trim", "broken": "broken"}


def run(o: argparse.Namespace, real: bool = False) -> int:
    """Simulate as `o` says, or measure. 0; 1: something was used after it was freed; 130: interrupted. Raises ValueError."""
    if real and o.cpus is None:
        o.cpus = len(cores())
    case = Case(policy=policy(o), load=Load(**given(o, Load) | switches(o.switch_us)), costs=costs(o.cost, o.costs),
                **given(o, Case, ("cpus", "hz", "seconds", "seed", "mm_bytes")))
    if real:
        check(case)
    status = 0
    with report_to(o.json) as out:
        try:
            with progress(describe_real if real else describe) as show:
                result = (measure if real else simulate)(case, keep_going=True, show=show)
        except KeyboardInterrupt as interrupt:
            if not interrupt.args:
                raise
            result, status = interrupt.args[0], 130
        if out is not None:
            json.dump(result.to_dict(), out, indent=1)
            out.write("\n")
    if o.json != "-":
        print(text(result))
    return BROKEN if result.use_after_frees else status


def given(o: argparse.Namespace, kind: type, names: tuple[str, ...] | None = None) -> dict[str, Any]:
    """The fields of `kind`, a dataclass, that the arguments say something about."""
    fields = {field.name for field in dataclasses.fields(kind)} - {"switch_us"} if names is None else names
    return {name: getattr(o, name) for name in fields if getattr(o, name) is not None}


def switches(text: str | None) -> dict[str, float | None]:
    """--switch-us: a number, or `tick`."""
    if text is None:
        return {}
    if text == "tick":
        return {"switch_us": None}
    try:
        return {"switch_us": float(text)}
    except ValueError:
        raise ValueError(f"--switch-us {shown(text)} is out of range: 0.001 to 1e+09, or 'tick'") from None


def policy(o: argparse.Namespace) -> Policy:
    """The policy, with what goes with it; ValueError for what goes with another."""
    kind = POLICIES[o.policy]
    fields = {field.name for field in dataclasses.fields(kind)}
    options = {field: getattr(o, name) for field, name in POLICY_ARGUMENTS.items() if getattr(o, name) is not None}
    for field in options.keys() - fields:
        with_it = [name for name, other in POLICIES.items() if field in {f.name for f in dataclasses.fields(other)}]
        raise ValueError(f"--{POLICY_ARGUMENTS[field].replace('_', '-')} goes with --policy {' or '.join(with_it)}")
    return kind(**options)


def costs(words: list[str] | None, path: str | None = None) -> Costs:
    """--costs FILE, and over it --cost NAME=NS, each."""
    names = [field.name for field in dataclasses.fields(Costs)]
    table = {}
    for word in words or ():
        name, _, ns = word.partition("=")
        if name not in names or not (ns.isascii() and ns.isdigit() and len(ns) < 11):
            raise ValueError(f"--cost {shown(word)} is none of NAME=NS: {', '.join(names)}, 0 to 1000000000")
        table[name] = int(ns)
    return dataclasses.replace(Costs() if path is None else Costs.read(path), **table)


def describe(seconds: float) -> str:
    """How far it is, in a few words."""
    return f"{seconds:.3g} s of virtual time"


def describe_real(seconds: float) -> str:
    """The same of a real machine."""
    return f"{seconds:.3g} s"


def text(r: Result) -> str:
    """The result as a person reads it."""
    case, rates, speed = r.case, r.rates, r.speed
    load = case.load
    tasks = "until the next tick" if load.switch_us is None else f"{load.switch_us:g} us ({load.distribution})"
    memory = r.to_dict()
    latency = "  ".join(f"{name} {duration(None if ns is None else ns / 1e6)}" for name, ns in r.latency_percentiles_ns.items())
    lines = [
        f"{policy_text(case.policy)}: {case.cpus} CPU{'s' * (case.cpus != 1)} at {case.hz} Hz for {r.seconds:g} s, "
        f"{load.kind} that run {tasks}, seed {case.seed}",
        f"  context switches {rates['switches_per_s']:>15,.0f} a second",
        f"  atomics          {rates['atomics_per_s']:>15,.0f} a second",
        *([f"  line transfers   {rates['lines_per_s']:>15,.0f} a second"] if r.lines is not None else []),
        f"  IPIs             {rates['ipis_per_s']:>15,.0f} a second, {r.ipis:,} in all",
        f"  overhead         {r.overhead_ns_per_switch:>15,.1f} ns a switch",
        f"  exits            {rates['exits_per_s']:>15,.0f} a second, {r.exits:,} in all, {r.frees:,} mms freed",
        f"  mms held         {r.held_mean:>15,.1f} at the mean ({memory['held_bytes_mean'] / 1e6:,.2f} MB), {r.held_peak:,} at most "
        f"({memory['held_bytes_peak'] / 1e6:,.2f} MB), {r.held:,} at the end",
        f"  exit to free     {latency}" if r.frees else "  exit to free     nothing was freed",
    ]
    if r.generations:
        lines.append(f"  generations      {rates['generations_per_s']:>15,.1f} a second; {r.grace_periods:,} grace periods")
    if r.hotplugs:
        lines.append(f"  hotplug          {r.hotplugs:>15,} CPUs unplugged")
    if r.first_use_after_free is not None:
        lines.append(f"  USE AFTER FREE, {r.use_after_frees:,} times; the first: {UseAfterFree(*r.first_use_after_free)}")
    if r.real:
        lines.append("  measured on real threads")
        return "\n".join(lines)
    lines.append(f"  simulated in {r.wall_s:.3g} s: {speed['cpu_ticks_per_wall_s'] / 1e6:,.2f} M CPU-ticks and "
                 f"{speed['events_per_wall_s'] / 1e6:,.2f} M events a second")
    return "\n".join(lines)


def policy_text(chosen: Policy) -> str:
    """The policy and what was chosen of it."""
    values = {field.name: getattr(chosen, field.name) for field in dataclasses.fields(chosen)}
    options = [f"{name} {value}" for name, value in values.items() if value not in (None, False)]
    return f"{chosen.name} ({', '.join(options)})" if options else chosen.name
