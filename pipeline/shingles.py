"""The word n-grams of texts as sets, and the exact Jaccard similarity of two texts.

A text of fewer words than an n-gram is one shingle; a text without words has none.
"""

from itertools import pairwise

import numpy as np
import polars as pl

from pipeline.words import BLOCK_BYTES, in_threads, words

HASH_BITS = np.uint64(40)
HASH_MASK = np.uint64((1 << 40) - 1)
BATCH_BYTES = 4 * BLOCK_BYTES
"""Texts are compared in batches of about this many bytes: bounds memory, not the result."""


def shingles(texts: pl.Series, length: int) -> tuple[np.ndarray, np.ndarray]:
    """All shingles in the order of the texts: (hashes, how many each text has)."""
    found = words(texts)
    *_, (_, hashed) = found.lengths(length)
    counts, starts = found.counts, found.offsets[:-1]
    kept = found.complete(length)
    for short in range(1, length):
        at = starts[counts == short]
        hashed[at] = found.at(at, short)
        kept[at] = True
    return hashed[kept], np.where(counts < length, np.minimum(counts, 1), counts - length + 1)


def similarity(texts: pl.Series, left: np.ndarray, right: np.ndarray, shingle: int) -> np.ndarray:
    """The exact Jaccard similarity of texts left[i] and right[i]; 0 where neither has a word.

    Only the texts of the pairs are read, a batch of pairs at a time: pairs of one text should be neighbours.
    """
    sizes = texts.gather(np.concatenate([left, right])).str.len_bytes().to_numpy()
    batch = np.cumsum(sizes[: left.size] + sizes[left.size :], dtype=np.int64) // BATCH_BYTES
    cuts = [0, *(np.flatnonzero(np.diff(batch)) + 1).tolist(), left.size]

    def compare(cut: tuple[int, int]) -> np.ndarray:
        start, stop = cut
        used, place = np.unique(np.concatenate([left[start:stop], right[start:stop]]), return_inverse=True)
        values, offsets = shingle_sets(texts.gather(used), shingle)
        return jaccard(values, offsets, place[: stop - start], place[stop - start :])

    return np.concatenate([np.empty(0), *in_threads(compare, list(pairwise(cuts)))])


def shingle_sets(texts: pl.Series, shingle: int) -> tuple[np.ndarray, np.ndarray]:
    """The distinct shingles of each text, 40 bits of each, text after text; and the offsets of the texts."""
    values, counts = shingles(texts, shingle)
    keys = np.repeat(np.arange(len(texts), dtype=np.uint64) << HASH_BITS, counts)
    keys |= values & HASH_MASK
    keys = distinct(keys)
    sizes = np.bincount((keys >> HASH_BITS).astype(np.int64), minlength=len(texts))
    return keys & HASH_MASK, np.concatenate([[0], np.cumsum(sizes)])


def jaccard(values: np.ndarray, offsets: np.ndarray, one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """The similarity of the sets one[i] and two[i]; 0 where both are empty."""
    texts, pair = np.concatenate([one, two]), np.tile(np.arange(one.size, dtype=np.uint64), 2)
    sizes = offsets[texts + 1] - offsets[texts]
    at = np.arange(int(sizes.sum())) + np.repeat(offsets[texts] - (np.cumsum(sizes) - sizes), sizes)
    keys = np.repeat(pair << HASH_BITS, sizes)
    keys |= values[at]
    keys.sort()
    total = sizes[: one.size] + sizes[one.size :]
    twice = (keys[1:][keys[1:] == keys[:-1]] >> HASH_BITS).astype(np.int64)
    common = np.bincount(twice, minlength=one.size)
    return common / np.maximum(total - common, 1)


def distinct(values: np.ndarray) -> np.ndarray:
    """The distinct values in rising order; np.unique hashes first, which is slower here."""
    ordered = np.sort(values)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])[: ordered.size]]
