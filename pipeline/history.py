"""Which pairs an iteration trains on: its own, and as the recipe says those before it and those of a mix.

`current` is D_t, `cumulative` D_1 .. D_t along the chain of `prev` (paper, Algorithm 2); a mix adds D_off to
either (hybrid learning). It is a plain union: every pair counts once and alike, wherever it comes from.
"""

from pathlib import Path
from typing import Literal

import polars as pl

from pipeline import tables
from pipeline.ledger import write_json
from pipeline.schemas import HISTORY

OFFLINE = "offline"
"""Where pairs are from that no iteration made."""

Data = Literal["current", "cumulative"]


def of_iteration(pairs: pl.DataFrame) -> pl.DataFrame:
    """The pairs of one iteration (schemas.PAIRS, with texts) as history; their origin is their place in
    pairs.parquet."""
    place = {"source": pl.col("iteration"), "file": pl.lit("pairs.parquet"), "item": pl.lit(0, pl.Int64)}
    placed = pairs.with_row_index("row").with_columns(
        pl.col("row").cast(pl.Int64), **place, since=pl.col("iteration")
    )
    return placed.select(list(HISTORY.columns))


def of_mix(pairs: pl.DataFrame) -> pl.DataFrame:
    """Pairs of a mix (schemas.MIX) as history; nobody cut their answers."""
    ended = {f"{side}_ended": pl.lit(value=True) for side in ("chosen", "rejected")}
    return pairs.with_columns(since=pl.lit(OFFLINE), **ended).select(list(HISTORY.columns))


def united(*parts: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The pairs of all parts in their order, each once; and those that came again, with the reason."""
    rows = pl.concat(parts)
    first = pl.col("pair_id").is_first_distinct()
    return rows.filter(first), rows.filter(~first).with_columns(reason=pl.lit("the same pair again"))


def read(folder: Path) -> pl.DataFrame:
    """What an iteration trains on; of t0, what every iteration does besides its own pairs."""
    return tables.read(HISTORY, folder / "history.parquet")


def kept(before: pl.DataFrame, data: Data) -> pl.DataFrame:
    """What an iteration adds to its own pairs of those that the iteration before trained on."""
    return before if data == "cumulative" else before.filter(since=OFFLINE)


def write(folder: Path, pairs: pl.DataFrame) -> None:
    """Write pairs, and how many there are of each part."""
    tables.write(HISTORY, pairs, folder / "history.parquet")
    parts = pairs.group_by("since").len().sort("since").iter_rows()
    write_json(folder / "parts.json", dict(parts))
