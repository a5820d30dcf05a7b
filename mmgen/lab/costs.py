"""What things cost on the machine that is simulated."""
import json
import os
from dataclasses import astuple, dataclass, fields
from typing import Self

from mmgen._arguments import shown, whole

MOST_BYTES = 100_000            # of a file with a table


@dataclass(frozen=True)
class Costs:
    """Virtual ns, whole numbers from 0 to 10**9. docs/lab.md says where the defaults come from; measured() has your machine's."""

    line: int = 100
    """a cache line comes from the CPU that wrote it last"""
    atomic: int = 2
    """an atomic on a line that the CPU has"""
    fence: int = 17
    """a full fence"""
    ipi: int = 10_600
    """from sending an IPI until it is answered"""
    interrupt: int = 2_000
    """what the CPU that it interrupts loses"""
    look: int = 10
    """to look at another CPU's line in a scan of all: the transfers overlap"""
    switch: int = 0
    """a switch itself, under every policy: of a real machine what its loop takes; 0: no difference between policies"""

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, whole(getattr(self, field.name), field.name, 0, 10**9))

    def plan(self) -> dict[str, int]:
        """For the virtual machine."""
        names = ("per_switch" if field.name == "switch" else field.name for field in fields(self))          # C has a word of that name
        return dict(zip(names, astuple(self), strict=True))

    @classmethod
    def measured(cls, rounds: int = 300) -> Self:
        """This machine's: mmgen.lab.calibrate(rounds).costs. Takes `rounds` (2 to 10**6) times 0.1 ms. Raises ValueError, MemoryError."""
        from mmgen.lab.calibrate import calibrate  # noqa: PLC0415 - it measures with what is built on this
        return cls(**vars(calibrate(rounds).costs))

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Those that `mmgen calibrate -o` wrote to the file `path`, or any JSON object of them. What it does not name has its default.

        Raises OSError, and ValueError that says what is wrong in it.
        """
        with open(path, encoding="utf-8") as file:
            text = file.read(MOST_BYTES + 1)
        try:
            table = json.loads(text) if len(text) <= MOST_BYTES else None
        except (ValueError, RecursionError):
            table = None
        table = table.get("costs", table) if isinstance(table, dict) else None
        if not isinstance(table, dict):
            raise ValueError(f"{os.fspath(path)} has no table of costs: a JSON object of names and ns, or one under \"costs\"")
        names = [field.name for field in fields(cls)]
        for name, ns in table.items():
            if name not in names or type(ns) is not int:
                raise ValueError(f"{os.fspath(path)}: {shown(name)}: {shown(ns)} is none of {', '.join(names)}, with whole ns")
        return cls(**table)
