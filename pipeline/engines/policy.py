"""One training run of a policy over a frame of pairs: shared by the iterations and the offline baseline."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl
from pydantic import model_validator

from pipeline.engines.reference import referenced
from pipeline.engines.trainers import train_dpo, train_sft
from pipeline.ledger import Ledger
from pipeline.objectives import Dpo, Health, Objective, Raft
from pipeline.packing import NO_LOSS, TOKENS
from pipeline.params import Params
from pipeline.preference_training import fitting
from pipeline.rendering import Overflow
from pipeline.training import Kept, TrainingParams
from pipeline.training_runs import training_run


class PolicyParams(Params):
    """The objective, what happens to over-long pairs, how to train, and when to stop a run."""

    overflow: Overflow
    objective: Objective
    health: Health | None
    """null stops a run only where a number is not finite."""
    training: TrainingParams

    @model_validator(mode="after")
    def whole_groups(self) -> "PolicyParams":
        """What is sorted together is part of one optimiser step."""
        rows = self.objective.sorted_rows if isinstance(self.objective, Dpo) else None
        if rows and self.training.global_batch % rows:
            raise ValueError(
                f"objective: expected the rows of aot to divide training.global_batch "
                f"{self.training.global_batch}, found {rows}"
            )
        return self


@dataclass(frozen=True)
class Start:
    """What a run trains on, from where, and against what."""

    stage: str
    pairs: pl.DataFrame
    policy: Path
    reference: Path
    params: PolicyParams
    left_out: pl.DataFrame | None = None
    """Pairs that are not among `pairs`, each with the reason."""

    def rows(self) -> tuple[pl.DataFrame, Ledger]:
        """Token rows of the pairs that fit, and the ledger of the rest.

        The reference's log-probabilities in them, where the objective has one, come from the row store, or
        are computed into it.
        """
        params, objective = self.params.training, self.params.objective
        raft = isinstance(objective, Raft)
        pairs, again = distinct_answers(self.pairs) if raft else (self.pairs, None)
        tokens, ledger = fitting(
            self.stage,
            pairs,
            self.policy,
            max_length=params.max_length,
            overflow=self.params.overflow,
            sides=("chosen",) if raft else ("chosen", "rejected"),
        )
        for dropped in (self.left_out, again):
            if dropped is not None:
                ledger.drop(dropped, id_column="pair_id")
        rows = tokens.drop("pair_id")
        return referenced(self.reference, rows, params.precision) if objective.reference else rows, ledger

    @property
    def given(self) -> int:
        """Pairs of which each is trained on or in the ledger."""
        return self.pairs.height + (0 if self.left_out is None else self.left_out.height)


def distinct_answers(pairs: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The first pair of each chosen answer, where no other is read; and the rest, with the reason."""
    first = pl.struct("prompt_id", "chosen_id").is_first_distinct()
    again = pairs.filter(~first).with_columns(reason=pl.lit("the chosen answer of another pair, too"))
    return pairs.filter(first), again


def demonstrations(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of one document each for `train_sft`: the prompt without, the chosen answer with a loss."""
    silent = pl.col("prompt_ids").list.eval(pl.lit(NO_LOSS, pl.Int32))
    whole = pl.concat_list("prompt_ids", "chosen_ids")
    columns = {
        "input_ids": whole,
        "labels": pl.concat_list(silent, "chosen_ids"),
        "seq_lengths": pl.concat_list(whole.list.len()),
    }
    return rows.select(**columns).cast(dict.fromkeys(columns, TOKENS))


def optimise(start: Start, out: Path, curves: Path, folder: Path, kept: Kept | None = None) -> None:
    """Train as `start` says; write the model, its curves, its ledger, and the models to keep on the way."""
    rows, ledger = start.rows()
    ledger.close(start.given, rows.height, folder)
    params, models = start.params, [start.policy]
    models += [start.reference] if params.objective.reference else []
    # A run that was stopped for its health goes on where the recipe then allows more.
    same = params.model_copy(update={"health": None})
    run = training_run(
        start.stage, out, curves, models=models, rows=rows, params=same, kept=kept, health=params.health
    )
    if isinstance(params.objective, Raft):
        train_sft(start.policy, demonstrations(rows), params.training, run)
    else:
        train_dpo(start.policy, rows, params.training, params.objective, run)
