"""The tasks of this machine, as /proc has them: whose thread each is, whether it is the kernel's, and its name."""
import gzip
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from mmgen.lab.traces import Task

PF_KTHREAD = 0x0020_0000                # include/linux/sched.h: in the flags of /proc/PID/stat
PROC = Path("/proc")


def snapshot(check: Callable[[], None], proc: Path = PROC) -> dict[int, Task]:
    """Every thread there is, by its tid. check: called between two processes; what it raises ends this."""
    found: dict[int, Task] = {}
    for process in os.listdir(proc):
        if not process.isdigit():
            continue
        check()
        try:
            stat = (proc / process / "stat").read_bytes()
            kernel = bool(int(stat[stat.rindex(b")") + 2:].split()[6]) & PF_KTHREAD)
            for tid in os.listdir(proc / process / "task"):
                comm = (proc / process / "task" / tid / "comm").read_bytes()
                found[int(tid)] = Task(int(process), kernel, name(comm[:-1]))
        except (OSError, ValueError):                   # it has just ended
            continue
    return found


def name(comm: bytes) -> str:
    """What the kernel calls a task, as a field of a line."""
    return "".join(c if c.isprintable() else "?" for c in comm.split(b"\0")[0].decode(errors="replace"))


def write(tasks: Mapping[int, Task], path: Path) -> None:
    """As tab-separated lines of tid, tgid, K (a kernel thread) or U, name; gzipped if the file's name ends with .gz. OSError."""
    with gzip.open(path, "wt") if path.name.endswith(".gz") else open(path, "w") as out:
        for tid in sorted(tasks):
            tgid, kernel, comm = tasks[tid]
            out.write(f"{tid}\t{tgid}\t{'K' if kernel else 'U'}\t{comm}\n")
