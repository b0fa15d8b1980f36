"""Score every candidate of an iteration with the judge of the recipe.

`judge.json` says what the judge was asked: prompts, answers, questions, and how far the two orders of a
question lie apart.

    python -m pipeline.stages.judge ITERATION CANDIDATES MODEL REFEREE OUT
"""

from pathlib import Path

import polars as pl

from pipeline import edge, tables
from pipeline.engines import judging
from pipeline.engines.judging import Judged, JudgeParams
from pipeline.ledger import write_json
from pipeline.params import load
from pipeline.schemas import CANDIDATES, JUDGMENTS


def made(iteration: str, candidates: Path, model: Path, referee: Path) -> Judged:
    """A score for each candidate (schemas.JUDGMENTS), and the account."""
    return judged(tables.read(CANDIDATES, candidates / "candidates.parquet"), model, referee)


def judged(candidates: pl.DataFrame, model: Path, referee: Path) -> Judged:
    """What the judge of the recipe says of each of `candidates`."""
    return judging.judged(candidates, model, referee, load("judge", JudgeParams))


def write(found: Judged, out: Path) -> None:
    """Write what was made."""
    tables.write(JUDGMENTS, found.judgments, out / "judgments.parquet")
    write_json(out / "judge.json", found.account)


def main() -> None:
    """Read candidates, write a score for each."""
    iteration, *inputs, out = edge.arguments("ITERATION", "CANDIDATES", "MODEL", "REFEREE", "OUT")
    write(made(str(iteration), *inputs), out)


if __name__ == "__main__":
    edge.run("judge", main)
