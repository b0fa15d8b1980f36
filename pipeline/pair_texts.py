"""The texts of pairs, which name candidates: for what trains on them, shows or publishes them."""

from pathlib import Path

import polars as pl

from pipeline import tables
from pipeline.schemas import CANDIDATES, PAIRS

SIDES = ("chosen", "rejected")
READS = ("candidate_id", "prompt", "response")
"""The columns of schemas.CANDIDATES that hold texts."""


def told_pairs(candidates: Path, pairs: Path) -> pl.DataFrame:
    """The pairs in folder `pairs`, with the texts of the candidates in the other; raises as `tables.read`."""
    answers = tables.columns(CANDIDATES, candidates / "candidates.parquet", READS)
    return with_texts(tables.read(PAIRS, pairs / "pairs.parquet"), answers)


def with_texts(pairs: pl.DataFrame, candidates: pl.DataFrame) -> pl.DataFrame:
    """`pairs` (schemas.PAIRS) with prompt, chosen and rejected from the columns READS of their candidates."""
    places = candidates.select("candidate_id").with_row_index("row")
    rows = {
        side: pairs.select(candidate_id=f"{side}_id").join(
            places, on="candidate_id", how="left", validate="m:1", maintain_order="left"
        )["row"]
        for side in SIDES
    }
    missing = sum(own.null_count() for own in rows.values())
    assert missing == 0, f"{missing} answers of pairs are not among the candidates"
    answers = {side: candidates["response"].gather(own).alias(side) for side, own in rows.items()}
    return pairs.with_columns(
        candidates["prompt"].gather(rows["chosen"]),
        **{
            side: pl.concat_list(pl.struct(role=pl.lit("assistant"), content=pl.lit(text)))
            for side, text in answers.items()
        },
    )
