"""Loading a checkpoint for inference, and what sampling and scoring share: devices, batches, attention.

Right or left padding never reaches a result: masked columns have weight zero. What may differ between
batch shapes is the rounding of matrix products: around 1e-6 in float32. In bfloat16 each layer adds some: a
reward of SmolLM2-135M (30 layers) moves by up to 0.08, and 8% of the largest is what `doctor judges` allows.
"""

import ctypes
import json
import logging
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import UserError

log = logging.getLogger(__name__)

ATTENTION = "grouped_sdpa"
"""Name under which `grouped_attention` is known to transformers."""

#: Numbers of malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3

PASS = 170
"""What a pass takes besides the work on its tokens, in tokens: as measured with SmolLM2-135M on one core."""

#: Settings that make logits something else than the output layer times the hidden state.
RESHAPED_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling")


def load_causal(folder: Path, dtype: str, threads: int) -> Any:
    """The language model in `folder`, ready for inference."""
    from transformers import AutoModelForCausalLM

    return load(AutoModelForCausalLM, folder, dtype, threads, "CausalLM")


def load_classifier(folder: Path, dtype: str, threads: int) -> Any:
    """The one-number classifier in `folder` (Bradley-Terry reward model), ready for inference."""
    from transformers import AutoModelForSequenceClassification

    network = load(AutoModelForSequenceClassification, folder, dtype, threads, "SequenceClassification")
    if network.config.num_labels != 1:
        raise UserError(
            f"{folder}: expected a reward model with one output (num_labels 1), found "
            f"{network.config.num_labels}; set the reward model to one that the reward stage made"
        )
    return network


def load_backbone(folder: Path, dtype: str, threads: int) -> Any:
    """The language model or the one-number classifier in `folder`, for those who read states alone."""
    classifies = any(name.endswith("ForSequenceClassification") for name in architectures_of(folder))
    return (load_classifier if classifies else load_causal)(folder, dtype, threads)


def load(factory: Any, folder: Path, dtype: str, threads: int, kind: str) -> Any:
    """`folder` as a `factory` model; UserError if it is of another kind or lacks weights."""
    import torch
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    architectures = architectures_of(folder)
    if not any(name.endswith(f"For{kind}") for name in architectures):
        raise UserError(
            f"{folder}: expected a ...For{kind} checkpoint, found {', '.join(architectures) or 'none'}; "
            "give the folder of the right kind of model"
        )
    if threads > 0:
        torch.set_num_threads(threads)
    keep_freed_memory()
    AttentionInterface.register(ATTENTION, grouped_attention)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)
    network, report = factory.from_pretrained(
        folder, dtype=getattr(torch, dtype), attn_implementation=ATTENTION, output_loading_info=True
    )
    if missing := sorted(report["missing_keys"]):
        raise UserError(
            f"{folder}: expected complete weights, found none for {', '.join(missing[:3])}; "
            "make the model again: dvc repro"
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return network.eval().requires_grad_(False).to(device)


def keep_freed_memory() -> None:
    """Have the C library keep up to a GiB of what is freed, where it is glibc.

    Each layer frees tensors of megabytes and asks for others. By default glibc gives such memory back to the
    system at once, and every call then takes its pages anew: a third of the time of a pass on a CPU.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 32 << 20)  # the most that it takes
        mallopt(M_TRIM_THRESHOLD, 1 << 30)


def architectures_of(folder: Path) -> list[str]:
    """The class names that config.json lists."""
    path = folder / "config.json"
    if not path.exists():
        raise UserError(f"{folder}: expected a model (config.json), found none; make it: dvc repro")
    return json.loads(path.read_text(encoding="utf-8")).get("architectures") or []


def grouped_attention(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: float | None = None, **_: Any
) -> tuple[Any, None]:
    """Scaled dot-product attention in which query heads share key heads without copying them.

    transformers copies the keys and values for every query head as soon as there is a mask; on a CPU that
    costs ten times the attention itself when one token is generated.
    """
    from torch.nn import functional

    out = functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=attention_mask,
        scale=scaling,
        is_causal=attention_mask is None and query.shape[2] > 1,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return out.transpose(1, 2).contiguous(), None


def output_layer(network: Any, folder: Path) -> Any:
    """The layer that turns hidden states into logits; UserError where logits are more than that."""
    for name in RESHAPED_LOGITS:
        if getattr(network.config, name, None) not in (None, 1.0):
            raise UserError(
                f"{folder}: expected logits straight from the output layer, config.json sets {name}; "
                "use a model of the Llama, Mistral or Qwen family"
            )
    return network.get_output_embeddings()


def check_lengths(folder: Path, config: Any, longest: int, what: str) -> None:
    """UserError where a sequence is longer than the model's positions."""
    if longest > config.max_position_embeddings:
        raise UserError(
            f"{folder}: expected {what} within the model's {config.max_position_embeddings} positions, found "
            f"{longest} tokens; lower the length limit of the stage in params.yaml"
        )


def token_batches(lengths: Sequence[int], batch_tokens: int, beside: int = 0) -> Iterator[list[int]]:
    """Indices in batches, longest first, each of at most `batch_tokens` padded tokens or of one row.

    `beside` are tokens that each row holds in memory besides. Of all ways to divide the rows in the order of
    their lengths this is the one with the fewest padded tokens, where each batch costs PASS tokens more.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    sizes = np.array([lengths[i] for i in order], dtype=np.int64)
    places = np.arange(len(order) + 1)
    # Of the rows before each place: the least cost, and where the last batch begins.
    cost, begins, low = np.zeros_like(places), np.zeros_like(places), 0
    for end in range(1, len(order) + 1):
        while low < end - 1 and (sizes[low] + beside) * (end - low) > batch_tokens:
            low += 1
        costs = cost[low:end] + sizes[low:end] * (end - places[low:end])
        begins[end] = low + costs.argmin()
        cost[end] = costs.min() + PASS
    ends = [len(order)] if order else []
    while ends and begins[ends[-1]]:
        ends.append(int(begins[ends[-1]]))
    for start, end in pairwise([0, *reversed(ends)]):
        yield order[start:end]


def right_padded(sequences: Sequence[Sequence[int]], device: Any) -> Any:
    """The sequences as one tensor, zeros behind, which a causal model's real positions never see."""
    import torch

    width = max(len(ids) for ids in sequences)
    return torch.tensor([[*ids, *[0] * (width - len(ids))] for ids in sequences], device=device)
