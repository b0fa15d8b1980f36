"""Pairs that ask what policies are measured on, and therefore must not train on.

The slices of prompts have this from the way they are dealt; a mix of offline pairs may hold any prompt. What
counts as the same is a family of prompts, as for slices: near ones, those near to these, and conversations
with one beginning.
"""

from pathlib import Path

import polars as pl

from pipeline import tables
from pipeline.catalog import content
from pipeline.dedup import NearDedup, clusters
from pipeline.errors import UserError
from pipeline.id_columns import conversation_ids
from pipeline.params import load
from pipeline.schemas import SLICE
from pipeline.selection import PROMPT, families, opening

REASON = "validation prompt"


def apart(pairs: pl.DataFrame, validation: Path, stage: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`held_out` by the table of the validation slice and the recipe's rule of near prompts.

    UserError where no pair is left.
    """
    near = load("prompts.near_dedup", NearDedup | None)  # ty: ignore[invalid-argument-type]
    left, out = held_out(pairs, tables.read(SLICE, validation), near)
    if left.is_empty() and not out.is_empty():
        raise UserError(
            f"{stage}: expected pairs that ask no validation prompt, found none among {out.height}; choose "
            f"another {stage}.mix in params.yaml, or lower prompts.validation_share"
        )
    return left, out


def held_out(
    pairs: pl.DataFrame, validation: pl.DataFrame, near: NearDedup | None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The pairs that ask no validation prompt, and the others with their reason; both as they stood.

    pairs, validation: frames with prompt_id and prompt. Without `near` only equal prompts and openings count.
    """
    asked = pl.concat([frame.select("prompt_id", "prompt") for frame in (validation, pairs)])
    asked = asked.unique("prompt_id", keep="first", maintain_order=True)
    texts, openings = asked.select(text=content(PROMPT), opening=conversation_ids(opening(PROMPT)))
    same = clusters(asked["prompt_id"], texts, near)["cluster_id"]
    family = families(asked["prompt_id"], same, openings)
    measured = asked["prompt_id"].is_in(validation["prompt_id"].implode())
    taken = asked.filter(family.is_in(family.filter(measured).implode()))["prompt_id"]
    inside = pl.col("prompt_id").is_in(taken.implode())
    return pairs.filter(~inside), pairs.filter(inside).with_columns(reason=pl.lit(REASON))
