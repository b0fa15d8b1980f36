"""The curves of the training runs, read from the TSV files that the training stages leave."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from pipeline.errors import UserError
from pipeline.report.inputs import Folders, Recipe

#: Series in the order in which they are shown, with their titles.
SERIES = {
    "loss": "Loss",
    "accuracy": "Accuracy on train pairs",
    "token_accuracy": "Labels that the model finds most likely",
    "margin": "Reward margin on train pairs",
    "chosen_reward": "Reward of chosen answers",
    "rejected_reward": "Reward of rejected answers",
    "chosen_logp": "Log-probability of a chosen token",
    "rejected_logp": "Log-probability of a rejected token",
    "grad_norm": "Gradient norm",
    "learning_rate": "Learning rate",
}


@dataclass(frozen=True)
class Curve:
    """One series of a run."""

    series: str
    steps: list[float]
    values: list[float]


def curve(path: Path) -> Curve:
    """A TSV file with the columns `step` and the name of the file."""
    frame = pl.read_csv(path, separator="\t")
    if not {"step", path.stem} <= set(frame.columns):
        raise UserError(
            f"{path}: expected the columns step and {path.stem}, found {frame.columns}; "
            f"train again with: dvc repro --force {path.parent.name}"
        )
    points = (
        frame.select("step", pl.col(path.stem).cast(pl.Float64))
        .drop_nulls()
        .sort("step", maintain_order=True)
    )
    return Curve(path.stem, points["step"].cast(pl.Float64).to_list(), points[path.stem].to_list())


def training_curves(folders: Folders, recipe: Recipe) -> dict[str, list[Curve]]:
    """The curves of every run that left any, in the order of the pipeline."""
    found = {}
    for run in recipe.runs:
        paths = [folders.curves / run / f"{series}.tsv" for series in SERIES]
        if curves := [curve(path) for path in paths if path.exists()]:
            found[run] = curves
    return found
