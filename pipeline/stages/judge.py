"""Score every candidate of an iteration with the judge of the recipe.

python -m pipeline.stages.judge ITERATION CANDIDATES MODEL OUT
"""

from pathlib import Path

import polars as pl

from pipeline import edge, tables
from pipeline.engines.judging import JudgeParams, scores
from pipeline.params import load
from pipeline.schemas import CANDIDATES, JUDGMENTS


def made(iteration: str, candidates: Path, model: Path) -> pl.DataFrame:
    """A score for each candidate (schemas.JUDGMENTS)."""
    return judged(tables.read(CANDIDATES, candidates / "candidates.parquet"), model)


def judged(candidates: pl.DataFrame, model: Path) -> pl.DataFrame:
    """A score for each of `candidates` from the judge of the recipe."""
    return scores(candidates, model, load("judge", JudgeParams))


def write(judgments: pl.DataFrame, out: Path) -> None:
    """Write what was made."""
    tables.write(JUDGMENTS, judgments, out / "judgments.parquet")


def main() -> None:
    """Read candidates, write a score for each."""
    iteration, *inputs, out = edge.arguments("ITERATION", "CANDIDATES", "MODEL", "OUT")
    write(made(str(iteration), *inputs), out)


if __name__ == "__main__":
    edge.run("judge", main)
