"""Near-duplicate texts by MinHash, LSH and an exact check.

A text is the set of its word n-grams (`shingle` words each; a shorter text is one shingle). Two texts are
near-duplicates where the Jaccard similarity of their sets reaches `threshold`; clusters are the connected
components of that relation. Candidates come from MinHash sketches cut into LSH bands, and every candidate
is checked by its exact similarity (of 40-bit shingle hashes), so the result has no false positive; a pair
exactly at the threshold is missed with probability below MISS.

In numpy, not datasketch: that library hashes text by text and shingle by shingle in Python, and takes its
permutations from a random generator of another library. The sketch is Dahlgaard, Knudsen and Thorup's "Fast
Similarity Sketching" (FOCS 2017): as accurate as classic MinHash, but a shingle of a long text is hashed a
few times, not once for each of the 64 slots. Buckets of more than CROWD texts, which prompts on one template
make without being near, are searched by their rare shingles instead of pair by pair. All hashing is our own
arithmetic (`words.py`): clusters depend on nothing but the texts, not on row order, version or machine.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import polars as pl
from pydantic import Field

from pipeline.params import Params
from pipeline.shingles import distinct, shingle_sets, shingles, similarity
from pipeline.words import blocks, mix

SLOTS = 64
"""Minima per sketch: a power of two, because the top bits of a hash choose the slot."""
SLOT_SHIFT = np.uint64(64 - (SLOTS.bit_length() - 1))
EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)
MISS = 0.01
"""Accepted probability of missing a pair whose similarity is exactly the threshold."""
CROWD = 64
"""From more texts than this in a bucket, candidates must share a rare shingle too."""
PENDING_PAIRS = 1 << 24
"""Candidate pairs held at once: bounds memory, not the result."""


class NearDedup(Params):
    """When two texts count as the same."""

    threshold: float = Field(gt=0, le=1)
    """Jaccard similarity of the shingle sets from which on two texts are near-duplicates."""
    shingle: int = Field(ge=1, le=32)
    """Words per shingle: 1 compares vocabularies, 3 or more compares wording."""


def clusters(ids: pl.Series, texts: pl.Series, settings: NearDedup | None) -> pl.DataFrame:
    """(id, cluster_id) of every distinct id; cluster_id is the lowest id of the connected component.

    `ids` and `texts` go together row by row; rows of one id must have one text. Without `settings` every
    id is its own cluster. A text without any word has no near-duplicate.
    """
    rows = pl.DataFrame({"id": ids, "text": texts}).unique("id", keep="any").sort("id")
    if settings is None:
        return rows.select("id", cluster_id="id")
    label = components_of(rows["text"], settings)
    return rows.select("id", cluster_id=rows["id"].gather(label))


def components_of(texts: pl.Series, settings: NearDedup) -> np.ndarray:
    """For each text the lowest position of its connected component."""
    whole, bands = sketches(texts, settings)
    # Texts with the same shingles are one: a million copies must not give a million squared pairs.
    _, first, same_as = np.unique(whole, return_index=True, return_inverse=True)
    positions = np.arange(len(texts))
    label = np.where(whole == 0, positions, first[same_as])
    members = np.flatnonzero((label == positions) & (whole != 0))
    everyone = np.ones(members.size, dtype=bool)
    buckets = [Buckets.of(members, bands[members, band], everyone) for band in range(bands.shape[1])]
    # Neighbours in a bucket first: they join a large cluster in linear time, and most buckets are then done.
    link(label, adjacent_pairs(buckets), texts, settings)
    mixed = [bucket.mixed(label) for bucket in buckets]
    link(label, remaining_pairs([bucket.up_to(CROWD) for bucket in mixed], label), texts, settings)
    crowd = distinct(np.concatenate([bucket.above(CROWD) for bucket in mixed]))
    shared = [rare_shingles(texts, crowd, settings)]
    link(label, adjacent_pairs(shared), texts, settings)
    link(label, remaining_pairs([bucket.mixed(label) for bucket in shared], label), texts, settings)
    return label


def link(
    label: np.ndarray,
    candidates: Iterator[tuple[np.ndarray, np.ndarray]],
    texts: pl.Series,
    settings: NearDedup,
) -> None:
    """Join in `label` the candidates that are near."""
    for left, right in candidates:
        near = similarity(texts, left, right, settings.shingle) >= settings.threshold
        join(label, left[near], right[near])


def sketches(texts: pl.Series, settings: NearDedup) -> tuple[np.ndarray, np.ndarray]:
    """For each text: a hash of its whole list of shingles (0 where it has no word), and its LSH band keys."""
    rows = band_rows(settings.threshold)
    whole = np.zeros(len(texts), dtype=np.uint64)
    bands = np.zeros((len(texts), SLOTS // rows), dtype=np.uint64)
    for start, block in blocks(texts):
        values, owner, counts = shingles(block, settings.shingle)
        stop = start + len(block)
        running = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mix(values))])
        offsets = np.concatenate([[0], np.cumsum(counts)])
        whole[start:stop] = running[offsets[1:]] - running[offsets[:-1]]
        sketch = similarity_sketch(values, owner, len(block))
        for band in range(bands.shape[1]):
            key = np.full(len(block), band, dtype=np.uint64)
            for slot in range(band * rows, (band + 1) * rows):
                key = mix(key ^ sketch[:, slot])
            bands[start:stop, band] = key
    return whole, bands


def band_rows(threshold: float) -> int:
    """The most slots per band that keep the miss at the threshold below MISS: fewest false candidates."""
    rows = 1
    while rows < SLOTS and (1 - threshold ** (rows + 1)) ** (SLOTS // (rows + 1)) <= MISS:
        rows += 1
    return rows


def similarity_sketch(values: np.ndarray, owner: np.ndarray, texts: int) -> np.ndarray:
    """Fast Similarity Sketch: (texts, SLOTS) minima; two texts agree in a slot with probability Jaccard.

    Round after round, each shingle falls into one slot of its text with a value that grows by the round,
    until the text has no empty slot. After SLOTS rounds by chance, SLOTS more fill slot by slot.
    """
    sketch = np.full(texts * SLOTS, EMPTY)
    active = np.arange(values.size)
    salts = mix(np.arange(1, 2 * SLOTS + 1, dtype=np.uint64))
    for turn in range(2 * SLOTS):
        hashed = mix(values[active] + salts[turn])
        slot = (hashed >> SLOT_SHIFT).astype(np.int64) if turn < SLOTS else turn - SLOTS
        value = (np.uint64(turn) << np.uint64(56)) | (hashed & np.uint64((1 << 56) - 1))
        np.minimum.at(sketch, owner[active] * SLOTS + slot, value)
        if turn % 4 == 3:
            # Looking for full sketches costs about as much as a round: not after each.
            unfinished = (sketch.reshape(texts, SLOTS) == EMPTY).any(axis=1)
            active = active[unfinished[owner[active]]]
        if not active.size:
            break
    return sketch.reshape(texts, SLOTS)


@dataclass(frozen=True)
class Buckets:
    """Texts that share a key; sorted by key, leaders first. Every candidate pair has a leader."""

    members: np.ndarray
    keys: np.ndarray
    leads: np.ndarray

    @classmethod
    def of(cls, members: np.ndarray, keys: np.ndarray, leads: np.ndarray) -> Self:
        """The buckets of two texts or more."""
        order = np.lexsort((members, ~leads, keys))
        found = cls(members[order], keys[order], leads[order])
        return found.where(found.sizes() > 1)

    def where(self, chosen: np.ndarray) -> Self:
        """The chosen entries."""
        return replace(self, members=self.members[chosen], keys=self.keys[chosen], leads=self.leads[chosen])

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


def rare_shingles(texts: pl.Series, crowd: np.ndarray, settings: NearDedup) -> Buckets:
    """The texts of `crowd` by each of their rarest shingles, so many that near texts share one.

    Prefix filtering (Bayardo, Ma and Srikant, WWW 2007; Xiao et al., WWW 2008): of n shingles in one fixed
    order, texts of similarity t share one of the first n - ceil(t n) + 1, and in the smaller text it is even
    one of the first n - ceil(2 t / (1 + t) n) + 1: there it leads. Prompts on one template crowd the LSH
    buckets though they are not near, with all their pairs; by their rare shingles they are strangers.
    """
    values, offsets = shingle_sets(texts.gather(crowd), settings.shingle)
    sizes = np.diff(offsets)
    _, code, count = np.unique(values, return_inverse=True, return_counts=True)
    rarity = np.empty(count.size, dtype=np.uint64)
    rarity[np.argsort(count, kind="stable")] = np.arange(count.size, dtype=np.uint64)
    owner = np.repeat(np.arange(crowd.size), sizes)
    ordered = np.sort((owner.astype(np.uint64) << np.uint64(32)) | rarity[code]) & np.uint64(0xFFFFFFFF)
    place = np.arange(owner.size) - np.repeat(offsets[:-1], sizes)
    among, leads = (
        place < np.repeat(prefix(sizes, part), sizes)
        for part in (settings.threshold, 2 * settings.threshold / (1 + settings.threshold))
    )
    return Buckets.of(crowd[owner[among]], ordered[among], leads[among])


def prefix(sizes: np.ndarray, part: float) -> np.ndarray:
    """How many shingles of each text can be looked at before fewer than `part` of them are left."""
    # A product of floats may lie a little above the true one: a prefix one too long does no harm.
    return sizes - np.ceil(part * sizes - 1e-9).astype(np.int64) + 1


def adjacent_pairs(buckets: list[Buckets]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Candidates next to each other in a bucket."""
    found = [np.empty(0, dtype=np.uint64)]
    for bucket in buckets:
        same = np.flatnonzero((bucket.keys[1:] == bucket.keys[:-1]) & bucket.leads[:-1])
        found.append(pack(bucket.members[same], bucket.members[same + 1]))
    yield unpack(found)


def remaining_pairs(buckets: list[Buckets], label: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All other candidates whose texts are not in one component yet; reads `label` as it changes."""
    found, held = [np.empty(0, dtype=np.uint64)], 0
    for bucket in buckets:
        at, gap = np.flatnonzero(bucket.leads), 2
        while (at := within(at, gap, bucket.keys)).size:
            left, right = bucket.members[at], bucket.members[at + gap]
            apart = label[left] != label[right]
            found.append(pack(left[apart], right[apart]))
            held += int(apart.sum())
            if held > PENDING_PAIRS:
                yield unpack(found)
                found, held = [np.empty(0, dtype=np.uint64)], 0
            gap += 1
    yield unpack(found)


def within(at: np.ndarray, gap: int, key: np.ndarray) -> np.ndarray:
    """The positions whose bucket reaches at least `gap` positions further."""
    at = at[at + gap < key.size]
    return at[key[at + gap] == key[at]]


def pack(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Pairs of positions as one number each, lower position first."""
    low, high = np.minimum(left, right).astype(np.uint64), np.maximum(left, right).astype(np.uint64)
    return (low << np.uint64(32)) | high


def unpack(packed: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The distinct pairs of `packed`."""
    pairs = distinct(np.concatenate(packed))
    return (pairs >> np.uint64(32)).astype(np.int64), (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64)


def join(label: np.ndarray, left: np.ndarray, right: np.ndarray) -> None:
    """Join the components of `left[i]` and `right[i]` in `label`, which stays the lowest position of each."""
    while (label[left] != label[right]).any():
        low, high = np.minimum(label[left], label[right]), np.maximum(label[left], label[right])
        np.minimum.at(label, high, low)
        while (label[label] != label).any():
            label[:] = label[label]
