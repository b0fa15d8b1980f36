"""Prompts that hold a benchmark item, with the evidence.

A prompt and an item are compared as folded words (`words.py`: case, punctuation, width and white space do
not matter). An item of at least `ngram` words matches where any `ngram` of its words stand in the prompt in
one run (13 in GPT-3, arXiv 2005.14165, appendix C). A shorter item has no such run: it matches where all its
words do, wherever they stand in the prompt. Items shorter than `min_words` are left out as too generic.

What this does not find: paraphrases, translations, and prompts that are a short part of a long item.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from pipeline.params import Params
from pipeline.words import Words, blocks, words

SPAN_CHARACTERS = 200
"""Longest evidence quoted in the ledger."""
FILTER_BITS = 22
FILTER_SHIFT = np.uint64(64 - FILTER_BITS)

MATCHES = {"id": pl.String, "value": pl.Float64, "threshold": pl.Float64, "detail": pl.String}


class Decontaminate(Params):
    """What counts as a benchmark's text."""

    benchmarks: tuple[str, ...]
    """Sources of kind `benchmarks`; an empty list turns the search off."""
    ngram: int = Field(ge=2, le=64)
    """Words in a run that prove an item of at least as many words."""
    min_words: int = Field(ge=1)
    """Items of fewer words are ignored."""

    @model_validator(mode="after")
    def ordered(self) -> Self:
        """An item can be too short to look for only if it is shorter than an n-gram."""
        if self.min_words > self.ngram:
            raise ValueError(f"expected min_words <= ngram, found {self.min_words} > {self.ngram}")
        return self


@dataclass(frozen=True)
class Index:
    """The n-grams of one length to look for."""

    hashes: np.ndarray
    """uint64, rising and distinct."""
    items: np.ndarray
    """For each hash the position of the first item that has it."""
    filter: np.ndarray
    """True at the top bits of each hash: most of a prompt's n-grams end here, without a search."""

    @classmethod
    def of(cls, hashes: np.ndarray, items: np.ndarray) -> Self:
        """The index of `hashes`, which may repeat; of several items the first wins."""
        distinct, first = np.unique(hashes, return_index=True)
        present = np.zeros(1 << FILTER_BITS, dtype=bool)
        present[distinct >> FILTER_SHIFT] = True
        return cls(distinct, items[first], present)

    def find(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions in `hashes` that are in the index, and the item of each."""
        maybe = np.flatnonzero(self.filter[hashes >> FILTER_SHIFT])
        place = np.minimum(np.searchsorted(self.hashes, hashes[maybe]), self.hashes.size - 1)
        hit = self.hashes[place] == hashes[maybe]
        return maybe[hit], self.items[place[hit]]


def matches(
    ids: pl.Series, texts: pl.Series, benchmarks: pl.DataFrame, settings: Decontaminate
) -> pl.DataFrame:
    """One row per contaminated text: id, value, threshold, detail.

    `benchmarks` has source, id and text. `value` is the number of words of the longest run that a text has in
    common with an item, `threshold` the number that was needed, `detail` names the benchmark and the item and
    quotes the run.
    """
    names = benchmarks.select("source", "id", "text").sort("source", "id", "text")
    indexes = index(names["text"], settings)
    found = [
        evidence(ids[start : start + len(block)], words(block), indexes, names)
        for start, block in blocks(texts)
    ]
    return pl.concat([pl.DataFrame(schema=MATCHES), *found]).sort("id")


def index(texts: pl.Series, settings: Decontaminate) -> dict[int, Index]:
    """The n-grams to look for, by their length."""
    found = words(texts)
    values, first = found.windows(settings.ngram)
    owner = np.repeat(np.arange(len(texts)), found.counts)
    indexes = {settings.ngram: Index.of(values, owner[first])} if values.size else {}
    for length in range(settings.min_words, settings.ngram):
        items = np.flatnonzero(found.counts == length)
        if items.size:
            indexes[length] = Index.of(found.at(found.offsets[items], length), items)
    return indexes


def evidence(ids: pl.Series, found: Words, indexes: dict[int, Index], names: pl.DataFrame) -> pl.DataFrame:
    """The rows of `matches` for one block of texts."""
    owner = np.repeat(np.arange(len(ids)), found.counts)
    hits = []
    for length, hashed in found.lengths(max(indexes, default=1)):
        if length in indexes:
            first, item = indexes[length].find(hashed)
            inside = first + length <= found.offsets[owner[first] + 1]
            first, item = first[inside], item[inside]
            hits.append(
                pl.DataFrame({"text": owner[first], "item": item, "first": first}).with_columns(length=length)
            )
    if not hits:
        return pl.DataFrame(schema=MATCHES)
    longest = longest_runs(pl.concat(hits))
    details = [
        f'{names["source"][item]}/{names["id"][item]}: "{found.span(first, run)[:SPAN_CHARACTERS]}"'
        for item, first, run in longest.select("item", "first", "run").iter_rows()
    ]
    return longest.select(
        ids.gather(longest["text"]).alias("id"),
        pl.col("run").cast(pl.Float64).alias("value"),
        pl.col("length").cast(pl.Float64).alias("threshold"),
        pl.Series("detail", details, dtype=pl.String),
    )


def longest_runs(hits: pl.DataFrame) -> pl.DataFrame:
    """Join hits that overlap (same text, item and length, next word); the longest run of each text."""
    group = ["text", "length", "item"]
    return (
        hits.sort(*group, "first")
        .with_columns(diagonal=pl.col("first") - pl.int_range(pl.len()).over(group))
        .group_by(*group, "diagonal", maintain_order=True)
        .agg(pl.col("first").min(), run=pl.col("length").first() + pl.len().cast(pl.Int64) - 1)
        .sort("text", "run", "item", "first", descending=[False, True, False, False])
        .unique("text", keep="first", maintain_order=True)
    )
