"""`pairmill compare`: the policies of several runs of a recipe, such as one per seed, against one of them.

Every run answers the same validation prompts. A prompt's gain is the mean of its gains in the runs, and
prompts are resampled: so an interval tells how the result would move with other prompts. How it moves
with the seed is told by the gain in each run beside it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from pipeline import tables
from pipeline.errors import UserError
from pipeline.ids import seed_for
from pipeline.intervals import Interval, bootstrap_mean
from pipeline.params import load
from pipeline.schemas import CONTROLS, EVALUATIONS

HEAD = (
    "policy",
    "prompts",
    "gain by the judge",
    "in each run",
    "by the control",
    "in each run",
    "tokens",
    "KL",
)
#: What is compared with the other policy's, prompt by prompt.
GAINS = ("reward", "control", "tokens")


def compared(folders: Sequence[Path], against: str) -> list[list[str]]:
    """One line per policy but `against`: means over runs and prompts with 95% intervals, after HEAD.

    UserError where the runs do not answer the same prompts with the same policies.
    """
    rows = pl.concat([answers(folder).with_columns(run=pl.lit(i)) for i, folder in enumerate(folders)])
    names = list(dict.fromkeys(rows["policy"]))
    check(rows, folders, names, against)
    return [list(HEAD), *(line(rows, name, against) for name in names if name != against)]


def answers(folder: Path) -> pl.DataFrame:
    """The evaluations of a run: policy, prompt_id, reward, control, tokens, kl; policies in their order."""
    parts = [folder / "data" / "baselines"]
    iterations = load("iterations", dict[str, Any], folder / "params.yaml")
    parts += [folder / "data" / "iterations" / name / "evaluate" for name in iterations]
    found = pl.concat([tables.read(EVALUATIONS, part / "evaluations.parquet") for part in parts])
    told = tables.read(CONTROLS, folder / "data" / "control" / "controls.parquet")
    rows = found.join(
        told.rename({"reward": "control"}), on=["policy", "prompt_id"], maintain_order="left", validate="1:1"
    )
    return rows.select("policy", "prompt_id", "reward", "control", pl.col("tokens").cast(pl.Float64), "kl")


def check(rows: pl.DataFrame, folders: Sequence[Path], names: Sequence[str], against: str) -> None:
    """UserError unless there is a policy to compare with, and each run has the same answers."""
    if against not in names:
        raise UserError(f"expected a policy to compare with, one of {', '.join(names)}, found {against}")
    cells = rows.group_by("policy", "prompt_id").agg(pl.col("run").n_unique(), pl.len())
    odd = cells.filter(pl.col("run") < len(folders)).sort("policy", "prompt_id")
    if not odd.is_empty():
        policy, prompt = odd.row(0)[:2]
        raise UserError(
            f"expected the same policies and validation prompts in {', '.join(map(str, folders))}, found "
            f"{policy} on prompt {prompt} in {odd.row(0)[2]} of {len(folders)}; run the same recipe in each, "
            "with other seeds"
        )


def line(rows: pl.DataFrame, name: str, against: str) -> list[str]:
    """A policy's gains over another, and its distance to pi_0."""
    own, other = (rows.filter(pl.col("policy") == policy) for policy in (name, against))
    both = own.join(other, on=["prompt_id", "run"], suffix="_0", validate="1:1").drop_nulls()
    gains = both.select("prompt_id", "run", "kl", **{key: pl.col(key) - pl.col(f"{key}_0") for key in GAINS})
    by_prompt = gains.group_by("prompt_id").agg(pl.col(*GAINS, "kl").mean()).sort("prompt_id")
    by_run = gains.group_by("run").agg(pl.col(*GAINS).mean()).sort("run")
    told = {
        key: bootstrap_mean(by_prompt[key], seed_for("compare", name, against, key)) for key in (*GAINS, "kl")
    }
    each = {key: ", ".join(f"{value:+.3f}" for value in by_run[key]) for key in GAINS}
    return [
        name,
        str(by_prompt.height),
        spread(told["reward"]),
        each["reward"],
        spread(told["control"]),
        each["control"],
        spread(told["tokens"], 1),
        spread(told["kl"], 2),
    ]


def spread(interval: Interval, digits: int = 3) -> str:
    """A mean and its interval."""
    mean, low, high = (f"{value:+.{digits}f}" for value in interval)
    return f"{mean} ({low} to {high})"
