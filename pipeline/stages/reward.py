"""Train a Bradley-Terry reward model on a mix: -log sigmoid(r_chosen - r_rejected) (paper, section 2.1).

Where the recipe trains the head alone, it learns from states of the base model, which the row store keeps.

python -m pipeline.stages.reward NAME MIX PASSED BASE OUT CURVES TRAINING
"""

from pathlib import Path
from typing import Any

from pipeline import edge, tables
from pipeline.engines.states import pair_states
from pipeline.engines.trainers import train_head, train_reward
from pipeline.judge_cards import judge_card, write_card
from pipeline.params import load
from pipeline.preference_training import (
    RewardParams,
    capped,
    demand_gate,
    fitting,
    reward_rows,
    training_rows,
)
from pipeline.schemas import MIX
from pipeline.training_runs import training_run


def stated(name: str, mix: Path, passed: Path, base: Path) -> None:
    """Ask the row store for all that the stage asks of it; nothing is written elsewhere."""
    params = load(f"rewards.{name}", RewardParams)
    if not params.on_states:
        return
    demand_gate(passed)
    pairs = capped(tables.read(MIX, mix / "train.parquet"), params.max_pairs)
    limits: Any = {"max_length": params.training.max_length, "overflow": params.overflow}
    tokens, _ = fitting(f"reward@{name}", pairs, base, **limits)
    pair_states(base, reward_rows(tokens, pairs, params.loss), dtype=params.training.precision)


def main() -> None:
    """Read the train split of the mix, write the reward model."""
    word, mix, passed, base, out, curves, folder = edge.arguments(
        "NAME", "MIX", "PASSED", "BASE", "OUT", "CURVES", "TRAINING"
    )
    name = str(word)
    params = load(f"rewards.{name}", RewardParams)
    demand_gate(passed)
    pairs = capped(tables.read(MIX, mix / "train.parquet"), params.max_pairs)
    limits: Any = {"max_length": params.training.max_length, "overflow": params.overflow}
    tokens = training_rows(f"reward@{name}", pairs, base, folder, **limits)
    trained = tokens.select("pair_id").join(pairs, on="pair_id", validate="1:1", maintain_order="left")
    rows = reward_rows(tokens, pairs, params.loss)
    run = training_run(f"rewards.{name}", out, curves, models=[base], rows=rows, params=params)
    if params.on_states:
        sides = pair_states(base, rows, dtype=params.training.precision)
        train_head(base, rows, sides, params.training, params.loss, run)
    else:
        train_reward(base, rows, params.training, params.loss, run)
    write_card(out, judge_card("reward", params, trained, base))


if __name__ == "__main__":
    edge.run("reward", main)
