"""Benchmark items as an index of n-grams: what decontamination looks for.

Items are compared as folded words (`words.py`). An item of at least `ngram` words is the list of its n-grams
of `ngram` words; a shorter one is a single gram of all its words. Items with equal words are one item, which
carries the names of all. A gram that stands in more than `max_items` rows of the benchmarks ("which of the
following statements is true") proves none of them and is left out; words of shorter phrases that so many rows
share are not `telling`.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl

from pipeline.grams import NOTHING, Filter, Grams, covered, repeats, rows_of_equal
from pipeline.words import Words, blocks, in_threads, mix, words

PHRASE = 6
"""Words of a phrase that is boilerplate where many rows have it: templates fill gaps every few words."""


BUCKET_BITS = 22

ROW = ("source", "file", "row")


@dataclass(frozen=True)
class BenchmarkItems:
    """Items of some benchmarks, and the grams by which to find them."""

    names: tuple[str, ...]
    """`source/id` of each item; of items with equal words, the first has the names of all."""
    texts: pl.Series
    ngram: int
    min_words: int
    sizes: np.ndarray
    """Words per gram of each item: `ngram`, or all of a shorter item."""
    offsets: np.ndarray
    """Item i has the words offsets[i] to offsets[i + 1] of all items' words; none where it is a copy."""
    open_ended: np.ndarray
    """Whether an item's last character is part of a word: it may be the beginning of a sentence."""
    findable: np.ndarray
    """For each word whether a gram that is looked for holds it."""
    telling: np.ndarray
    """For each findable word whether no phrase that more than `max_items` rows have holds it."""
    long: Grams
    """Of `ngram` words."""
    short: Grams
    """Of `min_words` to `ngram` - 1 words."""
    short_heads: Filter
    """Of the first `min_words` words of the short grams."""
    tiny: Grams
    """Of fewer than `min_words` words."""

    @classmethod
    def of(cls, benchmarks: pl.DataFrame, *, ngram: int, min_words: int, max_items: int) -> Self:
        """The index of a table of benchmarks (source, file, row, item, id, text)."""
        rows = benchmarks.sort(*ROW, "item", "id", "text")
        found = all_words(rows["text"])
        same_as = first_of_equal(found)
        sizes = np.minimum(found.counts, ngram)
        number = np.where(same_as == np.arange(rows.height), found.counts, 0)
        offsets = np.concatenate([[0], np.cumsum(number)])
        item = np.repeat(np.arange(rows.height), np.where(number > 0, number - sizes + 1, 0))
        position = np.arange(item.size) - np.searchsorted(item, item)
        size, every = sizes[item], np.arange(item.size)
        row = np.repeat(row_numbers(rows), found.counts)
        telling = telling_words(found, row, min(PHRASE, ngram), max_items)
        hashes, holders = hashes_and_holders(found, row, found.offsets[item] + position, size, telling)
        usable = (holders <= max_items) & ~repeats(hashes, every, every - position)
        first = offsets[item] + position

        def grams(chosen: np.ndarray) -> Grams:
            return Grams.of(hashes[chosen], item[chosen], position[chosen])

        short = usable & (min_words <= size) & (size < ngram)
        findable = covered(first[usable], size[usable], offsets[-1])
        return cls(
            names=joined_names(rows, same_as),
            texts=rows["text"],
            ngram=ngram,
            min_words=min_words,
            sizes=sizes,
            offsets=offsets,
            open_ended=rows["text"].str.contains(r"\w\s*$").to_numpy(),
            findable=findable,
            telling=findable & telling[np.repeat(number > 0, found.counts)],
            long=grams(usable & (size == ngram)),
            short=grams(short),
            short_heads=Filter.of(found.at(found.offsets[item[short]], min_words)),
            tiny=grams(usable & (size < min_words)),
        )

    def span(self, item: int, start: int, stop: int) -> str:
        """The folded words `start` to `stop` - 1 of an item."""
        return words(self.texts[item : item + 1]).span(start, stop - start)


def all_words(texts: pl.Series) -> Words:
    """The words of all texts, without their letters."""

    def of_block(job: tuple[int, pl.Series]) -> tuple[np.ndarray, np.ndarray]:
        found = words(job[1])
        return found.hashes, found.counts

    parts = in_threads(of_block, list(blocks(texts)))
    hashes = np.concatenate([np.zeros(0, np.uint64), *(part[0] for part in parts)])
    counts = np.concatenate([NOTHING, *(part[1] for part in parts)])
    empty = np.zeros(0, dtype=np.uint8)
    return Words(hashes, np.concatenate([[0], np.cumsum(counts)]), empty, NOTHING, NOTHING)


def first_of_equal(found: Words) -> np.ndarray:
    """For each text the position of the first that has the same words in the same order."""
    owner = np.repeat(np.arange(found.counts.size), found.counts)
    place = np.arange(owner.size) - found.offsets[owner]
    running = np.concatenate(
        [np.zeros(1, np.uint64), np.cumsum(mix(found.hashes + mix(place.astype(np.uint64))))]
    )
    whole = running[found.offsets[1:]] - running[found.offsets[:-1]]
    _, first, same = np.unique(whole, return_index=True, return_inverse=True)
    return first[same]


def row_numbers(rows: pl.DataFrame) -> np.ndarray:
    """A number per raw row: the texts that an adapter makes of one row count as one row."""
    return rows.select(pl.struct(*ROW).rank("dense")).to_series().to_numpy()


def joined_names(rows: pl.DataFrame, same_as: np.ndarray) -> tuple[str, ...]:
    """The name of each item; the first of equal ones names one of each further benchmark too."""
    named = rows.select("source", name=pl.format("{}/{}", "source", "id"), first=pl.Series(same_as))
    once = named.unique(["first", "source"], keep="first", maintain_order=True)
    joined = once.group_by("first", maintain_order=True).agg(pl.col("name").str.join(", "))
    return tuple(named.select("first").join(joined, on="first", how="left", maintain_order="left")["name"])


def hashes_and_holders(
    found: Words, row: np.ndarray, first: np.ndarray, size: np.ndarray, telling: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The hash of each gram, and the number of rows that hold it, be it inside a longer item.

    A gram is the `size` words from the word `first` on; `row` is the row of each word, rising. A gram of at
    least PHRASE words that has a telling word is not counted but called 1: its rows are few.
    """
    hashes = np.zeros(first.size, dtype=np.uint64)
    holders = np.zeros(first.size, dtype=np.int64)
    of_word = np.ones(row.size, dtype=np.int64)
    told = np.concatenate([[0], np.cumsum(telling)])
    for length, hashed in found.lengths(int(size.max(initial=1))):
        chosen = np.flatnonzero(size == length)
        if not chosen.size:
            continue
        hashes[chosen] = hashed[first[chosen]]
        if length > PHRASE:
            near = np.flatnonzero(told[length:] == told[:-length])
        else:
            near = Filter.of(hashes[chosen]).passing(hashed)
        near = near[found.complete(length)[near]]
        of_word[:] = 1
        of_word[near] = rows_of_equal(hashed[near], row[near])
        holders[chosen] = of_word[first[chosen]]
    return hashes, holders


def telling_words(found: Words, row: np.ndarray, phrase: int, max_items: int) -> np.ndarray:
    """For each word whether at most `max_items` rows have each phrase of `phrase` words that holds it."""
    hashed, first = found.windows(phrase)
    # Few phrases can be common: those whose top bits are. Sorting all of them would take most of the time.
    bucket = (hashed >> np.uint64(64 - BUCKET_BITS)).astype(np.int64)
    crowded = np.bincount(bucket, minlength=1 << BUCKET_BITS)[bucket] > max_items
    hashed, first = hashed[crowded], first[crowded]
    common = first[rows_of_equal(hashed, row[first]) > max_items]
    return ~covered(common, np.full(common.size, phrase), found.hashes.size)
