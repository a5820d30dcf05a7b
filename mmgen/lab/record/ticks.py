"""The scheduler's tick: the timer function that is its, the filter that lets only its events through, and how often it comes."""
import contextlib
import gzip
import os
import re
from pathlib import Path

FUNCTIONS = ("tick_nohz_handler", "tick_sched_timer")   # since Linux 6.9; before
KALLSYMS = Path("/proc/kallsyms")


def addresses(kallsyms: Path = KALLSYMS) -> dict[int, str]:
    """Those of FUNCTIONS that this kernel has, by address; none where it does not show addresses to this user."""
    found = {}
    with contextlib.suppress(OSError), open(kallsyms) as lines:
        for line in lines:
            if "tick_" in line:
                address, _, symbol, *_ = line.split()
                if symbol in FUNCTIONS and int(address, 16):
                    found[int(address, 16)] = symbol
    return found


def filters(found: dict[int, str]) -> list[tuple[str, str]]:
    """Filters of timer:hrtimer_expire_entry for the tick alone, each with the name of whose events pass it; what all kernels take first."""
    by_address = [(" || ".join(f"function == {address:#x}" for address in sorted(found)), found[min(found)])] if found else []
    return by_address + [(f"function.function == {symbol}", symbol) for symbol in FUNCTIONS]


def configured() -> dict[str, str]:
    """What this kernel's configuration says of ticks, as far as it can be read: CONFIG_HZ, CONFIG_NO_HZ_IDLE and the like."""
    found = {}
    for path in (Path("/proc/config.gz"), Path(f"/boot/config-{os.uname().release}")):
        with contextlib.suppress(OSError), gzip.open(path, "rt") if path.suffix == ".gz" else open(path) as lines:
            found = dict(re.findall(r"^CONFIG_(HZ|HZ_PERIODIC|NO_HZ_IDLE|NO_HZ_FULL)=(\w+)$", lines.read(), re.MULTILINE))
        if found:
            break
    return found
