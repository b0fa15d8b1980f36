"""Scoring with transformers: rewards, label probabilities and log-probabilities of token sequences.

Every value is read at the true last position of its row, found by length and never by looking for
padding: where the pad token is EOS, transformers' own classifier head reads one position too early
and gives a chosen and a rejected answer the same score (reported to the RLHF-Reward-Modeling project). Alone,
in any batch and in any order a row's value is the same within 1e-4 in float32.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from pipeline.engines.cores import beside_each_other, independent
from pipeline.engines.inference import (
    check_lengths,
    load_causal,
    load_classifier,
    output_layer,
    right_padded,
    token_batches,
)
from pipeline.engines.prefixes import last_states_of_groups, shareable, shared_beginnings
from pipeline.errors import UserError
from pipeline.models import Scorer

LOGIT_ROWS = 512
"""Positions whose logits over the whole vocabulary exist at once."""

Load = Callable[[Path, str, int], Any]
"""Loads a network; a cached one serves several calls."""


def reward_scorer(
    model: Path, *, dtype: str, batch_tokens: int, threads: int, load: Load = load_classifier
) -> Scorer:
    """The reward of each sequence under a Bradley-Terry model: its one output at the last token.

    Loaded at the first call. UserError for a folder that is no one-output sequence classifier, for a
    sequence beyond the model's positions, and for a score that is not a finite number.
    """

    @cache
    def network() -> Any:
        return load(model, dtype, threads)

    def score(sequences: Sequence[Sequence[int]]) -> Iterator[tuple[int, float]]:
        if not sequences:
            return
        head = rows_of(network().score, [0])
        for batch, last in last_states(model, network(), sequences, batch_tokens):
            values = head(last)[:, 0].tolist()
            for i, value in zip(batch, values, strict=True):
                if not math.isfinite(value):
                    raise UserError(
                        f"{model}: expected finite rewards, found {value} for sequence {i} of "
                        f"{len(sequences)}; the weights are damaged: train the model again"
                    )
                yield i, value

    return score


def label_probabilities(
    model: Path,
    sequences: Sequence[Sequence[int]],
    labels: tuple[int, int],
    *,
    dtype: str,
    batch_tokens: int,
    threads: int,
    load: Load = load_causal,
) -> Iterator[tuple[int, float]]:
    """Per sequence, its index and the probability that labels[0], not labels[1], follows it.

    A softmax over the two logits alone, as a sigmoid of their difference, which cannot overflow.
    """
    if not sequences:
        return
    network = load(model, dtype, threads)
    layer = rows_of(output_layer(network, model), list(labels))
    for batch, last in last_states(model, network, sequences, batch_tokens):
        logits = layer(last)
        gaps = logits[:, 0] - logits[:, 1]
        # An infinite gap would become a probability of 0 or 1, as if the model were sure.
        for i, gap, value in zip(batch, gaps.tolist(), gaps.sigmoid().tolist(), strict=True):
            if not math.isfinite(gap):
                raise UserError(
                    f"{model}: expected finite logits, found a difference of {gap} for sequence {i} of "
                    f"{len(sequences)}; the weights are damaged: train the model again"
                )
            yield i, value


def log_probs(
    model: Path,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    *,
    dtype: str,
    batch_tokens: int,
    threads: int,
    load: Load = load_causal,
) -> Iterator[tuple[int, float]]:
    """Per row: index and summed log-probability (nats) of the response after its prompt."""
    import torch

    if not prompts:
        return
    assert all(prompts), "the first token of a response needs a token before it"
    network = load(model, dtype, threads)
    layer = rows_of(output_layer(network, model), slice(None))
    ends = [len(prompt) + len(response) for prompt, response in zip(prompts, responses, strict=True)]
    check_lengths(model, network.config, max(ends), "prompt and response")
    for batch in token_batches(ends, batch_tokens):
        with torch.inference_mode():
            states = hidden_states(network, [[*prompts[i], *responses[i]] for i in batch])
            # The state before each response token predicts it.
            before = [states[k, len(prompts[i]) - 1 : ends[i] - 1] for k, i in enumerate(batch)]
            wanted = torch.tensor([token for i in batch for token in responses[i]], device=states.device)
            values = token_log_probs(layer, torch.cat(before), wanted)
            sums = [part.sum().item() for part in values.split([len(responses[i]) for i in batch])]
        yield from zip(batch, sums, strict=True)


def token_log_probs(layer: Any, states: Any, tokens: Any) -> Any:
    """log p(token) at each state, as float64; logits are made for some positions at a time."""
    import torch

    parts = [states.new_zeros(0, dtype=torch.double)]
    for some, wanted in zip(states.split(LOGIT_ROWS), tokens.split(LOGIT_ROWS), strict=True):
        logits = layer(some)
        parts.append((logits.gather(1, wanted[:, None])[:, 0] - logits.logsumexp(-1)).double())
    return torch.cat(parts)


def rows_of(layer: Any, rows: Any) -> Any:
    """Some outputs of a linear layer, in float32 also for bfloat16 weights.

    A bfloat16 logit of 20 has a resolution of 0.125: too coarse for margins and sums.
    """
    from torch.nn import functional

    weight = layer.weight[rows].float()
    bias = None if layer.bias is None else layer.bias[rows].float()
    return lambda states: functional.linear(states.float(), weight, bias)


def last_states(
    model: Path, network: Any, sequences: Sequence[Sequence[int]], batch_tokens: int
) -> Iterator[tuple[list[int], Any]]:
    """Batches of indices with the hidden state of each row's last token."""
    assert all(sequences), "a sequence without tokens has no last position"
    check_lengths(model, network.config, max(map(len, sequences)), "every sequence")
    groups = shared_beginnings(sequences) if shareable(network) else []
    yield from last_states_of_groups(network, sequences, groups, batch_tokens)
    alone = sorted({*range(len(sequences))} - {i for group in groups for i in group.rows})
    batches = token_batches([len(sequences[i]) for i in alone], batch_tokens)
    calls = [partial(read_whole, network, sequences, [alone[k] for k in some]) for some in batches]
    yield from beside_each_other(calls, at_once=independent(network))


def read_whole(network: Any, sequences: Sequence[Sequence[int]], batch: list[int]) -> tuple[list[int], Any]:
    """The rows of `batch` with the states of their last tokens."""
    import torch

    with torch.inference_mode():
        states = hidden_states(network, [sequences[i] for i in batch])
        ends = torch.tensor([len(sequences[i]) - 1 for i in batch], device=states.device)
        return batch, states[torch.arange(len(batch), device=states.device), ends]


def hidden_states(network: Any, sequences: Sequence[Sequence[int]]) -> Any:
    """The last layer's states of right-padded sequences, (rows, positions, width)."""
    ids = right_padded(sequences, network.device)
    return network.base_model(input_ids=ids, use_cache=False).last_hidden_state
