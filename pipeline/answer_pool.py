"""The ranked pool: the distinct answers to each prompt with the score that selects and orders, best first.

Scores come from one judge as they are, or from several, each standardised over the prompt's distinct answers:
less their mean, by their standard deviation (of the population). Nothing is taken over prompts, so what
becomes of a prompt does not depend on the others. Then the length rule is applied to each judge's scores, and
their mean is the score. Candidates of one text are one answer: the candidate of the lowest id. No text is
read: that two are the same is seen by `response_id`, and how long one is by `characters`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from pipeline.errors import UserError
from pipeline.id_columns import text_ids
from pipeline.pair_rules import LengthResidual, NamedJudge, OneJudge, PairParams
from pipeline.params import Params
from pipeline.score_runs import best_first, corrected, runs, standardised

READS = ("candidate_id", "prompt_id", "response_id", "characters", "finish_reason")
"""The columns of schemas.CANDIDATES that a choice goes by."""
WITHOUT = {
    "prompt": pl.Int64,
    "reason": pl.String,
    "value": pl.Float64,
    "threshold": pl.Float64,
    "detail": pl.String,
}
"""Of a prompt without a pair: its place in the order of ids, why, and what was measured."""
LEAST_FOR_RESIDUAL = 3


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The answers of prompts that have at least two, prompt by prompt in the order of ids, and best first;
    equal scores by candidate id. A position is a place in `rows`, `score` and `characters`."""

    asked: pl.Series
    """The ids of all prompts in order, those without two answers among them."""
    numbers: np.ndarray
    """The place of each prompt of the pool in `asked`."""
    rows: np.ndarray
    """The row of the candidates at each position."""
    score: np.ndarray
    characters: np.ndarray
    starts: np.ndarray
    """The position of each prompt's best answer, and behind the last prompt's worst."""
    by_judge: Mapping[str, np.ndarray]
    """By judge that decides, its part of the score at each position."""
    noise: np.ndarray
    """For each prompt, how far a margin moves by rescoring; 0 where the recipe says nothing of it."""
    without: pl.DataFrame
    """The prompts without a pair of answers: the columns WITHOUT."""

    @property
    def sizes(self) -> np.ndarray:
        """The number of answers of each prompt, at least 2."""
        return np.diff(self.starts)

    def draws(self, seed: int) -> np.ndarray:
        """A number in [0, 2**60) for each prompt, which follows from its id and `seed` alone."""
        asked = self.asked.gather(self.numbers).to_frame("prompt_id")
        digits = text_ids(pl.concat_str(pl.lit(f"pair {seed} "), "prompt_id")).str.slice(0, 15)
        return asked.select(digits.str.to_integer(base=16)).to_series().to_numpy()


def deciding(judgments: pl.DataFrame, rule: Params) -> list[str]:
    """The judges whose scores select and order, by name; UserError where they are not those of the recipe."""
    found = judgments["judge"].unique().sort().to_list()
    if isinstance(rule, NamedJudge):
        if rule.judge not in found:
            raise UserError(
                f"params.yaml: pair.judges.judge: expected a judge of judge.kind and judge.also, one of "
                f"{found}, found {rule.judge!r}"
            )
        return [rule.judge]
    right = len(found) == 1 if isinstance(rule, OneJudge) else len(found) > 1
    if not right:
        wanted = "one judge" if isinstance(rule, OneJudge) else "several judges"
        raise UserError(
            f"params.yaml: pair.judges: expected judgments of {wanted}, found those of {found}; choose one "
            "with {rule: named, judge: ...}, or edit judge.also"
        )
    return found


def answer_pool(candidates: pl.DataFrame, judgments: pl.DataFrame, params: PairParams) -> Pool:
    """The pool of an iteration from the columns READS of schemas.CANDIDATES, and JUDGMENTS."""
    judges = deciding(judgments, params.judges)
    unknown = sorted(set(params.noise) ^ set(judges)) if params.noise else []
    if unknown:
        raise UserError(
            f"params.yaml: pair.noise: expected the noise of each judge that decides, {judges}, or {{}}, "
            f"found {sorted(params.noise)}"
        )
    asked, sampled, distinct = distinct_answers(candidates)
    scored, unjudged = with_scores(distinct, candidates["candidate_id"], judgments, judges)
    least = LEAST_FOR_RESIDUAL if isinstance(params.length, LengthResidual) else 2
    scored, few = enough(scored, sampled, least)
    return ranked(scored, asked, judges, params, pl.concat([unjudged, few]).sort("prompt"))


def distinct_answers(candidates: pl.DataFrame) -> tuple[pl.Series, pl.Series, pl.DataFrame]:
    """The ids of all prompts in order, the candidates of each; and prompt (its place), row and characters of
    the distinct answers, in the order of prompts and of candidate ids."""
    ids = candidates["prompt_id"]
    assert ids.is_sorted(), "candidates are not in the order of their table"
    prompt = ids.rle_id().to_numpy().astype(np.int64)
    _, starts = runs(prompt)
    rows = candidates.select(
        "characters", prompt=pl.Series(prompt), row=pl.int_range(pl.len(), dtype=pl.Int64)
    )
    # Equal texts have equal lengths: only the ids of prompts with two answers of one length are compared.
    ordered = np.sort(prompt << 32 | candidates["characters"].to_numpy())
    alike = np.zeros(len(starts), bool)
    alike[ordered[1:][np.diff(ordered) == 0] >> 32] = True
    maybe = rows.filter(alike[prompt])
    told = maybe.with_columns(response_id=candidates["response_id"].gather(maybe["row"]))
    first = told.select(pl.struct("prompt", "response_id").is_first_distinct()).to_series()
    distinct = np.ones(len(prompt), bool)
    distinct[maybe["row"].filter(~first)] = False
    return ids.gather(starts[:-1]), pl.Series(np.diff(starts)), rows.filter(distinct)


def with_scores(
    answers: pl.DataFrame, candidates: pl.Series, judgments: pl.DataFrame, judges: Sequence[str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The answers of prompts that all of `judges` have judged, with a column of scores for each, named by its
    number; and the prompts that one has not. `candidates` are the ids by row."""
    silent = [pl.DataFrame(schema=WITHOUT)]
    for number, judge in enumerate(judges):
        scores = scores_by(candidates, judgments.filter(pl.col("judge") == judge))
        answers = answers.with_columns(scores.gather(answers["row"]).alias(f"{number}"))
        if answers[f"{number}"].null_count():
            none = answers.select(pl.col(f"{number}").is_null().all().over("prompt")).to_series()
            lost = answers.filter(none).select("prompt").unique(maintain_order=True)
            silent.append(lost.with_columns(reason=pl.lit("not judged"), detail=pl.lit(f"by {judge}")))
            answers = answers.filter(~none)
        missing = answers[f"{number}"].null_count()
        assert missing == 0, f"a candidate of a judged prompt has no judgment by {judge} ({missing} of them)"
    return answers, pl.concat(silent, how="diagonal")


def scores_by(candidates: pl.Series, judgments: pl.DataFrame) -> pl.Series:
    """The score of each candidate, null where `judgments` of one judge have none."""
    own = judgments.select("candidate_id", "score")
    # A judge that judged all has the candidates' ids in the order of their table: nothing is to be looked up.
    if not own["candidate_id"].equals(candidates):
        asked = candidates.to_frame("candidate_id")
        own = asked.join(own, on="candidate_id", how="left", validate="1:1", maintain_order="left")
    return own["score"]


def enough(answers: pl.DataFrame, sampled: pl.Series, least: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The answers of prompts that have at least two, or three for a residual; and the other prompts."""
    numbers, starts = runs(answers["prompt"].to_numpy())
    sizes = np.diff(starts)
    lost = numbers[sizes < least]
    few = pl.DataFrame({"prompt": lost, "n": sizes[sizes < least], "candidates": sampled.gather(lost)})
    reason = (
        pl.when(pl.col("candidates") == 1)
        .then(pl.lit("one answer"))
        .when(pl.col("n") == 1)
        .then(pl.lit("identical answers"))
        .otherwise(pl.lit("too few answers for a residual"))
    )
    told = few.select(
        "prompt",
        reason=reason,
        value=pl.col("n").cast(pl.Float64),
        threshold=pl.lit(float(least)),
        detail=pl.format("candidates: {}", "candidates"),
    )
    return answers.filter(np.repeat(sizes >= least, sizes)), told


def ranked(
    rows: pl.DataFrame,
    asked: pl.Series,
    judges: Sequence[str],
    params: PairParams,
    without: pl.DataFrame,
) -> Pool:
    """The pool of `rows`, which stand in the order of the prompts `asked` and of candidates."""
    numbers, starts = runs(rows["prompt"].to_numpy())
    characters = rows["characters"].to_numpy()
    parts, noise = [], np.zeros(len(numbers))
    for number, judge in enumerate(judges):
        values, scale = rows[f"{number}"].to_numpy(), np.ones(len(numbers))
        if len(judges) > 1:
            values, scale = standardised(values, starts)
        # Two scores make a margin, and each may move.
        noise += 2 * params.noise.get(judge, 0.0) / scale / len(judges)
        parts.append(corrected(values, characters, starts, params.length))
    score = np.sum(parts, axis=0) / len(judges) if len(judges) > 1 else parts[0]
    order = best_first(score, starts)
    return Pool(
        asked=asked,
        numbers=numbers,
        rows=rows["row"].to_numpy()[order],
        score=score[order],
        characters=characters[order],
        starts=starts,
        by_judge={judge: part[order] for judge, part in zip(judges, parts, strict=True)},
        noise=noise,
        without=without,
    )
