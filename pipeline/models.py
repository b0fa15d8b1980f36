"""A model is a function: the protocols that core code sees, and the identity of a model folder."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

from pipeline.ids import digest_folder


@dataclass(frozen=True)
class SampleRequest:
    """One answer to sample: the rendered prompt, the temperature and the row's own seed."""

    prompt_ids: tuple[int, ...]
    temperature: float
    seed: int


@dataclass(frozen=True)
class Completion:
    """A sampled answer: its text, its tokens (end of turn included) and why it ended (stop or length)."""

    text: str
    tokens: int
    finish_reason: str


class Sampler(Protocol):
    """Samples one answer per request; yields (index, completion) in any order, as they finish."""

    def __call__(
        self, requests: Sequence[SampleRequest], *, max_new_tokens: int
    ) -> Iterator[tuple[int, Completion]]: ...


class Scorer(Protocol):
    """A number per token sequence; a function of weights and ids alone, whatever shares the batch."""

    def __call__(self, sequences: Sequence[Sequence[int]]) -> Iterator[tuple[int, float]]: ...


@cache
def model_digest(folder: Path) -> str:
    """The identity of a model: sha256 over all its files (weights, tokenizer, template, config)."""
    return digest_folder(folder)
