"""Where texts and benchmark items have words in common, and how much of an item that is.

A run is a stretch of grams of one item (`benchmark_items.py`) that stands in a text word by word. Runs of all
texts are found block by block, on all processors, and are few and small: what is weighed afterwards does not
grow with the length of the texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
import polars as pl

from pipeline.benchmark_items import BenchmarkItems
from pipeline.grams import NOTHING, Grams, repeats
from pipeline.words import Words, blocks, in_threads, words

#: text and item are positions; the run is the item's grams start to stop - 1; `alone` says of an item that is
#: shorter than an n-gram that it is a sentence of its own.
RUNS = {"text": pl.Int64, "item": pl.Int64, "start": pl.Int64, "stop": pl.Int64, "alone": pl.Boolean}

TOGETHER = 4
"""Blocks searched at once: there are many steps per block, and few per word."""
SENTENCE_END = '[\\r\\n.?!:;|<>"\u201c\u201d\uff1f\uff01\u3002\uff1a\uff1b]+'
"""What parts sentences, also of Chinese and Japanese: commas and brackets do not."""


def runs(texts: pl.Series, items: BenchmarkItems) -> pl.DataFrame:
    """The runs of all texts, as RUNS, in the order of the texts."""

    def of_block(job: tuple[int, pl.Series]) -> pl.DataFrame:
        return block_runs(job[1], items).with_columns(pl.col("text") + job[0])

    starts = [start for start, _ in blocks(texts)][::TOGETHER]
    jobs = [(start, texts[start:stop]) for start, stop in pairwise([*starts, len(texts)])]
    return pl.concat([pl.DataFrame(schema=RUNS), *in_threads(of_block, jobs)])


@dataclass(frozen=True)
class Hits:
    """Grams that stand in a block of texts."""

    first: np.ndarray
    """First word in the block."""
    item: np.ndarray
    position: np.ndarray
    """Number of the gram in its item."""
    alone: np.ndarray
    """Whether it is a whole item and a sentence of its own."""

    @classmethod
    def of(cls, hashes: np.ndarray, first: np.ndarray, length: int, grams: Grams, found: Words) -> Self:
        """The grams among `hashes`, of `length` words from the words `first` on, that lie in one text."""
        which, item, position = grams.find(hashes)
        where = first[which]
        end = found.offsets[text_of(found, where) + 1]
        inside = where + length <= end
        return cls(where[inside], item[inside], position[inside], np.zeros(inside.sum(), dtype=bool))

    @classmethod
    def joined(cls, parts: Sequence["Hits"]) -> Self:
        """All hits."""
        columns = zip(*((part.first, part.item, part.position, part.alone) for part in parts), strict=True)
        return cls(*map(np.concatenate, columns))


def text_of(found: Words, word: np.ndarray) -> np.ndarray:
    """The text of each word."""
    return np.searchsorted(found.offsets, word, side="right") - 1


def block_runs(texts: pl.Series, items: BenchmarkItems) -> pl.DataFrame:
    """The runs of one block of texts."""
    found = words(texts)
    heads = long = found.hashes
    for length, long in found.lengths(items.ngram):
        heads = long if length == items.min_words else heads
    short = standing(texts, found, short_hits(found, heads, items), items)
    near = items.long.filter.passing(long)
    near = near[~repeats(long, near, found.offsets[text_of(found, near)])]
    hits = Hits.joined([Hits.of(long[near], near, items.ngram, items.long, found), short])
    # The same item on the same diagonal, one word after the other, is one run.
    order = np.lexsort((hits.position, hits.first - hits.position, hits.item))
    first, item, position = hits.first[order], hits.item[order], hits.position[order]
    begins = np.ones(first.size, dtype=bool)
    begins[1:] = (np.diff(item) != 0) | (np.diff(first) != 1) | (np.diff(position) != 1)
    starts = np.flatnonzero(begins)
    columns = {
        "text": text_of(found, first[starts]),
        "item": item[starts],
        "start": position[starts],
        "stop": position[starts] + np.diff(starts, append=first.size),
        "alone": hits.alone[order][starts],
    }
    return pl.DataFrame(columns, schema=RUNS).sort("text", "item", "start", "stop", "alone")


def short_hits(found: Words, heads: np.ndarray, items: BenchmarkItems) -> Hits:
    """Where items shorter than an n-gram stand; `heads` are the hashes of `min_words` words in a run."""
    parts = [Hits.of(heads[:0], NOTHING, 0, items.tiny, found)]
    for length, hashed in found.lengths(items.min_words - 1) if items.tiny.hashes.size else ():
        parts.append(Hits.of(hashed, np.arange(hashed.size), length, items.tiny, found))
    near = items.short_heads.passing(heads)
    for length in range(items.min_words, items.ngram):
        near = near[near + length <= found.hashes.size]
        parts.append(Hits.of(found.at(near, length), near, length, items.short, found))
    return Hits.joined(parts)


def standing(texts: pl.Series, found: Words, hits: Hits, items: BenchmarkItems) -> Hits:
    """The hits of whole items that may be the item, with `alone`.

    An item that ends like a sentence must end one in the text too ("what is the boiling point of water at
    high altitude" is another question), and a tiny item must be a sentence of its own.
    """
    if not hits.first.size:
        return hits
    text = text_of(found, hits.first)
    concerned, which = np.unique(text, return_inverse=True)
    pieces = texts.gather(concerned).str.replace_all(SENTENCE_END, "\n").str.split("\n")
    cuts = words(pieces.explode()).offsets
    # The words are those of the texts: only what parts them was replaced.
    number = pieces.list.len().to_numpy().astype(np.int64)
    first = cuts[(np.cumsum(number) - number)[which]] + hits.first - found.offsets[text]
    size = items.sizes[hits.item]
    begins, ends = is_in(first, cuts), is_in(first + size, cuts)
    kept = np.where(size < items.min_words, begins & ends, ends | items.open_ended[hits.item])
    return Hits(hits.first[kept], hits.item[kept], hits.position[kept], (begins & ends)[kept])


def is_in(values: np.ndarray, rising: np.ndarray) -> np.ndarray:
    """For each value whether it is one of the rising ones."""
    return rising[np.minimum(np.searchsorted(rising, values), rising.size - 1)] == values


@dataclass(frozen=True)
class Pairs:
    """Texts and items that have runs in common: one entry per stretch of words, without overlap."""

    text: np.ndarray
    item: np.ndarray
    start: np.ndarray
    """First word, counted over all items."""
    stop: np.ndarray
    pair: np.ndarray
    """Number of the pair of text and item, rising."""
    first: np.ndarray
    """The first entry of each pair."""
    alone: np.ndarray
    """For each pair whether a run of it is a sentence of its own."""

    @classmethod
    def of(cls, found: pl.DataFrame, items: BenchmarkItems) -> Self:
        """The runs, those of one text and item joined where they overlap."""
        found = found.sort("text", "item", "start")
        text, item, run, end, alone = (column.to_numpy() for column in found.get_columns())
        start = items.offsets[item] + run
        stop = items.offsets[item] + end - 1 + items.sizes[item]
        new = np.ones(text.size, dtype=bool)
        new[1:] = (np.diff(text) != 0) | (np.diff(item) != 0)
        pair = np.cumsum(new) - 1
        # Stretches of different pairs are set apart, so that one running maximum serves all of them.
        apart = pair * (int(items.offsets[-1]) + 1)
        reached = np.maximum.accumulate(stop + apart)
        begins = new.copy()
        begins[1:] |= (start + apart)[1:] > reached[:-1]
        entry, first = np.flatnonzero(begins), np.flatnonzero(new)
        if text.size:
            stop, alone = np.maximum.reduceat(stop, entry), np.logical_or.reduceat(alone, first)
        firsts = np.flatnonzero(np.diff(pair[entry], prepend=-1))
        return cls(text[entry], item[entry], start[entry], stop, pair[entry], firsts, alone)

    def number(self, words: np.ndarray) -> np.ndarray:
        """For each pair how many of the `words` (a truth value for each word of all items) it has."""
        before = np.concatenate([[0], np.cumsum(words)])
        found = before[self.stop] - before[self.start]
        return np.bincount(self.pair, weights=found, minlength=self.first.size).astype(np.int64)

    def sharing(self, chosen: np.ndarray) -> np.ndarray:
        """For each word of all items the number of chosen pairs that have it; `chosen` is per pair."""
        entries = chosen[self.pair]
        number = int(self.stop.max(initial=0)) + 1
        steps = np.bincount(self.start[entries], minlength=number)
        steps -= np.bincount(self.stop[entries], minlength=number)
        return np.cumsum(steps)


def per_item(words: np.ndarray, items: BenchmarkItems) -> np.ndarray:
    """For each item how many of the `words` are its own."""
    return np.diff(np.concatenate([[0], np.cumsum(words)])[items.offsets])
