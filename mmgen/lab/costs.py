"""What things cost on the machine that is simulated."""
from dataclasses import astuple, dataclass, fields

from mmgen._arguments import whole


@dataclass(frozen=True)
class Costs:
    """Virtual ns, whole numbers from 0 to 10**9. docs/lab.md says where the defaults come from: measure your own machine's."""

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
