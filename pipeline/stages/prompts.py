"""Stage `prompts`: prompt sources -> a validation slice, one slice per iteration, and the account.

    python -m pipeline.stages.prompts <preferences> <prompts> <benchmarks> data/prompts

with the folders data/standard/<kind> of these three kinds.

The steps, in this order, each a reason in the ledger:

    more than one turn        with single_turn_only: more than one user turn, or an assistant turn
    too long                  characters of the prompt > max_characters
    exact duplicate           the same prompt came before (a preference source has a row per pair)
    near-duplicate            near another prompt of its cluster, which stands for the cluster
    benchmark contamination   the prompt holds a benchmark item
    slice is full             more prompts fell to the slice than it takes; lowest hashes stay

A cluster is dealt by a hash of the prompt that stands for it alone: the one of the earliest source in the
recipe, and within it of the lowest hash. So slices share no near-duplicate, and these changes move no prompt
from one slice to another: more iterations (up to `slices`), more or fewer prompts.
What can still happen to a prompt:

- a new prompt takes its place in a full slice, if its hash is lower: the old one is dropped, never moved;
- a new near-duplicate of the same or an earlier source may stand for the cluster from then on, in its own
  slice; one that joins two clusters leaves one prompt of the two (all that a source added at the end can do);
- a new seed or number of `slices` deals afresh; `validation` or `per_slice` shift only the border between
  validation and the rest.

A prompt here may stand in a preference mix too, on either side: the reward model has then seen human answers
to it, but never the policy's. The validation slice is held out from the policy, not from the judge.
"""

from pathlib import Path
from typing import Self

import polars as pl
from pydantic import Field, model_validator

from pipeline import edge, params, tables
from pipeline.decontamination import Decontaminate
from pipeline.dedup import NearDedup, clusters
from pipeline.errors import UserError
from pipeline.ledger import Ledger
from pipeline.params import Params
from pipeline.schemas import ORIGIN, PROMPTS, SLICE
from pipeline.selection import (
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
    table_path,
    unique_names,
)
from pipeline.splits import deal, hash_order

MANY_TURNS = "more than one turn"
SLICE_FULL = "slice is full"


class PromptsParams(Params):
    """Which prompts the policy is trained and validated on."""

    sources: tuple[str, ...] = Field(min_length=1)
    """Sources of kind `prompts`, or of kind `preferences` for their prompts, in order of priority."""
    slices: int = Field(gt=0)
    """Number of slices dealt, for as many iterations at most: keep it when adding iterations."""
    per_slice: int = Field(gt=0)
    """Most prompts of one slice."""
    validation: int = Field(gt=0)
    """Most prompts of the validation slice."""
    near_dedup: NearDedup | None
    """Near-duplicate prompts; null turns the search off."""
    decontaminate: Decontaminate
    """Benchmarks to keep out."""
    max_characters: int | None = Field(gt=0)
    """Most characters of a prompt; null for no limit."""
    single_turn_only: bool
    """Whether to drop prompts with earlier turns."""
    seed: int = Field(ge=0)
    """Seed of the deal and of the choice where a slice is full."""

    @model_validator(mode="after")
    def distinct(self) -> Self:
        """Each source once."""
        unique_names(self.sources)
        return self

    @property
    def validation_share(self) -> float:
        """The share of clusters dealt to validation: in proportion to what the slices take."""
        return self.validation / (self.validation + self.slices * self.per_slice)


def slice_name(number: int) -> str:
    """The name of a slice: validation, t1, t2, ..."""
    return f"t{number}" if number else "validation"


def dealt(
    rows: pl.DataFrame, benchmarks: pl.DataFrame, recipe: PromptsParams
) -> tuple[dict[str, pl.DataFrame], Ledger]:
    """(slices by name, ledger) of the prompts `rows`; UserError where a slice is empty."""
    ledger = Ledger("prompts", "prompts")
    left = in_priority(rows, recipe.sources)
    if recipe.single_turn_only:
        left = single_turns(left, ledger)
    text = content("prompt")
    left = drop_too_long(left, ledger, text.str.len_chars(), recipe.max_characters, id_column="prompt_id")
    left = drop_repeats(left, ledger, id_column="prompt_id")
    left = representatives(left, ledger, recipe)
    left = drop_contaminated(
        left, ledger, text, benchmarks, recipe.decontaminate, id_column="prompt_id", text_id="prompt_id"
    )
    number = deal(
        left["prompt_id"], slices=recipe.slices, validation_share=recipe.validation_share, seed=recipe.seed
    )
    left = left.with_columns(number).with_columns(
        slice=pl.when(number == 0).then(pl.lit("validation")).otherwise(pl.format("t{}", "slice")),
        cap=pl.when(number == 0).then(recipe.validation).otherwise(recipe.per_slice).cast(pl.Int64),
    )
    seed = ("fill", recipe.seed)
    left = drop_over_cap(left, ledger, SLICE_FULL, "slice", pl.col("cap"), seed, id_column="prompt_id")
    slices = {}
    for name in map(slice_name, range(recipe.slices + 1)):
        slices[name] = left.filter(pl.col("slice") == name).select(list(SLICE.columns))
        refuse_empty(slices[name], ledger, rows.height, f"the slice {name}")
    return slices, ledger


def single_turns(rows: pl.DataFrame, ledger: Ledger) -> pl.DataFrame:
    """Drop prompts with anything but one user turn, after a system message or not."""
    roles = pl.col("prompt").list.eval(pl.element().struct.field("role"))
    turns = roles.list.len() - roles.list.count_matches("system")
    return drop(rows, ledger, MANY_TURNS, turns > 1, id_column="prompt_id", value=turns, threshold=1)


def representatives(rows: pl.DataFrame, ledger: Ledger, recipe: PromptsParams) -> pl.DataFrame:
    """Add `cluster_id` and keep one prompt per cluster: of the earliest source, then of the lowest hash."""
    text = content("prompt")
    found = clusters(rows["prompt_id"], rows.select(text=text)["text"], recipe.near_dedup)
    joined = rows.join(
        found.rename({"id": "prompt_id"}), on="prompt_id", how="left", maintain_order="left", validate="1:1"
    )
    ranked = joined.with_columns(hash_order(joined["prompt_id"], "representative", recipe.seed))
    ranked = ranked.sort("priority", "hash_order").drop("hash_order")
    return drop_near(ranked, ledger, ["cluster_id"], text, recipe.near_dedup, id_column="prompt_id")


def read_prompts(preferences: Path, prompts: Path, source: str) -> pl.DataFrame:
    """The prompts of a source of either kind, one row per row of its table."""
    columns = [*ORIGIN, "prompt_id", "prompt"]
    if table_path("prompts", prompts, source).exists():
        return read_source("prompts", prompts, source, "prompts").select(columns)
    if table_path("preferences", preferences, source).exists():
        return read_source("preferences", preferences, source, "prompts").select(columns)
    raise UserError(
        f"prompts: expected the source {source!r} at {table_path('prompts', prompts, source)} or "
        f"{table_path('preferences', preferences, source)}, found neither; make it with: "
        f"dvc repro standardize@{source} (the source must be of kind prompts or preferences in params.yaml)"
    )


def main() -> None:
    """Read the sources, deal the slices, write them and the ledger."""
    preferences, prompts, benchmarks, out = edge.arguments(
        "<preferences>", "<prompts>", "<benchmarks>", "<out>"
    )
    recipe = params.load("prompts", PromptsParams)
    found = [read_prompts(preferences, prompts, source) for source in recipe.sources]
    rows = pl.concat([PROMPTS.empty(), *found])
    slices, ledger = dealt(rows, read_benchmarks(benchmarks, recipe.decontaminate, "prompts"), recipe)
    for name, frame in slices.items():
        tables.write(SLICE, frame, out / f"{name}.parquet")
    ledger.close(rows.height, sum(frame.height for frame in slices.values()), out)


if __name__ == "__main__":
    edge.run("prompts", main)
