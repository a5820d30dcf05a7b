"""The names of what a recording puts into the machine, by which the next one finds what a killed one could not undo."""
import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

TEMPORARY = "mmgen-record-"             # + PID-STARTTIME- + whatever: folders of temporary files
INSTANCE = "mmgen-"                     # + PID-STARTTIME: a tracefs instance
PARTIAL = ".mmgen-record-"              # + PID-STARTTIME- + the file's name: what becomes it when it is whole
OWNER = re.compile(r"(\d{1,10})-(\d{1,20})")


def owner() -> str:
    """This process, by its pid and by when it was started: a pid alone may soon be another's."""
    return f"{os.getpid()}-{started(os.getpid())}"


def started(pid: int) -> int | None:
    """When the process was started, in clock ticks since the machine was; None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = stat[stat.rindex(b")") + 2:].split()       # a name may hold anything
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def dead(name: str, prefix: str) -> bool:
    """Whether `name` is `prefix` and a process that is no more, and may be followed by - and whatever else."""
    if not name.startswith(prefix) or not (found := OWNER.match(name, len(prefix))) or name[found.end():found.end() + 1] not in ("", "-"):
        return False
    return started(int(found[1])) != int(found[2])


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A new folder of temporary files, this process's, and gone afterwards with all that is in it."""
    path = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY}{owner()}-"))
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)                # to who looks from a container, which has pids of its own, this process is dead
        yield path
    finally:
        shutil.rmtree(path)
        os.close(lock)


def clean_folders(parent: Path) -> list[str]:
    """Remove the temporary folders in `parent` of processes that are no more, if they are this user's; what was removed, a phrase each."""
    said = []
    for path in sorted(parent.glob(f"{TEMPORARY}*")):
        with contextlib.suppress(OSError):              # another that starts just now may do the same
            if dead(path.name, TEMPORARY) and path.lstat().st_uid == os.geteuid():
                lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path)
                finally:
                    os.close(lock)
                said.append(f"the temporary folder {path}")
    return said


def clean_partial(parent: Path) -> list[str]:
    """Remove the half-written files in `parent` of processes that are no more, if they are this user's; what was removed, a phrase each."""
    said = []
    for path in sorted(parent.glob(f"{PARTIAL}*")):
        with contextlib.suppress(OSError):
            if dead(path.name, PARTIAL) and not path.is_symlink() and path.is_file() and path.stat().st_uid == os.geteuid():
                path.unlink()
                said.append(f"the half-written {path}")
    return said


def clean_instances(instances: Path) -> list[str]:
    """Remove the tracefs instances of processes that are no more; what was removed, a phrase each.

    One that is in use cannot be removed, so that of a process in another container, which has pids of its own, is safe.
    """
    said = []
    with contextlib.suppress(OSError):
        for path in sorted(instances.glob(f"{INSTANCE}*")):
            with contextlib.suppress(OSError):
                if dead(path.name, INSTANCE):
                    path.rmdir()
                    said.append(f"the tracefs instance {path.name}")
    return said
