"""Stage `mix@<name>`: preferences of several sources -> train, test and the account of what was dropped.

    python -m pipeline.stages.mix <name> data/standard/preferences data/standard/benchmarks data/mixes/<name>

The steps, in this order, each a reason in the ledger:

    no scores for the margin    the source has a `min_margin` and the row no scores
    below the source's margin   chosen_score - rejected_score < min_margin
    too long                    characters of the prompt and the longer answer > max_characters
    exact duplicate             the same pair came before (by the order of the sources, then origin)
    contradictory label         the same prompt and answers are labelled the other way round;
      ... of a near-duplicate   so are near-duplicates of them
    near-duplicate              prompt, chosen and rejected are each near those of a pair that came before
    benchmark contamination     the prompt holds a benchmark item
    over the prompt's cap       more than max_pairs_per_prompt pairs of one prompt cluster; lowest hashes stay
    over the source's cap       more than `cap` pairs of the source; lowest hashes stay
    over the source's weight    more pairs than the weights allow; lowest hashes stay

Prompts are one cluster where their whole texts and their last user turns are near. What is left is split by
families of prompts (`cluster_id` of the tables): on one side are all pairs of prompts that are near, be it in
the whole text alone, and of conversations with the same beginning.

The tables are streamed up to five times: for the facts that rules look at, for the texts that near-duplicates
and contamination are looked for in (prompts, last turns, answers), and for the rows that stay.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import Self

import polars as pl
from pydantic import Field, model_validator

from pipeline import edge, params
from pipeline.catalog import Inputs, digits, find, number, read_benchmarks
from pipeline.errors import UserError
from pipeline.execution import execution
from pipeline.near_pairs import (
    SIDES,
    Conflicts,
    Texts,
    answer_clusters,
    prompt_clusters,
    without_conflicts,
    without_near,
)
from pipeline.params import Params
from pipeline.schemas import MIX, PREFERENCES
from pipeline.selection import (
    OVER_SOURCE_CAP,
    SelectionParams,
    by_source,
    drop_contaminated,
    drop_over_cap,
    drop_repeats,
    drop_too_long,
)
from pipeline.shares import DropShare, calibrated, margin, proportional
from pipeline.splits import Split, in_test
from pipeline.tables import Writer
from pipeline.verdicts import Verdicts

NO_SCORES = "no scores for the margin"
BELOW_MARGIN = "below the source's margin"
OVER_PROMPT_CAP = "over the prompt's cap"
OVER_SOURCE_WEIGHT = "over the source's weight"


class MixSource(Params):
    """One source of a mix."""

    name: str
    """A source of kind `preferences`."""
    cap: int | None = Field(gt=0)
    """Most pairs to take from it; null takes all."""
    weight: float | None = Field(gt=0)
    """Its part of the mix relative to the other sources with a weight; null takes all that `cap` lets.

    Not a share of the source: weights 2 and 1 give two pairs of the one for each pair of the other, as many
    as the scarcer allows after all other steps. No pair is ever repeated."""
    min_margin: float | DropShare | None
    """Smallest chosen_score - rejected_score, on the source's own scale; null asks for no scores.

    `{drop: 0.1}` takes the observed margin below which the part of the source's scored pairs is nearest to a
    tenth; counts.json tells it."""

    @model_validator(mode="after")
    def one_measure(self) -> Self:
        """A cap and a weight would both say how many."""
        if self.cap is not None and self.weight is not None:
            raise ValueError(f"expected a cap or a weight for {self.name}, found both; set one to null")
        if isinstance(self.min_margin, float) and self.min_margin < 0:
            raise ValueError(f"expected a min_margin of at least 0 for {self.name}, found {self.min_margin}")
        return self


class MixParams(SelectionParams):
    """A preference mix."""

    sources: tuple[MixSource, ...] = Field(min_length=1)
    """In order of priority: of two equal rows, the earlier source's is kept."""
    max_pairs_per_prompt: int | None = Field(gt=0)
    """Most pairs of one prompt, all its near-duplicates counted together; null for no limit."""
    conflicts: Conflicts
    """What becomes of pairs labelled both ways: `drop_both`, `keep_first` (the label of the pair that came
    first, which is the earliest source's), or `keep_both`."""
    split: Split

    @model_validator(mode="after")
    def comparable(self) -> Self:
        """One weight alone has nothing to be relative to."""
        weighted = [source.name for source in self.sources if source.weight is not None]
        if len(weighted) == 1:
            raise ValueError(f"expected weights for two sources or more, found one, for {weighted[0]}")
        return self


def mix(name: str, inputs: Inputs, benchmarks: pl.DataFrame, recipe: MixParams, out: Path) -> None:
    """Write train, test and the account of the mix; UserError where a side is empty."""
    verdicts = Verdicts(
        f"mix@{name}", "pairs", inputs.catalog(facts(recipe), "reading pairs"), id_column="pair_id"
    )
    pairs, margins = with_clear_margin(verdicts.catalog.drop("file", "row", "item"), verdicts, recipe)
    pairs = drop_too_long(pairs, verdicts, recipe.max_characters)
    pairs = drop_repeats(pairs, verdicts, "pair_id")
    pairs = deduplicated(pairs, inputs, benchmarks, verdicts, recipe)
    pairs = weighted(capped(pairs, verdicts, recipe), verdicts, recipe)
    verdicts.refuse_empty(pairs, "the mix")
    kept = pairs.select("place", cluster_id="family_id", test=in_test(pairs["family_id"], recipe.split))
    verdicts.refuse_empty(kept.filter(~pl.col("test")), "the train split (another split.seed)")
    if recipe.split.test_fraction:
        verdicts.refuse_empty(kept.filter("test"), "the test split (a larger split.test_fraction)")
    write(inputs, kept, out)
    verdicts.close(kept.height, out, **({"margins": margins} if margins else {}))


def facts(recipe: MixParams) -> dict[str, pl.Expr]:
    """What the rules look at, and nothing that they do not: texts are only read to be measured."""
    found = {name: number(name) for name in ("prompt_id", "pair_id", "chosen_id", "rejected_id")}
    if any(source.min_margin is not None for source in recipe.sources):
        found["margin"] = margin()
    if recipe.max_characters is not None:
        characters = {side: text.str.len_chars() for side, text in SIDES.items()}
        longer = pl.max_horizontal(characters["chosen"], characters["rejected"])
        found["characters"] = characters["prompt"] + longer
    return found


def with_clear_margin(
    pairs: pl.DataFrame, verdicts: Verdicts, recipe: MixParams
) -> tuple[pl.DataFrame, dict[str, float | None]]:
    """Drop the pairs below their source's margin, or without scores to tell; also the margins by source."""
    wanted: dict[str, float | None] = {}
    for source in recipe.sources:
        if isinstance(source.min_margin, DropShare):
            known = pairs.filter(source=source.name)["margin"]
            wanted[source.name] = calibrated(known, source.min_margin.drop)
        elif source.min_margin is not None:
            wanted[source.name] = source.min_margin
    if not wanted:
        return pairs, wanted
    asked = pl.col("source").cast(pl.String).is_in(list(wanted))
    margin, least = pl.col("margin"), by_source(wanted, pl.Float64)
    pairs = verdicts.drop(pairs, NO_SCORES, asked & margin.is_null(), threshold=least)
    pairs = verdicts.drop(pairs, BELOW_MARGIN, margin < least, value=margin, threshold=least)
    return pairs.drop("margin"), wanted


def deduplicated(
    pairs: pl.DataFrame, inputs: Inputs, benchmarks: pl.DataFrame, verdicts: Verdicts, recipe: MixParams
) -> pl.DataFrame:
    """Add `cluster_id`, `family_id` of prompts; drop contradictions, near-duplicates and contaminations."""
    pairs, prompts, texts = prompt_clusters(pairs, inputs, recipe.near_dedup)
    pairs = without_copies(pairs, inputs, texts, verdicts, recipe)
    found = prompts["prompt_id"], texts
    return drop_contaminated(pairs, verdicts, "prompt_id", found, benchmarks, recipe.decontaminate)


def without_copies(
    pairs: pl.DataFrame, inputs: Inputs, prompts: pl.Series, verdicts: Verdicts, recipe: MixParams
) -> pl.DataFrame:
    """Drop contradictions and near-duplicates; the texts of answers are needed for nothing else."""
    pairs, answers = answer_clusters(pairs, inputs, recipe.near_dedup)
    texts = Texts(prompts, answers)
    pairs = without_conflicts(pairs, verdicts, recipe.conflicts, texts, recipe.near_dedup)
    return without_near(pairs, verdicts, texts, recipe.near_dedup)


def capped(pairs: pl.DataFrame, verdicts: Verdicts, recipe: MixParams) -> pl.DataFrame:
    """Drop what is over the cap of a prompt, then of a source."""
    # Two hashes: by one, the lowest of a prompt's many pairs would again be the lowest of the source.
    seed = ("prompt cap", recipe.split.seed)
    per_prompt = pl.lit(recipe.max_pairs_per_prompt, pl.Int64)
    pairs = drop_over_cap(pairs, verdicts, OVER_PROMPT_CAP, "cluster_id", per_prompt, seed, "pair_id")
    seed = ("cap", recipe.split.seed)
    per_source = by_source({source.name: source.cap for source in recipe.sources}, pl.Int64)
    return drop_over_cap(pairs, verdicts, OVER_SOURCE_CAP, "source", per_source, seed, "pair_id")


def weighted(pairs: pl.DataFrame, verdicts: Verdicts, recipe: MixParams) -> pl.DataFrame:
    """Bring the sources with weights to their proportion."""
    weights = {source.name: source.weight for source in recipe.sources if source.weight is not None}
    if not weights:
        return pairs
    counts = {name: pairs.filter(source=name).height for name in weights}
    if not all(counts.values()):
        raise UserError(
            f"{verdicts.stage}: expected pairs of every source with a weight, found "
            f"{counts} left after the other steps; set the weights of sources without pairs to null in "
            f"params.yaml (dropped by reason: {verdicts.reasons()})"
        )
    allowed = proportional(counts, weights)
    if not all(allowed.values()):
        raise UserError(
            f"{verdicts.stage}: expected weights that leave pairs of every source, found {weights}, which "
            f"leave {allowed} of {counts}; bring the weights nearer to each other in params.yaml"
        )
    limit = by_source(allowed, pl.Int64)
    seed = ("cap", recipe.split.seed)
    return drop_over_cap(pairs, verdicts, OVER_SOURCE_WEIGHT, "source", limit, seed, "pair_id")


def write(inputs: Inputs, kept: pl.DataFrame, out: Path) -> None:
    """Stream the rows that stay to their side."""
    with ExitStack() as stack:
        train, test = (
            stack.enter_context(Writer(MIX, out / f"{side}.parquet")) for side in ("train", "test")
        )
        for rows in inputs.rows(kept, list(PREFERENCES.columns)):
            rows = rows.with_columns(digits(rows["cluster_id"]))
            train.write(rows.filter(~pl.col("test")))
            test.write(rows.filter("test"))


def main() -> None:
    """Find the sources, mix them, write train, test and the ledger."""
    name, preferences, benchmarks, out = edge.arguments("<name>", "<preferences>", "<benchmarks>", "<out>")
    recipe = params.load(f"mixes.{name}", MixParams)
    wanted_by = f"mix {str(name)!r}"
    found = tuple(find("preferences", preferences, source, wanted_by) for source in recipe.names)
    items = read_benchmarks(benchmarks, recipe.decontaminate.benchmarks, wanted_by)
    mix(str(name), Inputs(found, execution().state), items, recipe, out)


if __name__ == "__main__":
    edge.run("mix", main)
