"""How far a search goes: how many CPUs and waiters, what they may do, how often."""
from dataclasses import dataclass
from itertools import islice

from mmgen._arguments import shown, whole

CALLS = ("switch", "tick", "idle_enter", "idle_exit", "online", "offline", "begin", "poll", "wait", "wait_timed", "expedite", "defer",
         "run_callbacks", "barrier", "close")
"""Operations: six of a CPU's, and what waiters (and idle CPUs, given cpu_waits) do. begin is start_poll; wait and wait_timed are
wait_for with its cookie; a tick wakes if it is due."""
CALLS_USUAL = frozenset(CALLS[:10])
LIMITS = (("cpus", 1, 4), ("waiters", 0, 4), ("ops", 0, 1000), ("waits", 0, 100), ("cpu_waits", 0, 100),
          ("preemptions", 0, 100), ("patience", 0, 100), ("first_generation", 0, 2**64 - 1), ("first_switches", 0, 2**64 - 1))


@dataclass(frozen=True)
class Bounds:
    """Bounds of a search. Raises ValueError for what is out of range, TypeError for what is no number or no set."""

    cpus: int = 2
    """CPUs, 1 to 4; all begin online, in a section"""
    waiters: int = 1
    """threads that are no CPU, 0 to 4"""
    ops: int = 4
    """operations of the CPUs, together; those of the waiters are not counted, but for begin and defer"""
    waits: int = 1
    """begins and defers of each waiter"""
    cpu_waits: int = 0
    """of each CPU, while it idles"""
    preemptions: int | None = None
    """how often a thread that could go on within an operation stands back for another; None: any number"""
    calls: frozenset[str] = CALLS_USUAL
    """the operations that occur, of CALLS"""
    continuous: bool = False
    """count generations also while nobody waits"""
    buffers: bool = False
    """stores wait in a buffer of their thread's; then each wait unpublishes an object, and sections look for it"""
    invariants: bool = True
    """check also what holds between the words in every state; else only what harm comes of it"""
    every_access: bool = False
    """let every access be a step, also one that no other thread could tell the moment of: slower, and the same verdict"""
    patience: int = 0
    """ticks in a generation after which a CPU that has not counted has the holdouts kicked; 0: none does"""
    first_generation: int = 0
    first_switches: int = 0

    def __post_init__(self) -> None:
        for name, least, most in LIMITS:
            value = getattr(self, name)
            if value is not None or name != "preemptions":
                object.__setattr__(self, name, whole(value, name, least, most))
        for name in ("continuous", "buffers", "invariants", "every_access"):
            object.__setattr__(self, name, bool(getattr(self, name)))
        if isinstance(self.calls, str):
            raise TypeError(f"calls={shown(self.calls)} is one string, not several")
        calls = set()
        for call in islice(self.calls, 1000):
            if not isinstance(call, str) or call not in CALLS:
                raise ValueError(f"calls: {shown(call)} is none of {', '.join(CALLS)}")
            calls.add(call)
        object.__setattr__(self, "calls", frozenset(calls))
        if self.buffers and (self.waits > 1 or self.cpu_waits or not self.calls.isdisjoint({"defer", "barrier", "close", "expedite"})
                             or self.patience):
            raise ValueError("buffers=True knows one wait for each waiter, and no cpu_waits, callbacks, close, expedite or patience")

    def __str__(self) -> str:
        parts = [f"{self.cpus} CPUs" if self.cpus > 1 else "1 CPU", f"{self.waiters} waiters" if self.waiters != 1 else "1 waiter",
                 f"{self.ops} ops"]
        parts += [f"{self.waits} waits each"] * (self.waits != 1) + [f"{self.cpu_waits} waits of each CPU"] * (self.cpu_waits != 0)
        if self.preemptions is not None:
            parts.append(f"{self.preemptions} preemptions" if self.preemptions != 1 else "1 preemption")
        parts += ["continuous"] * self.continuous + ["store buffers"] * self.buffers + ["harm only"] * (not self.invariants)
        parts += ["every access"] * self.every_access + [f"patience {self.patience}"] * (self.patience != 0)
        parts += [f"from generation {self.first_generation}"] * (self.first_generation != 0)
        parts += [f"from switch {self.first_switches}"] * (self.first_switches != 0)
        if self.calls != CALLS_USUAL:
            parts.append("+".join(call for call in CALLS if call in self.calls))
        return ", ".join(parts)
