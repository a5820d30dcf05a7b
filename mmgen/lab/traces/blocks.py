"""A file's bytes in pieces, plain or gzipped: never more of them in memory than a piece, whatever the file unpacks to."""
import os
import select
import stat
import zlib
from types import TracebackType
from typing import Self

BLOCK = 1 << 18                 # bytes: a ms or so to read the lines of
LOOK_MS = 20                    # between two looks for a signal, while a pipe is empty
GZIP = b"\x1f\x8b"


class Blocks:
    """The file `path`, open for reading, once, from its beginning. A context manager. OSError if it cannot be opened."""

    def __init__(self, path: str | bytes) -> None:
        self.file = open(path, "rb", buffering=0)
        try:
            self.begin()
        except BaseException:
            self.file.close()
            raise

    def begin(self) -> None:
        """Tell what the file is."""
        status = os.fstat(self.file.fileno())
        self.size = status.st_size                              # 0: a pipe, which does not say
        self.waiting = None if stat.S_ISREG(status.st_mode) else select.poll()
        if self.waiting is not None:
            self.waiting.register(self.file, select.POLLIN)
        self.done = 0                                           # bytes read, packed
        self.packed = self.raw(BLOCK)
        while 0 < len(self.packed) < len(GZIP) and (more := self.raw(BLOCK)):
            self.packed += more
        self.unpacker = zlib.decompressobj(wbits=31) if self.packed[:2] == GZIP else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.file.close()

    @property
    def share(self) -> float:
        """Of the file's bytes, those that were read; 0.0 where it is unknown."""
        return min(self.done / self.size, 1.0) if self.size else 0.0

    def raw(self, most: int) -> bytes:
        # The kernel may have another thread than this one take a signal, and a read of an empty pipe would not hear of it.
        while self.waiting is not None and not self.waiting.poll(LOOK_MS):
            pass
        piece = self.file.read(most)
        self.done += len(piece or b"")
        return piece or b""

    def read(self, most: int) -> bytes:
        """The next bytes, 1 to `most`; b"" at the end. ValueError where a gzipped file is damaged, or cut short."""
        if self.unpacker is None:
            piece, self.packed = self.packed[:most], self.packed[most:]
            return piece or self.raw(most)
        while True:
            if self.unpacker.eof:                               # a gzipped file may have parts, and zeros behind the last
                self.packed = self.unpacker.unused_data.lstrip(b"\0") or self.packed.lstrip(b"\0")
                while not self.packed or len(self.packed) < len(GZIP):
                    if not (more := self.raw(BLOCK)):
                        break
                    self.packed = (self.packed + more).lstrip(b"\0")
                if not self.packed:
                    return b""
                self.unpacker = zlib.decompressobj(wbits=31)
            packed = self.unpacker.unconsumed_tail or self.packed or self.raw(BLOCK)
            if packed is self.packed:
                self.packed = b""
            try:
                piece = self.unpacker.decompress(packed, most)
            except zlib.error as error:
                raise ValueError(f"what was gzipped is damaged: {error}") from error
            if piece:
                return piece
            if not packed and not self.unpacker.eof:
                raise ValueError("the file is cut short")
