"""Texts on disk instead of in memory: written once, block by block, and read back as one mapped column."""

import mmap
import tempfile
from pathlib import Path
from weakref import WeakSet

import polars as pl
import pyarrow as pa
from pyarrow import ipc

SCHEMA = pa.schema([("text", pa.large_string())])

MAPPED: WeakSet[mmap.mmap] = WeakSet()
"""The files that columns in use are mapped from."""


class Spill:
    """A column of texts in a temporary file without a name.

    The file is gone with the last column mapped from it, even where the process is killed. What has been
    looked at stays in memory until the kernel needs the room, or until `let_go`.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (it lives as long as the mapping)
        self.writer = ipc.new_file(self.file, SCHEMA)

    def add(self, texts: pl.Series) -> None:
        """Append texts."""
        (column,) = texts.to_frame("text").to_arrow(compat_level=pl.CompatLevel.oldest()).columns
        for chunk in column.chunks:
            self.writer.write_batch(pa.record_batch([chunk], schema=SCHEMA))

    def column(self) -> pl.Series:
        """All texts in the order in which they came; nothing can be added any more."""
        self.writer.close()
        self.file.flush()
        mapped = mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_READ)
        self.file.close()
        MAPPED.add(mapped)
        table = ipc.open_file(pa.py_buffer(mapped)).read_all()
        # One chunk: that copies 16 bytes a text, not the text, and slices and gathers are then direct.
        return pl.Series("text", table["text"], dtype=pl.String).rechunk()


def let_go() -> None:
    """Give back the memory of all mapped texts: the next look at one reads it again."""
    for mapped in MAPPED:
        mapped.madvise(mmap.MADV_DONTNEED)
