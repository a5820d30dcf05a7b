from mmgen.lab.traces._columns import Columns
from mmgen.lab.traces._threads import Threads

NAMES: tuple[bytes, ...]

class Whose:
    nr_mms: int
    assumed_switches: int
    named_switches: int
    begin_ns: int
    def __init__(self, columns: Columns, threads: Threads, by_name: bool) -> None: ...
    def tell(self) -> None: ...
    def counts(self) -> tuple[int, int]: ...
    def number_cpus(self) -> tuple[int, ...]: ...
