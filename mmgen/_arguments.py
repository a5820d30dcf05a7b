"""Arguments as they are given: what number one is, or an error that names it and its limits."""
import math
import operator
from typing import Any

LONGEST = 80                    # characters of an argument that an error shows


def shown(value: object) -> str:
    """`value` as an error shows it, in one line: whatever it is, what is wrong with it is said, and not that it cannot be shown."""
    try:
        text = repr(value)
    except Exception:                                   # int's own among them: beyond 4,300 digits it raises ValueError
        text = hex(value) if type(value) is int else f"a {type(value).__name__}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST - 16]}...{text[-13:]}"


def integer(value: Any, name: str) -> int:
    """`value` as an int, looked at once: what it says of itself later does not matter. TypeError unless it is a whole number."""
    if not hasattr(type(value), "__index__"):
        raise TypeError(f"{name}={shown(value)} is of type {type(value).__name__}, not a whole number")
    return operator.index(value)


def whole(value: Any, name: str, least: int, most: int, says: str | None = None) -> int:
    """As integer(); ValueError unless least <= value <= most. `says`: how the error tells the limits."""
    number = integer(value, name)
    if not least <= number <= most:
        raise ValueError(f"{name}={shown(number)} is out of range: {says or f'{least} to {most}'}")
    return number


def real(value: Any, name: str) -> float:
    """`value` as a float, an infinity if it is a whole number beyond all floats. TypeError unless it is a real number."""
    if not hasattr(type(value), "__float__") and not hasattr(type(value), "__index__"):
        raise TypeError(f"{name}={shown(value)} is of type {type(value).__name__}, not a number")
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def to_ns(timeout: float | None, name: str = "timeout") -> int:
    """`timeout` seconds in nanoseconds, -1 for None and for what exceeds 292 years."""
    if timeout is None:
        return -1
    seconds = real(timeout, name)
    if not seconds >= 0:
        raise ValueError(f"{name}={shown(timeout)} is out of range: 0 seconds or more, or None")
    return int(seconds * 1e9) if seconds < 2**63 / 1e9 else -1
