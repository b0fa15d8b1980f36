"""MinHash sketches of texts and their LSH bands.

A sketch has SLOTS minima of the hashes of a text's shingles; two texts agree in a slot with the probability
of their Jaccard similarity. Every shingle is hashed once: the top bits choose its slot (one permutation
hashing, Li, Owen and Zhang, NIPS 2012). A slot that no shingle chose takes the value of a filled one, which
it seeks in an order of its own, the same for every text (optimal densification, Shrivastava, ICML 2017). A
band is a few slots as one number: texts that share a band are candidates.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from pipeline.shingles import shingles
from pipeline.words import blocks, in_threads, mix

SLOTS = 64
"""Minima per sketch: a power of two, because the top bits of a hash choose the slot."""
SLOT_SHIFT = np.uint64(64 - (SLOTS.bit_length() - 1))
EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)
BAND_BASE = np.uint64(0xA24BAED4963EE407)
"""The odd base of the polynomial over the slots of a band."""
BAND_SHIFT = np.uint64(32)
MISS = 0.01
"""Accepted probability of missing a pair whose similarity is exactly the threshold."""

FEW = 8
"""Up to so many filled slots, it is quicker to go through these than through the empty ones."""


def asking_order() -> np.ndarray:
    """For each slot the slots that it asks for a value, one after the other: itself first."""
    keys = mix(np.arange(SLOTS * SLOTS, dtype=np.uint64)).reshape(SLOTS, SLOTS)
    np.fill_diagonal(keys, 0)
    return np.argsort(keys, axis=1)


DONORS = asking_order()
RANKS = np.argsort(DONORS, axis=1).astype(np.uint8).T.copy()
"""For each slot, how late every slot asks it."""


@dataclass(frozen=True)
class Sketches:
    """What is kept of every text."""

    whole: np.ndarray
    """uint64: a hash of the text's whole list of shingles, 0 where it has no word."""
    bands: np.ndarray
    """uint32, (bands, texts): the keys of the text's bands."""


def sketches(texts: pl.Series, shingle: int, threshold: float, groups: np.ndarray | None = None) -> Sketches:
    """The sketches of `texts`, read block by block on all threads.

    Texts of two `groups` (whole numbers, one per text) never have the same `whole`, and the same band only by
    chance.
    """
    rows = band_rows(threshold)
    found = Sketches(
        np.zeros(len(texts), dtype=np.uint64), np.zeros((SLOTS // rows, len(texts)), dtype=np.uint32)
    )

    def enter(job: tuple[int, pl.Series]) -> None:
        start, block = job
        stop = start + len(block)
        values, counts = shingles(block, shingle)
        values = mix(values)
        salt = np.uint64(0) if groups is None else mix(groups[start:stop].astype(np.uint64) + np.uint64(1))
        running = np.concatenate([np.zeros(1, np.uint64), np.cumsum(values)])
        ends = np.cumsum(counts)
        whole = running[ends] - running[ends - counts]
        found.whole[start:stop] = np.where(counts > 0, mix(whole ^ salt) | np.uint64(1), np.uint64(0))
        found.bands[:, start:stop] = band_keys(sketch(values, counts), rows, salt)

    in_threads(enter, list(blocks(texts)))
    return found


def band_rows(threshold: float) -> int:
    """The most slots per band that keep the miss at the threshold below MISS: fewest false candidates."""
    rows = 1
    while rows < SLOTS and (1 - threshold ** (rows + 1)) ** (SLOTS // (rows + 1)) <= MISS:
        rows += 1
    return rows


def sketch(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(texts, SLOTS) minima of evenly spread hashes, `counts[i]` of them of text i; EMPTY without any."""
    minima = np.full(counts.size * SLOTS, EMPTY)
    slots = np.repeat(np.arange(0, minima.size, SLOTS), counts)
    slots += (values >> SLOT_SHIFT).astype(np.int64)
    np.minimum.at(minima, slots, values)
    minima = minima.reshape(-1, SLOTS)
    filled = (minima != EMPTY).sum(axis=1)
    dense = minima.copy()
    few = np.flatnonzero((filled > 0) & (filled <= FEW))
    dense[few] = filled_by_offers(minima[few])
    several = np.flatnonzero((filled > FEW) & (filled < SLOTS))
    dense[several] = filled_by_asking(minima[several])
    return dense


def filled_by_asking(minima: np.ndarray) -> np.ndarray:
    """Every empty slot asks in its order until a filled one answers: quick where most are filled."""
    sparse, dense = minima.ravel(), minima.flatten()
    empty = np.flatnonzero(sparse == EMPTY)
    for order in DONORS.T[1:]:
        slot = empty & (SLOTS - 1)
        drawn = sparse[(empty - slot) + order[slot]]
        dense[empty] = drawn
        empty = empty[drawn == EMPTY]
        if not empty.size:
            break
    return dense.reshape(-1, SLOTS)


def filled_by_offers(minima: np.ndarray) -> np.ndarray:
    """The same from the other side: every slot takes the filled one that it asks first."""
    text, slot = np.nonzero(minima != EMPTY)
    first = np.searchsorted(text, np.arange(len(minima)))
    ranks = np.minimum.reduceat(RANKS[slot], first, axis=0) if len(minima) else np.empty((0, SLOTS), np.uint8)
    return np.take_along_axis(minima, DONORS[np.arange(SLOTS), ranks], axis=1)


def band_keys(minima: np.ndarray, rows: int, salt: np.ndarray | np.uint64) -> np.ndarray:
    """(bands, texts): 32 bits of the slots of each band and of the text's salt."""
    bands = SLOTS // rows
    slots = minima[:, : bands * rows].reshape(-1, bands, rows).T
    key = slots[0] ^ salt
    for row in range(1, rows):
        key = key * BAND_BASE + slots[row]
    return (mix(key) >> BAND_SHIFT).astype(np.uint32)
