"""Scores are numbers: a judge that gives anything else is broken, and no pair may rest on it."""

from pathlib import Path

import polars as pl

from pipeline import tables
from pipeline.errors import UserError
from pipeline.schemas import JUDGMENTS


def demand_finite(judgments: pl.DataFrame, where: str) -> None:
    """UserError that names the first candidate whose score is null, infinite or not a number.

    `judgments` has candidate_id, judge and score; `where` is the file or stage that they are of.
    """
    broken = judgments.filter(~pl.col("score").is_finite().fill_null(value=False))
    if not broken.is_empty():
        first = broken.sort("candidate_id", "judge").row(0, named=True)
        raise UserError(
            f"{where}: expected a finite score of each candidate, found {first['score']} of candidate "
            f"{first['candidate_id']} by {first['judge']} ({broken.height} of {judgments.height} scores); "
            "train that judge again, and look at it with: pairmill doctor judges"
        )


def read_judgments(path: Path) -> pl.DataFrame:
    """candidate_id, judge and score of a table of judgments (schemas.JUDGMENTS).

    Raises UserError as `tables.columns` and `demand_finite` do.
    """
    judgments = tables.columns(JUDGMENTS, path, ("candidate_id", "judge", "score"))
    demand_finite(judgments, str(path))
    return judgments
