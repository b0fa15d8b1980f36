"""A model is a function: the protocols that core code sees, and the identity of a model folder."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

from pipeline.chat import TOKENIZER_FILES
from pipeline.errors import UserError
from pipeline.file_digests import file_digest
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
    """A number per token sequence: a function of weights and ids, up to the rounding of batch shapes (around
    1e-6 in float32; in bfloat16 a reward of SmolLM2-135M moves by up to 0.08, see engines/inference.py)."""

    def __call__(self, sequences: Sequence[Sequence[int]]) -> Iterator[tuple[int, float]]: ...


#: Files that decide what a network computes; the rest of a model folder is its tokenizer and its papers.
WEIGHT_FILES = ("config.json", "*.safetensors", "*.safetensors.index.json")


@cache
def model_digest(folder: Path) -> str:
    """The identity of a model folder: sha256 over all its files, cards included."""
    return digest_folder(folder, file_digest)


@cache
def model_identity(folder: Path) -> dict[str, str]:
    """What a model computes with: the digests of its weights and of its tokenizer with the chat template.

    UserError where the folder holds no model. A folder does not change while a stage runs: it is read once.
    """
    weights = sorted({path for pattern in WEIGHT_FILES for path in folder.glob(pattern)})
    tokenizer = [folder / name for name in TOKENIZER_FILES if (folder / name).exists()]
    if folder / "config.json" not in weights:
        raise UserError(f"{folder}: expected a model (config.json), found none; make it: dvc repro")
    return {"weights": digest_files(weights), "tokenizer": digest_files(tokenizer)}


def digest_files(paths: Sequence[Path]) -> str:
    """sha256 over names and bytes of some files, as 32 hex digits."""
    lines = "".join(f"{path.name}\0{file_digest(path)}\n" for path in paths)
    return hashlib.sha256(lines.encode()).hexdigest()[:32]
