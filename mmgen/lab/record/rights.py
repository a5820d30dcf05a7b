"""What a recorder lacks, and the command that gives it; and the command line that would run this one again as root."""
import shlex
import sys
from pathlib import Path

PARANOID = Path("/proc/sys/kernel/perf_event_paranoid")


class UnusableError(Exception):
    """A recorder that does not work here: why, in a few words, and the command that changes that ("" if none does)."""

    def __init__(self, why: str, remedy: str = "") -> None:
        super().__init__(why, remedy)
        self.why = why
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.why}: {self.remedy}" if self.remedy else self.why


def as_root() -> str:
    """This command again, as root; with the path of mmgen, since root's PATH is another."""
    first = Path(sys.argv[0] if sys.argv else "mmgen")
    program = [sys.executable, "-m", "mmgen"] if first.name == "__main__.py" else [str(first.resolve()) if first.exists() else str(first)]
    return shlex.join(["sudo", *program, *sys.argv[1:]])


def paranoid() -> int | None:
    """kernel.perf_event_paranoid: at -1 everybody may record all that happens. None where there is none."""
    try:
        return int(PARANOID.read_text())
    except (OSError, ValueError):
        return None
