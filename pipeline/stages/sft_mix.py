"""Stage `sft_mix`: demonstrations of several sources -> one table and the account of what was dropped.

    python -m pipeline.stages.sft_mix data/standard/demonstrations data/standard/benchmarks data/sft_mix

The steps, in this order, each a reason in the ledger:

    too long                  characters of the conversation > max_characters
    exact duplicate           the same conversation came before (by the order of the sources, then origin)
    near-duplicate            near a conversation that came before
    benchmark contamination   the turns before the last answer hold a benchmark item
    over the source's cap     more than `cap` demonstrations of the source; lowest hashes stay
"""

from typing import Self

import polars as pl
from pydantic import Field, model_validator

from pipeline import edge, params, tables
from pipeline.decontamination import Decontaminate
from pipeline.dedup import NearDedup, clusters
from pipeline.ledger import Ledger
from pipeline.params import Params
from pipeline.schemas import DEMONSTRATIONS, SFT_MIX
from pipeline.selection import (
    by_source,
    content,
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

OVER_SOURCE_CAP = "over the source's cap"


class SftSource(Params):
    """One source of demonstrations."""

    name: str
    """A source of kind `demonstrations`."""
    cap: int | None = Field(gt=0)
    """Most demonstrations to take from it; null takes all."""


class SftMixParams(Params):
    """The demonstrations of supervised fine-tuning."""

    sources: tuple[SftSource, ...] = Field(min_length=1)
    """In order of priority: of two equal demonstrations, the earlier source's is kept."""
    near_dedup: NearDedup | None
    """Near-duplicate conversations; null turns the search off."""
    decontaminate: Decontaminate
    """Benchmarks to keep out."""
    max_characters: int | None = Field(gt=0)
    """Most characters of a conversation; null for no limit."""
    seed: int = Field(ge=0)
    """Seed of the choice where a source is over its cap."""

    @model_validator(mode="after")
    def distinct(self) -> Self:
        """Each source once."""
        unique_names([source.name for source in self.sources])
        return self


def mixed(rows: pl.DataFrame, benchmarks: pl.DataFrame, recipe: SftMixParams) -> tuple[pl.DataFrame, Ledger]:
    """(demonstrations, ledger) of the demonstrations `rows`; UserError where nothing is left."""
    ledger = Ledger("sft_mix", "demonstrations")
    left = in_priority(rows, [source.name for source in recipe.sources])
    text = content("messages")
    left = drop_too_long(left, ledger, text.str.len_chars(), recipe.max_characters, id_column="id")
    left = drop_repeats(left, ledger, id_column="id")
    found = clusters(left["id"], left.select(text=text)["text"], recipe.near_dedup)
    left = left.join(found, on="id", how="left", maintain_order="left", validate="1:1")
    left = drop_near(left, ledger, ["cluster_id"], text, recipe.near_dedup, id_column="id")
    left = left.with_columns(asked=pl.col("messages").list.head(pl.col("messages").list.len() - 1))
    left = drop_contaminated(
        left, ledger, content("asked"), benchmarks, recipe.decontaminate, id_column="id", text_id="id"
    )
    cap = by_source("cap", {source.name: source.cap for source in recipe.sources}, pl.Int64)
    left = drop_over_cap(left, ledger, OVER_SOURCE_CAP, "source", cap, ("cap", recipe.seed), id_column="id")
    refuse_empty(left, ledger, rows.height, "fine-tuning")
    return left.select(list(SFT_MIX.columns)), ledger


def main() -> None:
    """Read the sources, mix them, write the demonstrations and the ledger."""
    demonstrations, benchmarks, out = edge.arguments("<demonstrations>", "<benchmarks>", "<out>")
    recipe = params.load("sft_mix", SftMixParams)
    found = [
        read_source("demonstrations", demonstrations, source.name, "sft_mix") for source in recipe.sources
    ]
    rows = pl.concat([DEMONSTRATIONS.empty(), *found])
    frame, ledger = mixed(rows, read_benchmarks(benchmarks, recipe.decontaminate, "sft_mix"), recipe)
    tables.write(SFT_MIX, frame, out / "demonstrations.parquet")
    ledger.close(rows.height, frame.height, out)


if __name__ == "__main__":
    edge.run("sft_mix", main)
