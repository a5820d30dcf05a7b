"""What machine the figures are of."""
import ctypes
import gzip
import os
import platform
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import compiled


def cores():
    """(the core to measure on, another or None), of those the process might use when it began. None: threads cannot be pinned."""
    if not hasattr(os, "sched_setaffinity"):
        return None, None
    mine = sorted(ALLOWED, reverse=True)            # the last: the first often has the interrupts
    return mine[0], mine[1] if len(mine) > 1 else None


def pin(*cores):
    """Have the calling thread run on `cores` alone."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def first(pattern, path, default=""):
    """What `pattern` finds in the text of `path`."""
    try:
        data = Path(path).read_bytes()
    except OSError:
        return default
    text = (gzip.decompress(data) if path.endswith(".gz") else data).decode(errors="replace")
    found = re.search(pattern, text, re.MULTILINE)
    return found[1].strip() if found else default


def hz():
    """How often the kernel ticks a second: its configuration's CONFIG_HZ. None where it does not tell."""
    for path in ("/proc/config.gz", f"/boot/config-{platform.release()}"):
        if found := first(r"^CONFIG_HZ=(\d+)", path):
            return int(found)
    return None


def package_version(name):
    """Of a Debian package; "" where there is none."""
    try:
        return subprocess.run(["dpkg-query", "-W", "-f=${Version}", name], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""


def caches():
    """{"L1d": bytes, ...} of the first core."""
    found = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (first(r"(.*)", str(index / word)) for word in ("level", "type", "size"))
        if size and kind != "Instruction":
            found[f"L{level}{'d' if kind == 'Data' else ''}"] = int(size.rstrip("KM")) * {"K": 1024, "M": 1 << 20}[size[-1]]
    return found


def describe():
    """For results.json."""
    gnu = subprocess.run([compiled.compiler(), "--version"], capture_output=True, text=True, check=False).stdout
    free_threaded = not getattr(sys, "_is_gil_enabled", lambda: True)()
    return {
        "processor": first(r"^model name\s*:\s*(.*)", "/proc/cpuinfo", platform.processor()),
        "family_model": "/".join(first(rf"^{word}\s*:\s*(.*)", "/proc/cpuinfo") for word in ("cpu family", "model")),
        "virtual": bool(first(r"^flags.*\b(hypervisor)\b", "/proc/cpuinfo")),
        "cores": len(ALLOWED),
        "caches": caches(),
        "kernel": platform.release().split("-")[0],
        "hz": hz(),
        "compiler": gnu.splitlines()[0] if gnu else "",
        "flags": " ".join(compiled.FLAGS),
        "python": platform.python_version() + (" free-threaded" if free_threaded else ""),
        "libc": " ".join(platform.libc_ver()),
        "liburcu": package_version("liburcu-dev"),
        "ck": package_version("libck-dev"),
        "mmgen": version("mmgen-grace"),
    }


def load():
    """The load average over a minute: what else the machine did."""
    return os.getloadavg()[0]


def resident():
    """Bytes of memory that the process has, really."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * ctypes.CDLL(None).getpagesize()


ALLOWED = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
