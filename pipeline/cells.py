"""Cells of the row store: what computes a value, and of what a value of each kind is made.

A cell set says what computes: the digest of the weights, of the tokenizer and its chat template, the
engine, the number format and those settings that an engine's answer depends on. A key says what is
asked: the row's token ids and, for a sample, its temperature and its own seed. Nothing else is part
of either: no order, no batch, no machine.
"""

import hashlib
import json
import struct
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import polars as pl

Kind = Literal["sample", "score", "prefer", "log_probs", "reply", "state"]

#: The value columns of each kind.
VALUES: Mapping[str, pl.Schema] = {
    "sample": pl.Schema({"text": pl.String, "tokens": pl.Int64, "finish_reason": pl.String}),
    "score": pl.Schema({"value": pl.Float64}),  # the reward of a token sequence
    "prefer": pl.Schema({"value": pl.Float64}),  # the probability of the first label
    "log_probs": pl.Schema({"value": pl.Float64}),  # nats, summed over the response
    # The last layer's state at the last token of a sequence, as many numbers as the model is wide.
    "state": pl.Schema({"value": pl.List(pl.Float32)}),
    # The answer of a chat endpoint. Tokens as it counted them, null where it does not tell; how often the
    # request was sent again.
    "reply": pl.Schema(
        {
            "text": pl.String,
            "prompt_tokens": pl.Int64,
            "tokens": pl.Int64,
            "finish_reason": pl.String,
            "retries": pl.Int64,
        }
    ),
}

#: Bytes of a key: of billions of rows two share one with a chance below 1e-18.
KEY_BYTES = 16


@dataclass(frozen=True)
class Cells:
    """A set of cells: their kind, and what computes them."""

    kind: Kind
    #: Name and value of everything that the values depend on, besides what is asked.
    identity: tuple[tuple[str, str | int | float], ...]

    @cached_property
    def name(self) -> str:
        """The folder of this set below the store: kind/digest."""
        return f"{self.kind}/{hashlib.sha256(self.description.encode()).hexdigest()[:32]}"

    @cached_property
    def description(self) -> str:
        """The identity as canonical JSON: what stands beside the shards, for people and for `gc`."""
        return json.dumps({"kind": self.kind, **dict(self.identity)}, sort_keys=True, indent=1)

    @property
    def schema(self) -> pl.Schema:
        """Columns of a shard: the key, then the value."""
        return pl.Schema({"key": pl.String, **VALUES[self.kind]})


def tokens_digest(ids: Sequence[int]) -> bytes:
    """The digest of a token sequence."""
    return hashlib.blake2b(array("I", ids).tobytes(), digest_size=KEY_BYTES).digest()


def sample_key(prompt: bytes, temperature: float, seed: int) -> str:
    """The key of one sample of a prompt, given the prompt's `tokens_digest`; 32 hex digits."""
    asked = prompt + struct.pack("<dq", temperature, seed)
    return hashlib.blake2b(asked, digest_size=KEY_BYTES).hexdigest()


def messages_key(messages: Sequence[Mapping[str, str]]) -> str:
    """The key of what is asked in messages, where no tokenizer is known; 32 hex digits."""
    canonical = json.dumps([[turn["role"], turn["content"]] for turn in messages], separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=KEY_BYTES).hexdigest()


def sequence_key(*sequences: Sequence[int]) -> str:
    """The key of what is asked about some token sequences, in this order; 32 hex digits."""
    return hashlib.blake2b(b"".join(map(tokens_digest, sequences)), digest_size=KEY_BYTES).hexdigest()
