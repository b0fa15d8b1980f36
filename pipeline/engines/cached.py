"""Engine calls through the row store: sample, score, prefer and measure log-probabilities.

Each function asks the store first, loads a model only where something is missing, and gives values
in the order of its rows. Cells are named by what computes and what is asked; execution settings are
never part of a name.
"""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from pipeline.engines.launchers import launcher
from pipeline.engines.work import (
    Dtype,
    LogProbsWork,
    PreferWork,
    SamplerEngine,
    SampleWork,
    ScorerEngine,
    ScoreWork,
)
from pipeline.filling import fill
from pipeline.models import SampleRequest

__all__ = ["Dtype", "SamplerEngine", "ScorerEngine", "log_probs", "prefer", "sample", "score"]


def sample(
    model: Path,
    requests: Sequence[SampleRequest],
    *,
    engine: SamplerEngine,
    dtype: Dtype,
    max_new_tokens: int,
) -> pl.DataFrame:
    """One sampled answer per request, in order: its text, tokens and finish_reason."""
    return fill(SampleWork(model, engine, dtype, max_new_tokens), requests, launcher())


def score(
    model: Path, sequences: Sequence[Sequence[int]], *, engine: ScorerEngine, dtype: Dtype
) -> list[float]:
    """The reward of each token sequence, in order."""
    return fill(ScoreWork(model, engine, dtype), sequences, launcher())["value"].to_list()


def prefer(
    model: Path,
    questions: Sequence[Sequence[int]],
    labels: tuple[int, int],
    *,
    engine: ScorerEngine,
    dtype: Dtype,
) -> list[float]:
    """For each rendered A/B question, the probability of label A over label B."""
    return fill(PreferWork(model, engine, dtype, labels), questions, launcher())["value"].to_list()


def log_probs(
    model: Path,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    *,
    engine: ScorerEngine,
    dtype: Dtype,
) -> list[float]:
    """The summed log-probability of each response after its prompt, in nats."""
    asks = list(zip(prompts, responses, strict=True))
    return fill(LogProbsWork(model, engine, dtype), asks, launcher())["value"].to_list()
