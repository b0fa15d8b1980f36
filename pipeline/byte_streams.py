"""Raw files as byte streams: unpacked while they are read, and cut into runs of whole lines.

A bounded number of bytes is held, however long the file or one of its lines is.
"""

import io
from collections.abc import Iterator
from typing import Any, NamedTuple

import zstandard
from isal import igzip, isal_zlib

#: Read and parsed at once; some thousands of conversations.
BLOCK_BYTES = 8 << 20
#: A longer line is no row: the longest of the known data sets has 5 MB.
LONGEST_LINE = 32 << 20
#: Compressed bytes read at once.
PACKED_BYTES = 1 << 16
BOM = b"\xef\xbb\xbf"

#: What reading a stream raises where the data are damaged or cut off.
DAMAGE: tuple[type[Exception], ...] = (  # ty: ignore[invalid-assignment]  (a stub calls a class an instance)
    EOFError,
    igzip.BadGzipFile,
    isal_zlib.error,
    zstandard.ZstdError,
)


class Lines(NamedTuple):
    """A run of whole lines of one file."""

    file: str
    first: int
    """The number of the first line, from 0."""
    content: bytes
    """The lines with their ends; the last of a file may have none. Without the file's byte order mark."""


class Unzstd(io.RawIOBase):
    """All frames of zstd data, unpacked; ZstdError where the last is cut off, which stream readers hide."""

    def __init__(self, packed: Any) -> None:
        self.packed = packed
        self.frame: Any = None
        self.ready = memoryview(b"")
        self.left = b""
        """Compressed bytes after the end of a frame."""

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` with unpacked bytes; 0 at the end."""
        while not self.ready and self.unpack():
            pass
        size = min(len(buffer), len(self.ready))
        buffer[:size] = self.ready[:size]
        self.ready = self.ready[size:]
        return size

    def unpack(self) -> bool:
        """Unpack the next compressed bytes; False where there are none."""
        content = self.left or self.packed.read(PACKED_BYTES)
        self.left = b""
        if not content:
            if self.frame is not None:
                raise zstandard.ZstdError("the data ends inside a frame")
            return False
        frame = self.frame or zstandard.ZstdDecompressor().decompressobj()
        self.ready = memoryview(frame.decompress(content))
        self.left = frame.unused_data if frame.eof else b""
        self.frame = None if frame.eof else frame
        return True


def unpacked(stream: Any, name: str) -> tuple[Any, str]:
    """A buffered stream, decompressed as the suffix of `name` says, and the name without that suffix."""
    if name.endswith(".gz"):
        return igzip.GzipFile(fileobj=stream), name.removesuffix(".gz")
    if name.endswith(".zst"):
        return io.BufferedReader(Unzstd(stream)), name.removesuffix(".zst")
    return io.BufferedReader(stream), name


def line_runs(stream: Any, file: str, start: bytes = b"") -> Iterator[Lines]:
    """The whole lines of `start` and `stream`, about BLOCK_BYTES at once.

    Of a line of more than LONGEST_LINE bytes some more than these are given, not all.
    """
    first, rest = 0, (start or stream.read(len(BOM))).removeprefix(BOM)
    while chunk := stream.read(BLOCK_BYTES):
        end = chunk.rfind(b"\n") + 1
        if end:
            lines = Lines(file, first, b"".join([rest, memoryview(chunk)[:end]]))
            yield lines
            first += lines.content.count(b"\n")
            rest = chunk[end:]
        else:
            rest = (rest + chunk)[: LONGEST_LINE + 1]
    if rest:
        yield Lines(file, first, rest)
