"""Where the training stages write: the model, its curves, and checkpoints keyed by what they come from."""

import logging
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from pipeline.execution import execution
from pipeline.ids import content_id
from pipeline.models import model_digest
from pipeline.objectives import Health
from pipeline.params import Params
from pipeline.training import Kept, Run

log = logging.getLogger(__name__)


def training_run(
    title: str,
    out: Path,
    curves: Path,
    *,
    models: Sequence[Path],
    rows: pl.DataFrame,
    params: Params,
    kept: Kept | None = None,
    health: Health | None = None,
) -> Run:
    """The run of a stage; a killed one goes on from checkpoints of the same models, rows and params only."""
    data = content_id(rows.hash_rows(seed=0).to_list())
    identity = content_id(
        title, [model_digest(model) for model in models], data, params.model_dump(mode="json")
    )
    settings = execution()
    log.info("%s: training on %d rows, output %s", title, rows.height, out)
    return Run(
        out=out,
        curves=curves,
        checkpoints=settings.state / "checkpoints" / f"{title}-{identity}",
        micro_batch=settings.micro_batch,
        title=title,
        save_every_seconds=settings.save_every_seconds,
        kept=kept,
        processes=settings.processes,
        accelerate=settings.accelerate,
        health=health,
    )
