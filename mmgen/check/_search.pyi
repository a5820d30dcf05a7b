from collections.abc import Iterable
from threading import Lock

from typing_extensions import disjoint_base

OPS: tuple[str, ...]
HARMS: tuple[str, ...]
VERBS: dict[int, str]
MODES: dict[int, str]
busy: Lock

@disjoint_base
class Search:
    transitions: int
    drained: int
    depth: int
    harm: int
    def __new__(cls, *, cpus: int, waiters: int, allowed: Iterable[str], ops: int, waits: int, cpu_waits: int, preemptions: int,
                continuous: bool, buffered: bool, invariants: bool, every: bool, sketched: bool, variant: int, patience: int,
                first_generation: int, first_switches: int) -> Search: ...
    def close(self) -> None: ...
    @property
    def states(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    def run(self, nr: int) -> bool: ...
    def path(self) -> list[int]: ...
    def play(self, choice: int) -> list[str] | None: ...
    def settle(self) -> int: ...

def thread_name(thread: int) -> str: ...
