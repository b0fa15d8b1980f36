"""From a frame of preferences to token rows ready for a trainer, with the ledger of what did not fit."""

import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl
from pydantic import Field

from pipeline.chat import Chat
from pipeline.errors import UserError
from pipeline.ledger import Ledger
from pipeline.params import Params
from pipeline.rendering import Overflow, preference_ids
from pipeline.shares import margin
from pipeline.training import RewardLoss, TrainingParams

#: Before the name of a reward model, where a stage reads what the recipe says of it.
REWARD_STAGE = re.compile("(reward|learning_curve)@")


class RewardParams(Params):
    """Which mix a reward model is trained on, how much of it, and how."""

    mix: str
    max_pairs: int | None = Field(gt=0)
    overflow: Overflow
    loss: RewardLoss
    training: TrainingParams

    @property
    def on_states(self) -> bool:
        """Whether only the head is trained, on states of a backbone that stays as it is."""
        return self.training.train_layers == "head"


def training_rows(
    stage: str, pairs: pl.DataFrame, model: Path, folder: Path, *, max_length: int, overflow: Overflow
) -> pl.DataFrame:
    """The token rows of `fitting`; the ledger of the rest is written to `folder`."""
    tokens, ledger = fitting(stage, pairs, model, max_length=max_length, overflow=overflow)
    ledger.close(pairs.height, tokens.height, folder)
    return tokens


def fitting(
    stage: str,
    pairs: pl.DataFrame,
    model: Path,
    *,
    max_length: int,
    overflow: Overflow,
    sides: Sequence[str] = ("chosen", "rejected"),
) -> tuple[pl.DataFrame, Ledger]:
    """(pair_id, prompt_ids, chosen_ids, rejected_ids) of the pairs that fit, and the ledger of the rest. It
    also counts the prompts that were cut to make pairs fit, and the tokens that these lost.

    UserError where nothing fits.
    """
    tokens, dropped = preference_ids(
        pairs, Chat.load(model), max_length=max_length, overflow=overflow, sides=sides
    )
    if tokens.is_empty():
        section = REWARD_STAGE.sub("rewards.", stage).partition("@")[0]
        raise UserError(
            f"{stage}: expected pairs of at most {max_length} tokens, found none among {pairs.height}; "
            f"raise {section}.training.max_length in params.yaml"
        )
    ledger = Ledger(stage, "pairs")
    ledger.drop(dropped, id_column="pair_id")
    ledger.cut = {"prompts": int((tokens["cut"] > 0).sum()), "tokens": int(tokens["cut"].sum())}
    return tokens.drop("cut"), ledger


def reward_rows(tokens: pl.DataFrame, pairs: pl.DataFrame, loss: RewardLoss) -> pl.DataFrame:
    """chosen_ids and rejected_ids (prompt and answer), and margin where the loss has one, of token rows of
    some of the `pairs`."""
    rows = tokens.select(
        chosen_ids=pl.concat_list("prompt_ids", "chosen_ids"),
        rejected_ids=pl.concat_list("prompt_ids", "rejected_ids"),
    )
    if loss.margin is None:
        return rows
    own = tokens.select("pair_id").join(pairs, on="pair_id", validate="1:1", maintain_order="left")
    return rows.with_columns(margin=margins(own, loss.margin))


def margins(pairs: pl.DataFrame, widest: float) -> pl.Series:
    """The margin of each pair for the reward loss, Float64 from 0 to `widest`, in the order of `pairs`.

    Scores of different sources have nothing in common: ratings from 1 to 10, minus a rank, votes without
    end. So a score difference counts by its rank among the pairs of its source alone: the margin is `widest`
    times the share of the source's scored pairs that differ less, equal ones counted half. Where all pairs of
    a source differ alike it is half of `widest`, and any stretching of the scores leaves it as it is. Pairs
    without scores, and those whose chosen answer was not scored higher, get 0.
    """
    clear = pl.when(margin() > 0).then(margin())
    share = (clear.rank("average").over("source") - 0.5) / clear.count().over("source")
    return pairs.select(margin=(share * widest).fill_null(0.0)).to_series()


def demand_gate(passed: Path) -> None:
    """UserError where the mix has not passed the gate of stage `profile`, which then leaves no such file."""
    if not passed.exists():
        raise UserError(
            f"{passed} is missing: the mix {passed.parent.name} has not passed its gate; see what is wrong "
            f"with it: dvc repro profile@{passed.parent.name}"
        )


def capped(pairs: pl.DataFrame, max_pairs: int | None) -> pl.DataFrame:
    """The first `max_pairs` by pair id, which is a hash: a sample that only grows with the cap.

    A cap is how much of a mix a recipe asks for, not a drop.
    """
    return pairs.sort("pair_id").head(pairs.height if max_pairs is None else max_pairs)
