"""The search for near texts among those that share a key: the buckets of LSH, and those of rare shingles.

A bucket is all texts of one key. Neighbours in a bucket are compared first: they join a large cluster in
linear time, and most buckets are then done. Of the others, those of at most CROWD texts are compared pair by
pair; larger ones, which prompts on one template make without being near, by their rare shingles.

Texts are known by their place in an order of their contents, so that the search, and what it finds by chance
where LSH misses a pair, is the same for every order of the rows and every number of threads.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from threading import Lock
from typing import Self

import numpy as np
import polars as pl

from pipeline.shingles import HASH_MASK, distinct, shingle_sets, similarity
from pipeline.words import blocks, in_threads, mix

CROWD = 64
"""From more texts than this in a bucket, candidates must share a rare shingle too."""
FIRST_PAIRS, PENDING_PAIRS = 1 << 16, 1 << 22
"""Candidate pairs held at once, at first and at most: bounds memory, not the result."""
COUNTERS = 1 << 22
"""Counters of the shingles of crowded texts; two shingles on one counter only seem less rare."""
COUNTER_MASK = np.uint64(COUNTERS - 1)
MARGIN = 1e-6
"""What sums of floats may be wrong by, in shingles."""
HALF = np.uint64(32)
LOW_HALF = np.uint64(0xFFFFFFFF)

Pairs = tuple[np.ndarray, np.ndarray]
"""The places of the left and of the right texts."""


@dataclass(frozen=True)
class Buckets:
    """Texts that share a key; sorted by key, those with the most slack first.

    Two texts of a bucket are candidates where the slack of each is at least the need of the other.
    """

    members: np.ndarray
    keys: np.ndarray
    slack: np.ndarray
    need: np.ndarray

    @classmethod
    def of(cls, members: np.ndarray, keys: np.ndarray, slack: np.ndarray, need: np.ndarray) -> Self:
        """The buckets of two texts or more."""
        order = np.lexsort((members, -slack, keys))
        found = cls(members[order], keys[order], slack[order], need[order])
        return found.where(found.sizes() > 1)

    @classmethod
    def of_band(cls, band: np.ndarray) -> Self:
        """The buckets of one band, as `shared` gives them: all texts of a bucket are candidates."""
        nothing = np.zeros(band.size)
        return cls((band & LOW_HALF).astype(np.int64), band >> HALF, nothing, nothing)

    def where(self, chosen: np.ndarray) -> Self:
        """The chosen entries."""
        return type(self)(self.members[chosen], self.keys[chosen], self.slack[chosen], self.need[chosen])

    def starts(self) -> np.ndarray:
        """The first entry of each bucket."""
        return np.flatnonzero(np.concatenate([[True], self.keys[1:] != self.keys[:-1]])[: self.keys.size])

    def sizes(self) -> np.ndarray:
        """For each entry the size of its bucket."""
        lengths = np.diff(self.starts(), append=self.keys.size)
        return np.repeat(lengths, lengths)

    def mixed(self, label: np.ndarray) -> Self:
        """The buckets whose texts are not all in one component."""
        starts = self.starts()
        if not starts.size:
            return self
        labels = label[self.members]
        several = np.minimum.reduceat(labels, starts) != np.maximum.reduceat(labels, starts)
        return self.where(np.repeat(several, np.diff(starts, append=self.keys.size)))

    def up_to(self, size: int) -> Self:
        """The buckets of at most `size` texts."""
        return self.where(self.sizes() <= size)

    def above(self, size: int) -> np.ndarray:
        """The texts of larger buckets."""
        return self.members[self.sizes() > size]

    def adjacent(self) -> Pairs:
        """The candidates next to each other in a bucket."""
        return self.candidates(self.reaching(np.arange(self.keys.size), 1), 1)

    def further(self) -> Iterator[Pairs]:
        """All other candidates: those two places apart, then those three places apart, and so on."""
        at, gap = np.arange(self.keys.size), 2
        while (at := self.reaching(at, gap)).size:
            yield self.candidates(at, gap)
            gap += 1

    def reaching(self, at: np.ndarray, gap: int) -> np.ndarray:
        """Those of the entries `at` that may find a candidate `gap` places further; the others end here."""
        at = at[at + gap < self.keys.size]
        other = at + gap
        # Slack falls from place to place: what has too little is followed by what has less.
        return at[(self.keys[other] == self.keys[at]) & (self.slack[other] >= self.need[at])]

    def candidates(self, at: np.ndarray, gap: int) -> Pairs:
        """Of the entries `at`, given by `reaching`, and those `gap` places further, the candidates."""
        at = at[self.slack[at] >= self.need[at + gap]]
        return self.members[at], self.members[at + gap]


@dataclass(frozen=True)
class Search:
    """Texts of different contents, in an order of their contents."""

    texts: pl.Series
    groups: np.ndarray | None
    """A whole number per text: only texts of one group can be near."""
    shingle: int
    threshold: float

    def components(self, bands: np.ndarray) -> np.ndarray:
        """For each text the lowest place of its component; `bands` are those of `sketches`."""
        label = np.arange(len(self.texts))
        keys = in_threads(shared, list(bands))
        self.link(label, (Buckets.of_band(band).adjacent() for band in keys))
        mixed = (Buckets.of_band(band).mixed(label) for band in keys)
        self.link(label, (pairs for buckets in mixed for pairs in buckets.up_to(CROWD).further()))
        crowds = [Buckets.of_band(band).mixed(label).above(CROWD) for band in keys]
        crowd = np.unique(np.concatenate(crowds))
        if crowd.size:
            rare = self.rare_shingles(crowd)
            self.link(label, [rare.adjacent()])
            self.link(label, rare.mixed(label).further())
        return label

    def link(self, label: np.ndarray, candidates: Iterable[Pairs]) -> None:
        """Join in `label` the candidates that are near."""
        for left, right in batches(self.apart(label, candidates)):
            near = similarity(self.texts, left, right, self.shingle) >= self.threshold
            join(label, left[near], right[near])

    def apart(self, label: np.ndarray, candidates: Iterable[Pairs]) -> Iterator[np.ndarray]:
        """The candidates not in one component yet, packed; reads `label` as it changes."""
        for left, right in candidates:
            asked = label[left] != label[right]
            if self.groups is not None:
                # Keys of two groups can be the same by chance, and then the texts can even be equal.
                asked &= self.groups[left] == self.groups[right]
            yield pack(left[asked], right[asked])

    def rare_shingles(self, crowd: np.ndarray) -> Buckets:
        """The texts of `crowd` by each of their rarest shingles, so many that near texts share one.

        Prefix filtering (Bayardo, Ma and Srikant, WWW 2007): of n shingles in one fixed order, texts of
        similarity t share one of the first n - ceil(t n) + 1. Where their first common one has r shingles
        from it on in either text, they have at most the lower r in common, and need t / (1 + t) (n + n') of
        them (positional filtering; Xiao, Wang, Lin and Yu, WWW 2008): r - t / (1 + t) n is the slack.
        """
        jobs = list(blocks(self.texts.gather(crowd)))
        counters, lock = np.zeros(COUNTERS, dtype=np.uint32), Lock()

        def count(job: tuple[int, pl.Series]) -> None:
            values, _ = self.salted_sets(crowd, *job)
            with lock:
                np.add.at(counters, values & COUNTER_MASK, 1)

        def rarest(job: tuple[int, pl.Series]) -> tuple[np.ndarray, ...]:
            values, sizes = self.salted_sets(crowd, *job)
            seen = counters[values & COUNTER_MASK]
            owner = np.repeat(np.arange(sizes.size), sizes)
            order = np.lexsort((values, seen, owner))
            rest = np.cumsum(sizes)[owner] - np.arange(owner.size)
            # What one text alone has is shared with none. A product of floats may lie a little above the true
            # one: one shingle too many does no harm.
            asked = np.flatnonzero((rest >= self.threshold * sizes[owner] - MARGIN) & (seen[order] > 1))
            need = self.threshold / (1 + self.threshold) * sizes[owner[asked]]
            slack = rest[asked] - need + MARGIN
            return crowd[job[0] + owner[asked]], values[order[asked]], slack, need

        in_threads(count, jobs)
        return Buckets.of(*map(np.concatenate, zip(*in_threads(rarest, jobs), strict=True)))

    def salted_sets(self, crowd: np.ndarray, start: int, block: pl.Series) -> tuple[np.ndarray, np.ndarray]:
        """The shingles of a block of `crowd`, from place `start` on, and how many each text has.

        Those of two groups differ.
        """
        values, offsets = shingle_sets(block, self.shingle)
        sizes = np.diff(offsets)
        if self.groups is not None:
            salts = mix(self.groups[crowd[start : start + len(block)]].astype(np.uint64)) & HASH_MASK
            values = values ^ np.repeat(salts, sizes)
        return values, sizes


def shared(keys: np.ndarray) -> np.ndarray:
    """The texts whose key another text has too: (key, place) as one number each, rising."""
    packed = np.sort((keys.astype(np.uint64) << HALF) | np.arange(keys.size, dtype=np.uint64))
    alone = np.concatenate([[True], (packed[1:] ^ packed[:-1]) > LOW_HALF, [True]])
    return packed[~(alone[:-1] & alone[1:])[: packed.size]]


def pack(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Pairs of places as one number each, lower place first."""
    low, high = np.minimum(left, right).astype(np.uint64), np.maximum(left, right).astype(np.uint64)
    return (low << HALF) | high


def batches(candidates: Iterable[np.ndarray]) -> Iterator[Pairs]:
    """Packed pairs, some at a time, each once in its batch.

    The first batches are small: what they join need not be compared any more.
    """
    found, held, most = [], 0, FIRST_PAIRS
    for pairs in candidates:
        found.append(pairs)
        held += pairs.size
        if held > most:
            yield unpack(found)
            found, held, most = [], 0, min(4 * most, PENDING_PAIRS)
    if held:
        yield unpack(found)


def unpack(packed: list[np.ndarray]) -> Pairs:
    """The distinct pairs of `packed`."""
    pairs = distinct(np.concatenate(packed))
    return (pairs >> HALF).astype(np.int64), (pairs & LOW_HALF).astype(np.int64)


def join(label: np.ndarray, left: np.ndarray, right: np.ndarray) -> None:
    """Join the components of `left[i]` and `right[i]` in `label`, which stays the lowest place of each."""
    while (label[left] != label[right]).any():
        low, high = np.minimum(label[left], label[right]), np.maximum(label[left], label[right])
        np.minimum.at(label, high, low)
        while (label[label] != label).any():
            label[:] = label[label]
