"""One DPO run over a frame of pairs: shared by the iterations and the offline baseline."""

from pathlib import Path

import polars as pl

from pipeline.engines.trainers import train_dpo
from pipeline.params import Params
from pipeline.preference_training import training_rows
from pipeline.rendering import Overflow
from pipeline.training import DpoLoss, TrainingParams
from pipeline.training_runs import training_run


class DpoParams(Params):
    """The objective, what happens to over-long pairs, and how to train."""

    overflow: Overflow
    objective: DpoLoss
    training: TrainingParams


def optimise(
    stage: str,
    pairs: pl.DataFrame,
    policy: Path,
    reference: Path,
    params: DpoParams,
    out: Path,
    curves: Path,
    folder: Path,
) -> None:
    """Train `policy` on `pairs` against `reference`; write the model, its curves and its ledger."""
    limits = {"max_length": params.training.max_length, "overflow": params.overflow}
    tokens = training_rows(stage, pairs, policy, folder, **limits)
    rows = tokens.drop("pair_id")
    run = training_run(stage, out, curves, models=[policy, reference], rows=rows, params=params)
    train_dpo(policy, reference, rows, params.training, params.objective, run)
