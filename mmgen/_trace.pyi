import enum

# The functions are for cimport (_trace.pxd).

class TraceEvent(enum.IntEnum):
    TICK = 0
    COUNT = 1
    OPEN = 2
    WAIT_BEGIN = 3
    WAIT_END = 4
    KICK = 5
    IDLE_ENTER = 6
    IDLE_EXIT = 7
    ONLINE = 8
    OFFLINE = 9
