"""From candidates to contests, and from what came of these to a table of judgments and its account."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import polars as pl

from pipeline.ranking import Answer, Contest, Outcome
from pipeline.schemas import JUDGMENTS

TOLD = {
    "identity": pl.String,
    "score": pl.Float64,
    "disagreement": pl.Float64,
    "comparisons": pl.Int64,
}
"""What is known of a distinct answer when all contests are over."""


def named(candidates: pl.DataFrame) -> pl.DataFrame:
    """The candidates with `identity`: for all that say the same to a prompt, the lowest of their ids."""
    return candidates.with_columns(identity=pl.col("candidate_id").min().over("prompt_id", "response"))


def contests(candidates: pl.DataFrame, rewards: Sequence[float] | None = None) -> list[Contest]:
    """One contest for each prompt, over its distinct answers, in the order of prompt ids.

    `rewards` of the candidates, in their order, become the priors of the answers.
    """
    prior = pl.lit(0.0) if rewards is None else pl.Series("prior", rewards, pl.Float64)
    players = named(candidates).with_columns(prior.alias("prior")).sort("prompt_id", "candidate_id")
    distinct = players.filter(pl.col("candidate_id") == pl.col("identity"))
    rows = distinct.select("prompt_id", "prompt", "identity", "response", "prior").iter_rows()
    found = []
    for _, group in groupby(rows, key=lambda row: row[0]):
        (_, prompt, *first), *others = group
        found.append(Contest(prompt, [Answer(*first), *(Answer(*row[2:]) for row in others)]))
    return found


def table(candidates: pl.DataFrame, judge: str, outcomes: Mapping[str, Outcome]) -> pl.DataFrame:
    """A judgment per candidate (schemas.JUDGMENTS): what came of its text, where anything came of it."""
    told = pl.DataFrame(
        [(identity, o.score, o.disagreement, o.comparisons) for identity, o in outcomes.items()],
        schema=TOLD,
        orient="row",
    )
    rows = named(candidates).select("candidate_id", "prompt_id", "identity")
    judged = rows.join(told, on="identity", how="inner", maintain_order="left", validate="m:1")
    return judged.with_columns(judge=pl.lit(judge)).select(list(JUDGMENTS.columns))


def without(candidates: pl.DataFrame, asked: Iterable[Contest]) -> pl.DataFrame:
    """The candidates of void contests, by the ledger's columns: all columns, reason, detail.

    The reason is that of the first question without a judgment, the detail what was answered to it.
    """
    rows = [
        (answer.identity, one.unjudged[0].reason, one.unjudged[0].text or None)
        for one in asked
        if one.unjudged
        for answer in one.answers
    ]
    void = pl.DataFrame(rows, schema=dict.fromkeys(("identity", "reason", "detail"), pl.String), orient="row")
    found = named(candidates).join(void, on="identity", how="inner", maintain_order="left", validate="m:1")
    return found.drop("identity")


def rewarded(candidates: pl.DataFrame, judge: str, rewards: Sequence[float]) -> pl.DataFrame:
    """A judgment per candidate (schemas.JUDGMENTS) by a judge that reads one answer."""
    return candidates.select(
        "candidate_id",
        "prompt_id",
        judge=pl.lit(judge),
        score=pl.Series(rewards, dtype=pl.Float64),
        disagreement=pl.lit(None, pl.Float64),
        comparisons=pl.lit(0, pl.Int64),
    )


def account(
    judge: str,
    judgments: pl.DataFrame,
    asked: Sequence[Contest] = (),
    prompted: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What a judge was asked.

    prompts, answers: those with a judgment; compared: prompts of which at least two answers were compared;
    questions: pairs of answers with a judgment, each in both orders; unjudged: those without; disagreement:
    between the orders, the mean over questions; contradictory: the share of questions in which one order says
    the first answer and the other the second. The last two are None without questions. `prompted` is the
    account of a judge that answers in words (judge_account.Account.told), None of any other.
    """
    said = [list(one.said.values()) for one in asked]
    values = [value for own in said for value in own]
    return {
        "kind": judge,
        "prompts": judgments["prompt_id"].n_unique(),
        "answers": judgments.height,
        "compared": sum(bool(own) for own in said),
        "questions": len(values),
        "unjudged": sum(len(one.unjudged) for one in asked),
        "disagreement": mean([gap for _, gap in values]),
        "contradictory": mean([float(abs(better - 0.5) < gap / 2) for better, gap in values]),
        "prompted": prompted,
    }


def mean(values: Sequence[float]) -> float | None:
    """The mean; None of nothing."""
    return math.fsum(values) / len(values) if values else None
