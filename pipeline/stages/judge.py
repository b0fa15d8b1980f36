"""Score every candidate of an iteration with each judge of the recipe: rows of one table, told by `judge`.

A prompt with a question that got no judgment has no scores: all its candidates are in the ledger, with the
reason and what was answered. `judge.json` says what the judge was asked: prompts, answers, questions, how far
the two orders of a question lie apart, and what a judge that answers in words took; under `also` the same of
every other judge.

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
from pipeline.planning import is_planning
from pipeline.schemas import CANDIDATES, JUDGMENTS
from pipeline.scores import demand_finite


@dataclass(frozen=True)
class Made:
    """What the judges say of the candidates of an iteration."""

    judged: list[Judged]
    """By each judge of the recipe."""
    ledger: Ledger
    """The candidates without a judgment; `item` is the number of the judge."""
    asked: int


def made(iteration: str, candidates: Path, model: Path, referee: Path) -> Made:
    """A score for each candidate and judge (schemas.JUDGMENTS) or a row of the ledger, and the accounts."""
    rows = tables.read(CANDIDATES, candidates / "candidates.parquet").with_row_index("row")
    found = judged(rows, model, referee)
    ledger = Ledger(f"judge@{iteration}", "judgments")
    origin = {"source": pl.lit(iteration), "file": pl.lit("candidates.parquet")}
    for number, one in enumerate(found):
        if not is_planning():  # whose scores stand in for those to come
            demand_finite(one.judgments, f"judge@{iteration}")
        place = {"row": pl.col("row").cast(pl.Int64), "item": pl.lit(number, pl.Int64)}
        ledger.drop(one.without.with_columns(**origin, **place), id_column="candidate_id")
    return Made(found, ledger, rows.height * len(found))


def judged(candidates: pl.DataFrame, model: Path, referee: Path) -> list[Judged]:
    """What the judges of the recipe say of each of `candidates`."""
    return judging.jury(candidates, model, referee, load("judge", JudgeParams))


def write(found: Made, out: Path) -> None:
    """Write what was made."""
    judgments = pl.concat(one.judgments for one in found.judged)
    tables.write(JUDGMENTS, judgments, out / "judgments.parquet")
    found.ledger.close(found.asked, judgments.height, out)
    first, *others = (one.account for one in found.judged)
    write_json(out / "judge.json", first | {"also": others})


def main() -> None:
    """Read candidates, write a score for each."""
    iteration, *inputs, out = edge.arguments("ITERATION", "CANDIDATES", "MODEL", "REFEREE", "OUT")
    write(made(str(iteration), *inputs), out)


if __name__ == "__main__":
    edge.run("judge", main)
