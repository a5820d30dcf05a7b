from typing import Any, Self

from mmgen.lab._virtual import Machine
from typing_extensions import disjoint_base

@disjoint_base
class Recorded(Machine):
    def __new__(cls, cpus: int, steps: Any, first: Any, nr_mms: int, end_ns: int, costs: dict[str, int], policy: tuple[str | int, ...],
                idle_drops: bool, exits: bool, arrivals: Any, keep_going: bool, timeline: tuple[int, int] | None = None, /) -> Self: ...
    def go_on(self) -> bool: ...
    @property
    def openings(self) -> list[tuple[int, int, int]]: ...
    @property
    def ends(self) -> bytes: ...
