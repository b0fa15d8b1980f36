"""What the engines compute, as small values that can be sent to a worker: samples, scores, preferences,
log-probabilities. Each names its set of cells, makes the keys of its asks, and loads its engine."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

import polars as pl

from pipeline.cells import Cells, sample_key, sequence_key, tokens_digest
from pipeline.engines.engine_work import AnswerWork, EngineWork, Ids, finite
from pipeline.execution import execution
from pipeline.filling import Compute
from pipeline.models import Sampler, SampleRequest, Scorer

SamplerEngine = Literal["transformers", "vllm", "openai", "fake"]
ScorerEngine = Literal["transformers", "vllm", "fake"]
Dtype = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class SampleWork(EngineWork):
    """One sampled answer per SampleRequest."""

    engine: SamplerEngine
    dtype: Dtype
    max_new_tokens: int

    @property
    def cells(self) -> Cells:
        return self.cells_of("sample", {"max_new_tokens": self.max_new_tokens})

    def keys(self, asks: Sequence[SampleRequest]) -> list[str]:
        prompts = {ids: tokens_digest(ids) for ids in {ask.prompt_ids for ask in asks}}
        return [sample_key(prompts[ask.prompt_ids], ask.temperature, ask.seed) for ask in asks]

    def group(self, ask: SampleRequest) -> Hashable | None:
        return ask.prompt_ids

    def tokens(self, asks: Sequence[SampleRequest], values: pl.DataFrame) -> int:
        return int(values["tokens"].sum())

    def start(self) -> Compute:
        sampler = self.sampler()

        def compute(asks: Sequence[SampleRequest]) -> Iterator[tuple[int, tuple[Any, ...]]]:
            for i, done in sampler(asks, max_new_tokens=self.max_new_tokens):
                yield i, (done.text, done.tokens, done.finish_reason)

        return compute

    def sampler(self) -> Sampler:
        """The sampler of the engine."""
        settings = execution()
        match self.engine:
            case "fake":
                from pipeline.engines.fake import fake_sampler

                return fake_sampler(self.model)
            case "vllm":
                from pipeline.engines.vllm_engine import vllm_sampler

                return vllm_sampler(self.model, dtype=self.dtype)
            case "openai":
                from pipeline.engines.openai_engine import openai_sampler

                return openai_sampler(self.model)
            case "transformers":
                from pipeline.engines.sampling import transformers_sampler

                return transformers_sampler(
                    self.model, dtype=self.dtype, batch=settings.sample_batch, threads=settings.threads
                )


@dataclass(frozen=True)
class SequenceWork(EngineWork):
    """A number per token sequence."""

    engine: ScorerEngine
    dtype: Dtype

    def keys(self, asks: Sequence[Ids]) -> list[str]:
        return [sequence_key(ids) for ids in asks]

    def group(self, ask: Ids) -> Hashable | None:
        return None

    def tokens(self, asks: Sequence[Ids], values: pl.DataFrame) -> int:
        return sum(map(len, asks))


@dataclass(frozen=True)
class ScoreWork(SequenceWork):
    """The reward of each token sequence."""

    @property
    def cells(self) -> Cells:
        return self.cells_of("score")

    def start(self) -> Compute:
        scorer = self.scorer()
        return lambda asks: finite(self.model, scorer(asks))

    def scorer(self) -> Scorer:
        """The scorer of the engine."""
        settings = execution()
        match self.engine:
            case "fake":
                from pipeline.engines.fake import fake_scorer

                return fake_scorer(self.model)
            case "vllm":
                from pipeline.engines.vllm_engine import vllm_scorer

                return vllm_scorer(self.model, dtype=self.dtype)
            case "transformers":
                from pipeline.engines.scoring import reward_scorer

                return reward_scorer(
                    self.model,
                    dtype=self.dtype,
                    batch_tokens=settings.score_batch_tokens,
                    threads=settings.threads,
                )


@dataclass(frozen=True)
class PreferWork(SequenceWork):
    """For each rendered A/B question, the probability of the first label."""

    labels: tuple[int, int]

    @property
    def cells(self) -> Cells:
        return self.cells_of("prefer", {"label_a": self.labels[0], "label_b": self.labels[1]})

    def start(self) -> Compute:
        settings = execution()
        match self.engine:
            case "fake":
                from pipeline.engines.fake import fake_label_probabilities

                return lambda asks: finite(self.model, fake_label_probabilities(asks))
            case "vllm":
                from pipeline.engines.vllm_engine import vllm_label_probabilities

                preferrer = vllm_label_probabilities(self.model, labels=self.labels, dtype=self.dtype)
                return lambda asks: finite(self.model, preferrer(asks))
            case "transformers":
                from pipeline.engines.inference import load_causal
                from pipeline.engines.scoring import label_probabilities

                preferrer = partial(
                    label_probabilities,
                    self.model,
                    labels=self.labels,
                    dtype=self.dtype,
                    batch_tokens=settings.score_batch_tokens,
                    threads=settings.threads,
                    load=cache(load_causal),
                )
                return lambda asks: finite(self.model, preferrer(asks))


@dataclass(frozen=True)
class LogProbsWork(AnswerWork):
    """The summed log-probability of each (prompt, response), in nats."""

    engine: ScorerEngine
    dtype: Dtype

    def start(self) -> Compute:
        settings = execution()
        match self.engine:
            case "fake":
                from pipeline.engines.fake import fake_log_probs

                return lambda asks: finite(self.model, fake_log_probs(self.model, *columns(asks)))
            case "vllm":
                from pipeline.engines.vllm_engine import vllm_log_probs

                measured = vllm_log_probs(self.model, dtype=self.dtype)
                return lambda asks: finite(self.model, measured(*columns(asks)))
            case "transformers":
                from pipeline.engines.inference import load_causal
                from pipeline.engines.scoring import log_probs

                measured = partial(
                    log_probs,
                    self.model,
                    dtype=self.dtype,
                    batch_tokens=settings.score_batch_tokens,
                    threads=settings.threads,
                    load=cache(load_causal),
                )
                return lambda asks: finite(self.model, measured(*columns(asks)))


def columns(asks: Sequence[tuple[Ids, Ids]]) -> tuple[list[Ids], list[Ids]]:
    """Prompts and responses of log-probability asks."""
    return [prompt for prompt, _ in asks], [response for _, response in asks]
