"""Stage `prompts`: prompt sources -> a validation slice, one slice per iteration, and the account.

    python -m pipeline.stages.prompts <preferences> <prompts> <benchmarks> data/prompts

with the folders data/standard/<kind> of these three kinds.

The steps, in this order, each a reason in the ledger:

    more than one turn        with single_turn_only: more than one user turn, or an assistant turn
    too long                  characters of the prompt > max_characters
    exact duplicate           the same prompt came before (a preference source has a row per pair)
    near-duplicate            near another prompt in the whole text and in the last user turn, which stays
    benchmark contamination   the prompt holds a benchmark item
    in no slice yet           its hash lies beyond the last slice: more slices would take it
    slice is full             more prompts fell to the slice than it takes; lowest hashes stay

A family of prompts (`cluster_id` of the slices: those that are near, be it in the whole text alone, and
conversations with the same beginning) is dealt by a hash of the prompt that stands for it alone: the one of
the earliest source in the recipe, and within it of the lowest hash. So slices share no near-duplicate and no
beginning of a conversation. A slice is a fixed range of that hash (`splits.borders`), and validation has a
hash of its own. So

- more slices leave every other slice as it is, to the byte: a new one takes prompts that no slice had;
- a new prompt of a new family moves nothing. In a slice that is full it takes a place if its hash is lower:
  the prompt that had it is dropped, never moved. In one that is not full all others stay;
- larger or smaller `validation` and `per_slice` add to slices or drop from them, and move nothing; a larger
  `validation_share` takes prompts from slices to validation, and moves none between slices;
- a new prompt that is near an old one, or goes on with its conversation, joins its slice. Of a later source
  it can only move a family by joining it with another: one of them goes to the slice of the other. Of the
  same or an earlier source it may stand for the family from then on (among k of one source with a chance of
  1 in k), and then moves it as a whole, and it may take the place of its near-duplicate;
- a new seed or `slice_share` deals afresh.

A prompt here may stand in a preference mix too, on either side: the reward model has then seen human answers
to it, but never the policy's. The validation slice is held out from the policy, not from the judge.
"""

from pathlib import Path

import polars as pl
from pydantic import Field

from pipeline import edge, params, tables
from pipeline.catalog import Input, Inputs, content, digits, find, number, read_benchmarks, table_path
from pipeline.errors import UserError
from pipeline.execution import execution
from pipeline.schemas import SLICE
from pipeline.selection import (
    PROMPT,
    SelectionParams,
    clustered_prompts,
    drop_contaminated,
    drop_near,
    drop_over_cap,
    drop_repeats,
    drop_too_long,
    text_likeness,
)
from pipeline.splits import borders, deal, hash_order
from pipeline.verdicts import Verdicts

MANY_TURNS = "more than one turn"
NO_SLICE = "in no slice yet"
SLICE_FULL = "slice is full"


class PromptsParams(SelectionParams):
    """Which prompts the policy is trained and validated on."""

    sources: tuple[str, ...] = Field(min_length=1)
    """Sources of kind `prompts`, or of kind `preferences` for their prompts, in order of priority."""
    slices: int = Field(gt=0)
    """Number of slices, for as many iterations at most: more leave the others as they are."""
    slice_share: float = Field(gt=0, le=0.5)
    """Expected share of a slice in the families outside validation; half of what is left, where that is
    less."""
    per_slice: int = Field(gt=0)
    """Most prompts of one slice."""
    validation_share: float = Field(gt=0, lt=1)
    """Expected share of families held out for validation."""
    validation: int = Field(gt=0)
    """Most prompts of the validation slice."""
    single_turn_only: bool
    """Whether to drop prompts with earlier turns."""
    seed: int = Field(ge=0)
    """Seed of the deal and of the choice where a slice is full."""


def slice_name(number: int) -> str:
    """The name of a slice: validation, t1, t2, ..."""
    return f"t{number}" if number else "validation"


def deal_slices(inputs: Inputs, benchmarks: pl.DataFrame, recipe: PromptsParams, out: Path) -> None:
    """Write the slices and the account; UserError where a slice is empty."""
    catalog = inputs.catalog(facts(recipe), "reading prompts")
    verdicts = Verdicts("prompts", "prompts", catalog, id_column="prompt_id")
    left = single_turns(catalog.drop("file", "row", "item"), verdicts, recipe)
    left = drop_too_long(left, verdicts, recipe.max_characters)
    left = drop_repeats(left, verdicts, "prompt_id")
    left, texts = clustered_prompts(left, inputs, recipe.near_dedup)
    found = left["prompt_id"], texts
    left = representatives(left, texts, verdicts, recipe)
    left = drop_contaminated(left, verdicts, "prompt_id", found, benchmarks, recipe.decontaminate)
    kept = dealt(left, verdicts, recipe)
    for name in slice_names(recipe):
        verdicts.refuse_empty(kept.filter(slice=name), f"the slice {name}")
    write(inputs, kept, recipe, out)
    verdicts.close(kept.height, out)


def facts(recipe: PromptsParams) -> dict[str, pl.Expr]:
    """What the rules look at."""
    found = {"prompt_id": number("prompt_id")}
    if recipe.single_turn_only:
        roles = PROMPT.list.eval(pl.element().struct.field("role"))
        found["turns"] = roles.list.len() - roles.list.count_matches("system")
    if recipe.max_characters is not None:
        found["characters"] = content(PROMPT).str.len_chars()
    return found


def single_turns(rows: pl.DataFrame, verdicts: Verdicts, recipe: PromptsParams) -> pl.DataFrame:
    """Where the recipe wants it, drop prompts with more than a system message and one user turn."""
    if not recipe.single_turn_only:
        return rows
    turns = pl.col("turns")
    return verdicts.drop(rows, MANY_TURNS, turns > 1, value=turns, threshold=1)


def representatives(
    rows: pl.DataFrame, texts: pl.Series, verdicts: Verdicts, recipe: PromptsParams
) -> pl.DataFrame:
    """Keep one prompt per cluster, and add the one by which its family is dealt, `dealt_by`.

    Each is of the earliest source, then of the lowest hash.
    """
    order = hash_order(rows["prompt_id"], "representative", recipe.seed)
    rank = [pl.col("source").to_physical(), "hash_order"]
    ranked = rows.with_columns(order).with_columns(
        kept_place=pl.col("place").sort_by(rank).first().over("cluster_id"),
        dealt_by=pl.col("prompt_id").sort_by(rank).first().over("family_id"),
    )
    if recipe.near_dedup is None:
        return ranked
    likeness = text_likeness(rows["place"], texts, recipe.near_dedup.shingle)
    return drop_near(ranked, verdicts, recipe.near_dedup, likeness)


def dealt(rows: pl.DataFrame, verdicts: Verdicts, recipe: PromptsParams) -> pl.DataFrame:
    """(place, cluster_id, slice) of the prompts that find room in their slice."""
    ends = borders(recipe.slices, recipe.slice_share)
    hands = deal(rows["dealt_by"], ends=ends, validation_share=recipe.validation_share, seed=recipe.seed)
    number, position = pl.col("slice"), pl.col("position")
    left = verdicts.drop(
        rows.hstack(hands), NO_SLICE, number > recipe.slices, value=position, threshold=ends[-1]
    ).with_columns(
        slice=pl.when(number == 0).then(pl.lit("validation")).otherwise(pl.format("t{}", "slice")),
        cap=pl.when(number == 0).then(recipe.validation).otherwise(recipe.per_slice).cast(pl.Int64),
    )
    seed = ("fill", recipe.seed)
    kept = drop_over_cap(left, verdicts, SLICE_FULL, "slice", pl.col("cap"), seed, "prompt_id")
    return kept.select("place", "slice", cluster_id="family_id")


def slice_names(recipe: PromptsParams) -> list[str]:
    """The names of all slices."""
    return [slice_name(number) for number in range(recipe.slices + 1)]


def write(inputs: Inputs, kept: pl.DataFrame, recipe: PromptsParams, out: Path) -> None:
    """Write the slices, which the recipe bounds; each is in the order of its ids."""
    columns = [name for name in SLICE.columns if name != "cluster_id"]
    kept = kept.with_columns(digits(kept["cluster_id"]))
    rows = pl.concat(inputs.rows(kept, columns))
    for name in slice_names(recipe):
        tables.write(SLICE, rows.filter(slice=name), out / f"{name}.parquet")


def find_prompts(preferences: Path, prompts: Path, source: str) -> Input:
    """The table of a source of either kind."""
    folders = {"prompts": prompts, "preferences": preferences}
    kinds = [kind for kind, folder in folders.items() if table_path(kind, folder, source).exists()]
    if len(kinds) == 1:
        return find(kinds[0], folders[kinds[0]], source, "prompts")
    if kinds:
        both = " and ".join(str(folder / source) for folder in folders.values())
        raise UserError(
            f"prompts: expected one table of the source {source!r}, found {both}; one is left from another "
            f"kind of the source: remove the folder that is not of its kind in params.yaml"
        )
    raise UserError(
        f"prompts: expected the source {source!r} at {table_path('prompts', prompts, source)} or "
        f"{table_path('preferences', preferences, source)}, found neither; make it with: "
        f"dvc repro standardize@{source} (the source must be of kind prompts or preferences in params.yaml)"
    )


def main() -> None:
    """Find the sources, deal the slices, write them and the ledger."""
    preferences, prompts, benchmarks, out = edge.arguments(
        "<preferences>", "<prompts>", "<benchmarks>", "<out>"
    )
    recipe = params.load("prompts", PromptsParams)
    found = tuple(find_prompts(preferences, prompts, source) for source in recipe.names)
    items = read_benchmarks(benchmarks, recipe.decontaminate.benchmarks, "prompts")
    deal_slices(Inputs(found, execution().state), items, recipe, out)


if __name__ == "__main__":
    edge.run("prompts", main)
