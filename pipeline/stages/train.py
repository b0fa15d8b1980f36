"""Train the policy of an iteration with DPO on its pairs.

The paper starts from the policy of the iteration before and keeps pi_0 as the reference model
(Algorithm 2); the reference code moves the reference silently. Both are named here.

    python -m pipeline.stages.train ITERATION PAIRS PREVIOUS PI0 OUT CURVES TRAINING
"""

from typing import Literal

import polars as pl

from pipeline import edge, tables
from pipeline.engines.dpo import DpoParams, optimise
from pipeline.params import load
from pipeline.schemas import PAIRS

Policy = Literal["pi0", "previous"]


class TrainParams(DpoParams):
    """Which policy training starts from and which it is measured against."""

    start: Policy
    reference: Policy


def with_place(pairs: pl.DataFrame) -> pl.DataFrame:
    """The pairs with the origin columns that a ledger needs: their place in pairs.parquet."""
    place = {"source": pl.col("iteration"), "file": pl.lit("pairs.parquet"), "item": pl.lit(0, pl.Int64)}
    return pairs.with_row_index("row").with_columns(pl.col("row").cast(pl.Int64), **place)


def main() -> None:
    """Read the pairs, write the policy of this iteration."""
    names = ("ITERATION", "PAIRS", "PREVIOUS", "PI0", "OUT", "CURVES", "TRAINING")
    iteration, pairs, previous, pi0, out, curves, folder = edge.arguments(*names)
    params = load("train", TrainParams)
    policies = {"pi0": pi0, "previous": previous}
    rows = with_place(tables.read(PAIRS, pairs / "pairs.parquet"))
    start, reference = policies[params.start], policies[params.reference]
    optimise(f"train@{iteration}", rows, start, reference, params, out, curves, folder)


if __name__ == "__main__":
    edge.run("train", main)
