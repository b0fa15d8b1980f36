"""Who goes where, by content alone: caps, train and test, and prompt slices.

Every choice follows a hash of an id and a seed, never a position or a drawn random number: a row keeps its
place when others come or go.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
from pydantic import Field

from pipeline.ids import seed_for
from pipeline.params import Params
from pipeline.words import mix


class Split(Params):
    """How a mix is split into train and test."""

    test_fraction: float = Field(ge=0, lt=1)
    """Expected share of prompt families in test; 0 leaves the test split empty."""
    seed: int = Field(ge=0)
    """Seed of the split and of every choice by hash."""


def hash_order(ids: pl.Series, *seed: object) -> pl.Series:
    """A number in [0, 2**64) per content id, evenly spread, different for each seed.

    Distinct ids give distinct numbers. `ids` are numbers, as `catalog.number` reads them from hex digits.
    """
    raw = ids.to_numpy()
    assert raw.dtype == np.uint64, f"expected ids as unsigned numbers of 64 bits, found {raw.dtype}"
    salt = mix(np.array([seed_for(*seed)], dtype=np.uint64))
    return pl.Series("hash_order", mix(raw ^ salt), dtype=pl.UInt64)


def share(ids: pl.Series, *seed: object) -> np.ndarray:
    """`hash_order` as numbers in [0, 1)."""
    # 53 bits are what a float holds: dividing all 64 could round up to 1.
    return (hash_order(ids, *seed).to_numpy() >> np.uint64(11)) / float(1 << 53)


def in_test(cluster_ids: pl.Series, split: Split) -> pl.Series:
    """True for the clusters of the test split.

    A cluster keeps its side when prompts are added, unless a new prompt of it has a lower id and so gives the
    cluster another id, or joins two clusters.
    """
    return pl.Series("in_test", share(cluster_ids, "test", split.seed) < split.test_fraction)


def borders(slices: int, slice_share: float) -> list[float]:
    """Where slices 1 to `slices` end in [0, 1): the first begins at 0, each other where the one before ends.

    A slice takes `slice_share`, or half of what is left where that is less: so there is room for any number
    of slices, and no border depends on how many there are.
    """
    ends, end = [], 0.0
    for _ in range(slices):
        end += min(slice_share, (1 - end) / 2)
        ends.append(end)
    return ends


def deal(prompt_ids: pl.Series, *, ends: Sequence[float], validation_share: float, seed: int) -> pl.DataFrame:
    """(slice, position) of each prompt: slice 0 is validation, `len(ends) + 1` is what no slice takes yet.

    `position`, in [0, 1), is what decides between the slices that end at `ends`. Validation has a hash of its
    own: it takes its share out of every slice, and a larger share takes more and moves nothing else.
    """
    position = share(prompt_ids, "slice", seed)
    drawn = np.searchsorted(np.asarray(ends), position, side="right") + 1
    validation = share(prompt_ids, "validation", seed) < validation_share
    return pl.DataFrame({"slice": np.where(validation, 0, drawn), "position": position})


def rank_within(frame: pl.DataFrame, id_column: str, group: str, *seed: object) -> pl.DataFrame:
    """`frame` in the same order with `rank`: from 1, by hash order of `id_column` within `group`."""
    hashed = frame.with_columns(hash_order(frame[id_column], *seed))
    return hashed.with_columns(rank=pl.col("hash_order").rank("ordinal").over(group).cast(pl.Int64)).drop(
        "hash_order"
    )
