"""Pack tokenised documents into blocks of a fixed size, so that training wastes nothing on padding.

Which document goes into which block is decided from lengths alone (`bins.arrange`). The result depends on the
documents and their order by id, not on the order of the rows.
"""

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.bins import arrange
from pipeline.pieces import Overflow, Pieces, cut, offsets

TOKENS = pl.List(pl.Int32)
BLOCKS = {"input_ids": TOKENS, "labels": TOKENS, "seq_lengths": TOKENS}
NO_LOSS = -100


def pack(
    documents: pl.DataFrame, block: int, overflow: Overflow, id: str = "id"
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Blocks of at most `block` tokens, and what was dropped.

    documents: columns `id` (unique), input_ids, labels (NO_LOSS = no loss), both List(Int32).
    overflow says what happens to a document longer than a block, see `pieces.cut`.
    Blocks: input_ids, labels, seq_lengths (one per document), sorted by their smallest id; in a block the
    longest document stands first. Drops: columns pieces.DROPS, sorted by row.
    Raises ValueError where ids are repeated or missing, or `block` is below 2.
    """
    order = documents[id].arg_sort()
    ids = documents[id].gather(order)
    if ids.null_count() or (ids == ids.shift(1)).any():
        raise ValueError(f"{id}: expected one document per id, found repeated or missing ids")
    (tokens, starts), (labels, label_starts) = flat(documents["input_ids"]), flat(documents["labels"])
    assert np.array_equal(starts, label_starts), "labels and input_ids differ in length"
    pieces = cut(labels, starts, block, overflow)
    by_id = ordered(pieces, order.to_numpy())
    bins = arrange(pieces.length[by_id], block)
    chosen = by_id[bins.order]
    blocks = frame(
        gather(tokens, pieces, chosen), gather(labels, pieces, chosen), pieces.length[chosen], bins.ends
    )
    return blocks, pieces.drops


def flat(column: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """All values of a list column, and where each row starts, with the end of the last."""
    assert not column.null_count(), f"{column.name}: missing values"
    values = column.explode(empty_as_null=False).to_numpy()
    return values, offsets(column.list.len().to_numpy())


def ordered(pieces: Pieces, documents: np.ndarray) -> np.ndarray:
    """The numbers of the pieces, as their documents follow each other in `documents`."""
    count = np.bincount(pieces.row, minlength=len(documents))
    own = count[documents]
    return np.repeat(offsets(count)[documents] - offsets(own)[:-1], own) + np.arange(len(pieces.row))


def gather(values: np.ndarray, pieces: Pieces, chosen: np.ndarray) -> np.ndarray:
    """The tokens of the chosen pieces, one after the other.

    Arrow takes each piece as one binary value and copies it whole: ten times as fast as token by token.
    """
    if not len(chosen):
        return values[:0]
    bounds = np.stack([pieces.first, pieces.first + pieces.length], axis=1).ravel()
    apart = np.append(True, bounds[1:] != bounds[:-1])  # neighbouring pieces share a bound
    strings = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(),
        int(apart.sum()) - 1,
        [None, pa.py_buffer(bounds[apart] * values.itemsize), pa.py_buffer(values)],
    )
    places = np.cumsum(apart)[::2] - 1
    taken = pc.take(strings, pa.array(places[chosen]), boundscheck=False)
    return np.frombuffer(taken.buffers()[2], values.dtype, int(pieces.length[chosen].sum()))


def frame(tokens: np.ndarray, labels: np.ndarray, sizes: np.ndarray, ends: np.ndarray) -> pl.DataFrame:
    """Blocks of flat tokens and labels: `sizes` are those of the documents, `ends` count documents."""
    last = offsets(sizes)[ends]
    columns = {
        "input_ids": lists(tokens, last),
        "labels": lists(labels, last),
        "seq_lengths": lists(sizes.astype(np.int32), ends),
    }
    return pl.DataFrame(columns, BLOCKS)


def lists(values: np.ndarray, ends: np.ndarray) -> pl.Series:
    """A list column over `values`, without a copy."""
    starts = pa.array(np.concatenate([[0], ends]))
    return pl.Series(pa.LargeListArray.from_arrays(starts, pa.array(values)))
