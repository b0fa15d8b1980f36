"""Train the policy of an iteration with DPO on its pairs.

The paper starts from the policy of the iteration before and keeps pi_0 as the reference model
(Algorithm 2); the reference code moves the reference silently. Both are named here.

`checkpoints` names parts of the run after which the policy is kept, too: later iterations may sample
from these as well (paper: exploration by training steps).

    python -m pipeline.stages.train ITERATION PAIRS PREVIOUS PI0 OUT CHECKPOINTS CURVES TRAINING
"""

from pathlib import Path
from typing import Annotated, Literal

import polars as pl
from pydantic import Field, model_validator

from pipeline import edge, tables
from pipeline.engines.dpo import DpoParams, Start, optimise
from pipeline.params import load
from pipeline.schemas import PAIRS
from pipeline.training import Kept

Policy = Literal["pi0", "previous"]


class TrainParams(DpoParams):
    """Which policy training starts from, which it is measured against, and what is kept on the way."""

    start: Policy
    reference: Policy
    checkpoints: tuple[Annotated[float, Field(gt=0, lt=1)], ...]

    @model_validator(mode="after")
    def rising(self) -> "TrainParams":
        """A kept policy is named by its part of the run."""
        if list(self.checkpoints) != sorted(set(self.checkpoints)):
            raise ValueError(f"checkpoints: expected rising parts of the run, found {list(self.checkpoints)}")
        return self


def with_place(pairs: pl.DataFrame) -> pl.DataFrame:
    """The pairs with the origin columns that a ledger needs: their place in pairs.parquet."""
    place = {"source": pl.col("iteration"), "file": pl.lit("pairs.parquet"), "item": pl.lit(0, pl.Int64)}
    return pairs.with_row_index("row").with_columns(pl.col("row").cast(pl.Int64), **place)


def start(iteration: str, pairs: Path, previous: Path, pi0: Path) -> Start:
    """The run that the recipe asks for."""
    params = load("train", TrainParams)
    policies = {"pi0": pi0, "previous": previous}
    rows = with_place(tables.read(PAIRS, pairs / "pairs.parquet"))
    return Start(f"train@{iteration}", rows, policies[params.start], policies[params.reference], params)


def referenced(iteration: str, pairs: Path, previous: Path, pi0: Path) -> None:
    """Ask the row store for all that the stage asks of it; nothing is written elsewhere."""
    start(iteration, pairs, previous, pi0).rows()


def main() -> None:
    """Read the pairs, write the policy of this iteration and those that it was on the way."""
    names = ("ITERATION", "PAIRS", "PREVIOUS", "PI0", "OUT", "CHECKPOINTS", "CURVES", "TRAINING")
    iteration, pairs, previous, pi0, out, checkpoints, curves, folder = edge.arguments(*names)
    run = start(str(iteration), pairs, previous, pi0)
    kept = Kept(checkpoints, load("train", TrainParams).checkpoints)
    optimise(run, out, curves, folder, kept)


if __name__ == "__main__":
    edge.run("train", main)
