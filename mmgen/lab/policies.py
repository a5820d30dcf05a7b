"""The three policies, as a Case names them: what is chosen here is done in _refcount.pyx, _shootdown.pyx and _generation.pyx."""
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from mmgen._arguments import shown, whole

IDLE_RULES = ("hang", "drop", "kick")


def one_of(value: str | None, name: str, known: tuple[str, ...]) -> None:
    """ValueError unless `value` is one of `known`, or None where None is."""
    if value not in known:
        raise ValueError(f"{name}={shown(value)} is none of {', '.join(known)}")


class Chosen:
    """What the policies have in common."""

    BROKEN: ClassVar[tuple[str, ...]]
    broken: str | None

    def __post_init__(self) -> None:
        if self.broken is not None:
            one_of(self.broken, "broken", self.BROKEN)

    def _broken(self) -> int:
        """Its number: from 1; 0: none."""
        return 0 if self.broken is None else 1 + self.BROKEN.index(self.broken)


@dataclass(frozen=True)
class Refcount(Chosen):
    """mm_count is taken and dropped at each lazy entry and exit (MMU_LAZY_TLB_REFCOUNT).

    broken: "no-grab", a lazy entry is not counted.
    """

    broken: str | None = None
    name: ClassVar[str] = "refcount"
    BROKEN: ClassVar[tuple[str, ...]] = ("no-grab",)

    def plan(self) -> tuple[str | int, ...]:
        """For the virtual machine."""
        return self.name, self._broken()


@dataclass(frozen=True)
class Shootdown(Chosen):
    """Nobody counts; at the final free an IPI to each CPU in mm_cpumask has those that use the mm lazily switch to init_mm.

    trim: a CPU leaves mm_cpumask when it switches to another mm (as on x86); else it stays until it is unplugged (as on powerpc).
    broken: "unfixed-hotplug", an unplugging CPU leaves mm_cpumask while it uses an mm lazily, as before the fix of 2023; "no-ipi".
    """

    trim: bool = False
    broken: str | None = None
    name: ClassVar[str] = "shootdown"
    BROKEN: ClassVar[tuple[str, ...]] = ("unfixed-hotplug", "no-ipi")

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "trim", bool(self.trim))

    def plan(self) -> tuple[str | int, ...]:
        """For the virtual machine."""
        return self.name, self.trim, self._broken()


@dataclass(frozen=True)
class Generation(Chosen):
    """An mm is freed when its grace period has passed, counted by mm switches: the domain of this package.

    idle: what an idle CPU does with the mm that it uses lazily, while it has no tick:
        "hang": keeps it, and holds everybody up, as in the sketch of 2020;
        "drop": leaves it, and is waited for no more (idle_enter);
        "kick": keeps it; when some CPU has ticked `patience` times in a generation (1 to 2**32 - 1), the holdouts get an IPI.
    continuous: count generations also while nobody waits, as the sketch does.
    broken: "one-increment", a wait takes one generation; "idle-keeps", idle_enter without leaving the mm.
    """

    idle: str = "drop"
    patience: int = 4
    continuous: bool = False
    broken: str | None = None
    name: ClassVar[str] = "generation"
    BROKEN: ClassVar[tuple[str, ...]] = ("one-increment", "idle-keeps")

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.idle, "idle", IDLE_RULES)
        object.__setattr__(self, "continuous", bool(self.continuous))
        object.__setattr__(self, "patience", whole(self.patience, "patience", 1, 2**32 - 1))

    def plan(self) -> tuple[str | int, ...]:
        """For the virtual machine."""
        return self.name, IDLE_RULES.index(self.idle), self.patience, self.continuous, self._broken()


Policy = Refcount | Shootdown | Generation
POLICIES: dict[str, type[Refcount] | type[Shootdown] | type[Generation]] = {
    policy.name: policy for policy in (Refcount, Shootdown, Generation)}


def name_of(policy: Mapping[str, Any]) -> str:
    """A policy in a word or a few: what differs from its plain form. Of its part of a result's dict."""
    options = {name: value for name, value in policy.items() if name not in ("name", "idle", "patience") and value not in (None, False)}
    words = [policy["idle"]] if "idle" in policy else []
    if policy.get("idle") == "kick" and policy.get("patience") not in (None, 4):
        words.append(f"patience {policy['patience']}")
    words += [name if value is True else str(value) for name, value in options.items()]
    return " ".join((policy["name"], *words))
