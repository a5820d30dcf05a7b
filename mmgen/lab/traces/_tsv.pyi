from typing import Any

import numpy as np
from mmgen.lab.traces._columns import Columns

Column = np.ndarray[Any, np.dtype[Any]]
SHORTEST: int

class TsvText:
    columns: Columns
    line: int
    last_ns: int
    stopped: int
    def __init__(self, cpus: int, longest: int) -> None: ...
    def feed(self, block: Any, begin: int, n: int) -> int: ...

def lines(t_ns: Column, cpu: Column, kind: Column, tid: Column, mm: Column, next_tid: Column, next_mm: Column) -> bytes: ...
