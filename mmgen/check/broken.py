"""The broken variants that the search must refute: what each leaves out, and the smallest bounds within which that shows.

A variant is a few lines of the protocol's own source, changed (hooked.py); or it is the sketch of 2020 itself (_sketch.pyx).
"""
from dataclasses import dataclass, replace

from mmgen.check.bounds import Bounds
from mmgen.check.hooked import VARIANTS


@dataclass(frozen=True)
class Broken:
    """A broken variant."""

    what: str
    """what is wrong with it"""
    bounds: Bounds
    """within which the search refutes it"""
    steps: int
    """how long the shortest script is"""

    @property
    def sketched(self) -> bool:
        """Whether it is the sketch, and not the protocol with a change."""
        return self.what.startswith("the sketch")


TURNS = frozenset({"switch", "tick", "begin", "poll"})
IDLE = TURNS | {"idle_enter", "idle_exit"}
HOTPLUG = TURNS | {"online", "offline"}
# By the harm that comes of it, where that is not too far: not by the first word that is wrong.
HARM = Bounds(invariants=False)

BROKEN = {
    "sketch": Broken("the sketch, with its own starting values: nothing ever completes", Bounds(cpus=2, ops=2, calls=TURNS), 1),
    "sketch-started": Broken("the sketch, started as it was meant: two increments are one too few", Bounds(cpus=2, ops=8, calls=TURNS), 28),
    "sketch-32-bits": Broken("the sketch: its waiter keeps 32 bits of the generation",
                             Bounds(cpus=2, ops=0, calls=TURNS, first_generation=2**32), 1),
    "sketch-hotplug": Broken("the sketch: a CPU that leaves owing hangs every waiter",
                             Bounds(cpus=2, ops=1, calls=HOTPLUG - {"switch"}), 2),
    "one-short-on-demand": Broken("a wait takes 1 generation where nobody was waiting", Bounds(cpus=1, ops=3), 9),
    "one-short-joining": Broken("a wait takes 2 where a generation is under way", Bounds(cpus=2, ops=8, calls=TURNS, continuous=True), 20),
    "no-idle-scan": Broken("a wait does not look for idle CPUs", Bounds(cpus=1, ops=3), 7),
    "no-credit-in-wake": Broken("who opened a generation does not credit the idle", Bounds(cpus=2, ops=3, calls=IDLE), 10),
    "no-look-after-idle": Broken("a CPU that idles does not look at the goal", Bounds(cpus=1, ops=3), 7),
    "no-wake": Broken("a tick opens a generation and tells nobody", Bounds(cpus=1, ops=4), 8),
    "no-parity-wait": Broken("a hold does not wait for the generation that was opened", replace(HARM, cpus=2, ops=4), 27),
    "counts-unswitched": Broken("a tick counts though the CPU has not switched", replace(HARM, cpus=1, ops=4, calls=TURNS), 11),
    "wakes-nobody": Broken("a generation is opened, and nobody who sleeps is woken", Bounds(cpus=1, ops=4, calls=TURNS | {"wait"}), 8),
    "parity-from-generation": Broken("a hold takes the parity from generation, not from the word it swaps", Bounds(cpus=1, ops=4), 23),
    "hold-spins": Broken("a hold takes the parity from generation, and waits for it without a yield", Bounds(cpus=1, ops=4), 20),
    "last-cpu-unlocked": Broken("the last CPU to leave moves generation and pending after it gave back the lock",
                                replace(HARM, cpus=2, ops=4, calls=HOTPLUG), 27),
    "online-read-early": Broken("a wait asks before it has the lock whether a CPU is online, and not again", Bounds(cpus=1, ops=4), 15),
    "two-proxies": Broken("a wake credits without the lock, by a claim that lets a second proxy in", Bounds(cpus=2, ops=5, calls=IDLE), 20),
    "no-claim": Broken("a CPU can leave idle while it is credited", replace(HARM, cpus=1, ops=4), 28),
    "no-recheck": Broken("credit for the idle does not ask again, held, whether anybody waits",
                         replace(HARM, cpus=2, waiters=2, ops=18, preemptions=1, calls=IDLE - {"poll"}), 66),
    "credits-forever": Broken("credit for the idle goes on while a CPU idles, whether or not anybody waits",
                              Bounds(cpus=1, ops=1, calls=IDLE, continuous=True), 4),
    "credits-once": Broken("whose credit opened a generation does not look again", Bounds(cpus=1, ops=3, calls=IDLE), 24),
    "open-order": Broken("generation is stored before pending", replace(HARM, cpus=2, ops=8, calls=TURNS), 15),
    "online-without-hold": Broken("a CPU comes online without a hold", replace(HARM, cpus=2, ops=6, calls=HOTPLUG), 26),
    "offline-without-hold": Broken("a CPU goes offline without a hold", replace(HARM, cpus=2, ops=6, calls=HOTPLUG), 20),
    "offline-keeps-debt": Broken("a CPU that leaves leaves its debt behind", replace(HARM, cpus=2, ops=6, calls=HOTPLUG), 13),
    "offline-pays-twice": Broken("a CPU that leaves pays what it does not owe", replace(HARM, cpus=2, ops=8, calls=HOTPLUG), 21),
    "online-owes-nothing": Broken("a CPU that comes is counted, and owes nothing", replace(HARM, cpus=1, ops=4, calls=HOTPLUG), 19),
    "exit-past-proxy": Broken("a CPU leaves idle without waiting for its proxy", Bounds(cpus=1, ops=4, calls=IDLE), 23),
    "callbacks-early": Broken("callbacks run a generation early",
                              Bounds(cpus=1, ops=4, calls=frozenset({"switch", "tick", "defer", "run_callbacks"})), 15),
    "plain-compare": Broken("a poll compares as unsigned numbers, near the wrap", Bounds(cpus=1, ops=3, first_generation=2**64 - 1), 5),
    "plain-debt": Broken("who owes is told by an unsigned comparison, near the wrap",
                         Bounds(cpus=1, ops=3, calls=IDLE, first_switches=2**64 - 1), 31),
    "plain-maximum": Broken("a wait raises the goal by an unsigned comparison, near the wrap",
                            Bounds(cpus=1, ops=3, first_generation=2**64 - 1), 2),
    "close-wakes-once": Broken("close does not wait for the sleepers to leave",
                               Bounds(cpus=1, waiters=2, ops=0, calls=frozenset({"begin", "wait", "close"})), 16),
    "defer-after-close": Broken("defer does not look, under the lock, whether the domain is closed",
                                Bounds(cpus=1, waiters=2, ops=0, calls=frozenset({"defer", "run_callbacks", "close"})), 13),
    "defer-tells-nobody": Broken("a defer whose credit for the idle opened a generation tells nobody",
                                 Bounds(cpus=1, waiters=2, ops=1, preemptions=1,
                                        calls=frozenset({"idle_enter", "begin", "wait", "defer"})), 67),
    "several-runners": Broken("two threads run callbacks at a time, and a barrier goes by how many have run",
                              Bounds(cpus=1, waiters=3, ops=1, preemptions=1,
                                     calls=frozenset({"offline", "defer", "run_callbacks", "barrier"})), 32),
    "exit-gives-up": Broken("a CPU that is being credited is refused when it leaves idle", Bounds(cpus=1, ops=2, calls=IDLE), 18),
    "keeps-the-lock": Broken("a wait that is over already does not give back the lock", Bounds(cpus=1, ops=1, calls=HOTPLUG), 11),
    "idles-past-close": Broken("a CPU that goes idle does not look whether it has been closed meanwhile",
                               Bounds(cpus=1, ops=1, calls=frozenset({"idle_enter", "close"})), 12),
    "no-wait-fence": Broken("no fence between the unpublish and the wait's load of generation, behind store buffers",
                            Bounds(cpus=2, ops=12, calls=TURNS, continuous=True, buffers=True), 51),
    "no-scan-fence": Broken("no fence between the goal and the scan for idle CPUs, behind store buffers",
                            Bounds(cpus=1, ops=2, calls=IDLE, buffers=True), 13),
    "no-wake-fence": Broken("no fence between an opener's store of generation and its look for sleepers, behind store buffers",
                            Bounds(cpus=1, ops=4, calls=TURNS | {"wait"}, buffers=True), 34),
    "no-idle-flag": Broken("a CPU that idles does not set the flag that a scan looks at first", Bounds(cpus=1, ops=3), 7),
    "idle-flag-late": Broken("a CPU that idles sets that flag after its fence, behind store buffers",
                             Bounds(cpus=1, ops=2, calls=IDLE, buffers=True), 15),
}
assert {name for name in BROKEN if not BROKEN[name].sketched} == set(VARIANTS)


def variant(name: str | None) -> int:
    """The number by which the search knows the variant, 0 for none. KeyError for a name that is not there."""
    if name is None:
        return 0
    if BROKEN[name].sketched:
        return int(name != "sketch")
    return VARIANTS.index(name) + 1
