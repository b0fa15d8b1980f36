"""Tokenise the demonstrations with the one chat renderer and pack them into blocks.

Blocks keep document boundaries (`seq_lengths`), so that no attention crosses documents (paper,
appendix B: packed SFT at 8192). What does not fit is dropped, split or truncated by the recipe
(`pieces.cut`); packing.json tells how many documents and tokens that were.

Twice the demonstrations do not need twice the memory: their tokens wait on disk, in the folder OUT, while
the blocks are found from their lengths.

    python -m pipeline.stages.pack SFT_MIX MODEL OUT
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import Field

from pipeline import edge, tables
from pipeline.bins import arrange
from pipeline.chat import Chat
from pipeline.documents import documents, unmarked
from pipeline.errors import UserError
from pipeline.execution import execution
from pipeline.ledger import Ledger, write_json
from pipeline.packing import frame, gather
from pipeline.packing_account import PackingAccount
from pipeline.params import Params, load
from pipeline.pieces import Overflow, cut, offsets
from pipeline.schemas import BLOCKS, SFT_MIX
from pipeline.token_spill import TokenSpill

#: Tokens of the blocks that are in memory at once.
CHUNK_TOKENS = 1 << 22


class PackParams(Params):
    """`block` in tokens; `overflow` says what happens to a document over it (see `pieces.cut`)."""

    block: int = Field(ge=32)
    overflow: Overflow


def main() -> None:
    """Read demonstrations, write blocks, the ledger and the account."""
    mix, model, out = edge.arguments("SFT_MIX", "MODEL", "OUT")
    params = load("pack", PackParams)
    rows = tables.batches(SFT_MIX, mix / "demonstrations.parquet")
    ledger = Ledger("pack", "demonstrations")
    account = packed(rows, Chat.load(model), params, out, ledger)
    ledger.close(account.documents.read, account.documents.kept, out)


def packed(
    demonstrations: Iterable[pl.DataFrame], chat: Chat, params: PackParams, out: Path, ledger: Ledger
) -> PackingAccount:
    """Write blocks.parquet (schemas.BLOCKS) and packing.json to `out`; what is dropped goes to the ledger.

    demonstrations: rows of SFT_MIX in key order, in parts of any size. Raises UserError where no block comes
    out.
    """
    account = PackingAccount(params.block, params.overflow)
    with TokenSpill(execution().state) as spill:
        for rows in demonstrations:
            spilled(rows, chat, params, spill, ledger, account)
        written(spill, account, out / "blocks.parquet")
    write_json(out / "packing.json", account.figures())
    return account


def spilled(
    rows: pl.DataFrame,
    chat: Chat,
    params: PackParams,
    spill: TokenSpill,
    ledger: Ledger,
    account: PackingAccount,
) -> None:
    """Tokenise rows and put the pieces that go into blocks to the spill."""
    tokens, starts = documents(rows["messages"].to_list(), chat)
    pieces = cut(tokens, starts, params.block, params.overflow)
    spill.add(gather(tokens, pieces, np.arange(len(pieces.first))), pieces.length)
    account.add(tokens, starts, pieces)
    verdict = pieces.drops.select("reason", "threshold", value="length")
    ledger.drop(pl.concat([rows[pieces.drops["row"]], verdict], how="horizontal"), id_column="id")


def written(spill: TokenSpill, account: PackingAccount, path: Path) -> None:
    """Find the blocks of the spilled pieces and write them."""
    lengths = spill.lengths()
    if not len(lengths):
        dropped = account.documents.dropped
        raise UserError(
            f"pack: expected at least one block, found none: {dropped} demonstrations, all of them over "
            f"pack.block = {account.block} tokens or without an answer; raise pack.block in params.yaml"
        )
    bins = arrange(lengths, account.block)
    account.blocks = len(bins.ends)
    starts = offsets(lengths)
    with tables.Writer(BLOCKS, path) as writer:
        for first, end in chunks(len(bins.ends), max(1, CHUNK_TOKENS // account.block)):
            begin = int(bins.ends[first - 1]) if first else 0
            chosen = bins.order[begin : bins.ends[end - 1]]
            tokens, labels = unmarked(spill.read(starts[chosen], lengths[chosen]))
            blocks = frame(tokens, labels, lengths[chosen], bins.ends[first:end] - begin)
            numbers = pl.Series("block", np.arange(first, end))
            writer.write(blocks.insert_column(0, numbers))


def chunks(count: int, size: int) -> Iterator[tuple[int, int]]:
    """From 0 to `count` in steps of `size`: where each begins and ends."""
    for first in range(0, count, size):
        yield first, min(first + size, count)


if __name__ == "__main__":
    edge.run("pack", main)
