"""Train a Bradley-Terry reward model on a mix: -log sigmoid(r_chosen - r_rejected) (paper, section 2.1).

python -m pipeline.stages.reward NAME MIX PASSED BASE OUT CURVES TRAINING
"""

import polars as pl
from pydantic import Field

from pipeline import edge, tables
from pipeline.engines.trainers import train_reward
from pipeline.judge_cards import judge_card, write_card
from pipeline.params import Params, load
from pipeline.preference_training import capped, demand_gate, margins, training_rows
from pipeline.rendering import Overflow
from pipeline.schemas import MIX
from pipeline.training import RewardLoss, TrainingParams
from pipeline.training_runs import training_run


class RewardParams(Params):
    """Which mix, how much of it, and how to train on it."""

    mix: str
    max_pairs: int | None = Field(gt=0)
    overflow: Overflow
    loss: RewardLoss
    training: TrainingParams


def main() -> None:
    """Read the train split of the mix, write the reward model."""
    word, mix, passed, base, out, curves, folder = edge.arguments(
        "NAME", "MIX", "PASSED", "BASE", "OUT", "CURVES", "TRAINING"
    )
    name = str(word)
    params = load(f"rewards.{name}", RewardParams)
    demand_gate(passed)
    pairs = capped(tables.read(MIX, mix / "train.parquet"), params.max_pairs)
    limits = {"max_length": params.training.max_length, "overflow": params.overflow}
    tokens = training_rows(f"reward@{name}", pairs, base, folder, **limits)
    trained = tokens.select("pair_id").join(pairs, on="pair_id", validate="1:1", maintain_order="left")
    rows = tokens.select(
        chosen_ids=pl.concat_list("prompt_ids", "chosen_ids"),
        rejected_ids=pl.concat_list("prompt_ids", "rejected_ids"),
    )
    if params.loss.margin is not None:
        rows = rows.with_columns(margin=margins(trained, params.loss.margin))
    run = training_run(f"rewards.{name}", out, curves, models=[base], rows=rows, params=params)
    train_reward(base, rows, params.training, params.loss, run)
    write_card(out, judge_card("reward", params, trained, base))


if __name__ == "__main__":
    edge.run("reward", main)
