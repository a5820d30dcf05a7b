from typing import Any, Self, final

import numpy as np
from mmgen.lab.traces._columns import Columns

_Column = np.ndarray[Any, np.dtype[Any]]
SHORTEST: int

@final
class TsvText:
    columns: Columns
    line: int
    last_ns: int
    stopped: int
    def __new__(cls, cpus: int, longest: int) -> Self: ...
    def feed(self, block: Any, begin: int, n: int) -> int: ...

def lines(t_ns: _Column, cpu: _Column, kind: _Column, tid: _Column, mm: _Column, next_tid: _Column, next_mm: _Column) -> bytes: ...
