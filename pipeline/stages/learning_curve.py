"""How the accuracy of a reward model grows with pairs: heads trained on nested parts of the train side.

For each seed the train pairs of the mix stand in an order of their own, a hash; a part is its beginning, so a
larger one has all pairs of a smaller one. A head is trained on each as stage `reward` trains it (that seed
draws the head and shuffles its rows), and judges the pairs of the test side. A model of which more than the
head is trained has no curve: each point would cost a training run.

    python -m pipeline.stages.learning_curve NAME MIX PASSED BASE OUT
"""

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import polars as pl
from pydantic import Field

from pipeline import edge, tables
from pipeline.baselines import longer_wins
from pipeline.engines.states import pair_states
from pipeline.engines.trainers import trained_head
from pipeline.ids import seed_for
from pipeline.intervals import clustered_accuracy
from pipeline.ledger import Ledger
from pipeline.params import Params, load
from pipeline.preference_training import RewardParams, capped, demand_gate, fitting, reward_rows
from pipeline.schemas import LEARNING_CURVE, MIX
from pipeline.training_runs import training_run


class LearningCurveParams(Params):
    """Which parts of the train side, and how often."""

    parts: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(min_length=1)
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**31)], ...] = Field(min_length=1)
    """Each draws the pairs of a part anew, and the head that training begins with."""


@dataclass(frozen=True)
class Side:
    """The pairs of one side of a mix that fit, with their token rows and the states of both answers."""

    pairs: pl.DataFrame
    rows: pl.DataFrame
    states: tuple[np.ndarray, np.ndarray]
    ledger: Ledger
    asked: int


def side(name: str, table: Path, base: Path, params: RewardParams, most: int | None) -> Side:
    """A side of the mix; at most so many of its pairs."""
    asked = capped(tables.read(MIX, table), most)
    limits: Any = {"max_length": params.training.max_length, "overflow": params.overflow}
    tokens, ledger = fitting(name, asked, base, **limits)
    pairs = tokens.select("pair_id").join(asked, on="pair_id", validate="1:1", maintain_order="left")
    rows = reward_rows(tokens, asked, params.loss)
    return Side(pairs, rows, pair_states(base, rows, dtype=params.training.precision), ledger, asked.height)


def sides(name: str, mix: Path, base: Path, params: RewardParams) -> tuple[Side, Side]:
    """The train side, as much of it as the reward model has, and the test side."""
    stage = f"learning_curve@{name}"
    return (
        side(stage, mix / "train.parquet", base, params, params.max_pairs),
        side(stage, mix / "test.parquet", base, params, None),
    )


def stated(name: str, mix: Path, passed: Path, base: Path) -> None:
    """Ask the row store for all that the stage asks of it; nothing is written elsewhere."""
    params = load(f"rewards.{name}", RewardParams)
    if params.on_states:
        demand_gate(passed)
        sides(name, mix, base, params)


def nested(pairs: pl.DataFrame, part: float, seed: int) -> np.ndarray:
    """The rows of a part of the pairs, at least one: the first in an order that seed and pair ids give."""
    order = np.argsort([seed_for("learning curve", seed, one) for one in pairs["pair_id"]], kind="stable")
    return order[: max(1, round(part * pairs.height))]


def verdicts(train: Side, test: Side, part: float, seed: int, params: RewardParams, base: Path) -> np.ndarray:
    """What a head that was trained on a part says of each test pair: 1 right, 0.5 a tie, 0 wrong."""
    rows = nested(train.pairs, part, seed)
    training = params.training.model_copy(update={"seed": seed})
    states = (train.states[0][rows], train.states[1][rows])
    with TemporaryDirectory(prefix="pairmill-") as folder:
        out, own = Path(folder), train.rows[rows]
        run = training_run("learning_curve", out, out / "curves", models=[base], rows=own, params=training)
        weights = trained_head(base, own, states, training, params.loss, replace(run, kept=None))
    margins = (test.states[0] - test.states[1]) @ weights[0]
    return 0.5 + 0.5 * np.sign(margins)


def points(test: Side, said: dict[float, list[np.ndarray]], sizes: dict[float, int]) -> pl.DataFrame:
    """A row per part and subset of the test side (schemas.LEARNING_CURVE)."""
    found = []
    sources = test.pairs["source"].to_numpy()
    longer = test.pairs.select(longer_wins()).to_series().to_numpy()
    for subset in (None, *sorted(set(sources))):
        here = np.ones(len(sources), bool) if subset is None else sources == subset
        prompts, blind = test.pairs["prompt_id"].filter(pl.Series(here)), longer[here]
        for part, by_seed in sorted(said.items()):
            right = np.stack([one[here] for one in by_seed])
            runs = right.mean(axis=1)
            size = (subset or "", part, sizes[part], len(by_seed), int(here.sum()))
            spread = (float(runs.min()), float(runs.max()))
            found.append((*size, *accuracy(prompts, right), *spread, *accuracy(prompts, blind[None])))
    return pl.DataFrame(found, schema=dict(LEARNING_CURVE.columns), orient="row")


def accuracy(prompts: pl.Series, right: np.ndarray) -> tuple[float, float, float]:
    """Mean and 95% interval of verdicts (seed by pair), with the prompt as the unit."""
    frame = pl.DataFrame({"prompt": prompts, "right": right.sum(0), "pairs": len(right)})
    by_prompt = frame.group_by("prompt").agg(pl.col("right", "pairs").sum())
    found = clustered_accuracy(by_prompt["right"], by_prompt["pairs"])
    return found.mean, found.low, found.high


def main() -> None:
    """Read both sides of the mix, write the curve."""
    word, mix, passed, base, out = edge.arguments("NAME", "MIX", "PASSED", "BASE", "OUT")
    name = str(word)
    params, wanted = load(f"rewards.{name}", RewardParams), load("learning_curve", LearningCurveParams)
    if not params.on_states:
        tables.write(LEARNING_CURVE, pl.DataFrame(schema=dict(LEARNING_CURVE.columns)), out / "curve.parquet")
        return
    demand_gate(passed)
    train, test = sides(name, mix, base, params)
    test.ledger.close(test.asked, test.pairs.height, out)
    said = {
        part: [verdicts(train, test, part, seed, params, base) for seed in wanted.seeds]
        for part in wanted.parts
    }
    sizes = {part: len(nested(train.pairs, part, wanted.seeds[0])) for part in wanted.parts}
    tables.write(LEARNING_CURVE, points(test, said, sizes), out / "curve.parquet")


if __name__ == "__main__":
    edge.run("learning_curve", main)
