"""Pairs that ask what policies are measured on, and therefore must not train on.

The slices of prompts have this from the way they are dealt; a mix of offline pairs may hold any prompt. As
for slices, a prompt is one of validation where it is near one of them, or begins as one does: a continuation
of its conversation.
"""

import polars as pl

from pipeline.catalog import content
from pipeline.dedup import NearDedup, clusters
from pipeline.id_columns import conversation_ids
from pipeline.selection import PROMPT, families, opening

REASON = "validation prompt"


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
