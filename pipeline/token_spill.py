"""Pieces of tokens on disk, while it is decided which block each goes to.

The file has no name: it goes with the process, killed or not. It is read by position and never mapped, so
that memory stays what one chunk of blocks needs, however large the file.
"""

import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from pipeline.pieces import offsets


class TokenSpill:
    """A context manager: `add` pieces, then `read` them in any order. Only their lengths are in memory."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file = tempfile.TemporaryFile(dir=folder, buffering=1 << 20)  # noqa: SIM115  (closed by __exit__)
        self.sizes: list[np.ndarray] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()

    def add(self, tokens: np.ndarray, lengths: np.ndarray) -> None:
        """Append pieces of these lengths, whose tokens (Int32) stand one after the other."""
        assert tokens.dtype == np.int32
        assert len(tokens) == lengths.sum(), "the lengths do not add up to the tokens"
        self.file.write(tokens.tobytes())
        self.sizes.append(lengths.astype(np.int32))

    def lengths(self) -> np.ndarray:
        """Tokens of every piece, in the order in which they were added."""
        self.file.flush()
        return np.concatenate([np.empty(0, np.int32), *self.sizes])

    def read(self, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """The tokens of pieces, one after the other; `starts` counts the tokens of all pieces before each."""
        tokens = np.empty(int(lengths.sum()), np.int32)
        place = tokens.data.cast("B")
        bounds = (4 * offsets(lengths)).tolist()
        number = self.file.fileno()
        for start, first, end in zip((4 * starts).tolist(), bounds, bounds[1:], strict=False):
            read = os.preadv(number, [place[first:end]], start)
            assert read == end - first, f"the spilled tokens: expected {end - first} bytes, found {read}"
        return tokens
