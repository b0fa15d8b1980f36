"""Log-probabilities of answers under the frozen reference model of DPO, from the row store."""

import ctypes
import gc
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import polars as pl

from pipeline.engines.engine_work import AnswerWork, Ids, finite
from pipeline.engines.inference import token_batches
from pipeline.engines.launchers import launcher
from pipeline.engines.repeatable import labelled_positions_only, quiet
from pipeline.engines.weights import load_language_model, load_tokenizer
from pipeline.execution import execution
from pipeline.filling import Compute, fill
from pipeline.objectives import REFERENCE_LOGPS

Asks = Sequence[tuple[Ids, Ids]]

SIDES = ("chosen_ids", "rejected_ids")


def referenced(
    reference: Path, pairs: pl.DataFrame, precision: Literal["float32", "bfloat16"]
) -> pl.DataFrame:
    """`pairs` with ref_chosen_logps and ref_rejected_logps: nats, summed over each answer, Float32.

    pairs: prompt_ids, chosen_ids, rejected_ids. Values come from the row store; what it lacks is computed
    as training computes, and the reference is freed. UserError for a value that is not finite.
    """
    values = fill(ReferenceWork(reference, "trl", precision), answers(pairs), launcher())["value"]
    give_back()
    return with_logps(pairs, values)


def give_back() -> None:
    """Leave the memory of the reference to training: Linux's C library keeps what was freed for itself."""
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def answers(pairs: pl.DataFrame) -> Asks:
    """Prompt and answer of the chosen side of all pairs, then of the rejected one, in 4 bytes a token."""
    prompts, *sides = (
        [array("I", ids) for (ids,) in pairs.select(name).iter_rows()] for name in ("prompt_ids", *SIDES)
    )
    return [ask for side in sides for ask in zip(prompts, side, strict=True)]


def with_logps(pairs: pl.DataFrame, values: pl.Series) -> pl.DataFrame:
    """`pairs` with the values of their `answers`."""
    sides = {name: values.slice(k * pairs.height, pairs.height) for k, name in enumerate(REFERENCE_LOGPS)}
    return pairs.with_columns(**sides).cast(dict.fromkeys(REFERENCE_LOGPS, pl.Float32))


@dataclass(frozen=True)
class ReferenceWork(AnswerWork):
    """The summed log-probability of each (prompt, response), by the layer code that TRL trains with.

    Policy and reference then agree exactly where their weights do. `dtype` is the precision of training.
    """

    engine: Literal["trl"]
    dtype: Literal["float32", "bfloat16"]

    def start(self) -> Compute:
        measured = trl_log_probs(self.model, self.dtype, execution().score_batch_tokens)
        return lambda asks: finite(self.model, measured(asks))


def trl_log_probs(
    model: Path, precision: str, batch_tokens: int
) -> Callable[[Asks], Iterator[tuple[int, float]]]:
    """A function that gives index and summed log-probability (nats) of the response of each ask.

    A batch has at most `batch_tokens` tokens, padding included (at least one row); in float32 a value
    depends on what shares its batch by less than 1e-4. The model is loaded once, and freed with the function.
    """
    loaded = cache(lambda: load(model))

    def measure(asks: Asks) -> Iterator[tuple[int, float]]:
        network, pad_id = loaded()
        for batch in token_batches([len(prompt) + len(answer) for prompt, answer in asks], batch_tokens):
            inputs = padded([asks[i] for i in batch], pad_id, network.device)
            yield from zip(batch, sums(network, inputs, precision), strict=True)

    return measure


def load(model: Path) -> tuple[Any, int]:
    """The reference as TRL's DPO trainer sets up its model, and its pad token."""
    import torch
    from trl.trainer.utils import add_fused_lm_head

    device = "cuda" if torch.cuda.is_available() else "cpu"
    with quiet():
        network = load_language_model(model).eval().to(device)
        add_fused_lm_head(network)
        return network, load_tokenizer(model).pad_token_id


def sums(network: Any, inputs: dict[str, Any], precision: str) -> list[float]:
    """The log-probability of the labels of each row."""
    import torch

    bfloat16 = torch.autocast(network.device.type, torch.bfloat16, enabled=precision == "bfloat16")
    with quiet(), labelled_positions_only(), torch.inference_mode(), bfloat16:
        output = network(**inputs, use_cache=False, fused_lm_head=True)
    return output.log_probs.float().sum(dim=1).tolist()


def padded(rows: Asks, pad_id: int, device: Any) -> dict[str, Any]:
    """input_ids, attention_mask and labels (answers only), padded on the right."""
    import torch

    width = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids = torch.full((len(rows), width), pad_id)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    labels = torch.full((len(rows), width), -100)
    for i, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        ids[i, :end] = torch.tensor([*prompt, *answer])
        mask[i, :end] = 1
        labels[i, len(prompt) : end] = torch.tensor([*answer])
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device), "labels": labels.to(device)}
