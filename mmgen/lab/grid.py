"""The product of axes: every combination of what may vary in a case."""
import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import Any

from mmgen._arguments import shown
from mmgen.lab.load import Load
from mmgen.lab.simulate import Case

# From the outermost; policies stand next to each other, on the same machine and load.
ORDER = ("cpus", "hz", "load", "costs", "mm_bytes", "seconds", "policy", "seed")
LOAD = tuple(field.name for field in dataclasses.fields(Load))

MOST = 10**6                    # values of an axis


class Grid:
    """All cases of the axes: each a field of Case or of Load, with a value, or a list, tuple or range of 1 to 10**6 values.

        Grid(cpus=[2, 64, 1024], hz=[100, 250], switch_us=[10, 100, None], policy=[Refcount(), Generation()], seconds=0.1)

    Iterated over, in the same order each time, it gives Cases; len() is how many. Cases are made as they are asked for.
    Raises ValueError and TypeError as Case and Load do, and for a combination that no Load can be. Thread-safety: it is read only.
    """

    def __init__(self, **axes: Any) -> None:
        for name in axes:
            if name not in (*ORDER, *LOAD):
                raise TypeError(f"{name!r} is a field neither of Case nor of Load: {', '.join((*ORDER, *LOAD))}")
        varied = {name: listed(axes[name], name) for name in LOAD if name in axes}
        if varied and "load" in axes:
            raise TypeError(f"load goes without {', '.join(varied)}: those are its fields")
        self.axes: dict[str, list[Any]] = {}
        for name in ORDER:
            values: list[Any]
            if name == "load" and varied:
                values = [Load(**dict(zip(varied, chosen, strict=True))) for chosen in itertools.product(*varied.values())]
            elif name not in axes:
                continue
            else:
                values = listed(axes[name], name)
            self.axes[name] = [checked(name, value) for value in values]

        self.size = math.prod(map(len, self.axes.values()))
        if self.size >= 2**63:
            raise ValueError(f"{shown(self.size)} cases are out of range: 1 to {2**63 - 1}")

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Case]:
        for chosen in itertools.product(*self.axes.values()):
            yield Case(**dict(zip(self.axes, chosen, strict=True)))


def checked(name: str, value: Any) -> Any:
    """`value` as a Case's field. ValueError, TypeError."""
    field: dict[str, Any] = {name: value}
    return getattr(Case(**field), name)


def listed(value: Any, name: str) -> list[Any]:
    """The axis's values. ValueError where there is none, or too many."""
    if not isinstance(value, list | tuple | range):
        return [value]
    if not value or value[MOST:]:                       # a range may have more than a len() can be
        raise ValueError(f"{name}={shown(value)} is out of range: 1 to {MOST} values")
    return list(value)


def place(case: Case) -> tuple[Any, ...]:
    """What sorts cases as a Grid of rising axes gives them, policies by name: None, until the next tick, comes after all us."""
    def of(value: Any) -> Any:
        if dataclasses.is_dataclass(value):
            return tuple((entry is None, 0 if entry is None else entry) for entry in vars(value).values())
        return value

    return tuple((case.policy.name, of(case.policy)) if name == "policy" else of(getattr(case, name)) for name in ORDER)
