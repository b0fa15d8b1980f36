"""Score every candidate of an iteration with the judge of the recipe.

A prompt with a question that got no judgment has no scores: all its candidates are in the ledger, with the
reason and what was answered. `judge.json` says what the judge was asked: prompts, answers, questions, how far
the two orders of a question lie apart, and what a judge that answers in words took.

    python -m pipeline.stages.judge ITERATION CANDIDATES MODEL REFEREE OUT
"""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from pipeline import edge, tables
from pipeline.engines import judging
from pipeline.engines.judging import Judged, JudgeParams
from pipeline.ledger import Ledger, write_json
from pipeline.params import load
from pipeline.schemas import CANDIDATES, JUDGMENTS


@dataclass(frozen=True)
class Made:
    """What the judge says of the candidates of an iteration."""

    judged: Judged
    ledger: Ledger
    """The candidates without a judgment."""
    asked: int


def made(iteration: str, candidates: Path, model: Path, referee: Path) -> Made:
    """A score for each candidate (schemas.JUDGMENTS) or a row of the ledger, and the account."""
    rows = tables.read(CANDIDATES, candidates / "candidates.parquet").with_row_index("row")
    found = judged(rows, model, referee)
    ledger = Ledger(f"judge@{iteration}", "candidates")
    origin = {"source": pl.lit(iteration), "file": pl.lit("candidates.parquet"), "item": pl.lit(0, pl.Int64)}
    lost = found.without.with_columns(pl.col("row").cast(pl.Int64), **origin)
    ledger.drop(lost, id_column="candidate_id")
    return Made(found, ledger, rows.height)


def judged(candidates: pl.DataFrame, model: Path, referee: Path) -> Judged:
    """What the judge of the recipe says of each of `candidates`."""
    return judging.judged(candidates, model, referee, load("judge", JudgeParams))


def write(found: Made, out: Path) -> None:
    """Write what was made."""
    judgments = found.judged.judgments
    tables.write(JUDGMENTS, judgments, out / "judgments.parquet")
    found.ledger.close(found.asked, judgments.height, out)
    write_json(out / "judge.json", found.judged.account)


def main() -> None:
    """Read candidates, write a score for each."""
    iteration, *inputs, out = edge.arguments("ITERATION", "CANDIDATES", "MODEL", "REFEREE", "OUT")
    write(made(str(iteration), *inputs), out)


if __name__ == "__main__":
    edge.run("judge", main)
