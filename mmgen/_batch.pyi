import enum
import re

from mmgen._domain import MmGen
from typing_extensions import Buffer

class Op(enum.IntEnum):
    SWITCH = 0
    TICK = 1
    QUIESCENT = 2
    IDLE_ENTER = 3
    IDLE_EXIT = 4
    ONLINE = 5
    OFFLINE = 6

LAYOUT: str
ORDER: str
PAIR: re.Pattern[str]

def run(gen: MmGen, ops: Buffer, /) -> int: ...
