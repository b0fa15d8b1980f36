"""From a ranked pool to pairs, and to a reason for each pair that a strategy proposed and that is none.

A pair is dropped where it is a tie (the paper: two answers of one score hold no information), where the
strategy found only what it does not look for, where its margin is below `min_margin` or within what rescoring
moves it by, and where the judges must agree and do not; the first that holds is the reason. Pairs proposed =
pairs + ledger, where a prompt without two answers stands for one pair.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from pipeline.answer_pool import WITHOUT, Pool, answer_pool
from pipeline.exploration import Known
from pipeline.id_columns import conversation_ids, pair_ids, text_ids
from pipeline.pair_rules import AgreementOfJudges, PairParams
from pipeline.pair_strategies import Proposed, strategy
from pipeline.schemas import PAIRS

FILE = "candidates.parquet"


@dataclass(frozen=True)
class Sifted:
    """Proposed pairs with what became of them: row by row, in the order of prompts."""

    rows: pl.DataFrame
    """prompt_id, item (within the prompt), chosen and rejected (positions in the pool), margin; and of what
    is no pair: reason, value, threshold, detail."""

    @property
    def kept(self) -> pl.DataFrame:
        """The pairs."""
        return self.rows.filter(pl.col("reason").is_null())


def sifted(pool: Pool, params: PairParams, known: Known | None = None) -> Sifted:
    """What the recipe's strategy proposes, with a reason for each pair that is none."""
    proposed = strategy(params.strategy, params.seed, known)(pool)
    margin = pool.score[proposed.chosen] - pool.score[proposed.rejected]
    number = np.searchsorted(pool.starts, proposed.chosen, side="right") - 1
    rows = pl.DataFrame(
        {
            "prompt_id": pool.prompts().gather(number),
            "chosen": proposed.chosen,
            "rejected": proposed.rejected,
            "margin": margin,
        },
        schema_overrides={"margin": pl.Float64},
    )
    reason, names = np.zeros(len(margin), np.int64), [None]
    value, threshold = np.full((2, len(margin)), np.nan)
    for name, which, measured, limit in reasons(pool, proposed, margin, number, params):
        new = which & (reason == 0)
        reason[new], value[new], threshold[new] = len(names), measured[new], limit[new]
        names.append(name)
    ids = pool.answers["candidate_id"]
    return Sifted(
        rows.with_columns(
            item=pl.Series(np.arange(len(number)) - np.searchsorted(number, number), dtype=pl.Int64),
            reason=pl.Series(names, dtype=pl.String).gather(reason),
            value=pl.Series(value).fill_nan(None),
            threshold=pl.Series(threshold).fill_nan(None),
            detail=ids.gather(proposed.chosen) + " " + ids.gather(proposed.rejected),
        )
    )


Measured = tuple[str, np.ndarray, np.ndarray, np.ndarray]
"""A reason, where it holds, what was measured, and the threshold."""


def reasons(
    pool: Pool, proposed: Proposed, margin: np.ndarray, number: np.ndarray, params: PairParams
) -> Iterator[Measured]:
    """Why proposed pairs are none; `number` is that of a pair's prompt."""
    zero, least = np.zeros(len(margin)), np.full(len(margin), params.min_margin)
    yield "tie", margin <= 0, margin, zero
    if (refused := proposed.refused) is not None:
        yield refused.reason, refused.which, refused.value, refused.threshold
    yield "below the margin", margin < least, margin, least
    noise = pool.noise[number]
    yield "within the noise of the judge", margin < noise, margin, noise
    if isinstance(params.judges, AgreementOfJudges):
        apart = [part[proposed.chosen] - part[proposed.rejected] for part in pool.by_judge.values()]
        lowest = np.min(apart, axis=0)
        yield "the judges disagree", lowest <= 0, lowest, zero


def as_pairs(candidates: pl.DataFrame, pool: Pool, kept: pl.DataFrame, iteration: str) -> pl.DataFrame:
    """The pairs of `kept` (schemas.PAIRS) in the order of prompts, with texts from `candidates`."""
    ends = {side: pool.answers[kept[side]] for side in ("chosen", "rejected")}
    texts = {side: candidates["response"].gather(own["row"]) for side, own in ends.items()}
    stopped = candidates["finish_reason"] == "stop"
    rows = pl.DataFrame(
        {
            "prompt_id": kept["prompt_id"],
            "prompt": candidates["prompt"].gather(ends["chosen"]["row"]),
            **{f"{side}_text": text for side, text in texts.items()},
            **{f"{side}_id": own["candidate_id"] for side, own in ends.items()},
            **{f"{side}_ended": stopped.gather(own["row"]) for side, own in ends.items()},
            **{f"{side}_score": own["score"] for side, own in ends.items()},
            "margin": kept["margin"],
        }
    )
    answer = {side: [pl.struct(role=pl.lit("assistant"), content=f"{side}_text")] for side in ends}
    # Columns of their own, not parts of one expression, so that they are hashed side by side.
    hashed = rows.select(
        conversation_ids(pl.col("prompt")).alias("prompt"),
        *(text_ids(pl.col(f"{side}_text")).alias(side) for side in ends),
    )
    return rows.with_columns(
        hashed.select(pair_id=pair_ids(*map(pl.col, hashed.columns))).to_series(),
        iteration=pl.lit(iteration),
        judge=pl.lit("+".join(pool.by_judge)),
        **{side: pl.concat_list(own) for side, own in answer.items()},
    ).select(list(PAIRS.columns))


@dataclass(frozen=True)
class Paired:
    """What became of the prompts of an iteration."""

    pairs: pl.DataFrame
    """schemas.PAIRS, in the order of prompts."""
    dropped: pl.DataFrame
    """For the ledger: its origin columns, prompt_id, reason, value, threshold, detail."""
    asked: int
    """One pair of each prompt, and those that the strategy proposed besides."""


def paired(
    candidates: pl.DataFrame,
    judgments: pl.DataFrame,
    iteration: str,
    params: PairParams,
    known: Known | None = None,
) -> Paired:
    """The pairs of an iteration; every prompt is pairs, lines of the ledger, or both.

    A line's `row` is the number of the prompt in the order of ids, `item` that of the proposed pair, its
    value what was measured, and its detail the two candidates.
    """
    pool = answer_pool(candidates, judgments, params)
    found = sifted(pool, params, known)
    prompts = candidates.select("prompt_id").unique().sort("prompt_id").with_row_index("row")
    refused = found.rows.drop_nulls("reason").select("item", *WITHOUT)
    lost = pl.concat([pool.without.select(pl.lit(0, pl.Int64).alias("item"), *WITHOUT), refused])
    lost = lost.join(prompts, on="prompt_id", how="left", validate="m:1", maintain_order="left")
    origin = {"source": pl.lit(iteration), "file": pl.lit(FILE), "row": pl.col("row").cast(pl.Int64)}
    return Paired(
        pairs=as_pairs(candidates, pool, found.kept, iteration),
        dropped=lost.with_columns(**origin),
        asked=prompts.height + found.rows.filter(pl.col("item") > 0).height,
    )
