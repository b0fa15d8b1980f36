"""Pairs that say the same, or the opposite: near-duplicates and contradictory labels, by clusters.

Two pairs are near where their prompts are in one cluster, and so are their chosen and their rejected answers
among the answers to that cluster of prompts. They contradict each other where the answers are the same but
chosen and rejected have changed places.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import polars as pl

from pipeline.catalog import Inputs, content
from pipeline.dedup import NearDedup, clusters
from pipeline.selection import alike, clustered_prompts, drop_near, measured
from pipeline.verdicts import Verdicts

CONTRADICTORY = "contradictory label"
NEAR_CONTRADICTORY = "contradictory label of a near-duplicate"

Conflicts = Literal["drop_both", "keep_first", "keep_both"]

SIDES = {side: content(pl.col(side)) for side in ("prompt", "chosen", "rejected")}
#: The pair that a pair contradicts has its answers in the other's place.
SWAPPED = {"prompt": "prompt", "chosen": "rejected", "rejected": "chosen"}
SAME = {side: side for side in SIDES}
GROUP = ["cluster_id", "chosen_cluster", "rejected_cluster"]


@dataclass(frozen=True)
class Texts:
    """Distinct texts on disk; `prompt_text`, `chosen_text`, `rejected_text` of pairs are positions there."""

    prompts: pl.Series
    answers: pl.Series

    def of(self, side: str) -> pl.Series:
        """The texts of a side."""
        return self.prompts if side == "prompt" else self.answers

    def likeness(
        self, pairs: pl.DataFrame, one: pl.Series, two: pl.Series, sides: Mapping[str, str], shingle: int
    ) -> pl.Series:
        """The lowest similarity, over the three texts, of the pairs at places `one` to those at `two`."""
        columns = [f"{side}_text" for side in SIDES]
        left, right = (
            places.to_frame("place").join(
                pairs.select("place", *columns), on="place", how="left", maintain_order="left"
            )
            for places in (one, two)
        )
        found = {
            side: alike(self.of(side), left[f"{side}_text"], right[f"{other}_text"], shingle)
            for side, other in sides.items()
        }
        return pl.DataFrame(found).select(alike=pl.min_horizontal(*SIDES))["alike"]


def prompt_clusters(
    pairs: pl.DataFrame, inputs: Inputs, settings: NearDedup | None
) -> tuple[pl.DataFrame, pl.DataFrame, pl.Series]:
    """(`pairs` with cluster_id, family_id and prompt_text, the distinct prompts, their texts)."""
    prompts = pairs.filter(pl.col("prompt_id").is_first_distinct()).select("place", "prompt_id")
    prompts, texts = clustered_prompts(prompts, inputs, settings)
    facts = prompts.with_row_index("prompt_text").drop("place")
    return joined(pairs, facts, ["prompt_id"]), prompts, texts


def answer_clusters(
    pairs: pl.DataFrame, inputs: Inputs, settings: NearDedup | None
) -> tuple[pl.DataFrame, pl.Series]:
    """(`pairs` with chosen_cluster, rejected_cluster and the positions of the answers, the answers).

    Only the answers of pairs that share a cluster of prompts are read; another answer is its own cluster.
    """
    several = pairs.filter(pl.len().over("cluster_id") > 1) if settings else pairs.clear()
    stacked = [
        several.select("place", "cluster_id", answer_id=f"{side}_id", side=pl.lit(side))
        for side in ("chosen", "rejected")
    ]
    answers = pl.concat(stacked).unique(["cluster_id", "answer_id"], keep="first", maintain_order=True)
    wanted = {side: (answers.filter(side=side)["place"], SIDES[side]) for side in ("chosen", "rejected")}
    texts = pl.concat(inputs.columns(wanted, "reading answers").values(), rechunk=True)
    answers = answers.with_row_index("text")
    found = clusters(answers["text"], texts, settings, within=answers["cluster_id"])
    answers = answers.with_columns(cluster=answers["answer_id"].gather(found["cluster_id"]))
    for side in ("chosen", "rejected"):
        facts = answers.select(
            "cluster_id",
            pl.col("answer_id").alias(f"{side}_id"),
            pl.col("text").alias(f"{side}_text"),
            pl.col("cluster").alias(f"{side}_cluster"),
        )
        pairs = joined(pairs, facts, ["cluster_id", f"{side}_id"])
        pairs = pairs.with_columns(pl.col(f"{side}_cluster").fill_null(pl.col(f"{side}_id")))
    return pairs, texts


def joined(pairs: pl.DataFrame, facts: pl.DataFrame, on: list[str]) -> pl.DataFrame:
    """`pairs` with the facts of their keys, in the same order."""
    return pairs.join(facts, on=on, how="left", maintain_order="left", validate="m:1")


def without_conflicts(
    pairs: pl.DataFrame,
    verdicts: Verdicts,
    policy: Conflicts,
    texts: Texts,
    settings: NearDedup | None,
) -> pl.DataFrame:
    """Drop pairs that are labelled both ways: both labels, or all but the one that came first.

    The ledger names the first pair with the other label: the very same texts, or else a near-duplicate's.
    Where the two answers of a pair are near each other, only the very same texts can contradict it.
    """
    if policy == "keep_both":
        return pairs
    marked = with_opposites(pairs)
    bad = pl.col("opposite").is_not_null()
    if policy == "keep_first":
        bad = pl.min_horizontal("exact", "near") < pl.col("first")
    if settings is not None:
        shingle = settings.shingle
        marked = measured(
            marked, bad, "opposite", lambda one, two: texts.likeness(pairs, one, two, SWAPPED, shingle)
        )
    reason = (
        pl.when(pl.col("exact").is_null()).then(pl.lit(NEAR_CONTRADICTORY)).otherwise(pl.lit(CONTRADICTORY))
    )
    kept = verdicts.drop(
        marked,
        reason,
        bad,
        value=pl.col("alike") if settings else None,
        threshold=settings.threshold if settings else None,
        says="the other way round in",
        other=pl.col("opposite"),
    )
    return kept.select(pairs.columns)


def with_opposites(pairs: pl.DataFrame) -> pl.DataFrame:
    """`pairs` with the places of others: the first of their group, and the first with the other label.

    `exact` has the very same texts, `near` those of the same clusters; `opposite` is the one or the other.
    """
    same = pairs.select("prompt_id", chosen_id="rejected_id", rejected_id="chosen_id", exact="place")
    groups = pairs.group_by(GROUP).agg(first=pl.col("place").min())
    swapped = groups.filter(pl.col("chosen_cluster") != pl.col("rejected_cluster")).select(
        pl.col("cluster_id"),
        pl.col("rejected_cluster").alias("chosen_cluster"),
        pl.col("chosen_cluster").alias("rejected_cluster"),
        near="first",
    )
    marked = joined(pairs, same, ["prompt_id", "chosen_id", "rejected_id"])
    marked = joined(joined(marked, groups, GROUP), swapped, GROUP)
    # A group whose two answers are one cluster holds both labels: there each pair stands for itself.
    own = pl.when(pl.col("chosen_cluster") == pl.col("rejected_cluster")).then("place").otherwise("first")
    return marked.with_columns(first=own, opposite=pl.coalesce("exact", "near"))


def without_near(
    pairs: pl.DataFrame, verdicts: Verdicts, texts: Texts, settings: NearDedup | None
) -> pl.DataFrame:
    """Keep the first of pairs that are near in the prompt and in both answers."""
    if settings is None:
        return pairs
    shingle = settings.shingle
    kept = drop_near(
        pairs.with_columns(kept_place=pl.col("place").min().over(GROUP)),
        verdicts,
        settings,
        lambda one, two: texts.likeness(pairs, one, two, SAME, shingle),
    )
    return kept.select(pairs.columns)
