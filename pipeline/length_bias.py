"""Does a judge prefer length? Pearson's correlation of score and length over the answers to one prompt.

As in figure 3 of "RLHF Workflow": per prompt one coefficient over its n answers, then their mean, and a
heatmap of coefficients by the prompt's mean score. A judge whose scores do not look at length has a mean near
zero; the paper's two reward models have 0.06 and 0.19. Within a prompt only: that long answers belong to hard
prompts is no bias of the judge.

A prompt with fewer than three answers has none (two points lie on a line: 1 or -1, whatever the judge), nor
one whose scores or lengths are all the same; both are counted.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from pipeline.ids import seed_for
from pipeline.intervals import Interval, bootstrap_mean

LEAST_ANSWERS = 3
FEW, SAME_SCORE, SAME_LENGTH = "fewer than 3 answers", "all scores equal", "all lengths equal"


@dataclass(frozen=True, kw_only=True)
class LengthBias:
    """The length bias of a judge on the answers to some prompts, in the order of prompt ids."""

    coefficients: np.ndarray
    """One for each prompt that has one."""
    mean_scores: np.ndarray
    """The mean score over the answers of each of these prompts."""
    mean: Interval
    """The mean coefficient, with a bootstrap interval over prompts; nan where no prompt has one."""
    without: dict[str, int]
    """How many prompts have no coefficient, by reason."""


def length_bias(scored: pl.DataFrame, judge: str) -> LengthBias:
    """The length bias of `judge` from its scores: prompt_id, candidate_id, score, tokens (of the answer).

    An answer that the judge has given no score (null) does not count as one of its prompt.
    """
    found: list[tuple[float, float]] = []
    without = dict.fromkeys((FEW, SAME_SCORE, SAME_LENGTH), 0)
    ordered = scored.drop_nulls("score").sort("prompt_id", "candidate_id")
    for _, group in ordered.group_by("prompt_id", maintain_order=True):
        score, tokens = (group[name].to_numpy().astype(np.float64) for name in ("score", "tokens"))
        if reason := why_none(score, tokens):
            without[reason] += 1
        else:
            found.append((pearson(score, tokens), float(score.mean())))
    unscored = scored["prompt_id"].n_unique() - ordered["prompt_id"].n_unique()
    without[FEW] += unscored
    coefficients, means = np.array(found, np.float64).reshape(-1, 2).T
    return LengthBias(
        coefficients=coefficients,
        mean_scores=means,
        mean=bootstrap_mean(coefficients, seed_for("length bias", judge)),
        without={reason: count for reason, count in without.items() if count},
    )


def why_none(score: np.ndarray, tokens: np.ndarray) -> str | None:
    """Why the answers of a prompt have no coefficient, if they have none."""
    if score.size < LEAST_ANSWERS:
        return FEW
    if np.ptp(score) == 0:
        return SAME_SCORE
    return SAME_LENGTH if np.ptp(tokens) == 0 else None


def pearson(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's correlation of two series that both vary.

    Each is brought to a span of 1 first: the squares of tiny or huge scores would leave the range of floats.
    """
    a, b = ((values - values.min()) / np.ptp(values) for values in (one, other))
    a, b = a - a.mean(), b - b.mean()
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1.0, 1.0))
