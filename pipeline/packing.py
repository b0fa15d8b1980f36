"""Pack tokenised documents into blocks of a fixed size, so that training wastes nothing on padding.

Best-fit decreasing: the longest document first, each into the block whose free space fits it most
tightly. The result depends on the documents and their ids alone, not on the order of the rows.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Literal

import numpy as np
import polars as pl

Overflow = Literal["drop", "split", "truncate"]
TOKENS = pl.List(pl.Int32)
BLOCKS = {"input_ids": TOKENS, "labels": TOKENS, "seq_lengths": TOKENS}
DROPS = {"row": pl.Int64, "reason": pl.String, "length": pl.Int64, "threshold": pl.Int64}
NO_LOSS = -100
#: A document, or a piece of one: row in the caller's frame, first token, end.
Piece = tuple[int, int, int]


def pack(
    documents: pl.DataFrame, block: int, overflow: Overflow, id: str = "id"
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Blocks of at most `block` tokens, and what was dropped.

    documents: columns `id` (unique), input_ids, labels (-100 = no loss), both List(Int32).
    overflow says what happens to a document longer than a block: `drop` it, `split` it into pieces
    of a block, or `truncate` it, keeping its start.
    Blocks: input_ids, labels, seq_lengths (one per document), sorted by their smallest id.
    Drops, sorted by row: row (index in `documents`), reason, length in tokens, threshold. The reasons:
    too_long (threshold `block`), and no_loss (null) where nothing that is kept of it has a label.
    """
    if block < 2:
        raise ValueError(f"block: expected at least 2 tokens, found {block}")
    if documents[id].n_unique() != documents.height or documents[id].null_count():
        raise ValueError(f"{id}: expected one document per id, found repeated or missing ids")
    lengths = documents["input_ids"].list.len().to_numpy()
    assert (lengths == documents["labels"].list.len().to_numpy()).all(), (
        "labels and input_ids differ in length"
    )
    ranks = documents[id].rank("ordinal").to_numpy()
    tokens, labels, starts = flat(documents["input_ids"]), flat(documents["labels"]), offsets(lengths)

    pieces: list[Piece] = []
    drops: list[tuple[int, str, int, int | None]] = []
    for row, length in enumerate(lengths.tolist()):
        if length > block and overflow == "drop":
            drops.append((row, "too_long", length, block))
            continue
        own = [(row, first, end) for first, end in cuts(length, block, overflow)]
        if any(trains(labels[starts[row] + first : starts[row] + end]) for _, first, end in own):
            pieces += own
        else:
            drops.append((row, "no_loss", length, None))
    bins = best_fit(sorted(pieces, key=lambda p: (p[1] - p[2], ranks[p[0]], p[1])), block)
    bins.sort(key=lambda pieces: min((ranks[row], first) for row, first, _ in pieces))
    rows = {
        "input_ids": [join(tokens, starts, pieces) for pieces in bins],
        "labels": [join(labels, starts, pieces) for pieces in bins],
        "seq_lengths": [np.array([end - first for _, first, end in pieces], np.int32) for pieces in bins],
    }
    return pl.DataFrame(rows, BLOCKS), pl.DataFrame(drops, DROPS, orient="row")


def flat(column: pl.Series) -> np.ndarray:
    """All values of a list column, one after the other."""
    return column.explode(empty_as_null=False).to_numpy()


def offsets(lengths: np.ndarray) -> np.ndarray:
    """Where each row starts in the flat values."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def cuts(length: int, block: int, overflow: Overflow) -> Iterator[tuple[int, int]]:
    """First token and end of each piece of a document."""
    if overflow == "truncate":
        yield 0, min(length, block)
        return
    for first in range(0, length, block):
        yield first, min(first + block, length)


def trains(labels: np.ndarray) -> bool:
    """Whether a piece has a label besides its first, which nothing predicts."""
    return bool((labels[1:] != NO_LOSS).any())


def best_fit(pieces: list[Piece], block: int) -> list[list[Piece]]:
    """Each piece, in the given order, into the open block whose space is the least sufficient."""
    bins: list[list[Piece]] = []
    space: list[tuple[int, int]] = []  # (free tokens, block), sorted: bisect finds the tightest fit
    for piece in pieces:
        size = piece[2] - piece[1]
        at = bisect_left(space, (size, -1))
        if at == len(space):
            bins.append([piece])
            free, index = block - size, len(bins) - 1
        else:
            free, index = space.pop(at)
            bins[index].append(piece)
            free -= size
        if free >= 2:
            insort(space, (free, index))
    return bins


def join(values: np.ndarray, starts: np.ndarray, pieces: list[Piece]) -> np.ndarray:
    """The values of the pieces of one block, one after the other."""
    return np.concatenate([values[starts[row] + first : starts[row] + end] for row, first, end in pieces])
