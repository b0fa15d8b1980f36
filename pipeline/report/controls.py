"""What a reward model that the loop never saw says of the policies, beside the judge that trained them."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from pipeline import tables
from pipeline.ids import seed_for
from pipeline.intervals import Interval, bootstrap_mean, paired_difference
from pipeline.report.inputs import PI0, Folders, Recipe
from pipeline.schemas import CONTROLS


@dataclass(frozen=True, kw_only=True)
class ControlFacts:
    """One policy: the control's reward, its gain over t0, and how often the two agree on that gain."""

    name: str
    reward: Interval
    gain: Interval
    agreement: Interval
    """Share of prompts on which judge and control both prefer this policy's answer to t0's, or both do not;
    prompts on which either sees none better are left out."""


def controls(folders: Folders, recipe: Recipe, judged: pl.DataFrame) -> list[ControlFacts]:
    """The figures of every policy; `judged` are the evaluations (schemas.EVALUATIONS) of all policies."""
    rows = tables.read(CONTROLS, folders.control / "controls.parquet")
    both = rows.join(
        judged.select("policy", "prompt_id", judge="reward"), on=["policy", "prompt_id"], validate="1:1"
    )
    present = set(both["policy"])
    return [control_facts(both, name) for name in recipe.policies if name in present]


def control_facts(rows: pl.DataFrame, name: str) -> ControlFacts:
    """The figures of one policy; rows: policy, prompt_id, reward, judge."""
    own, pi0 = (rows.filter(pl.col("policy") == policy) for policy in (name, PI0))
    pairs = own.join(pi0, on="prompt_id", suffix="_0", validate="1:1").sort("prompt_id")
    gain, judged = pairs.select(
        gain=pl.col("reward") - pl.col("reward_0"), judged=pl.col("judge") - pl.col("judge_0")
    )
    signs = np.sign(gain.to_numpy()) * np.sign(judged.fill_null(0.0).to_numpy())
    return ControlFacts(
        name=name,
        reward=bootstrap_mean(own["reward"].to_numpy(), seed_for("control", name)),
        gain=paired_difference(
            pairs["reward"].to_numpy(), pairs["reward_0"].to_numpy(), seed_for("control gain", name)
        ),
        agreement=bootstrap_mean(signs[signs != 0] > 0, seed_for("control agreement", name)),
    )


def shared_sources(folders: Folders, recipe: Recipe) -> list[str]:
    """Sources that both the judge `reward` and the control were trained on."""
    judge, control = (
        set(
            pl.read_parquet(folders.mixes / recipe.rewards[name] / "train.parquet", columns=["source"])[
                "source"
            ]
        )
        for name in ("reward", recipe.control)
    )
    return sorted(judge & control)
