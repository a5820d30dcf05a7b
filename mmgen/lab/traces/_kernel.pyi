from typing import Any, Self, final

from mmgen.lab.traces._columns import Columns
from mmgen.lab.traces._threads import Threads

SHORTEST: int

@final
class KernelText:
    columns: Columns
    threads: Threads
    form: int
    line: int
    bad: int
    others: int
    unnamed: int
    forks: int
    lost: int
    told: int
    online: int
    def __new__(cls, threads: Threads) -> Self: ...
    def feed(self, block: Any, n: int, last: bool = False) -> int: ...
    def bad_lines(self) -> list[tuple[int, bytes]]: ...
