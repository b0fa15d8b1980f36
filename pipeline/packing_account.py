"""What packing did with every document and every token: nothing is cut or dropped without a number here."""

from dataclasses import asdict, dataclass, field

import numpy as np

from pipeline.pieces import Overflow, Pieces


@dataclass
class Documents:
    """Documents by what became of them; `cut` and `split` ones are kept."""

    read: int = 0
    kept: int = 0
    dropped: int = 0
    cut: int = 0
    """Kept without their end."""
    split: int = 0
    """Kept in several pieces."""


@dataclass
class Tokens:
    """Tokens by what became of them."""

    read: int = 0
    kept: int = 0
    dropped: int = 0
    """Of dropped documents."""
    cut: int = 0
    """Ends of documents that were cut."""
    trained: int = 0
    """Kept ones that training predicts: with a loss, and not the first of their piece."""


@dataclass
class PackingAccount:
    """The account of one table of blocks (`packing.json`)."""

    block: int
    overflow: Overflow
    documents: Documents = field(default_factory=Documents)
    tokens: Tokens = field(default_factory=Tokens)
    pieces: int = 0
    blocks: int = 0

    def add(self, labels: np.ndarray, starts: np.ndarray, pieces: Pieces) -> None:
        """Enter documents; `labels` and `starts` as in `pieces.cut`."""
        lengths = np.diff(starts)
        parts = np.bincount(pieces.row, minlength=len(lengths))
        kept = np.bincount(pieces.row, pieces.length, len(lengths)).astype(np.int64)
        stays = parts > 0
        self.documents.read += len(lengths)
        self.documents.kept += int(stays.sum())
        self.documents.dropped += pieces.drops.height
        self.documents.cut += int((kept < lengths)[stays].sum())
        self.documents.split += int((parts > 1).sum())
        self.tokens.read += int(lengths.sum())
        self.tokens.kept += int(kept.sum())
        self.tokens.dropped += int(pieces.drops["length"].sum())
        self.tokens.cut += int((lengths - kept)[stays].sum())
        self.tokens.trained += trained(labels, pieces)
        self.pieces += len(pieces.row)

    def figures(self) -> dict[str, object]:
        """All of it and `fill`, the share of the blocks' room that tokens take; asserts that it adds up."""
        seen, tokens = self.documents, self.tokens
        assert seen.read == seen.kept + seen.dropped, f"documents do not add up: {seen}"
        assert tokens.read == tokens.kept + tokens.dropped + tokens.cut, f"tokens do not add up: {tokens}"
        room = self.blocks * self.block
        return asdict(self) | {"fill": round(tokens.kept / room, 6) if room else None}


def trained(labels: np.ndarray, pieces: Pieces) -> int:
    """How many labels of the pieces are predicted in training."""
    if not len(pieces.first):
        return 0
    # Between two bounds the sums alternate: inside a piece, between it and the next.
    bounds = np.stack([pieces.first + 1, pieces.first + pieces.length], axis=1).ravel()
    total = np.concatenate([[0], np.cumsum(labels >= 0)])
    return int((total[bounds[1::2]] - total[bounds[::2]]).sum())
