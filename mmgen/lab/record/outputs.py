"""A file that is written: there when it is whole, and not before; and that it can be written is known before the work."""
import os
import shutil
from pathlib import Path

from mmgen.lab.record import leftovers


class Output:
    """`path`, as an option of the command gives it. What is there is replaced."""

    def __init__(self, path: str, option: str) -> None:
        self.path = Path(os.path.realpath(path))        # a link stays one
        self.option = option
        self.partial = self.path.parent / f"{leftovers.PARTIAL}{leftovers.owner()}-{self.path.name}"
        self._tried = False

    def check(self) -> None:
        """ValueError, OSError: it could not be written."""
        if self.path.is_dir():
            raise ValueError(f"{self.option} {self.path} is a folder")
        if self.path.exists() and not self.path.is_file():
            raise ValueError(f"{self.option} {self.path} is not a regular file, which alone can be replaced by another")
        try:
            self._tried = True
            self.partial.touch(0o666)
            self.partial.unlink()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def publish(self, made: Path) -> None:
        """`made` is whole: its like becomes `path`, with the permissions of what was there. OSError."""
        shutil.copyfile(made, self.partial)
        if self.path.exists():
            shutil.copymode(self.path, self.partial)
        os.replace(self.partial, self.path)

    def undo(self) -> None:
        """Remove what is half-written."""
        if self._tried:
            self.partial.unlink(missing_ok=True)
