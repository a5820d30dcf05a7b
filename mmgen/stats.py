"""What a domain tells of itself: its figures, and who owes."""
from dataclasses import dataclass

from mmgen._domain import Mode
from mmgen._latency import Latency


@dataclass(frozen=True, slots=True)
class Holdout:
    """A CPU that owes the generation under way a switch."""

    index: int
    mode: Mode
    switches: int
    """its mm switches so far"""


@dataclass(frozen=True, slots=True)
class CpuCounters:
    """One CPU's counters, from when the domain was made."""

    index: int
    mode: Mode
    switches: int
    """mm switches, modulo 2**64; going idle is one, and so is what a waiter credits meanwhile"""
    ticks: int
    """ticks that somebody wanted: on demand, those while somebody waited"""
    opened: int
    """generations that its tick opened: it was the last to complete them"""
    kicks: int
    """how often a kick named it as a holdout"""


@dataclass(frozen=True, slots=True)
class DomainStats:
    """A domain's figures, from when it was made."""

    generation: int
    """modulo 2**64"""
    nr_online: int
    """CPUs that are online, idle ones among them"""
    waits: int
    """grace periods asked for: by waits, cookies, callbacks and awaits"""
    wait_latency: Latency
    """how long those took that wait(), wait_for(), wait_async() and Cpu.wait() saw the end of"""
    deferred: int
    """callbacks deferred"""
    run: int
    """callbacks run"""
    kicks: int
    """CPUs named as holdouts by kicks, together"""
    stalls: int
    """stalls reported"""
    cpus: tuple[CpuCounters, ...]
