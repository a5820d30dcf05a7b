"""A sweep's file: a line of JSON for each case that has ended, and whatever happens to who writes it, no other.

    {"key": "0123456789abcdef0123456789abcdef", "model": 1, "result": {...}}

A line counts when its newline is there. What a writer that was killed has left of the last one is cut off by the next who writes.
"""
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np
from mmgen._arguments import shown
from mmgen.lab.grid import place
from mmgen.lab.simulate import MODEL, Case, Result

BEGIN = b'{"key": "'            # of every line: nothing else is cut off from a file
LONGEST_LINE = 2**26            # far more than a result takes: a file without newlines is not read into memory


def key(case: Case, model: int = MODEL) -> str:
    """What `case` is known by in a file: 32 hex digits, of its JSON and of the model that simulates it."""
    text = json.dumps({"model": model, "case": case.to_dict()}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Results:
    """The file `path`, made if need be, to add results to: one writer at a time. Used in a with statement.

    Raises BlockingIOError while another sweep writes there; ValueError, with the line, where something in it is no result of this model;
    OSError. Thread-safety: one thread.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.keys: set[str] = set()
        """of the results that it has"""
        self.end = 0
        """where the next one goes"""
        self.unsure: tuple[int, list[str]] | None = None
        made = not os.path.exists(self.path)
        # Not blocked by a pipe that nobody writes to.
        self.file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
        try:
            self.begin(made)
        except BaseException:
            os.close(self.file)
            raise

    def begin(self, made: bool) -> None:
        """Lock it, read it, and cut a torn line off."""
        if not stat.S_ISREG(os.fstat(self.file).st_mode):
            raise ValueError(f"{self.path}: is not a regular file")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(errno.EWOULDBLOCK, "another sweep is writing to it", self.path) from None
        with open(os.dup(self.file), "rb") as file:
            for nr, line in lines(file, self.path):
                self.keys.add(checked(line, self.path, nr, MODEL)[0])
                self.end += len(line)
        self.cut()
        if made:                                        # its name is to last, too
            folder = os.open(os.path.dirname(os.path.abspath(self.path)), os.O_RDONLY)
            with contextlib.suppress(OSError):          # not every file system does that
                os.fsync(folder)
            os.close(folder)

    def __enter__(self) -> "Results":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.file)

    def cut(self) -> None:
        """Leave nothing after what has been added."""
        if os.fstat(self.file).st_size != self.end:
            os.ftruncate(self.file, self.end)

    def add(self, results: Iterable[Result]) -> None:
        """Add what it does not have yet, and wait until it is on the disk. OSError: then it has none of them.

        Interrupted anywhere, by KeyboardInterrupt, it may be called again with the same.
        """
        if self.unsure is not None and self.end == self.unsure[0]:
            self.keys.update(self.unsure[1])            # interrupted just after
        new: dict[str, Result] = {}
        for result in results:
            name = key(result.case)
            if name not in self.keys:
                new.setdefault(name, result)
        if not new:
            return
        left = memoryview(b"".join(line(name, result) for name, result in new.items()))
        self.cut()                                      # what an interrupted call has left
        at = self.end
        self.unsure = at + len(left), list(new)
        try:
            while left:
                written = os.pwrite(self.file, left, at)
                at, left = at + written, left[written:]
            os.fsync(self.file)
        except OSError:
            self.cut()
            raise
        self.end = at
        self.keys.update(new)


def line(name: str, result: Result) -> bytes:
    """`result`, of that key, as the file has it."""
    return json.dumps({"key": name, "model": MODEL, "result": result.to_dict()}, allow_nan=False).encode() + b"\n"


def lines(file: BinaryIO, path: str) -> Iterator[tuple[int, bytes]]:
    """(its number, from 1; the line, with its newline) of each that is whole. ValueError where the last is no torn one of ours."""
    nr = 0
    while text := file.readline(LONGEST_LINE):
        nr += 1
        if text.endswith(b"\n"):
            yield nr, text
            continue
        # After a power failure what was not yet on the disk may be zeros.
        begin = text[:len(BEGIN)].rstrip(b"\0")
        if len(text) == LONGEST_LINE or not BEGIN.startswith(begin):
            raise ValueError(f"{path}:{nr}: is no line of a sweep: {shown(text[:60].decode(errors='replace'))}")


def checked(text: bytes, path: str, nr: int, model: int | None) -> tuple[str, Result]:
    """(key, result) of a line. ValueError, which names the file and the line, unless it is one, and of `model` where that is given."""
    try:
        row = json.loads(text)
        if not isinstance(row, dict) or row.keys() != {"key", "model", "result"}:
            raise ValueError("is no object of key, model and result")
        if type(row["model"]) is not int:
            raise ValueError(f"model={shown(row['model'])} is no whole number")
        if model is not None and row["model"] != model:
            raise ValueError(f"is of model {shown(row['model'])}, and this mmgen simulates model {model}: sweep into another file")
        result = Result.from_dict(row["result"])
        if row["model"] == MODEL and row["key"] != key(result.case):
            raise ValueError(f"key={shown(row['key'])} is not its case's, {key(result.case)}")
        return str(row["key"]), result
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{nr}: is no JSON: {error.msg}, at column {error.colno}") from error
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path}:{nr}: {str(error) or type(error).__name__}") from error


def each(path: str | os.PathLike[str]) -> Iterator[Result]:
    """The results in a sweep's file, one after another as they ended, each case once; also while a sweep is writing it.

    A torn last line is left out. Lines of another model are given as they are. Raises OSError; ValueError, with the line, for what is none.
    """
    path = os.fspath(path)
    seen: set[str] = set()
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError(f"{path}: is not a regular file")
        for nr, text in lines(file, path):
            name, result = checked(text, path, nr, None)
            if name not in seen:
                seen.add(name)
                yield result


def read(path: str | os.PathLike[str], cases: Iterable[Case] | None = None) -> list[Result]:
    """The results in a sweep's file, each case once: those of `cases`, in that order; by default all, ordered by their cases (as a Grid
    of rising axes would be). Of `cases` those that have not ended are left out. Raises as each().
    """
    if cases is None:
        return sorted(each(path), key=lambda result: place(result.case))
    wanted = {key(case): nr for nr, case in reversed(list(enumerate(cases)))}
    found = [(wanted[name], result) for result in each(path) if (name := key(result.case)) in wanted]
    return [result for _, result in sorted(found, key=lambda pair: pair[0])]


def columns(results: Iterable[Result]) -> dict[str, np.ndarray[Any, Any]]:
    """The results as arrays, one for each figure and each field of their cases, by name: what does not exist is nan, or "".

    A policy's own fields are policy_idle and so on, a cost is cost_line; latencies are latency_p50_ns and so on. What is more than one
    number is left out: Result.histogram() has it.
    """
    rows = [flat(result.to_dict()) for result in results]
    names = dict.fromkeys(name for row in rows for name in row)
    table = {}
    for name in names:
        values = [row.get(name) for row in rows]
        none = "" if any(isinstance(value, str) for value in values) else np.nan
        table[name] = np.array([none if value is None else value for value in values])
    return table


def flat(plain: dict[str, Any]) -> dict[str, Any]:
    """A result's JSON in one level."""
    case = plain["case"]
    row: dict[str, Any] = {name: value for name, value in case.items() if not isinstance(value, dict)} | case["load"]
    row |= {"policy" if name == "name" else f"policy_{name}": value for name, value in case["policy"].items()}
    row |= {f"cost_{name}": value for name, value in case["costs"].items()}
    row |= {f"latency_{name}_ns": value for name, value in plain["latency_percentiles_ns"].items()}
    return row | {name: value for name, value in plain.items() if isinstance(value, int | float)}
