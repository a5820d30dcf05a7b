from typing import Any, Final

from mmgen._domain import MmGen

_C_API: Any     # the capsule of the table that include/mmgen.h describes
TABLE: Final[int]

def address(gen: MmGen, /) -> int: ...
def capsule(gen: MmGen, /) -> Any: ...
