"""What TRL's trainers lack to give the same bytes twice, and after a kill: order, weights, silence.

Measured on TRL 1.16 / transformers 5.19: `group_by_length` draws from the global generator, so a
resumed run sees other batches; the mean over micro batches counts a short last one as a full one.
"""

import logging
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


class Shuffle:
    """The order of rows: shuffled by seed and epoch, then by length inside each optimiser step.

    Sorting inside a step keeps rows of like length in one micro batch, which saves padding, and
    leaves the rows of every step as a plain shuffle gives them.
    """

    def __init__(self, lengths: np.ndarray, step_rows: int, seed: int) -> None:
        self.lengths, self.step_rows, self.seed = lengths, step_rows, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.lengths))
        for first in range(0, len(order), self.step_rows):
            rows = order[first : first + self.step_rows]
            yield from rows[np.argsort(-self.lengths[rows], kind="stable")].tolist()


def repeatable(trainer: Any, order: Shuffle) -> type:
    """A subclass of a TRL trainer that takes its rows in `order` and sends nothing anywhere."""

    class Repeatable(trainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> Shuffle:
            return order

        def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
            order.epoch = kwargs["epoch"]
            super()._run_epoch(*args, **kwargs)

        def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
            batches, items = super().get_batch_samples(*args, **kwargs)
            self.mean_rows = sum(len(batch["input_ids"]) for batch in batches) / max(len(batches), 1)
            return batches, items

        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            loss = super().compute_loss(model, inputs, *args, **kwargs)
            if self.loss_is_scaled_for_ga is False:
                # The trainer takes a plain mean over micro batches; a shorter one must weigh less.
                loss = loss * (len(inputs["input_ids"]) / self.mean_rows)
            return loss

        def _send_telemetry(self) -> None:
            """Nothing is reported."""

        def create_model_card(self, *args: Any, **kwargs: Any) -> None:
            """Not in a checkpoint."""

    return Repeatable


def given_tokens(trainer: Any) -> type:
    """DPOTrainer for rows that are tokenised and carry their reference log-probabilities."""

    class GivenTokens(trainer):
        def _prepare_dataset(self, dataset: Any, *args: Any) -> Any:
            return dataset

        def _precompute_ref_logps(self, dataset: Any, *args: Any) -> Any:
            return dataset

    return GivenTokens


@contextmanager
def quiet() -> Generator[None]:
    """No progress bars and no advice from the libraries, errors only."""
    from transformers.utils import logging as transformers_logging

    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    trl = logging.getLogger("trl")
    level = trl.level
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    trl.setLevel(logging.ERROR)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        trl.setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()


@contextmanager
def labelled_positions_only() -> Generator[None]:
    """Let TRL's fused output layer score the labelled positions alone, on a CPU too.

    TRL does so only on devices with Triton; elsewhere it scores prompts and padding as well, for the
    sake of compilers that want fixed shapes. The output layer is a quarter of SmolLM2's arithmetic.
    """
    from trl.trainer import utils

    before = utils._use_triton
    setattr(utils, "_use_triton", lambda device: True)  # noqa: B010 (a type checker refuses the plain form)
    try:
        yield
    finally:
        utils._use_triton = before
