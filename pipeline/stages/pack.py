"""Tokenise the demonstrations with the one chat renderer and pack them into blocks.

Blocks keep document boundaries (`seq_lengths`), so that no attention crosses documents (paper,
appendix B: packed SFT at 8192). What does not fit is dropped, split or truncated by the recipe.

    python -m pipeline.stages.pack SFT_MIX MODEL OUT
"""

from pathlib import Path
from typing import Literal

import polars as pl
from pydantic import Field

from pipeline import edge, tables
from pipeline.chat import Chat
from pipeline.errors import UserError
from pipeline.ledger import Ledger
from pipeline.packing import pack
from pipeline.params import Params, load
from pipeline.rendering import conversation_ids
from pipeline.schemas import BLOCKS, SFT_MIX


class PackParams(Params):
    """`block` in tokens; `overflow` says what happens to a document over it."""

    block: int = Field(ge=32)
    overflow: Literal["drop", "split", "truncate"]


def packed(demonstrations: pl.DataFrame, chat: Chat, params: PackParams, ledger: Ledger) -> pl.DataFrame:
    """Blocks of demonstrations (schemas.BLOCKS); what is dropped goes to the ledger."""
    documents = conversation_ids(demonstrations, chat)
    blocks, drops = pack(documents, block=params.block, overflow=params.overflow)
    verdict = drops.select("reason", value="length", threshold="threshold")
    ledger.drop(pl.concat([demonstrations[drops["row"]], verdict], how="horizontal"), id_column="id")
    return blocks.with_row_index("block").cast({"block": pl.Int64})


def main() -> None:
    """Read demonstrations, write blocks and the ledger."""
    mix, model, out = edge.arguments("SFT_MIX", "MODEL", "OUT")
    params = load("pack", PackParams)
    demonstrations = tables.read(SFT_MIX, mix / "demonstrations.parquet")
    ledger = Ledger("pack", "demonstrations")
    blocks = packed(demonstrations, Chat.load(Path(model)), params, ledger)
    if blocks.is_empty():
        raise UserError(
            f"pack: expected at least one block, found none: all {demonstrations.height} demonstrations "
            f"are over pack.block = {params.block} tokens; raise pack.block in params.yaml"
        )
    kept = demonstrations.height - sum(frame.height for frame in ledger.drops)
    tables.write(BLOCKS, blocks, out / "blocks.parquet")
    ledger.close(demonstrations.height, kept, out)


if __name__ == "__main__":
    edge.run("pack", main)
