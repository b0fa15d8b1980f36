"""Models kept on the way: what a training run is after a part of its steps, saved like its end.

They are written beside the checkpoints, each before a later checkpoint is, so that a killed run which goes on
has those that it passed; `publish` copies them to their place in the end.
"""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.engines.checkpoints import SEAL, intact, seal
from pipeline.engines.weights import save_trained, write_json
from pipeline.training import Run

log = logging.getLogger(__name__)


def due(run: Run, total: int) -> Iterator[tuple[int, Path]]:
    """For each model the step nearest to its part of all, after which it is kept, and where at first."""
    for part in run.kept.parts if run.kept else ():
        yield max(1, round(part * total)), run.checkpoints / "kept" / str(part)


def keeper(run: Run, total: int, base: Path, trainer: Any) -> Any:
    """A callback that keeps the models of `run` as they become due."""
    from transformers import TrainerCallback

    class Keeper(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            for step, place in due(run, total):
                if step == state.global_step:
                    save_trained(trainer, base, place)
                    if state.is_world_process_zero:
                        seal(place)

    return Keeper()


def reached(run: Run, total: int, checkpoint: Path | None) -> Path | None:
    """`checkpoint`; None, with a warning, where a model that it has passed is not there as it was kept."""
    step = 0 if checkpoint is None else int(checkpoint.name.rpartition("-")[2])
    lost = [place.name for at, place in due(run, total) if at <= step and not intact(place)]
    if not lost:
        return checkpoint
    log.warning("%s: the model kept after %s of the run is damaged; starting anew", run.title, lost[0])
    for folder in run.checkpoints.glob("checkpoint-*"):
        shutil.rmtree(folder)
    return None


def publish(run: Run, total: int) -> None:
    """Replace the folder of kept models: one per part, and index.json with their steps."""
    if run.kept is None:
        return
    shutil.rmtree(run.kept.folder, ignore_errors=True)
    run.kept.folder.mkdir(parents=True)
    for _, place in due(run, total):
        shutil.copytree(place, run.kept.folder / place.name, ignore=shutil.ignore_patterns(SEAL))
    # A folder without models has a file, too: DVC tracks no empty one.
    index = {place.name: {"step": step, "steps": total} for step, place in due(run, total)}
    write_json(run.kept.folder / "index.json", index)
