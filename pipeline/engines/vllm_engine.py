"""Sampling and scoring with vLLM: the engine for GPUs, and in its CPU build for CPUs.

Requests are token ids and what comes back is token ids: rendering, stop tokens and decoding are those of
`Chat`, as in every other engine. vLLM batches by itself, so the whole queue is given at once and rows come
as they finish.

vLLM does not repeat its texts: the rounding of its matrix products depends on what shares a batch, so even
with a seed per row some answers differ from run to run. What was sampled once is kept in the row store, and
nothing assumes that it could be sampled again.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.chat import Chat
from pipeline.engines.engine_work import finite
from pipeline.engines.vllm_process import Engine, Ids
from pipeline.errors import UserError
from pipeline.models import Completion, Sampler, SampleRequest, Scorer

FLOAT32_HEAD = {"head_dtype": "float32"}
"""A bfloat16 logit of 20 has a resolution of 0.125: too coarse for margins and sums."""


def vllm_sampler(model: Path, *, dtype: str) -> Sampler:
    """The sampler of a model folder; vLLM starts at the first request and ends with the sampler.

    Temperature 0 is greedy, any other samples from the whole distribution. A row ends at one of the chat's
    stop tokens ("stop") or after max_new_tokens ("length"). UserError where prompt and answer do not fit the
    model's positions, and where vLLM is not installed or does not start.
    """
    engine = Engine(model, dtype, "CausalLM")
    chat = cache(lambda: Chat.load(model))

    def sample(requests: Sequence[SampleRequest], *, max_new_tokens: int) -> Iterator[tuple[int, Completion]]:
        if not requests:
            return
        stops = chat().stop_ids

        def parameters(i: int) -> Any:
            return sampling(requests[i], stops, max_new_tokens)

        rows = [request.prompt_ids for request in requests]
        for i, output in engine.outputs(
            rows, parameters, new_tokens=max_new_tokens, what="prompt and answer"
        ):
            ids = output.outputs[0].token_ids
            stopped = ended(model, i, output) == "stop"
            text = chat().decode(ids[:-1] if stopped else ids)
            yield i, Completion(text, len(ids), "stop" if stopped else "length")

    return sample


def ended(model: Path, i: int, output: Any) -> str:
    """How row `i` ended: "stop" or "length"; UserError where vLLM gave it up."""
    reason = output.outputs[0].finish_reason
    if reason not in ("stop", "length"):
        raise UserError(
            f"{model}: expected row {i} to end with stop or length, found {reason} from vLLM; mend what its "
            "log says (VLLM_LOGGING_LEVEL=INFO) and run again: rows that were stored are kept"
        )
    return reason


def sampling(request: SampleRequest, stop_ids: Sequence[int], max_new_tokens: int) -> Any:
    """vLLM's parameters for a request: no top-k, no top-p, and no end but the stop tokens and the limit."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=request.temperature,
        seed=request.seed,
        max_tokens=max_new_tokens,
        stop_token_ids=list(stop_ids),
        ignore_eos=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def vllm_scorer(model: Path, *, dtype: str) -> Scorer:
    """The reward of each sequence under a Bradley-Terry model: its one output at the last token.

    The last token is the last of the sequence, whatever the pad token is. UserError as in
    `scoring.reward_scorer`.
    """
    engine = Engine(model, dtype, "SequenceClassification", runner="pooling")

    def score(sequences: Sequence[Ids]) -> Iterator[tuple[int, float]]:
        from vllm import PoolingParams

        if not sequences:
            return
        raw = PoolingParams(task="classify", use_activation=False)
        for i, output in engine.outputs(sequences, lambda _: raw, new_tokens=0, what="every sequence"):
            yield i, output.outputs.data.item()

    return score


def vllm_label_probabilities(
    model: Path, *, labels: tuple[int, int], dtype: str
) -> Callable[[Sequence[Ids]], Iterator[tuple[int, float]]]:
    """A function of token sequences: per sequence, its index and the probability that labels[0] follows it,
    not labels[1]. A softmax over the two logits alone."""
    engine = Engine(model, dtype, "CausalLM", hf_overrides=FLOAT32_HEAD)

    def gaps(questions: Sequence[Ids]) -> Iterator[tuple[int, float]]:
        both = next_token(list(labels))
        for i, output in engine.outputs(
            questions, lambda _: both, new_tokens=1, what="every question and its label"
        ):
            ended(model, i, output)
            first, second = (output.outputs[0].logprobs[0][label].logprob for label in labels)
            yield i, first - second

    def prefer(questions: Sequence[Ids]) -> Iterator[tuple[int, float]]:
        # Checked here: an infinite gap would become a probability like any other.
        if questions:
            yield from ((i, sigmoid(gap)) for i, (gap,) in finite(model, gaps(questions)))

    return prefer


def vllm_log_probs(
    model: Path, *, dtype: str
) -> Callable[[Sequence[Ids], Sequence[Ids]], Iterator[tuple[int, float]]]:
    """A function of prompts and responses: per row, its index and the summed log-probability (nats) of the
    response after its prompt."""
    engine = Engine(model, dtype, "CausalLM", hf_overrides=FLOAT32_HEAD)

    def measure(prompts: Sequence[Ids], responses: Sequence[Ids]) -> Iterator[tuple[int, float]]:
        assert all(prompts), "the first token of a response needs a token before it"
        measured = [i for i, response in enumerate(responses) if response]
        yield from ((i, 0.0) for i, response in enumerate(responses) if not response)
        if not measured:
            return
        # vLLM always adds a token. So the last one of the response is left out and asked for as the next.
        rows = [[*prompts[i], *responses[i][:-1]] for i in measured]

        def parameters(k: int) -> Any:
            return next_token([responses[measured[k]][-1]], before=True)

        for k, output in engine.outputs(rows, parameters, new_tokens=1, what="prompt and response"):
            i = measured[k]
            ended(model, i, output)
            last = output.outputs[0].logprobs[0][responses[i][-1]].logprob
            before = output.prompt_logprobs[len(prompts[i]) :]
            parts = [at[token].logprob for at, token in zip(before, responses[i][:-1], strict=True)]
            yield i, math.fsum([*parts, last])

    return measure


def next_token(tokens: list[int], *, before: bool = False) -> Any:
    """vLLM's parameters that ask for the log-probabilities of `tokens` as the next one, and with `before`
    for that of each token there is."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=0,
        max_tokens=1,
        logprob_token_ids=tokens,
        prompt_logprobs=0 if before else None,
        ignore_eos=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def sigmoid(value: float) -> float:
    """1 / (1 + exp(-value)) without overflow."""
    small = math.exp(-abs(value))
    return (1 if value >= 0 else small) / (1 + small)
