"""Strategies: functions from the ranked pool to the positions of chosen and rejected answers.

A strategy proposes at least one pair for each prompt of the pool, and the answer of the higher score is the
chosen one. Where no pair of a prompt is what it looks for, it proposes the nearest and refuses it, with what
was measured: so each prompt is a pair or a line of the ledger. Random choices follow from prompt ids.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pipeline.answer_pool import Pool
from pipeline.exploration import Known, divergences, most_uncertain
from pipeline.pair_rules import (
    BestRandom,
    BestSecond,
    BestWorst,
    LengthMatched,
    MarginBand,
    Random,
    TopKPairs,
    Uncertainty,
)
from pipeline.params import Params

MOST_PAIRS = 1 << 22
"""Pairs of answers looked at together."""


@dataclass(frozen=True)
class Proposed:
    """Pairs in the order of prompts, as positions in the pool."""

    chosen: np.ndarray
    rejected: np.ndarray
    refused: "Refusal | None" = None


@dataclass(frozen=True)
class Refusal:
    """Which of the proposed pairs are not what the strategy looks for."""

    reason: str
    which: np.ndarray
    value: np.ndarray
    """What was measured of each pair."""
    threshold: np.ndarray
    """What it had to keep to."""


Strategy = Callable[[Pool], Proposed]


def strategy(rule: Params, seed: int, known: Known | None = None) -> Strategy:
    """The function that a recipe's strategy names; `known` is for `uncertainty` alone."""
    match rule:
        case Uncertainty():
            assert known is not None, "uncertainty is of something that is known"
            return lambda pool: uncertain(pool, known, rule.eta, rule.budget)
        case BestWorst():
            return best_worst
        case BestRandom():
            return lambda pool: best_random(pool, seed)
        case BestSecond():
            return best_second
        case Random():
            return lambda pool: random(pool, seed)
        case MarginBand():
            return lambda pool: margin_band(pool, rule.low, rule.high)
        case TopKPairs():
            return lambda pool: top_k_pairs(pool, rule.k)
        case LengthMatched():
            return lambda pool: length_matched(pool, rule.max_ratio)
    raise AssertionError(f"no strategy {rule}")


def best_worst(pool: Pool) -> Proposed:
    """The highest and the lowest score (paper, Algorithm 2).

    Of equal scores the lowest candidate id is the best and the highest the worst.
    """
    return Proposed(pool.starts[:-1], pool.starts[1:] - 1)


def best_random(pool: Pool, seed: int) -> Proposed:
    """The highest score, and one of the others by the prompt's draw."""
    best = pool.starts[:-1]
    return Proposed(best, best + 1 + pool.draws(seed) % (pool.sizes - 1))


def best_second(pool: Pool) -> Proposed:
    """The highest and the second highest score."""
    return Proposed(pool.starts[:-1], pool.starts[:-1] + 1)


def random(pool: Pool, seed: int) -> Proposed:
    """Two answers by the prompt's draw: one, and how far behind it, in a ring, the other stands."""
    draws, sizes, best = pool.draws(seed), pool.sizes, pool.starts[:-1]
    one = draws % sizes
    other = (one + 1 + draws // sizes % (sizes - 1)) % sizes
    return Proposed(best + np.minimum(one, other), best + np.maximum(one, other))


def margin_band(pool: Pool, low: float, high: float) -> Proposed:
    """The largest margin in [low, high]; refused where there is none, with the margin that is nearest to it.

    Of equal margins the one with the better chosen answer counts, then with the better rejected one.
    """
    chosen, rejected = positions(pool)
    margins = np.zeros(len(chosen))
    for prompts, better, worse in all_pairs(pool):
        margin = pool.score[better] - pool.score[worse]
        outside = np.maximum(low - margin, margin - high).clip(min=0)
        place = first_best(outside == 0, margin, -outside)
        chosen[prompts], rejected[prompts], margins[prompts] = taken(place, better, worse, margin)
    limit = np.where(margins > high, high, low)
    which = (margins < low) | (margins > high)
    return Proposed(chosen, rejected, Refusal("margin outside the band", which, margins, limit))


def length_matched(pool: Pool, max_ratio: float) -> Proposed:
    """The largest margin of two answers of similar length; refused where there are none, with the ratio of
    the two that are nearest in length. Of equal margins it takes the same one as margin_band."""
    chosen, rejected = positions(pool)
    ratios = np.zeros(len(chosen))
    for prompts, better, worse in all_pairs(pool):
        sizes = pool.characters[better], pool.characters[worse]
        ratio = np.maximum(*sizes) / np.minimum(*sizes).clip(min=1)
        margin = pool.score[better] - pool.score[worse]
        place = first_best(ratio <= max_ratio, margin, -ratio)
        chosen[prompts], rejected[prompts], ratios[prompts] = taken(place, better, worse, ratio)
    limit = np.full(len(ratios), max_ratio)
    return Proposed(chosen, rejected, Refusal("lengths too far apart", ratios > max_ratio, ratios, limit))


def top_k_pairs(pool: Pool, k: int) -> Proposed:
    """The k largest margins of each prompt, the largest first, in the order of margin_band where they are
    equal; all of a prompt that has fewer."""
    found = []
    for prompts, better, worse in all_pairs(pool):
        margin = pool.score[better] - pool.score[worse]
        places = np.argsort(-margin, axis=1, kind="stable")[:, :k]
        own = (np.take_along_axis(side, places, axis=1).ravel() for side in (better, worse))
        found.append((np.repeat(prompts, places.shape[1]), *own))
    if not found:
        return Proposed(*positions(pool))
    prompt, chosen, rejected = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.argsort(prompt, kind="stable")
    return Proposed(chosen[order], rejected[order])


def uncertain(pool: Pool, known: Known, eta: float, budget: float) -> Proposed:
    """The two answers with the largest Gamma within the budget of KL (pipeline/exploration.py); refused where
    fewer than two are, with what the second nearest would have cost."""
    chosen, rejected = positions(pool)
    second, score = np.zeros(len(chosen)), pool.score
    for prompt, (begin, end) in enumerate(pairwise(pool.starts)):
        own = slice(begin, end)
        found = most_uncertain(
            known.features[pool.rows[own]], score[own], known.white, eta=eta, budget=budget
        )
        # Best first: the two places that cost least are the first two.
        better, worse = (0, 1) if found is None else (found.better, found.worse)
        chosen[prompt], rejected[prompt] = begin + better, begin + worse
        second[prompt] = divergences(score[own], eta)[1]
    limit = np.full(len(second), budget)
    refused = Refusal("one answer within the budget of KL", second > budget, second, limit)
    return Proposed(chosen, rejected, refused)


def all_pairs(pool: Pool) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Numbers of prompts that have equally many answers; and for each of them, along the second axis, the
    positions of the better and the worse answer of all its pairs."""
    sizes = pool.sizes
    for size in np.unique(sizes):
        better, worse = np.triu_indices(int(size), 1)
        own = np.flatnonzero(sizes == size)
        step = max(1, MOST_PAIRS // len(better))
        for begin in range(0, len(own), step):
            prompts = own[begin : begin + step]
            best = pool.starts[prompts][:, None]
            yield prompts, best + better, best + worse


def positions(pool: Pool) -> tuple[np.ndarray, np.ndarray]:
    """Room for one pair of each prompt."""
    prompts = len(pool.starts) - 1
    return np.zeros(prompts, np.int64), np.zeros(prompts, np.int64)


def first_best(good: np.ndarray, value: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """For each row the place of the largest good `value`; of the largest `otherwise` where none is good."""
    among = np.where(good, value, -np.inf)
    return np.where(good.any(axis=1), among.argmax(axis=1), otherwise.argmax(axis=1))[:, None]


def taken(place: np.ndarray, *sides: np.ndarray) -> tuple[np.ndarray, ...]:
    """What stands at the place of each row."""
    return tuple(np.take_along_axis(side, place, axis=1)[:, 0] for side in sides)
