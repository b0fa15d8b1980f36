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
from pipeline.id_columns import pair_ids
from pipeline.pair_rules import AgreementOfJudges, PairParams
from pipeline.pair_strategies import Proposed, strategy
from pipeline.schemas import PAIRS

FILE = "candidates.parquet"
ENDS = ("chosen", "rejected")


@dataclass(frozen=True)
class Sifted:
    """Proposed pairs with what became of them: row by row, in the order of prompts."""

    rows: pl.DataFrame
    """prompt (its place in the order of ids), item (within the prompt), chosen and rejected (positions in the
    pool), margin; and of what is no pair: reason, value, threshold."""

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
            "prompt": pool.numbers[number],
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
    return Sifted(
        rows.with_columns(
            item=pl.Series(np.arange(len(number)) - np.searchsorted(number, number), dtype=pl.Int64),
            reason=pl.Series(names, dtype=pl.String).gather(reason),
            value=pl.Series(value).fill_nan(None),
            threshold=pl.Series(threshold).fill_nan(None),
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


def ends(candidates: pl.DataFrame, pool: Pool, rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """The candidates that are chosen, and those that are rejected, in `rows` of Sifted."""
    return {side: candidates[pool.rows[rows[side].to_numpy()]] for side in ENDS}


def as_pairs(candidates: pl.DataFrame, pool: Pool, kept: pl.DataFrame, iteration: str) -> pl.DataFrame:
    """The pairs of `kept` (schemas.PAIRS) in the order of prompts."""
    answers = ends(candidates.select("candidate_id", "response_id", "finish_reason"), pool, kept)
    rows = pl.DataFrame(
        {
            "prompt_id": pool.asked.gather(kept["prompt"]),
            **{f"{side}_id": own["candidate_id"] for side, own in answers.items()},
            **{f"{side}_ended": own["finish_reason"] == "stop" for side, own in answers.items()},
            **{f"{side}_score": pool.score[kept[side].to_numpy()] for side in ENDS},
            **{side: own["response_id"] for side, own in answers.items()},
            "margin": kept["margin"],
        }
    )
    return rows.with_columns(
        pair_id=pair_ids(*map(pl.col, ("prompt_id", *ENDS))),
        iteration=pl.lit(iteration),
        judge=pl.lit("+".join(pool.by_judge)),
    ).select(list(PAIRS.columns))


def refusals(candidates: pl.DataFrame, pool: Pool, rows: pl.DataFrame) -> pl.DataFrame:
    """item and the columns WITHOUT of what is no pair; its detail are the two candidates."""
    lost = rows.drop_nulls("reason")
    ids = [own["candidate_id"] for own in ends(candidates.select("candidate_id"), pool, lost).values()]
    return lost.with_columns(detail=ids[0] + " " + ids[1]).select("item", *WITHOUT)


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
    """The pairs of an iteration, from the columns answer_pool.READS of its candidates and from judgments.

    Every prompt is pairs, lines of the ledger, or both.

    A line's `row` is the number of the prompt in the order of ids, `item` that of the proposed pair, its
    value what was measured, and its detail the two candidates.
    """
    pool = answer_pool(candidates, judgments, params)
    found = sifted(pool, params, known)
    alone = pool.without.select(pl.lit(0, pl.Int64).alias("item"), *WITHOUT)
    lost = pl.concat([alone, refusals(candidates, pool, found.rows)])
    origin = {"source": pl.lit(iteration), "file": pl.lit(FILE), "row": pl.col("prompt")}
    return Paired(
        pairs=as_pairs(candidates, pool, found.kept, iteration),
        dropped=lost.with_columns(pool.asked.gather(lost["prompt"]).alias("prompt_id"), **origin).drop(
            "prompt"
        ),
        asked=len(pool.asked) + found.rows.filter(pl.col("item") > 0).height,
    )
