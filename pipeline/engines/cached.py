"""Engine calls through the row store: sample, score, prefer and measure log-probabilities.

Each function asks the store first, loads a model only when something is missing, and gives values
in the order of its rows. Keys name what computes (model digest, engine, dtype, settings) and what
is asked (token ids, seed); execution settings are never part of a key.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pipeline.execution import execution
from pipeline.ids import content_id
from pipeline.models import Completion, SampleRequest, model_digest
from pipeline.store import RowStore, fill

Engine = Literal["transformers", "fake"]
Dtype = Literal["float32", "bfloat16"]


def cells(kind: str, asked: Sequence[Any], identity: Sequence[object], compute: Any) -> list[Any]:
    """The stored or newly computed value of each asked row."""
    settings = execution()
    store = RowStore(settings.state / "store" / kind)
    keys = [content_id(kind, *identity, row) for row in asked]
    return fill(store, keys, compute, shard_rows=settings.shard_rows)


def sample(
    model: Path, requests: Sequence[SampleRequest], *, engine: Engine, dtype: Dtype, max_new_tokens: int
) -> list[Completion]:
    """One sampled answer per request, in order."""

    def compute(missing: Sequence[int]) -> Iterator[tuple[int, Any]]:
        sampler = make_sampler(model, engine, dtype)
        for i, done in sampler([requests[j] for j in missing], max_new_tokens=max_new_tokens):
            yield missing[i], [done.text, done.tokens, done.finish_reason]

    asked = [[list(r.prompt_ids), r.temperature, r.seed] for r in requests]
    identity = [model_digest(model), engine, dtype, max_new_tokens]
    return [Completion(*value) for value in cells("sample", asked, identity, compute)]


def make_sampler(model: Path, engine: Engine, dtype: Dtype) -> Any:
    """The sampler of an engine by name."""
    if engine == "fake":
        from pipeline.engines.fake import fake_sampler

        return fake_sampler(model)
    from pipeline.engines.sampling import transformers_sampler

    settings = execution()
    return transformers_sampler(model, dtype=dtype, batch=settings.sample_batch, threads=settings.threads)


def score(model: Path, sequences: Sequence[Sequence[int]], *, engine: Engine, dtype: Dtype) -> list[float]:
    """The reward of each token sequence, in order."""

    def compute(missing: Sequence[int]) -> Iterable[tuple[int, float]]:
        return renumber(make_scorer(model, engine, dtype)([sequences[i] for i in missing]), missing)

    return cells("score", [list(ids) for ids in sequences], [model_digest(model), engine, dtype], compute)


def make_scorer(model: Path, engine: Engine, dtype: Dtype) -> Any:
    """The reward scorer of an engine by name."""
    if engine == "fake":
        from pipeline.engines.fake import fake_scorer

        return fake_scorer(model)
    from pipeline.engines.scoring import reward_scorer

    settings = execution()
    return reward_scorer(
        model, dtype=dtype, batch_tokens=settings.score_batch_tokens, threads=settings.threads
    )


def prefer(
    model: Path, questions: Sequence[Sequence[int]], labels: tuple[int, int], *, engine: Engine, dtype: Dtype
) -> list[float]:
    """For each rendered A/B question, the probability of label A over label B."""

    def compute(missing: Sequence[int]) -> Iterable[tuple[int, float]]:
        asked = [questions[i] for i in missing]
        if engine == "fake":
            from pipeline.engines.fake import fake_label_probabilities

            return renumber(fake_label_probabilities(asked), missing)
        from pipeline.engines.scoring import label_probabilities

        settings = execution()
        found = label_probabilities(
            model,
            asked,
            labels,
            dtype=dtype,
            batch_tokens=settings.score_batch_tokens,
            threads=settings.threads,
        )
        return renumber(found, missing)

    identity = [model_digest(model), engine, dtype, list(labels)]
    return cells("prefer", [list(ids) for ids in questions], identity, compute)


def log_probs(
    model: Path,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    *,
    engine: Engine,
    dtype: Dtype,
) -> list[float]:
    """The summed log-probability of each response after its prompt, in nats."""

    def compute(missing: Sequence[int]) -> Iterable[tuple[int, float]]:
        asked = [prompts[i] for i in missing], [responses[i] for i in missing]
        if engine == "fake":
            from pipeline.engines.fake import fake_log_probs

            return renumber(fake_log_probs(model, *asked), missing)
        from pipeline.engines.scoring import log_probs as measured

        settings = execution()
        found = measured(
            model, *asked, dtype=dtype, batch_tokens=settings.score_batch_tokens, threads=settings.threads
        )
        return renumber(found, missing)

    rows = [[list(p), list(r)] for p, r in zip(prompts, responses, strict=True)]
    return cells("log_probs", rows, [model_digest(model), engine, dtype], compute)


def renumber(found: Iterable[tuple[Any, ...]], missing: Sequence[int]) -> Iterator[tuple[int, float]]:
    """Indices among the missing rows turned into indices among all rows."""
    for i, value, *_ in found:
        yield missing[i], float(value)
