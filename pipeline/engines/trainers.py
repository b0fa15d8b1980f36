"""Training with TRL: supervised fine-tuning, reward models and DPO, on rows that are already tokens.

The three functions write a model folder, its curves, and nothing else. The same call gives the same
bytes (on one machine, with one number of threads and one micro batch), also when it was killed
meanwhile and called again. TRL never sees text: the one chat renderer has made the rows.
"""

import hashlib
import logging
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pipeline.engines.checkpoints import claim, newest
from pipeline.engines.curves import watcher
from pipeline.engines.reference import LOGPS, reference_logps
from pipeline.engines.repeatable import Shuffle, given_tokens, labelled_positions_only, quiet, repeatable
from pipeline.engines.weights import (
    freeze,
    load_language_model,
    load_reward_model,
    load_tokenizer,
    padding_token,
    save,
)
from pipeline.errors import UserError
from pipeline.ids import content_id
from pipeline.training import DpoLoss, RewardLoss, Run, TrainingParams

__all__ = ["reference_logps", "train_dpo", "train_reward", "train_sft"]

log = logging.getLogger(__name__)

SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


def train_sft(base: Path, blocks: pl.DataFrame, params: TrainingParams, run: Run) -> None:
    """Fine-tune the causal model `base` on packed rows (`packing.pack`), or on rows of one document each.

    blocks: input_ids, labels (-100 = no loss), seq_lengths (documents of the row), all List(Int32).
    The loss is the mean over all labels of an optimiser step. Documents of a row do not see each other.
    """
    lengths = checked(blocks, ("input_ids", "labels", "seq_lengths"), params, run)
    packed = blocks.select(pl.col("seq_lengths").list.sum()).to_series().to_numpy()
    assert (packed == lengths).all(), "seq_lengths do not add up to the length of the row"
    assert (blocks["labels"].list.len().to_numpy() == lengths).all(), "labels and input_ids differ in length"
    job = Job.start("sft", blocks, params, run)

    from trl import SFTConfig, SFTTrainer

    with quiet(), labelled_positions_only():
        model, tokenizer = load_language_model(base), load_tokenizer(base)
        freeze(model, params, run)
        arguments = SFTConfig(
            **job.arguments(),
            packing=False,
            padding_free=True,
            max_length=None,
            dataset_kwargs={"skip_prepare_dataset": True},
        )
        model = job.train(SFTTrainer, model, tokenizer, arguments, blocks, lengths)
        save(model, base, run.out)
    job.finish()


def train_reward(
    base: Path, pairs: pl.DataFrame, params: TrainingParams, reward: RewardLoss, run: Run
) -> None:
    """Train a Bradley-Terry reward model: a sequence classifier with one output on top of `base`.

    pairs: chosen_ids, rejected_ids (prompt and answer, List(Int32)), and perhaps margin (Float64).
    The saved model pads with a special token that ends no row, and so does its tokenizer.
    """
    columns = ("chosen_ids", "rejected_ids", *(["margin"] if "margin" in pairs.columns else []))
    pairs = pairs.select(columns)
    lengths = checked(pairs, columns, params, run)
    job = Job.start("reward", pairs, params, run, reward.model_dump())

    from trl import RewardConfig, RewardTrainer

    with quiet():
        model, tokenizer = load_reward_model(base, params.seed), load_tokenizer(base)
        ends = pl.concat([pairs["chosen_ids"].list.last(), pairs["rejected_ids"].list.last()])
        tokenizer.pad_token = padding_token(tokenizer, model, set(ends.unique().to_list()))
        freeze(model, params, run)
        arguments = RewardConfig(
            **job.arguments(), max_length=None, center_rewards_coefficient=reward.center or None
        )
        model = job.train(RewardTrainer, model, tokenizer, arguments, pairs, lengths)
        save(model, base, run.out, tokenizer.pad_token)
    job.finish()


def train_dpo(
    policy: Path, reference: Path, pairs: pl.DataFrame, params: TrainingParams, dpo: DpoLoss, run: Run
) -> None:
    """Train `policy` to prefer chosen over rejected answers, measured against `reference`.

    pairs: prompt_ids, chosen_ids, rejected_ids (answers with their end of turn), List(Int32). The
    reference model is run once over all pairs and freed; training holds one model.
    """
    columns = ("prompt_ids", "chosen_ids", "rejected_ids")
    pairs = pairs.select(columns)
    lengths = checked(pairs, columns, params, run)
    job = Job.start("dpo", pairs, params, run, dpo.model_dump())
    rows = pl.concat([pairs, kept_logps(reference, pairs, params, run)], how="horizontal")

    from trl import DPOConfig, DPOTrainer

    with quiet(), labelled_positions_only():
        model, tokenizer = load_language_model(policy), load_tokenizer(policy)
        freeze(model, params, run)
        arguments = DPOConfig(
            **job.arguments(),
            beta=dpo.beta,
            loss_type=[term.name for term in dpo.loss],
            loss_weights=[term.weight for term in dpo.loss],
            label_smoothing=dpo.label_smoothing,
            precompute_ref_log_probs=True,
            max_length=None,
        )
        model = job.train(given_tokens(DPOTrainer), model, tokenizer, arguments, rows, lengths)
        save(model, policy, run.out)
    job.finish()


def kept_logps(reference: Path, pairs: pl.DataFrame, params: TrainingParams, run: Run) -> pl.DataFrame:
    """`reference_logps`, kept beside the checkpoints so that a killed run does not compute them twice."""
    path = run.checkpoints / "reference_logps.parquet"
    if path.exists():
        return pl.read_parquet(path)
    log.info("%s: log-probabilities of %d pairs under the reference model", run.title, pairs.height)
    logps = reference_logps(reference, pairs, 2 * run.micro_batch * params.max_length, params.precision)
    for name in LOGPS:
        if not logps[name].is_finite().all():
            raise UserError(
                f"the reference model {reference}: expected finite log-probabilities, found infinite or NaN; "
                f"check its weights, or set {run.title}.precision to float32"
            )
    partial = path.with_suffix(".partial")
    logps.write_parquet(partial)
    partial.replace(path)
    return logps


def checked(rows: pl.DataFrame, columns: tuple[str, ...], params: TrainingParams, run: Run) -> np.ndarray:
    """The length of each row in tokens, after checking what TRL would filter or cut in silence.

    UserError if there are no rows; AssertionError where the stage handed over rows it should not have.
    """
    if rows.is_empty():
        raise UserError(
            f"{run.title}: expected at least one row to train on, found none; look into the ledgers of the "
            "stages before for what was dropped and why"
        )
    assert not any(rows[name].null_count() for name in columns), "missing values"
    sizes = {
        name: rows[name].list.len().to_numpy().astype(np.int64) for name in columns if name.endswith("_ids")
    }
    assert all((size > 0).all() for size in sizes.values()), "empty rows"
    if "input_ids" in sizes:
        lengths = sizes["input_ids"]
    else:
        lengths = sizes.get("prompt_ids", 0) + np.maximum(sizes["chosen_ids"], sizes["rejected_ids"])
    over = int((lengths > params.max_length).sum())
    assert over == 0, (
        f"{over} rows are longer than max_length {params.max_length}; the stage must handle them"
    )
    return lengths


@dataclass(frozen=True)
class Job:
    """One training run: how it is cut into steps, and how it is resumed."""

    params: TrainingParams
    run: Run
    rows: int
    world: int
    micro: int
    steps: int

    @classmethod
    def start(
        cls, kind: str, rows: pl.DataFrame, params: TrainingParams, run: Run, loss: Any = None
    ) -> "Job":
        """Plan the steps and take possession of the checkpoints folder."""
        from accelerate import PartialState

        world = PartialState().num_processes
        if params.global_batch % world:
            raise UserError(
                f"{run.title}.global_batch: expected a multiple of the {world} processes, "
                f"found {params.global_batch}"
            )
        share = params.global_batch // world
        micro = max(size for size in range(1, min(run.micro_batch, share) + 1) if share % size == 0)
        steps = math.ceil(params.epochs * math.ceil(rows.height / params.global_batch))
        content = hashlib.sha256(rows.hash_rows(seed=0).to_numpy().tobytes()).hexdigest()
        claim(
            run.checkpoints, content_id(kind, params.model_dump(), loss, micro, world, rows.height, content)
        )
        return cls(params, run, rows.height, world, micro, steps)

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments that all TRL configs share."""
        import torch

        p = self.params
        return {
            "output_dir": str(self.run.checkpoints),
            "per_device_train_batch_size": self.micro,
            "gradient_accumulation_steps": p.global_batch // (self.micro * self.world),
            "max_steps": self.steps,
            "learning_rate": p.learning_rate,
            "lr_scheduler_type": SCHEDULES[p.schedule],
            "warmup_steps": math.ceil(p.warmup_ratio * self.steps),
            "weight_decay": p.weight_decay,
            "max_grad_norm": p.max_grad_norm,
            "optim": p.optimizer,
            "seed": p.seed,
            "bf16": p.precision == "bfloat16",
            "use_cpu": not torch.cuda.is_available(),
            "gradient_checkpointing": False,
            "dataloader_pin_memory": False,
            "disable_tqdm": True,
            "report_to": "none",
            # The watcher decides about logs and checkpoints.
            "logging_strategy": "no",
            "logging_nan_inf_filter": False,
            "save_strategy": "no",
            "save_total_limit": 2,
        }

    def train(
        self, kind: type, model: Any, tokenizer: Any, arguments: Any, rows: pl.DataFrame, lengths: np.ndarray
    ) -> Any:
        """Train to the end, from the last intact checkpoint if there is one, and give back the model."""
        from datasets import Dataset
        from transformers import PrinterCallback

        watch = watcher(self.run, self.steps)
        order = Shuffle(lengths, self.params.global_batch, self.params.seed)
        trainer = repeatable(kind, order)(
            model=model,
            args=arguments,
            train_dataset=Dataset(rows.to_arrow()),
            processing_class=tokenizer,
            callbacks=[watch],
        )
        trainer.remove_callback(PrinterCallback)
        assert len(trainer.train_dataset) == self.rows, "the trainer has filtered rows"
        checkpoint = newest(self.run.checkpoints)
        if checkpoint is not None:
            log.info("%s: going on after step %s", self.run.title, checkpoint.name.rpartition("-")[2])
        log.info(
            "%s: %d rows, %d steps, micro batches of %d", self.run.title, self.rows, self.steps, self.micro
        )
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        assert trainer.state.global_step == self.steps, "the trainer stopped early"
        watch.curves.publish(self.run.curves)
        return trainer.accelerator.unwrap_model(trainer.model)

    def finish(self) -> None:
        """Drop what only a killed run needs."""
        shutil.rmtree(self.run.checkpoints)
