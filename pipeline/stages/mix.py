"""Stage `mix@<name>`: preferences of several sources -> train, test and the account of what was dropped.

    python -m pipeline.stages.mix <name> data/standard/preferences data/standard/benchmarks data/mixes/<name>

The steps, in this order, each a reason in the ledger:

    no scores for the margin    the source has a `min_margin` and the row no scores
    below the source's margin   chosen_score - rejected_score < min_margin
    too long                    characters of the prompt and the longer answer > max_characters
    exact duplicate             the same pair came before (by the order of the sources, then origin)
    contradictory label         the same prompt and answers, labelled the other way round
    near-duplicate              prompt, chosen and rejected are each near those of a pair that came before
    benchmark contamination     the prompt holds a benchmark item
    over the prompt's cap       more than max_pairs_per_prompt pairs of one prompt id; lowest hashes stay
    over the source's cap       more than `cap` pairs of the source; lowest hashes stay

What is left is split by prompt cluster: all pairs of near-duplicate prompts are on one side.
"""

from typing import Literal, Self

import polars as pl
from pydantic import Field, model_validator

from pipeline import edge, params, tables
from pipeline.decontamination import Decontaminate
from pipeline.dedup import NearDedup, clusters
from pipeline.ids import content_id
from pipeline.ledger import Ledger
from pipeline.params import Params
from pipeline.schemas import MIX
from pipeline.selection import (
    WHERE,
    by_source,
    content,
    drop,
    drop_contaminated,
    drop_near,
    drop_over_cap,
    drop_repeats,
    drop_too_long,
    in_priority,
    read_benchmarks,
    read_source,
    refuse_empty,
    unique_names,
)
from pipeline.splits import Split, in_test

NO_SCORES = "no scores for the margin"
BELOW_MARGIN = "below the source's margin"
CONTRADICTORY = "contradictory label"
OVER_PROMPT_CAP = "over the prompt's cap"
OVER_SOURCE_CAP = "over the source's cap"


class MixSource(Params):
    """One source of a mix."""

    name: str
    """A source of kind `preferences`."""
    cap: int | None = Field(gt=0)
    """Most pairs to take from it; null takes all."""
    min_margin: float | None = Field(ge=0)
    """Smallest chosen_score - rejected_score, on the source's own scale; null asks for no scores."""


class MixParams(Params):
    """A preference mix."""

    sources: tuple[MixSource, ...] = Field(min_length=1)
    """In order of priority: of two equal rows, the earlier source's is kept."""
    near_dedup: NearDedup | None
    """Near-duplicates of prompts and pairs; null turns the search off, and each prompt is its own cluster."""
    decontaminate: Decontaminate
    """Benchmarks to keep out."""
    max_characters: int | None = Field(gt=0)
    """Most characters of a prompt and its longer answer together; null for no limit."""
    max_pairs_per_prompt: int | None = Field(gt=0)
    """Most pairs of one prompt; null for no limit."""
    conflicts: Literal["drop_both", "keep_both"]
    """What becomes of a pair that is labelled both ways."""
    split: Split

    @model_validator(mode="after")
    def distinct(self) -> Self:
        """Each source once."""
        unique_names([source.name for source in self.sources])
        return self


def mix(
    name: str, rows: pl.DataFrame, benchmarks: pl.DataFrame, recipe: MixParams
) -> tuple[pl.DataFrame, pl.DataFrame, Ledger]:
    """(train, test, ledger) of the preferences `rows`; UserError where a side is empty."""
    ledger = Ledger(f"mix@{name}", "pairs")
    left = in_priority(rows, [source.name for source in recipe.sources])
    left = with_clear_margin(left, ledger, recipe)
    longest = pl.max_horizontal(content(side).str.len_chars() for side in ("chosen", "rejected"))
    characters = content("prompt").str.len_chars() + longest
    left = drop_too_long(left, ledger, characters, recipe.max_characters, id_column="pair_id")
    left = drop_repeats(left, ledger, id_column="pair_id")
    left = without_conflicts(left, ledger, recipe)
    left = without_near(left, ledger, recipe.near_dedup)
    left = drop_contaminated(
        left,
        ledger,
        content("prompt"),
        benchmarks,
        recipe.decontaminate,
        id_column="pair_id",
        text_id="prompt_id",
    )
    left = capped(left, ledger, recipe)
    refuse_empty(left, ledger, rows.height, "the mix")
    train, test = divided(left, recipe.split)
    refuse_empty(train, ledger, rows.height, "the train split (another split.seed)")
    if recipe.split.test_fraction:
        refuse_empty(test, ledger, rows.height, "the test split (a larger split.test_fraction)")
    return train, test, ledger


def with_clear_margin(rows: pl.DataFrame, ledger: Ledger, recipe: MixParams) -> pl.DataFrame:
    """Drop the pairs below their source's margin, or without the scores to tell."""
    wanted = by_source("wanted", {source.name: source.min_margin for source in recipe.sources}, pl.Float64)
    margin = pl.col("chosen_score") - pl.col("rejected_score")
    rows = rows.with_columns(wanted, margin=margin)
    wanted, margin = pl.col("wanted"), pl.col("margin")
    unknown = wanted.is_not_null() & margin.is_null()
    rows = drop(rows, ledger, NO_SCORES, unknown, id_column="pair_id", threshold=wanted)
    rows = drop(
        rows, ledger, BELOW_MARGIN, margin < wanted, id_column="pair_id", value=margin, threshold=wanted
    )
    return rows.drop("wanted", "margin")


def without_conflicts(rows: pl.DataFrame, ledger: Ledger, recipe: MixParams) -> pl.DataFrame:
    """Drop both labels of a pair that is labelled both ways, within a source or across sources."""
    if recipe.conflicts == "keep_both":
        return rows
    chosen, rejected = content("chosen"), content("rejected")
    forward = chosen < rejected
    marked = rows.with_columns(
        forward=forward,
        low=pl.when(forward).then(chosen).otherwise(rejected),
        high=pl.when(forward).then(rejected).otherwise(chosen),
    )
    group = ["prompt_id", "low", "high"]
    # Pair ids are unique here: a group of two is the two labels of one pair.
    other = pl.when("forward").then(WHERE.last().over(group)).otherwise(WHERE.first().over(group))
    marked = marked.sort(~pl.col("forward"), "priority", "source", "file", "row", "item")
    kept = drop(
        marked,
        ledger,
        CONTRADICTORY,
        pl.len().over(group) > 1,
        id_column="pair_id",
        detail=pl.format("the other way round in {}", other),
    )
    return kept.sort("priority", "source", "file", "row", "item").select(rows.columns)


def without_near(rows: pl.DataFrame, ledger: Ledger, settings: NearDedup | None) -> pl.DataFrame:
    """Add each prompt's `cluster_id`; drop pairs near another in the prompt and in both answers."""
    prompts = clusters(rows["prompt_id"], rows.select(text=content("prompt"))["text"], settings)
    rows = rows.join(
        prompts.rename({"id": "prompt_id"}), on="prompt_id", how="left", maintain_order="left", validate="m:1"
    )
    if settings is None:
        return rows
    rows = rows.with_columns(chosen_text=content("chosen"), rejected_text=content("rejected"))
    answers = answer_clusters(rows.filter(pl.len().over("cluster_id") > 1), settings)
    for side in ("chosen", "rejected"):
        # A pair alone in its cluster needs no answer cluster: its own text stands for it.
        rows = rows.join(
            answers.rename({"text": f"{side}_text", "cluster": f"{side}_cluster"}),
            on=f"{side}_text",
            how="left",
            maintain_order="left",
            validate="m:1",
        ).with_columns(pl.col(f"{side}_cluster").fill_null(""))
    text = pl.concat_str(content("prompt"), "chosen_text", "rejected_text", separator="\n")
    group = ["cluster_id", "chosen_cluster", "rejected_cluster"]
    kept = drop_near(rows, ledger, group, text, settings, id_column="pair_id")
    return kept.drop("chosen_text", "rejected_text", "chosen_cluster", "rejected_cluster")


def answer_clusters(rows: pl.DataFrame, settings: NearDedup) -> pl.DataFrame:
    """(text, cluster) of every answer of `rows`, chosen or rejected."""
    texts = pl.concat([rows["chosen_text"], rows["rejected_text"]]).unique()
    ids = texts.map_elements(content_id, return_dtype=pl.String)  # Our ids are a Python hash.
    found = clusters(ids, texts, settings).rename({"cluster_id": "cluster"})
    return (
        pl.DataFrame({"text": texts, "id": ids}).join(found, on="id", how="left", validate="1:1").drop("id")
    )


def capped(rows: pl.DataFrame, ledger: Ledger, recipe: MixParams) -> pl.DataFrame:
    """Drop what is over the cap of a prompt, then of a source."""
    seed = ("cap", recipe.split.seed)
    per_prompt = pl.lit(recipe.max_pairs_per_prompt, pl.Int64)
    rows = drop_over_cap(rows, ledger, OVER_PROMPT_CAP, "prompt_id", per_prompt, seed, id_column="pair_id")
    per_source = by_source("cap", {source.name: source.cap for source in recipe.sources}, pl.Int64)
    return drop_over_cap(rows, ledger, OVER_SOURCE_CAP, "source", per_source, seed, id_column="pair_id")


def divided(rows: pl.DataFrame, split: Split) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(train, test): no prompt cluster is on both sides."""
    rows = rows.select(list(MIX.columns))
    test = in_test(rows["cluster_id"], split)
    return rows.filter(~test), rows.filter(test)


def main() -> None:
    """Read the sources, mix them, write train, test and the ledger."""
    name, preferences, benchmarks, out = edge.arguments("<name>", "<preferences>", "<benchmarks>", "<out>")
    recipe = params.load(f"mixes.{name}", MixParams)
    wanted_by = f"mix {str(name)!r}"
    found = [read_source("preferences", preferences, source.name, wanted_by) for source in recipe.sources]
    rows = pl.concat(found)
    items = read_benchmarks(benchmarks, recipe.decontaminate, wanted_by)
    train, test, ledger = mix(str(name), rows, items, recipe)
    tables.write(MIX, train, out / "train.parquet")
    tables.write(MIX, test, out / "test.parquet")
    ledger.close(rows.height, train.height + test.height, out)


if __name__ == "__main__":
    edge.run("mix", main)
