"""What TRL's trainers lack to give the same bytes twice, and after a kill: order, weights, silence.

Measured on TRL 1.16 / transformers 5.19: `group_by_length` draws from the global generator, so a
resumed run sees other batches; the mean over micro batches counts a short last one as a full one.
"""

import logging
import math
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

#: What a micro batch says about itself: how many of its rows count.
COUNTED = "counted_rows"


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

    def steps(self) -> Iterator[list[int]]:
        """The rows of each optimiser step of the epoch; the last step may have fewer."""
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.lengths))
        for first in range(0, len(order), self.step_rows):
            rows = order[first : first + self.step_rows]
            yield rows[np.argsort(-self.lengths[rows], kind="stable")].tolist()

    def __iter__(self) -> Iterator[int]:
        for rows in self.steps():
            yield from rows


class MicroBatches:
    """The micro batches of one of `world` processes, each a list of (row, whether it counts).

    A step is cut into the same micro batches however many processes there are; process `rank` takes
    every `world`-th. All must take part in every forward and backward pass, so where the last step of an
    epoch has none left for a process, that one computes a micro batch again which counts nothing.
    """

    def __init__(self, order: Shuffle, micro: int, world: int, rank: int) -> None:
        self.order, self.micro, self.world, self.rank = order, micro, world, rank

    def __len__(self) -> int:
        steps, rest = divmod(len(self.order), self.order.step_rows)
        whole = self.order.step_rows // (self.micro * self.world)
        return steps * whole + math.ceil(rest / (self.micro * self.world))

    def __iter__(self) -> Iterator[list[tuple[int, bool]]]:
        for rows in self.order.steps():
            cuts = [rows[first : first + self.micro] for first in range(0, len(rows), self.micro)]
            for first in range(0, len(cuts), self.world):
                place = first + self.rank
                counts = place < len(cuts)
                yield [(row, counts) for row in cuts[place if counts else 0]]


class CountedRows:
    """A data set whose items are addressed by (row, whether it counts) and carry the second along."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[int, bool]) -> tuple[dict[str, Any], bool]:
        return self.rows[key[0]], key[1]


def counted(collate: Any) -> Any:
    """The collator `collate`, for items of `CountedRows`."""

    def batch(items: list[tuple[dict[str, Any], bool]]) -> dict[str, Any]:
        return {**collate([row for row, _ in items]), COUNTED: sum(counts for _, counts in items)}

    return batch


def repeatable(trainer: Any, order: Shuffle) -> type:
    """A subclass of a TRL trainer that takes its rows in `order`, on any number of processes, and sends
    nothing anywhere.
    """

    class Repeatable(trainer):
        def get_train_dataloader(self) -> Any:
            from torch.utils.data import DataLoader

            a = self.args
            batches = MicroBatches(order, a.per_device_train_batch_size, a.world_size, a.process_index)
            rows: Any = CountedRows(self.train_dataset)
            return DataLoader(rows, batch_sampler=batches, collate_fn=counted(self.data_collator))

        def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
            order.epoch = kwargs["epoch"]
            super()._run_epoch(*args, **kwargs)

        def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
            import torch

            batches, items = super().get_batch_samples(*args, **kwargs)
            rows = torch.tensor(sum(batch[COUNTED] for batch in batches), device=self.args.device)
            rows = self.accelerator.reduce(rows).item() if self.args.world_size > 1 else rows.item()
            self.mean_rows = rows / max(len(batches) * self.args.world_size, 1)
            return batches, items

        def _get_num_items_in_batch(self, batch_samples: list, device: Any) -> Any:
            import torch

            def labels(batch: Any) -> Any:
                return batch["labels"] if batch[COUNTED] else torch.full_like(batch["labels"], -100)

            seen = [{**b, "labels": labels(b)} if "labels" in b else b for b in batch_samples]
            return super()._get_num_items_in_batch(seen, device)

        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            rows = inputs.pop(COUNTED)
            self.counts = rows > 0
            loss = super().compute_loss(model, inputs, *args, **kwargs)
            if self.loss_is_scaled_for_ga is False:
                # The trainer takes a plain mean over micro batches; a shorter one must weigh less.
                return loss * (rows / self.mean_rows)
            return loss if rows else loss * 0.0

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
