"""Score the validation answers of all policies with a reward model that the loop never saw.

A policy that is trained on the judgments of one reward model may please that one alone. So a model from
other sources (`rewards` in the recipe) reads the same answers; nothing is chosen by what it says.

    python -m pipeline.stages.control BASELINES ITERATIONS MODEL OUT
"""

from pathlib import Path
from typing import Any

import polars as pl
from pydantic import Field

from pipeline import edge, tables
from pipeline.chat import Chat
from pipeline.engines.cached import Dtype, ScorerEngine
from pipeline.engines.judging import rewards
from pipeline.params import Params, load
from pipeline.schemas import CONTROLS, EVALUATIONS


class ControlParams(Params):
    """Which reward model reads the answers, and how it is run."""

    model: str
    engine: ScorerEngine
    dtype: Dtype
    max_length: int = Field(ge=32)


def made(baselines: Path, iterations: Path, model: Path) -> pl.DataFrame:
    """The reward of each answer (schemas.CONTROLS)."""
    folders = [baselines, *(iterations / name / "evaluate" for name in load("iterations", dict[str, Any]))]
    rows = pl.concat([tables.read(EVALUATIONS, folder / "evaluations.parquet") for folder in folders])
    answers = rows.select("prompt", "response").iter_rows()
    values = rewards(model, Chat.load(model), answers, load("control", ControlParams))
    return rows.select("policy", "prompt_id", reward=pl.Series(values, dtype=pl.Float64))


def write(rows: pl.DataFrame, out: Path) -> None:
    """Write what was made."""
    tables.write(CONTROLS, rows, out / "controls.parquet")


def main() -> None:
    """Read all evaluations, write what the control says of their answers."""
    *inputs, out = edge.arguments("BASELINES", "ITERATIONS", "MODEL", "OUT")
    write(made(*inputs), out)


if __name__ == "__main__":
    edge.run("control", main)
