"""Which part of each document goes into blocks, and which documents are left out: the recipe's choice.

A document is a row of tokens with labels: the token itself where training predicts it, a negative number
where it does not. Nothing here looks at the tokens.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

Overflow = Literal["drop", "split", "truncate", "truncate_answer"]
DROPS = {"row": pl.Int64, "reason": pl.String, "length": pl.Int64, "threshold": pl.Int64}
REASONS = ("kept", "too_long", "answer_too_long", "no_loss")


@dataclass(frozen=True)
class Pieces:
    """What is kept of documents, in their order, and which documents are not kept at all."""

    row: np.ndarray
    """The document of each piece."""
    first: np.ndarray
    """Its first token in the flat values of all documents."""
    length: np.ndarray
    """Its tokens."""
    drops: pl.DataFrame
    """Columns DROPS: row of the document, reason, its length in tokens, threshold in tokens or null."""


def offsets(lengths: np.ndarray) -> np.ndarray:
    """Where each of rows of these lengths starts among the values of all, and the end of the last."""
    ends = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=ends[1:])
    return ends


def cut(labels: np.ndarray, starts: np.ndarray, block: int, overflow: Overflow) -> Pieces:
    """The pieces of documents that go into blocks of `block` tokens.

    labels: of all documents, one after the other; starts: of each document, and the end of the last.
    A document longer than a block is

    - `drop`: dropped, too_long (threshold: `block`);
    - `split`: cut into pieces of a block, the last one shorter; no token is lost;
    - `truncate`: cut behind the last answer that ends inside a block, so that no answer is trained on
      without its end; dropped where none ends there, answer_too_long (threshold: `block`);
    - `truncate_answer`: cut after a block, wherever that is.

    Dropped in any case, no_loss: a document none of whose pieces has a label besides its first, which
    nothing predicts.
    """
    if block < 2:
        raise ValueError(f"block: expected at least 2 tokens, found {block}")
    lengths = np.diff(starts)
    kept, reasons = lengths.copy(), np.zeros(len(lengths), np.int8)
    for row in np.flatnonzero(lengths > block).tolist():
        if overflow == "drop":
            reasons[row] = REASONS.index("too_long")
        elif overflow == "truncate":
            kept[row] = whole_answers(labels[starts[row] : starts[row] + block + 1])
            reasons[row] = 0 if kept[row] else REASONS.index("answer_too_long")
        elif overflow == "truncate_answer":
            kept[row] = block
    parts = -(-kept // block)
    row = np.repeat(np.arange(len(lengths)), parts)
    passed = block * (np.arange(len(row)) - np.repeat(offsets(parts)[:-1], parts))
    first, length = starts[row] + passed, np.minimum(kept[row] - passed, block)
    useful = np.zeros(len(lengths), bool)
    useful[row[trains(labels, first, length)]] = True
    reasons[~useful & (reasons == 0)] = REASONS.index("no_loss")
    stays = reasons[row] == 0
    return Pieces(row[stays], first[stays], length[stays], dropped(reasons, lengths, block))


def whole_answers(labels: np.ndarray) -> int:
    """How many tokens of a document's start end with an answer's end, given one more label than fits."""
    ends = np.flatnonzero((labels[:-1] >= 0) & (labels[1:] < 0))
    return int(ends[-1]) + 1 if len(ends) else 0


def trains(labels: np.ndarray, first: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Whether each piece has a label besides its first, which nothing predicts."""
    found = np.zeros(len(first), bool)
    several = length > 1
    found[several] = labels[(first + length - 1)[several]] >= 0
    # Nearly every document ends with an answer; the others are read whole.
    for piece in np.flatnonzero(~found & several).tolist():
        found[piece] = (labels[first[piece] + 1 : first[piece] + length[piece]] >= 0).any()
    return found


def dropped(reasons: np.ndarray, lengths: np.ndarray, block: int) -> pl.DataFrame:
    """The dropped documents, columns DROPS, from each document's place in REASONS."""
    rows = np.flatnonzero(reasons)
    names = [REASONS[reason] for reason in reasons[rows].tolist()]
    thresholds = [None if name == "no_loss" else block for name in names]
    columns = {"row": rows, "reason": names, "length": lengths[rows], "threshold": thresholds}
    return pl.DataFrame(columns, DROPS)
