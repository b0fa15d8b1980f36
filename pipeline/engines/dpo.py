"""One DPO run over a frame of pairs: shared by the iterations and the offline baseline."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from pipeline.engines.reference import referenced
from pipeline.engines.trainers import train_dpo
from pipeline.ledger import Ledger
from pipeline.params import Params
from pipeline.preference_training import fitting
from pipeline.rendering import Overflow
from pipeline.training import DpoLoss, Kept, TrainingParams
from pipeline.training_runs import training_run


class DpoParams(Params):
    """The objective, what happens to over-long pairs, and how to train."""

    overflow: Overflow
    objective: DpoLoss
    training: TrainingParams


@dataclass(frozen=True)
class Start:
    """What a run trains on, from where, and against what."""

    stage: str
    pairs: pl.DataFrame
    policy: Path
    reference: Path
    params: DpoParams

    def rows(self) -> tuple[pl.DataFrame, Ledger]:
        """Token rows of the pairs that fit, and the ledger of the rest.

        The reference's log-probabilities in them come from the row store, or are computed into it.
        """
        params = self.params.training
        limits = {"max_length": params.max_length, "overflow": self.params.overflow}
        tokens, ledger = fitting(self.stage, self.pairs, self.policy, **limits)
        return referenced(self.reference, tokens.drop("pair_id"), params.precision), ledger


def optimise(start: Start, out: Path, curves: Path, folder: Path, kept: Kept | None = None) -> None:
    """Train as `start` says; write the model, its curves, its ledger, and the models to keep on the way."""
    rows, ledger = start.rows()
    ledger.close(start.pairs.height, rows.height, folder)
    models, params = [start.policy, start.reference], start.params
    run = training_run(start.stage, out, curves, models=models, rows=rows, params=params, kept=kept)
    train_dpo(start.policy, rows, params.training, params.objective, run)
