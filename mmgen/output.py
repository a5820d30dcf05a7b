"""Where a command writes its report."""
import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


@contextmanager
def report_to(path: str | None) -> Iterator[TextIO | None]:
    """The file `path` to write a report to as JSON, opened before the work begins; None for none, "-" for standard output. OSError."""
    if path is None:
        yield None
    elif path == "-":
        if sys.stdout is None:
            raise OSError(errno.EBADF, "standard output is closed")
        yield sys.stdout
    else:
        with open(path, "w") as out:
            yield out
