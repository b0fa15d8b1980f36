"""Score every candidate of an iteration with the judge of the recipe.

python -m pipeline.stages.judge ITERATION CANDIDATES MODEL OUT
"""

from pipeline import edge, tables
from pipeline.engines.judging import JudgeParams, scores
from pipeline.params import load
from pipeline.schemas import CANDIDATES, JUDGMENTS


def main() -> None:
    """Read candidates, write a score for each."""
    _, candidates, model, out = edge.arguments("ITERATION", "CANDIDATES", "MODEL", "OUT")
    params = load("judge", JudgeParams)
    rows = tables.read(CANDIDATES, candidates / "candidates.parquet")
    tables.write(JUDGMENTS, scores(rows, model, params), out / "judgments.parquet")


if __name__ == "__main__":
    edge.run("judge", main)
