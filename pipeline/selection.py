"""What the stages that choose rows share: their parameters, and the rules that look at one text of a row.

A rule takes the rows that are left (`place`, `source` and facts, in the order of places, so that "the first"
means the same on every run) and the `Verdicts`, enters there what it drops, and gives the rest.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from pipeline import splits
from pipeline.buckets import join
from pipeline.catalog import Inputs, content, digits, number
from pipeline.decontamination import Decontaminate, matches
from pipeline.dedup import NearDedup, clusters
from pipeline.id_columns import conversation_ids
from pipeline.params import Params
from pipeline.shingles import similarity
from pipeline.verdicts import Verdicts

EXACT = "exact duplicate"
NEAR = "near-duplicate"
CONTAMINATED = "benchmark contamination"
TOO_LONG = "too long"
OVER_SOURCE_CAP = "over the source's cap"

PROMPT = pl.col("prompt")

OPENING = 32
"""Characters that users must have said for a common beginning to make a family: "Hi" proves nothing."""

ALIKE_ROWS = 8192
"""Near-duplicates whose similarity is measured at once: bounds memory, not the result."""


class SelectionParams(Params):
    """What every recipe of a selection says."""

    sources: tuple[Any, ...] = Field(min_length=1)
    """In order of priority: of two equal rows, the earlier source's is kept."""
    near_dedup: NearDedup | None
    """What counts as a near-duplicate: the whole text, and its last user turn by itself.

    Else a long system prompt or history would make different questions one. null turns the search off."""
    decontaminate: Decontaminate
    """Benchmarks to keep out."""
    max_characters: int | None = Field(gt=0)
    """Most characters of a prompt and its longer answer, a conversation or a prompt; null for no limit."""

    @property
    def names(self) -> list[str]:
        """The names of the sources, in order of priority."""
        return [source if isinstance(source, str) else source.name for source in self.sources]

    @model_validator(mode="after")
    def distinct(self) -> Self:
        """Each source once: its rows would count twice."""
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise ValueError(f"expected each source once, found {', '.join(twice)} more than once")
        return self


def drop_too_long(rows: pl.DataFrame, verdicts: Verdicts, limit: int | None) -> pl.DataFrame:
    """Drop rows of more than `limit` `characters` (null: none)."""
    if limit is None:
        return rows
    characters = pl.col("characters")
    return verdicts.drop(rows, TOO_LONG, characters > limit, value=characters, threshold=limit)


def drop_repeats(rows: pl.DataFrame, verdicts: Verdicts, id_column: str) -> pl.DataFrame:
    """Keep the first row of each id."""
    first = pl.col("place").first().over(id_column)
    repeated = ~pl.col(id_column).is_first_distinct()
    return verdicts.drop(rows, EXACT, repeated, says="same as", other=first)


def clustered_prompts(
    rows: pl.DataFrame, inputs: Inputs, settings: NearDedup | None
) -> tuple[pl.DataFrame, pl.Series]:
    """(`rows`, each of another prompt, with `cluster_id` and `family_id`; the texts of the prompts).

    A cluster holds prompts that say the same. A family holds those that must not be told apart by a split:
    whole clusters, prompts that are near but for their last turn, and those with the same `opening`.
    """
    wanted = {"text": content(PROMPT), "opening": conversation_ids(opening(PROMPT))}
    found = inputs.columns({name: (rows["place"], one) for name, one in wanted.items()}, "reading prompts")
    near = clusters(rows["prompt_id"], found["text"], settings)["cluster_id"]
    rows = rows.with_columns(near, family_id=families(rows["prompt_id"], near, found["opening"]))
    return by_question(rows, "prompt_id", inputs, PROMPT, settings), found["text"]


def opening(messages: pl.Expr) -> pl.Expr:
    """The messages up to the first user turn by which `OPENING` characters are asked, or else all.

    So a prompt and its continuations have one opening, whether or not the opening is a prompt itself.
    """
    role, text = (pl.element().struct.field(name) for name in ("role", "content"))
    asked = pl.when(role == "user").then(text.str.len_chars()).otherwise(0).cum_sum()
    return messages.list.head(messages.list.eval(asked < OPENING).list.sum() + 1)


def families(ids: pl.Series, *keys: pl.Series) -> pl.Series:
    """For each of `ids` the lowest of those that equal values of any of `keys` connect it with."""
    places = np.arange(len(ids))
    label = places.copy()
    for key in keys:
        first = pl.DataFrame({"key": key, "place": places}).select(pl.col("place").first().over("key"))
        join(label, places, first["place"].to_numpy())
    return pl.DataFrame({"id": ids, "label": label}).select(pl.col("id").min().over("label"))["id"]


def by_question(
    rows: pl.DataFrame, id_column: str, inputs: Inputs, asked: pl.Expr, settings: NearDedup | None
) -> pl.DataFrame:
    """`rows` with their `cluster_id` cut finer: only where the last turn of `asked` is near too."""
    several = rows.filter(pl.len().over("cluster_id") > 1)
    if settings is None or several.is_empty():
        return rows
    turn = asked.list.last().struct.field("content")
    turns = inputs.texts(several["place"], turn, "reading last user turns")
    found = clusters(several[id_column], turns, settings, within=several["cluster_id"])
    alone = rows.drop("cluster_id").join(
        found, left_on=id_column, right_on="id", how="left", maintain_order="left", validate="1:1"
    )
    return alone.with_columns(pl.col("cluster_id").fill_null(pl.col(id_column)))


#: The similarity of the rows at some places to those at others.
Likeness = Callable[[pl.Series, pl.Series], pl.Series]


def text_likeness(places: pl.Series, texts: pl.Series, shingle: int) -> Likeness:
    """The similarity of `texts`, which stand at `places`, rising."""

    def likeness(one: pl.Series, two: pl.Series) -> pl.Series:
        return alike(texts, places.search_sorted(one), places.search_sorted(two), shingle)

    return likeness


def alike(texts: pl.Series, one: pl.Series, two: pl.Series, shingle: int) -> pl.Series:
    """The similarity of texts[one[i]] and texts[two[i]]; of a text to itself it is 1."""
    left, right = one.to_numpy(), two.to_numpy()
    found = [
        similarity(texts, left[start : start + ALIKE_ROWS], right[start : start + ALIKE_ROWS], shingle)
        for start in range(0, len(left), ALIKE_ROWS)
    ]
    values = pl.concat([pl.Series(dtype=pl.Float64), *(pl.Series(part, dtype=pl.Float64) for part in found)])
    return pl.select(pl.when(one == two).then(1.0).otherwise(values).alias("alike"))["alike"]


def measured(rows: pl.DataFrame, bad: pl.Expr, other: str, likeness: Likeness) -> pl.DataFrame:
    """`rows` with `alike`: for the bad ones their similarity to the row at the place in column `other`."""
    pairs = rows.filter(bad).select("place", other)
    values = pairs.select("place").with_columns(likeness(pairs["place"], pairs[other]).alias("alike"))
    return rows.join(values, on="place", how="left", maintain_order="left", validate="1:1")


def drop_near(
    rows: pl.DataFrame, verdicts: Verdicts, settings: NearDedup, likeness: Likeness
) -> pl.DataFrame:
    """Drop the rows whose `kept_place`, that of the row which stands for its group, is not their own.

    `value` is the similarity to the row kept. It can be below the threshold where a chain of near-duplicates
    joins the two.
    """
    again = pl.col("kept_place") != pl.col("place")
    return verdicts.drop(
        measured(rows, again, "kept_place", likeness),
        NEAR,
        again,
        value=pl.col("alike"),
        threshold=settings.threshold,
        says="near",
        other=pl.col("kept_place"),
    ).select(rows.columns)


def drop_contaminated(
    rows: pl.DataFrame,
    verdicts: Verdicts,
    text_id: str,
    texts: tuple[pl.Series, pl.Series],
    benchmarks: pl.DataFrame,
    settings: Decontaminate,
) -> pl.DataFrame:
    """Drop rows whose text holds a benchmark item; `texts` are ids, as in column `text_id`, and texts."""
    if benchmarks.is_empty():
        return rows
    found = matches(digits(texts[0]), texts[1], benchmarks, settings)
    evidence = found.select(number("id").alias(text_id), words="value", needed="threshold", evidence="detail")
    return verdicts.drop(
        rows.join(evidence, on=text_id, how="left", maintain_order="left", validate="m:1"),
        CONTAMINATED,
        pl.col("evidence").is_not_null(),
        value=pl.col("words"),
        threshold=pl.col("needed"),
        note=pl.col("evidence"),
    ).select(rows.columns)


def drop_over_cap(
    rows: pl.DataFrame,
    verdicts: Verdicts,
    reason: str,
    group: str,
    cap: pl.Expr,
    seed: Sequence[object],
    id_column: str,
) -> pl.DataFrame:
    """Keep at most `cap` (null: all) rows of each `group`: those whose ids come first in hash order."""
    ranked = splits.rank_within(rows, id_column, group, *seed)
    rank = pl.col("rank")
    return verdicts.drop(ranked, reason, rank > cap, value=rank, threshold=cap).drop("rank")


def by_source(values: Mapping[str, float | None], kind: type[pl.DataType]) -> pl.Expr:
    """The value of each row's source; null for sources not in `values`."""
    return pl.col("source").cast(pl.String).replace_strict(values, default=None, return_dtype=kind)
