"""The pairs of an iteration as they leave the house: with the origin of each prompt, ready for TRL.

The judge's margin is named `score_margin`, because TRL's RewardTrainer takes a column `margin` into
its loss wherever it finds one, and who loads a data set has not asked for that.
"""

import polars as pl

from pipeline.schemas import MESSAGES, ORIGIN, ORIGIN_KEY, PAIRS, PREFERENCE_RULES
from pipeline.tables import Table

RELEASED = Table(
    name="released pairs",
    made_by="release",
    columns=ORIGIN
    | {name: PAIRS.columns[name] for name in ("prompt_id", "pair_id", "iteration")}
    | dict.fromkeys(("prompt", "chosen", "rejected"), MESSAGES)
    | {"score_margin" if name == "margin" else name: kind for name, kind in PAIRS.columns.items()},
    key=PAIRS.key,
    rules={"the margin is positive": pl.col("score_margin") > 0, **PREFERENCE_RULES},
)


def with_origin(pairs: pl.DataFrame, prompts: pl.DataFrame) -> pl.DataFrame:
    """Pairs (schemas.PAIRS, with texts) as RELEASED rows, each with its prompt's origin in `prompts`
    (schemas.SLICE)."""
    origins = prompts.select("prompt_id", *ORIGIN_KEY)
    joined = pairs.join(origins, on="prompt_id", how="left", validate="m:1", maintain_order="left")
    strangers = joined.filter(pl.col("source").is_null())
    assert strangers.is_empty(), f"{strangers.height} pairs have a prompt that is not in the slice"
    return joined.rename({"margin": "score_margin"}).select(list(RELEASED.columns))
