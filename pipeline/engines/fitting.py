"""One training run inside its processes: the model, TRL's trainer, the steps, and what is written.

Every process of a run does what stands here, with the same rows; the first one alone writes. The trainer's
arguments come before the model, for they decide whether it is read whole or in parts.
"""

import hashlib
import logging
import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pipeline.engines.adapters import lora_config
from pipeline.engines.checkpoints import claim, newest
from pipeline.engines.curves import watcher
from pipeline.engines.keeping import keeper, publish, reached
from pipeline.engines.launching import config_digest, launch, world_size
from pipeline.engines.preference_loss import loss_arguments, preferring
from pipeline.engines.repeatable import Shuffle, labelled_positions_only, quiet, repeatable
from pipeline.engines.reward_loss import smoothed
from pipeline.engines.token_accuracy import counting
from pipeline.engines.weights import (
    freeze,
    load_language_model,
    load_reward_model,
    load_tokenizer,
    reward_padding,
    save_trained,
)
from pipeline.errors import UserError
from pipeline.ids import content_id
from pipeline.objectives import Preferring
from pipeline.training import RewardLoss, Run, TrainingParams

log = logging.getLogger(__name__)

SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


@dataclass(frozen=True)
class Job:
    """One training run: how it is cut into steps, and where it goes on."""

    params: TrainingParams
    run: Run
    rows: int
    world: int
    micro: int
    steps: int
    checkpoint: Path | None
    """Where a killed run goes on."""

    @classmethod
    def start(
        cls, kind: str, rows: pl.DataFrame, params: TrainingParams, run: Run, loss: Any = None
    ) -> "Job":
        """Plan the steps and take possession of the checkpoints folder."""
        world = world_size(run)
        if params.global_batch % world:
            raise UserError(
                f"{run.title}: expected a number of training processes that divides its global_batch "
                f"{params.global_batch}, found {world}; change processes in exec.yaml"
            )
        share = params.global_batch // world
        micro = max(size for size in range(1, min(run.micro_batch, share) + 1) if share % size == 0)
        steps = math.ceil(params.epochs * math.ceil(rows.height / params.global_batch))
        content = hashlib.sha256(rows.hash_rows(seed=0).to_numpy().tobytes()).hexdigest()
        spread = [micro, world, config_digest(run)]
        claim(run.checkpoints, content_id(kind, params.model_dump(), loss, *spread, rows.height, content))
        checkpoint = reached(run, steps, newest(run.checkpoints))
        return cls(params, run, rows.height, world, micro, steps, checkpoint)

    def launch(self, fit: Any, rows: pl.DataFrame, *arguments: Any) -> None:
        """Call `fit(rows, job, *arguments)` in every process of the run, and tidy up behind it."""
        if self.checkpoint is not None:
            log.info("%s: going on after step %s", self.run.title, self.checkpoint.name.rpartition("-")[2])
        log.info(
            "%s: %d rows, %d steps, micro batches of %d", self.run.title, self.rows, self.steps, self.micro
        )
        launch(self.run, fit, rows, self, *arguments)
        shutil.rmtree(self.run.checkpoints)

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments that all TRL configs share."""
        import torch

        p = self.params
        zero = os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true"  # it has settings of its own
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
            "bf16": p.precision == "bfloat16" and not zero,
            "use_cpu": not torch.cuda.is_available(),
            "gradient_checkpointing": zero,  # the shipped FSDP has its own; without splitting there is room
            "dataloader_pin_memory": False,
            "disable_tqdm": True,
            "report_to": "none",
            "ddp_find_unused_parameters": False,
            # The watcher decides about logs and checkpoints.
            "logging_strategy": "no",
            "logging_nan_inf_filter": False,
            "save_strategy": "no",
            "save_total_limit": 2,
        }

    def train(
        self,
        kind: type,
        model: Any,
        tokenizer: Any,
        arguments: Any,
        rows: pl.DataFrame,
        lengths: np.ndarray,
        *,
        base: Path,
    ) -> Any:
        """Train to the end, from the checkpoint if there is one, and give back the trainer.

        The models that the run keeps on the way get the tokenizer of `base`.
        """
        from datasets import Dataset
        from transformers import PrinterCallback, set_seed
        from trl.trainer.utils import disable_dropout_in_model

        if arguments.n_gpu > 1:
            arguments._n_gpu = 1  # a process has one GPU; alone it would take all, and TRL refuses that
        watch = watcher(self.run, self.steps)
        order = Shuffle(lengths, self.params.global_batch, self.params.seed)
        if getattr(arguments, "disable_dropout", False):
            disable_dropout_in_model(model)
            arguments.disable_dropout = False  # TRL would silence the adapters, too, which it adds first
        set_seed(self.params.seed)  # adapters begin as noise
        trainer = repeatable(kind, order)(
            model=model,
            args=arguments,
            train_dataset=Dataset(rows.to_arrow()),
            processing_class=tokenizer,
            callbacks=[watch],
            peft_config=lora_config(model, self.params.lora, self.run),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(keeper(self.run, self.steps, base, trainer))
        assert len(trainer.train_dataset) == self.rows, "the trainer has filtered rows"
        assert trainer.args.world_size == self.world, "another number of processes than planned"
        same_precision(trainer, self.params.precision)
        trainer.train(resume_from_checkpoint=None if self.checkpoint is None else str(self.checkpoint))
        assert trainer.state.global_step == self.steps, "the trainer stopped early"
        if trainer.args.should_save:
            watch.curves.publish(self.run.curves)
            publish(self.run, self.steps)
        return trainer


def same_precision(trainer: Any, precision: str) -> None:
    """Compute as on one device: float32 weights and gradients, with autocast where the recipe says bfloat16.

    By themselves FSDP and DeepSpeed turn weights, sums of gradients and states between layers into
    bfloat16, and neither knows autocast unless it is told.
    """
    import torch
    from accelerate.utils import convert_outputs_to_fp32

    state = trainer.accelerator.state
    if getattr(state, "deepspeed_plugin", None) is not None and precision == "bfloat16":
        state.deepspeed_plugin.deepspeed_config["torch_autocast"] = {"enabled": True, "dtype": precision}
    if getattr(state, "fsdp_plugin", None) is not None:
        state.fsdp_plugin.mixed_precision_policy = None
        if precision == "bfloat16":
            autocast = torch.autocast(trainer.args.device.type, torch.bfloat16)
            trainer.model.forward = convert_outputs_to_fp32(autocast(trainer.model.forward))


def lengths_of(rows: pl.DataFrame) -> np.ndarray:
    """The length of each row in tokens: of a pair, that of its longer side."""
    sizes = {
        name: rows[name].list.len().to_numpy().astype(np.int64)
        for name in rows.columns
        if name.endswith("_ids")
    }
    if "input_ids" in sizes:
        return sizes["input_ids"]
    return sizes.get("prompt_ids", 0) + np.maximum(sizes["chosen_ids"], sizes["rejected_ids"])


def fit_sft(rows: pl.DataFrame, job: Job, base: Path) -> None:
    """See `trainers.train_sft`."""
    from trl import SFTConfig, SFTTrainer

    with quiet(), labelled_positions_only():
        arguments = SFTConfig(
            **job.arguments(),
            packing=False,
            padding_free=True,
            max_length=None,
            dataset_kwargs={"skip_prepare_dataset": True},
        )
        model, tokenizer = load_language_model(base), load_tokenizer(base)
        freeze(model, job.params, job.run)
        kind, lengths = counting(SFTTrainer), lengths_of(rows)
        trainer = job.train(kind, model, tokenizer, arguments, rows, lengths, base=base)
        save_trained(trainer, base, job.run.out)


def fit_reward(rows: pl.DataFrame, job: Job, base: Path, reward: RewardLoss) -> None:
    """See `trainers.train_reward`."""
    with quiet():
        arguments = reward_arguments(job, reward)
        model, tokenizer = load_reward_model(base, job.params.seed), load_tokenizer(base)
        tokenizer.pad_token = reward_padding(rows, tokenizer, model)
        freeze(model, job.params, job.run)
        kind, lengths = reward_trainer(reward), lengths_of(rows)
        trainer = job.train(kind, model, tokenizer, arguments, rows, lengths, base=base)
        save_trained(trainer, base, job.run.out, tokenizer.pad_token)


def reward_arguments(job: Job, reward: RewardLoss, **changes: Any) -> Any:
    """The arguments of TRL's reward trainer."""
    from trl import RewardConfig

    center = reward.center or None
    return RewardConfig(**job.arguments() | changes, max_length=None, center_rewards_coefficient=center)


def reward_trainer(reward: RewardLoss) -> type:
    """TRL's reward trainer, for the labels that the recipe assumes."""
    from trl import RewardTrainer

    return smoothed(RewardTrainer, reward.label_smoothing) if reward.label_smoothing else RewardTrainer


def fit_dpo(rows: pl.DataFrame, job: Job, policy: Path, objective: Preferring) -> None:
    """See `trainers.train_dpo`; rows carry the log-probabilities of the reference where there is one."""
    from trl import DPOConfig, DPOTrainer

    with quiet(), labelled_positions_only():
        arguments = DPOConfig(
            **job.arguments(),
            **loss_arguments(objective),
            precompute_ref_log_probs=True,
            max_length=None,
        )
        model, tokenizer = load_language_model(policy), load_tokenizer(policy)
        freeze(model, job.params, job.run)
        kind = preferring(DPOTrainer, objective)
        trainer = job.train(kind, model, tokenizer, arguments, rows, lengths_of(rows), base=policy)
        save_trained(trainer, policy, job.run.out)
