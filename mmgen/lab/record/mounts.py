"""Where tracefs is mounted, and how to reach it where it is not, so that nothing stays mounted: not even after a SIGKILL."""
import ctypes
import os
import re
from pathlib import Path

USUAL = Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing")
MOUNTS = Path("/proc/mounts")
FILESYSTEMS = Path("/proc/filesystems")
# asm-generic/unistd.h, linux/mount.h, linux/sched.h: the same on every architecture that Python runs on but Alpha.
FSOPEN, FSCONFIG, FSMOUNT = 430, 431, 432
CLOEXEC, CMD_CREATE = 1, 6
CLONE_NEWNS = 0x0002_0000
MS_REC, MS_PRIVATE = 0x4000, 1 << 18


def mounted() -> Path | None:
    """Where tracefs is mounted, the usual place first; None if nowhere."""
    found = []
    for line in MOUNTS.read_text(errors="surrogateescape").splitlines():
        _, where, kind, *_ = line.split(" ")
        if kind == "tracefs":
            found.append(Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), where)))
    return next((where for where in [*USUAL, *found] if where in found), None)


def offered() -> bool:
    """Whether this kernel has a tracefs at all."""
    return "tracefs" in FILESYSTEMS.read_text().split()


def detached() -> int:
    """A tracefs that is mounted nowhere and goes with its descriptor: /proc/self/fd/N is its root. Linux 5.2. OSError."""
    libc = ctypes.CDLL(None, use_errno=True)

    def call(*arguments: object) -> int:
        result = int(libc.syscall(*arguments))
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return result

    context = call(FSOPEN, b"tracefs", CLOEXEC)
    try:
        call(FSCONFIG, context, CMD_CREATE, None, None, 0)
        return call(FSMOUNT, context, CLOEXEC, 0)
    finally:
        os.close(context)


class Own:
    """Called in a child before it becomes another program: tracefs is mounted at its usual place for that program alone, if that may be."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None)

    def __call__(self) -> None:
        if self._libc.unshare(CLONE_NEWNS) == 0 and self._libc.mount(b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None) == 0:
            self._libc.mount(b"nodev", os.fsencode(USUAL[0]), b"tracefs", ctypes.c_ulong(0), None)
