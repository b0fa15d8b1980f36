"""Arithmetic on runs: scores that stand prompt by prompt, and what is taken within each prompt.

`starts` has the place at which each run begins, and behind the last one's end. A run has at least one value.
"""

import numpy as np

from pipeline.pair_rules import LengthPenalty, LengthResidual
from pipeline.params import Params

NEAR_ZERO = 1e-9
"""A residual that is smaller, as a part of the span of scores, is a rounding error."""


def runs(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number of each run of equal numbers, and where each begins, and behind the last one's end."""
    first = np.flatnonzero(numbers[1:] != numbers[:-1]) + 1
    starts = np.concatenate([np.zeros(min(len(numbers), 1), np.int64), first, [len(numbers)]])
    return numbers[starts[:-1]], starts


def best_first(score: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The positions run by run, in each from the highest score to the lowest; equal scores as they stand.

    All runs of one size are the rows of a matrix, which takes a quarter of the time of sorting by two keys.
    """
    order, sizes = np.zeros(len(score), np.int64), np.diff(starts)
    for size in np.unique(sizes):
        begins = starts[:-1][sizes == size][:, None]
        places = begins + np.arange(size)
        order[places] = begins + np.argsort(-score[places], axis=1, kind="stable")
    return order


def means(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The mean of each run, at each of its places."""
    sizes = np.diff(starts)
    return np.repeat(np.add.reduceat(values, starts[:-1]) / sizes, sizes) if len(values) else values


def standardised(values: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The scores of each prompt less their mean, by their standard deviation; and the latter for each prompt.

    Where all scores of a prompt are equal they become 0 and their deviation 1.
    """
    apart = values - means(values, starts)
    deviation = np.sqrt(means(apart**2, starts))
    varied = spans(values, starts) > 0
    deviation = np.where(varied, deviation, 1.0)
    return np.where(varied, apart / deviation, 0.0), deviation[starts[:-1]]


def spans(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The largest less the smallest value of each run, at each of its places."""
    if not len(values):
        return values
    ends = (extreme.reduceat(values, starts[:-1]) for extreme in (np.maximum, np.minimum))
    return np.repeat(np.subtract(*ends), np.diff(starts))


def corrected(values: np.ndarray, characters: np.ndarray, starts: np.ndarray, rule: Params) -> np.ndarray:
    """Scores after the length rule."""
    if isinstance(rule, LengthPenalty):
        return values - rule.per_character * characters
    if not isinstance(rule, LengthResidual) or not len(values):
        return values
    longer, better = characters - means(characters, starts), values - means(values, starts)
    spread = means(longer**2, starts)
    slope = np.divide(means(longer * better, starts), spread, out=np.zeros_like(spread), where=spread > 0)
    residual = better - slope * longer
    return np.where(np.abs(residual) < NEAR_ZERO * spans(values, starts), 0.0, residual)
