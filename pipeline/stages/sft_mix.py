"""Stage `sft_mix`: demonstrations of several sources -> one table and the account of what was dropped.

    python -m pipeline.stages.sft_mix data/standard/demonstrations data/standard/benchmarks data/sft_mix

The steps, in this order, each a reason in the ledger:

    too long                  characters of the conversation > max_characters
    exact duplicate           the same conversation came before (by the order of the sources, then origin)
    near-duplicate            near a conversation that came before, and so is the last user turn to its
    benchmark contamination   the turns before the last answer hold a benchmark item
    over the source's cap     more than `cap` demonstrations of the source; lowest hashes stay
"""

from pathlib import Path

import polars as pl
from pydantic import Field

from pipeline import edge, params
from pipeline.catalog import Inputs, content, find, number, read_benchmarks
from pipeline.dedup import clusters
from pipeline.execution import execution
from pipeline.params import Params
from pipeline.schemas import SFT_MIX
from pipeline.selection import (
    OVER_SOURCE_CAP,
    SelectionParams,
    by_question,
    by_source,
    drop_contaminated,
    drop_near,
    drop_over_cap,
    drop_repeats,
    drop_too_long,
    text_likeness,
)
from pipeline.tables import Writer
from pipeline.verdicts import Verdicts

ASKED = pl.col("messages").list.head(pl.col("messages").list.len() - 1)
"""The turns before the last answer."""


class SftSource(Params):
    """One source of demonstrations."""

    name: str
    """A source of kind `demonstrations`."""
    cap: int | None = Field(gt=0)
    """Most demonstrations to take from it; null takes all."""


class SftMixParams(SelectionParams):
    """The demonstrations of supervised fine-tuning."""

    sources: tuple[SftSource, ...] = Field(min_length=1)
    """In order of priority: of two equal demonstrations, the earlier source's is kept."""
    seed: int = Field(ge=0)
    """Seed of the choice where a source is over its cap."""


def mix(inputs: Inputs, benchmarks: pl.DataFrame, recipe: SftMixParams, out: Path) -> None:
    """Write the demonstrations and the account; UserError where nothing is left."""
    facts = {"id": number("id")}
    if recipe.max_characters is not None:
        facts["characters"] = content(pl.col("messages")).str.len_chars()
    catalog = inputs.catalog(facts, "reading demonstrations")
    verdicts = Verdicts("sft_mix", "demonstrations", catalog, id_column="id")
    left = drop_too_long(catalog.drop("file", "row", "item"), verdicts, recipe.max_characters)
    left = drop_repeats(left, verdicts, "id")
    left = without_near(left, verdicts, inputs, recipe)
    left = without_contaminated(left, verdicts, inputs, benchmarks, recipe)
    cap = by_source({source.name: source.cap for source in recipe.sources}, pl.Int64)
    left = drop_over_cap(left, verdicts, OVER_SOURCE_CAP, "source", cap, ("cap", recipe.seed), "id")
    verdicts.refuse_empty(left, "fine-tuning")
    with Writer(SFT_MIX, out / "demonstrations.parquet") as writer:
        for rows in inputs.rows(left.select("place"), list(SFT_MIX.columns)):
            writer.write(rows)
    verdicts.close(left.height, out)


def without_near(
    rows: pl.DataFrame, verdicts: Verdicts, inputs: Inputs, recipe: SftMixParams
) -> pl.DataFrame:
    """Keep the first of near-duplicate conversations."""
    settings = recipe.near_dedup
    if settings is None:
        return rows
    texts = inputs.texts(rows["place"], content(pl.col("messages")), "reading conversations")
    found = rows.with_columns(clusters(rows["id"], texts, settings)["cluster_id"])
    found = by_question(found, "id", inputs, ASKED, settings)
    found = found.with_columns(kept_place=pl.col("place").min().over("cluster_id"))
    likeness = text_likeness(rows["place"], texts, settings.shingle)
    return drop_near(found, verdicts, settings, likeness).select(rows.columns)


def without_contaminated(
    rows: pl.DataFrame,
    verdicts: Verdicts,
    inputs: Inputs,
    benchmarks: pl.DataFrame,
    recipe: SftMixParams,
) -> pl.DataFrame:
    """Drop demonstrations of what a benchmark asks."""
    if benchmarks.is_empty():
        return rows
    texts = inputs.texts(rows["place"], content(ASKED), "reading questions")
    # A hash of this process alone: it only says which questions are one, and no result shows it.
    marked = rows.with_columns(asked=texts.hash())
    first = marked["asked"].is_first_distinct()
    found = marked["asked"].filter(first), texts.filter(first)
    left = drop_contaminated(marked, verdicts, "asked", found, benchmarks, recipe.decontaminate)
    return left.drop("asked")


def main() -> None:
    """Find the sources, mix them, write the demonstrations and the ledger."""
    demonstrations, benchmarks, out = edge.arguments("<demonstrations>", "<benchmarks>", "<out>")
    recipe = params.load("sft_mix", SftMixParams)
    found = tuple(find("demonstrations", demonstrations, source, "sft_mix") for source in recipe.names)
    items = read_benchmarks(benchmarks, recipe.decontaminate.benchmarks, "sft_mix")
    mix(Inputs(found, execution().state), items, recipe, out)


if __name__ == "__main__":
    edge.run("sft_mix", main)
