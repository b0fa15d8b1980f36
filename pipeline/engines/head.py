"""Training the score head alone, on states of a backbone that stays as it is.

What TRL's RewardTrainer would compute with a frozen backbone, without computing it: the same rows in the same
order, the same loss, optimiser and schedule, but a side of a pair is its state (pipeline/engines/states.py),
read once for all epochs. An epoch over thousands of pairs takes seconds, so one process trains in whole
batches, whatever the execution settings say.
"""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pipeline.engines.fitting import Job, lengths_of, reward_arguments, reward_trainer
from pipeline.engines.repeatable import quiet
from pipeline.engines.weights import load_reward_model, load_tokenizer, reward_padding, save
from pipeline.training import RewardLoss, Run, TrainingParams

#: chosen_ids and rejected_ids of what the trainer sees: the place of the state, in a list of one.
PLACES = pl.List(pl.Int32)


def fit_head(
    base: Path,
    pairs: pl.DataFrame,
    sides: tuple[np.ndarray, np.ndarray],
    params: TrainingParams,
    reward: RewardLoss,
    run: Run,
) -> np.ndarray:
    """The weights of the score head, Float32, trained on pairs whose states are `sides`; writes the curves.

    pairs: as in `trainers.train_reward`. The head begins as that of `base` or drawn with the seed.
    """
    alone = replace(run, processes=1, accelerate=None, micro_batch=params.global_batch)
    job = Job.start("head", pairs, params, alone, reward.model_dump())
    found: list[np.ndarray] = []
    job.launch(fit, pairs, base, sides, reward, found)
    return found[0]


def fit(
    rows: pl.DataFrame,
    job: Job,
    base: Path,
    sides: tuple[np.ndarray, np.ndarray],
    reward: RewardLoss,
    found: list[np.ndarray],
) -> None:
    """Train the head, and add its weights to `found`."""
    with quiet():
        arguments = reward_arguments(job, reward, bf16=False)  # states are rounded already, rewards never
        score = load_reward_model(base, job.params.seed).score  # the backbone is not kept
        head = head_on(np.concatenate(sides), score)
        places = pl.Series(np.arange(2 * rows.height), dtype=pl.Int32).reshape((-1, 1)).cast(PLACES)
        columns = {"chosen_ids": places[: rows.height], "rejected_ids": places[rows.height :]}
        trainer = job.train(
            reward_trainer(reward),
            head,
            load_tokenizer(base),
            arguments,
            rows.with_columns(**columns),
            lengths_of(rows),
            base=base,
        )
        found.append(trainer.model.score.weight.detach().cpu().numpy().copy())


def head_on(states: np.ndarray, score: Any) -> Any:
    """A model whose only layer is a copy of the head `score`; its tokens are places in `states`."""
    import torch
    from transformers import PretrainedConfig, PreTrainedModel
    from transformers.modeling_outputs import SequenceClassifierOutput

    class Head(PreTrainedModel):
        config_class = PretrainedConfig

        def __init__(self) -> None:
            config = PretrainedConfig()
            config.num_labels = 1
            super().__init__(config)
            self.states = torch.from_numpy(states)
            self.score = copy.deepcopy(score)
            self.post_init()
            self.score.load_state_dict(score.state_dict())

        def forward(self, input_ids: Any, **_: Any) -> Any:
            return SequenceClassifierOutput(
                logits=self.score(self.states[input_ids[:, 0].cpu()].to(input_ids.device))
            )

    return Head()


def save_head(base: Path, rows: pl.DataFrame, weights: np.ndarray, seed: int, out: Path) -> None:
    """Write the sequence classifier of `base` with these weights of its head to `out`.

    rows: those that it was trained on; the pad token that the folder names ends none of them.
    """
    import torch

    with quiet():
        model, tokenizer = load_reward_model(base, seed), load_tokenizer(base)
        pad_token = reward_padding(rows, tokenizer, model)
        tokenizer.pad_token = pad_token
        model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
        with torch.no_grad():
            model.score.weight.copy_(torch.from_numpy(weights))
        save(model, base, out, pad_token)
