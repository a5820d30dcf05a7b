"""What `mmgen check` searches when it is given no bounds of its own."""
from mmgen.check.bounds import CALLS_USUAL, Bounds

TURNS = frozenset({"switch", "tick", "begin", "poll", "wait"})
IDLE = TURNS | {"idle_enter", "idle_exit"}
CALLBACKS = frozenset({"switch", "tick", "idle_enter", "idle_exit", "defer", "run_callbacks", "barrier", "close"})
WRAP = 2**64 - 2

SHORT = [
    # Everything together, a few operations long; and longer, where threads stand back for each other a few times only.
    Bounds(cpus=1, ops=8, waits=2),
    Bounds(cpus=1, ops=6, waits=2, cpu_waits=1),
    Bounds(cpus=1, waiters=2, ops=2),
    Bounds(cpus=2, ops=3),
    Bounds(cpus=2, ops=4, continuous=True, preemptions=1),
    Bounds(cpus=2, waiters=2, ops=2, preemptions=1),
    Bounds(cpus=3, ops=3, preemptions=1),
    # Switches, ticks and waits alone, for long: where one generation more or less shows.
    Bounds(cpus=2, ops=16, calls=TURNS),
    Bounds(cpus=2, ops=16, calls=TURNS, continuous=True),
    Bounds(cpus=2, waiters=2, ops=8, calls=TURNS),
    Bounds(cpus=3, ops=9, calls=TURNS),
    # Idle CPUs for long, each operation whole but for one: where credit comes late.
    Bounds(cpus=2, waiters=2, ops=18, preemptions=1, calls=IDLE - {"poll", "wait"}),
    # Kicks; callbacks, barriers and close; the wrap.
    Bounds(cpus=2, ops=3, preemptions=1, calls=IDLE | {"expedite"}),
    Bounds(cpus=2, ops=4, preemptions=1, calls=IDLE, continuous=True, patience=1),
    Bounds(cpus=1, waiters=2, ops=2, preemptions=1, calls=CALLBACKS),
    Bounds(cpus=1, waiters=2, ops=1, preemptions=1, calls=CALLBACKS - {"close"} | {"begin", "wait"}),
    Bounds(cpus=1, waiters=2, ops=2, preemptions=1, calls=CALLS_USUAL | {"close"}),
    Bounds(cpus=1, ops=6, first_generation=WRAP, first_switches=WRAP),
    Bounds(cpus=2, ops=9, calls=TURNS, continuous=True, first_generation=WRAP, first_switches=WRAP),
    # Behind store buffers.
    Bounds(cpus=1, ops=5, buffers=True),
    Bounds(cpus=2, ops=12, calls=TURNS, buffers=True),
    Bounds(cpus=2, ops=12, calls=TURNS, continuous=True, buffers=True),
    Bounds(cpus=2, ops=3, preemptions=2, calls=IDLE, buffers=True),
    # Without any reduction: each access a step of its own.
    Bounds(cpus=1, ops=4, every_access=True),
    Bounds(cpus=2, ops=6, calls=TURNS, every_access=True),
]

LONG = [
    Bounds(cpus=1, waiters=2, ops=6),
    Bounds(cpus=2, ops=4),
    Bounds(cpus=2, ops=6, preemptions=2),
    Bounds(cpus=3, ops=5, preemptions=1),
    Bounds(cpus=2, waiters=2, ops=12, calls=TURNS),
    Bounds(cpus=2, waiters=2, ops=12, calls=TURNS, continuous=True),
    Bounds(cpus=2, ops=3, preemptions=2, calls=IDLE | {"expedite"}),
    Bounds(cpus=2, ops=5, preemptions=2, calls=IDLE, continuous=True, patience=2),
    Bounds(cpus=1, waiters=2, ops=2, calls=CALLBACKS),
    Bounds(cpus=1, waiters=2, ops=4, calls=CALLS_USUAL - {"wait_timed"} | {"close"}),
    Bounds(cpus=2, ops=3, continuous=True, first_generation=WRAP, first_switches=WRAP),
    Bounds(cpus=2, ops=14, calls=TURNS, continuous=True, buffers=True),
    Bounds(cpus=2, ops=3, every_access=True, preemptions=2),
]
