"""Under which conditions a round of torture runs: drawn from the seed and the round's number, and so the same wherever it is replayed."""
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

WRAPS = {"0": 0, "2**32": 2**32, "2**64": 2**64}        # where the counters start a little before, or, of 0, there


@dataclass(frozen=True)
class Conditions:
    """What one round does, and how often."""

    nr: int
    """which round, from 1"""
    seed: int
    """of the round's own random numbers"""
    cpus: int
    continuous: bool
    registers: bool
    """whether CPUs come online by register(), and change their index as they do; else by online()"""
    slots: int
    """how many objects are published at a time"""
    first_generation: int
    first_switches: int
    patience: int | None
    """ticks before a kick; None: there is no kick"""
    alone: bool
    """whether one updater alone waits: what its wait has missed, no other makes good"""
    python_updaters: int
    c_updaters: int
    pause_us: int
    """how long a C updater rests between two grace periods at most, in us"""
    spell_us: int
    """how long a section, a stall, an absence lasts at most, in us"""
    chances: dict[str, int]
    """how often in 65536 sections a CPU does each of Reader.CHANCES"""

    def __str__(self) -> str:
        rates = ", ".join(f"{name} {chance}" for name, chance in self.chances.items())
        return (f"round {self.nr}: {self.cpus} CPUs, {'continuous' if self.continuous else 'on demand'}, "
                f"{'registering' if self.registers else 'going on and offline'}; generations from {near(self.first_generation)}, "
                f"switches from {near(self.first_switches)}; {self.slots} slot{'s' * (self.slots != 1)}; "
                f"updaters: {self.python_updaters} in Python, {self.c_updaters} in C{', alone,' * self.alone} with pauses to "
                f"{self.pause_us} us; "
                f"{f'kicked after {self.patience} ticks' if self.patience else 'no kick'}; spells to {self.spell_us} us; {rates}")


def near(start: int) -> str:
    """The start value `start`, told by the wrap that it is near."""
    for name, wrap in WRAPS.items():
        if wrap - 2**20 < start <= wrap:
            return f"{name} - {wrap - start}" if wrap - start else name
    return str(start)


def draw(seed: int, nr: int, cpus: int | None, cores: int) -> Conditions:
    """The conditions of round `nr` of a torture with `seed`: on `cpus` CPUs, or as many as it draws for a machine of `cores` cores."""
    rng = random.Random(f"mmgen torture {seed} {nr}")

    def pick(options: Sequence[T]) -> T:
        return options[int(rng.random() * len(options))]        # random() alone is promised to stay the same between Pythons

    def start(wrap: int) -> int:
        return wrap and wrap - 1 - int(rng.random() * pick([4, 200, 5000]))

    first_generation, first_switches = start(pick(list(WRAPS.values()))), start(pick(list(WRAPS.values())))
    drawn = pick([2, 2, 3, cores, cores + 1, 2 * cores])
    alone = pick([False, False, False, True])
    python_updaters, c_updaters = pick([(1, 0), (0, 1)] if alone else [(1, 0), (1, 1), (1, 1), (1, 2), (2, 1), (0, 2)])
    return Conditions(
        nr=nr,
        seed=int(rng.random() * 2**53),
        cpus=max(drawn, 2) if cpus is None else cpus,
        continuous=pick([False, False, True]),
        registers=pick([False, True]),
        slots=pick([1, 2, 8]),
        first_generation=first_generation,
        first_switches=first_switches,
        patience=pick([None, 3, 100]),
        alone=alone,
        python_updaters=python_updaters,
        c_updaters=c_updaters,
        pause_us=pick([0, 20, 500]),
        spell_us=pick([200, 2000, 20000]),
        chances={
            "tick": pick([65536, 20000, 2000]),
            "tick_within": pick([500, 4000, 16000]),
            "lengthy": pick([64, 500, 2000]),
            "idle": pick([0, 100, 2000]),
            "offline": pick([0, 10, 200]),
            "wait": 0 if alone else pick([0, 10, 200]),
            "stall": pick([0, 2, 20]),
            "rest": pick([0, 200, 10000]),
        },
    )
