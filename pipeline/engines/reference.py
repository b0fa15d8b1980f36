"""Log-probabilities of answers under the frozen reference model: computed once, before training."""

import gc
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from pipeline.engines.repeatable import labelled_positions_only, quiet
from pipeline.engines.weights import load_language_model, load_tokenizer

log = logging.getLogger(__name__)

LOGPS = {"ref_chosen_logps": pl.Float32, "ref_rejected_logps": pl.Float32}


def reference_logps(reference: Path, pairs: pl.DataFrame, batch_tokens: int, precision: str) -> pl.DataFrame:
    """The summed log-probability of each answer given its prompt, under `reference`.

    pairs: prompt_ids, chosen_ids, rejected_ids. Returns ref_chosen_logps and ref_rejected_logps
    (natural logarithms, Float32), in the order of the pairs. A batch has at most `batch_tokens`
    tokens, padding included (at least one row); in float32 a value depends on what shares its batch
    by less than 1e-4. The layer code is the one TRL trains with, so that policy and reference agree
    exactly where their weights do.
    """
    import torch
    from tqdm import tqdm
    from trl.trainer.utils import add_fused_lm_head

    prompts = pairs["prompt_ids"].to_list()
    answers = pairs["chosen_ids"].to_list() + pairs["rejected_ids"].to_list()
    rows = [(prompts[i % len(prompts)], answer) for i, answer in enumerate(answers)]
    logps = torch.zeros(len(rows), dtype=torch.float32)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with quiet(), labelled_positions_only(), tqdm(total=len(rows), desc="reference", disable=None) as bar:
        pad_id = load_tokenizer(reference).pad_token_id
        model = load_language_model(reference).eval().to(device)
        add_fused_lm_head(model)
        autocast = torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16")
        for batch in batches([len(prompt) + len(answer) for prompt, answer in rows], batch_tokens):
            inputs = padded([rows[i] for i in batch], pad_id, device)
            with torch.inference_mode(), autocast:
                output = model(**inputs, use_cache=False, fused_lm_head=True)
            logps[batch] = output.log_probs.float().sum(dim=1).cpu()
            bar.update(len(batch))
        del model
        gc.collect()
    values = logps.numpy()
    return pl.DataFrame(
        {"ref_chosen_logps": values[: len(prompts)], "ref_rejected_logps": values[len(prompts) :]}, LOGPS
    )


def batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Rows of like length, longest first, at most `batch_tokens` padded tokens (but at least one row)."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    while order:
        size = max(1, batch_tokens // max(lengths[order[0]], 1))
        yield order[:size]
        order = order[size:]


def padded(rows: Sequence[tuple[list[int], list[int]]], pad_id: int, device: str) -> dict[str, object]:
    """input_ids, attention_mask and labels (answers only), padded on the right."""
    import torch

    width = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids = torch.full((len(rows), width), pad_id)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    labels = torch.full((len(rows), width), -100)
    for i, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        ids[i, :end] = torch.tensor(prompt + answer)
        mask[i, :end] = 1
        labels[i, len(prompt) : end] = torch.tensor(answer)
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device), "labels": labels.to(device)}
