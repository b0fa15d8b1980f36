"""Prompts that hold a benchmark item, with the evidence.

A prompt and an item are compared as folded words (`words.py`: case, punctuation, width and white space do
not matter). What counts is the part of the item's words that stand in the prompt in runs of at least `ngram`
words (13 in GPT-3, arXiv 2005.14165, appendix C); an item of fewer words than that must stand there whole,
and one of fewer than `min_words` as a sentence of its own.

One run proves little by itself: items and prompts are made from templates ("You will be given a definition
of a task first"), and quote the same passages and proverbs. So

- at least `coverage` of the item's telling words must be in the prompt;
- a phrase that stands in more than `max_items` rows of the benchmarks is not telling;
- nor are words that more than `max_prompts` different prompts have in common with the item, without having
  all of it. What all of these prompts share is a template; the item is what they do not share.

A prompt with the whole item is contaminated however many others are; a short item (fewer words than
`ngram`) counts as whole where it is a sentence of its own, not as a part of a longer one.

What this does not find: paraphrases, translations, and prompts that are a short part of a long item.
"""

from functools import cache
from typing import Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from pipeline.benchmark_items import BenchmarkItems
from pipeline.overlaps import Pairs, per_item, runs
from pipeline.params import Params

SPAN_CHARACTERS = 200
"""Longest evidence quoted in the ledger."""

MATCHES = {"id": pl.String, "value": pl.Float64, "threshold": pl.Float64, "detail": pl.String}


class Decontaminate(Params):
    """What counts as a benchmark's text."""

    benchmarks: tuple[str, ...]
    """Sources of kind `benchmarks`; an empty list turns the search off."""
    ngram: int = Field(ge=2, le=64)
    """Fewest words in a run that is evidence; an item of fewer words must stand in the prompt whole."""
    min_words: int = Field(ge=1)
    """An item of fewer words is found only as a sentence of its own."""
    coverage: float = Field(gt=0, le=1)
    """Part of an item's telling words that must stand in a prompt."""
    max_items: int = Field(ge=1)
    """A phrase that stands in more rows of the benchmarks than this is boilerplate."""
    max_prompts: int = Field(ge=1)
    """Words of an item that more prompts than this share, without the rest of it, are boilerplate."""

    @model_validator(mode="after")
    def ordered(self) -> Self:
        """An item can be too short to look for inside a line only if it is shorter than an n-gram."""
        if self.min_words > self.ngram:
            raise ValueError(f"expected min_words <= ngram, found {self.min_words} > {self.ngram}")
        return self


def matches(
    ids: pl.Series, texts: pl.Series, benchmarks: pl.DataFrame, settings: Decontaminate
) -> pl.DataFrame:
    """One row per contaminated text: id, value, threshold, detail; in the order of the ids.

    `ids` are distinct strings that go with `texts` row by row; equal texts should come once, since
    `max_prompts` counts texts. Turns of a conversation are lines or more of one text: join them by a line
    break. `benchmarks` has the columns of the table `benchmarks`. `value` is the part of the item that was
    found (of its telling words, from 0 to 1), `threshold` is `coverage`, `detail` names the item in every
    benchmark that has it, says how many of its words were found and quotes the longest run.

    `texts` may be a memory-mapped column larger than memory: it is read once, block by block, on all
    processors; what is kept is some 40 bytes per run found. The result depends neither on the order of the
    rows nor on the number of threads.
    """
    if not len(texts) or benchmarks.is_empty():
        return pl.DataFrame(schema=MATCHES)
    items = BenchmarkItems.of(
        benchmarks, ngram=settings.ngram, min_words=settings.min_words, max_items=settings.max_items
    )
    best = weighed(Pairs.of(runs(texts, items), items), items, settings)
    span = cache(items.span)  # the same item may be in a thousand prompts
    details = [
        f'{items.names[item]}: {told} of {telling} words: "{span(item, start, stop)[:SPAN_CHARACTERS]}"'
        for item, told, telling, start, stop in best.select(
            "item", "told", "telling", "start", "stop"
        ).iter_rows()
    ]
    return best.select(
        ids.gather(best["text"]).alias("id"),
        value="part",
        threshold=pl.lit(settings.coverage),
        detail=pl.Series(details, dtype=pl.String),
    ).sort("id")


def weighed(pairs: Pairs, items: BenchmarkItems, settings: Decontaminate) -> pl.DataFrame:
    """For each contaminated text its best item: text, item, told, telling, part and the longest stretch."""
    item = pairs.item[pairs.first]
    size = per_item(items.findable, items)[item]
    is_short = items.sizes[item] < items.ngram
    whole = np.where(is_short, pairs.alone, pairs.number(items.findable) == size)
    telling = items.telling.copy()
    shared = pairs.sharing(~whole)
    telling[: shared.size] &= shared[: telling.size] <= settings.max_prompts
    frame = pl.DataFrame(
        {
            "text": pairs.text[pairs.first],
            "item": item,
            "told": np.where(whole, size, pairs.number(telling)),
            "telling": np.where(whole, size, per_item(telling, items)[item]),
        }
    )
    best = (
        frame.with_row_index("pair")
        .with_columns(part=pl.col("told") / pl.col("telling"))
        .filter((pl.col("telling") > 0) & (pl.col("part") >= settings.coverage))
        .sort("text", "part", "told", "item", descending=[False, True, True, False])
        .unique("text", keep="first", maintain_order=True)
    )
    return best.join(longest_stretches(pairs, items), on="pair", how="left", maintain_order="left")


def longest_stretches(pairs: Pairs, items: BenchmarkItems) -> pl.DataFrame:
    """For each pair the first of its longest stretches: pair, start and stop as words of the item."""
    before = items.offsets[pairs.item]
    frame = pl.DataFrame({"pair": pairs.pair, "start": pairs.start - before, "stop": pairs.stop - before})
    length = pl.col("stop") - pl.col("start")
    ordered = frame.sort("pair", length, "start", descending=[False, True, False])
    return ordered.unique("pair", keep="first", maintain_order=True).with_columns(
        pl.col("pair").cast(pl.UInt32)
    )
