"""What is seen of a training run: progress while it goes on, curves in the end.

Curves go through DVCLive; only the series of `SERIES` become outputs, as TSV files with the columns
`step` and the name of the series: no clock and no throughput, so that the same run gives the same bytes.
"""

import logging
import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.engines.checkpoints import seal
from pipeline.errors import UserError
from pipeline.objectives import Health
from pipeline.training import Run

log = logging.getLogger(__name__)

POINTS = 200
"""A curve has about this many points at most."""
REPORT_SECONDS = 30
#: Series -> the names under which the trainers log it.
SERIES = {
    "loss": ("loss",),
    "grad_norm": ("grad_norm",),
    "learning_rate": ("learning_rate",),
    "accuracy": ("accuracy", "rewards/accuracies"),
    "token_accuracy": ("token_accuracy",),
    "margin": ("margin", "rewards/margins"),
    "chosen_reward": ("rewards/chosen",),
    "rejected_reward": ("rewards/rejected",),
    "chosen_logp": ("chosen_logp",),
    "rejected_logp": ("rejected_logp",),
}


def points(logs: dict[str, Any]) -> dict[str, float]:
    """The stable series in one line of the trainer's log."""
    return {series: logs[key] for series, keys in SERIES.items() for key in keys if key in logs}


class Curves:
    """A DVCLive record of a run, to be followed below the checkpoints folder while it grows."""

    def __init__(self, folder: Path, history: list[dict[str, Any]]) -> None:
        from dvclive import Live

        class Record(Live):
            def _init_dvc(self) -> None:
                """No experiment is recorded; looking for one fails in a repository without commits."""

        self.folder = folder
        self.live = Record(dir=str(folder), save_dvc_exp=False, dvcyaml=None)
        for entry in history:
            self.add(entry["step"], entry)

    def add(self, step: int, logs: dict[str, Any]) -> None:
        """One point of every series."""
        if values := points(logs):
            self.live.step = step
            for series, value in values.items():
                self.live.log_metric(series, value, plot=True)
            self.live.make_summary()

    def publish(self, target: Path) -> None:
        """Replace `target` by the TSV files of the series."""
        self.live.end()
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for source in sorted((self.folder / "plots" / "metrics").glob("*.tsv")):
            destination = target / source.name
            shutil.copyfile(source, destination)
            destination.chmod(0o644)


class Progress:
    """Remaining time on a terminal, or a line of log now and then; never both."""

    def __init__(self, title: str, total: int, done: int) -> None:
        from tqdm import tqdm

        self.title, self.total, self.first = title, total, done
        self.bar = tqdm(total=total, initial=done, desc=title, disable=None, unit="step")
        self.started = self.reported = time.monotonic()

    def advance(self, done: int, loss: float | None) -> None:
        """Show that `done` of all steps are behind."""
        self.bar.update(done - self.bar.n)
        now = time.monotonic()
        if not self.bar.disable or now - self.reported < REPORT_SECONDS:
            return
        self.reported = now
        pace = (now - self.started) / max(done - self.first, 1)
        seen = "" if loss is None else f", loss {loss:.4f}"
        left = (self.total - done) * pace
        log.info(
            "%s: step %d/%d%s, %.1f s a step, %.0f s left", self.title, done, self.total, seen, pace, left
        )

    def close(self) -> None:
        """Leave the terminal in order."""
        self.bar.close()


def collapse(health: Health | None, history: Sequence[dict[str, Any]]) -> str | None:
    """What was expected and found where the chosen answers have become too unlikely; else None.

    history: the logged points of the run, first to last, those before a kill included. Where nothing but the
    likelihood of the chosen answers is trained (`raft`), it is the loss that says it.
    """
    values = [entry["chosen_logp"] for entry in history if "chosen_logp" in entry]
    values = values or [-entry["loss"] for entry in history if "loss" in entry]
    if health is None or not values or values[0] - values[-1] <= health.max_fall:
        return None
    return (
        f"expected the mean log-probability of a token of the chosen answers to fall by at most "
        f"{health.max_fall} from {values[0]:.3f} at the first step, found {values[-1]:.3f}"
    )


def watcher(run: Run, total: int) -> Any:
    """A callback that logs, saves, shows progress and stops a run that diverges.

    Of several processes all log and save at the same steps, and the first one alone shows and records it.
    """
    from accelerate.utils import broadcast_object_list
    from torch import distributed
    from transformers import TrainerCallback

    every = math.ceil(total / POINTS)

    class Watcher(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.saved = time.monotonic()
            self.loss: float | None = None
            self.together = args.world_size > 1
            if args.process_index == 0:
                self.curves = Curves(run.checkpoints / "live", state.log_history)
                self.progress = Progress(run.title, total, state.global_step)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            step, last = state.global_step, state.global_step >= total
            control.should_log = step == 1 or step % every == 0 or last
            # Only where the log is cut too: the mean loss since the last point is not in a checkpoint.
            if control.should_log and not last:
                due = [time.monotonic() - self.saved >= run.save_every_seconds]
                # Clocks differ; the first process decides.
                control.should_save = broadcast_object_list(due)[0] if self.together else due[0]
            if args.process_index == 0:
                self.progress.advance(step, self.loss)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            values = points(logs)
            section = run.title.partition("@")[0]
            bad = {series: value for series, value in values.items() if not math.isfinite(value)}
            if bad:
                if args.process_index == 0:
                    self.progress.close()
                found = ", ".join(f"{series} {value}" for series, value in bad.items())
                raise UserError(
                    f"training diverged at step {state.global_step} of {total}: expected finite numbers, "
                    f"found {found}; lower the learning_rate of {section} in params.yaml"
                )
            if fallen := collapse(run.health, state.log_history):
                if args.process_index == 0:
                    self.progress.close()
                raise UserError(
                    f"{run.title}: training diverged at step {state.global_step} of {total}: {fallen}; lower "
                    f"the learning_rate of {section} in params.yaml, or, of an objective of kind dpo, raise "
                    f"beta or add the loss sft; if this is meant, raise {section}.health.max_fall"
                )
            self.loss = values.get("loss", self.loss)
            if args.process_index == 0:
                self.curves.add(state.global_step, logs)

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if self.together:
                distributed.barrier()  # each process writes a part
            if args.process_index == 0:
                seal(run.checkpoints / f"checkpoint-{state.global_step}")
            self.saved = time.monotonic()

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if args.process_index == 0:
                self.progress.close()

    return Watcher()
