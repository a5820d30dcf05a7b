from typing import Self, final

from mmgen.lab.traces._columns import Columns
from mmgen.lab.traces._threads import Threads

NAMES: tuple[bytes, ...]

@final
class Whose:
    nr_mms: int
    assumed_switches: int
    named_switches: int
    begin_ns: int
    def __new__(cls, columns: Columns, threads: Threads, by_name: bool) -> Self: ...
    def tell(self) -> None: ...
    def counts(self) -> tuple[int, int]: ...
    def number_cpus(self) -> tuple[int, ...]: ...
