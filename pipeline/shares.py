"""How much of a source a mix takes: calibrated margins and weights."""

from collections.abc import Mapping
from fractions import Fraction

import polars as pl
from pydantic import Field

from pipeline.params import Params

MARGIN_DECIMALS = 9
"""Margins are differences of floats: what differs later than this is the same margin."""


class DropShare(Params):
    """A margin given by what it costs: the paper excludes small margins, which "roughly deletes 10%"."""

    drop: float = Field(gt=0, lt=1)
    """Share of the source's scored pairs to drop."""


def margin() -> pl.Expr:
    """By how much the chosen answer was scored higher; null without scores."""
    return (pl.col("chosen_score") - pl.col("rejected_score")).round(MARGIN_DECIMALS)


def calibrated(margins: pl.Series, share: float) -> float | None:
    """The observed margin as threshold whose dropped share, of those below it, comes nearest to `share`.

    Of two that come equally near, the lower one. None where no margin is known.
    """
    counts = margins.drop_nulls().to_frame("margin").group_by("margin").len().sort("margin")
    if counts.is_empty():
        return None
    below = counts["len"].cum_sum() - counts["len"]
    distance = (below / counts["len"].sum() - share).abs()
    return float(counts["margin"][int(distance.to_numpy().argmin())])


def proportional(counts: Mapping[str, int], weights: Mapping[str, float]) -> dict[str, int]:
    """How many of `counts` to keep, so that they stand to each other as `weights`.

    The scarcest source keeps all. Weights are read as the decimal numbers that they are written as: 0.1 to
    0.3 is exactly 1 to 3.
    """
    exact = {name: Fraction(str(weight)) for name, weight in weights.items()}
    scale = min(counts[name] / weight for name, weight in exact.items())
    return {name: int(scale * weight) for name, weight in exact.items()}
