"""The word n-grams of texts as sets, and the exact Jaccard similarity of two texts.

A text of fewer words than an n-gram is one shingle; a text without words has none.
"""

from itertools import pairwise

import numpy as np
import polars as pl

from pipeline.words import blocks, words

HASH_BITS = np.uint64(40)
HASH_MASK = np.uint64((1 << 40) - 1)
BATCH_SHINGLES = 1 << 22
"""Shingles compared at once: bounds memory, not the result."""


def shingles(texts: pl.Series, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All shingles in the order of the texts: (hashes, position of the text of each, number in each text)."""
    found = words(texts)
    values, first = found.windows(length)
    owner = np.repeat(np.arange(len(texts)), found.counts)[first]
    for short in range(1, length):
        at = np.flatnonzero(found.counts == short)
        values = np.concatenate([values, found.at(found.offsets[at], short)])
        owner = np.concatenate([owner, at])
    order = np.argsort(owner, kind="stable")
    return values[order], owner[order], np.bincount(owner, minlength=len(texts))


def similarity(texts: pl.Series, left: np.ndarray, right: np.ndarray, shingle: int) -> np.ndarray:
    """The exact Jaccard similarity of texts left[i] and right[i]; 0 where neither has a word."""
    used, place = np.unique(np.concatenate([left, right]), return_inverse=True)
    values, offsets = shingle_sets(texts.gather(used), shingle)
    one, two = place[: left.size], place[left.size :]
    sizes = np.diff(offsets)
    total = sizes[one] + sizes[two]
    common = np.zeros(left.size, dtype=np.int64)
    batch = np.cumsum(total) // BATCH_SHINGLES
    cuts = [0, *(np.flatnonzero(np.diff(batch)) + 1).tolist(), left.size]
    for start, stop in pairwise(cuts):
        common[start:stop] = overlaps(values, offsets, one[start:stop], two[start:stop])
    return common / np.maximum(total - common, 1)


def shingle_sets(texts: pl.Series, shingle: int) -> tuple[np.ndarray, np.ndarray]:
    """The distinct shingles of each text, 40 bits of each, text after text; and the offsets of the texts."""
    found = [np.empty(0, dtype=np.uint64)]
    for start, block in blocks(texts):
        values, owner, _ = shingles(block, shingle)
        found.append(distinct(((owner + start).astype(np.uint64) << HASH_BITS) | (values & HASH_MASK)))
    keys = np.concatenate(found)
    counts = np.bincount((keys >> HASH_BITS).astype(np.int64), minlength=len(texts))
    return keys & HASH_MASK, np.concatenate([[0], np.cumsum(counts)])


def overlaps(values: np.ndarray, offsets: np.ndarray, one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """How many values texts one[i] and two[i] have in common."""
    texts, pair = np.concatenate([one, two]), np.tile(np.arange(one.size), 2)
    sizes = offsets[texts + 1] - offsets[texts]
    owner = np.repeat(pair, sizes)
    ends = np.cumsum(sizes)
    at = np.arange(owner.size) + np.repeat(offsets[texts] - (ends - sizes), sizes)
    keys = np.sort((owner.astype(np.uint64) << HASH_BITS) | values[at])
    return np.bincount((keys[1:][keys[1:] == keys[:-1]] >> HASH_BITS).astype(np.int64), minlength=one.size)


def distinct(values: np.ndarray) -> np.ndarray:
    """The distinct values in rising order; np.unique hashes first, which is slower here."""
    ordered = np.sort(values)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])[: ordered.size]]
