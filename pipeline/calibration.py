"""Is a judge as sure as it is right? Expected calibration error and the bins of a reliability plot.

For a pair, P is the probability that the judge gives to the chosen answer: the sigmoid of the margin for a
Bradley-Terry reward (its model: P = 1 / (1 + exp(-(r_chosen - r_rejected)))), the probability itself for a
judge of two answers. Its confidence is max(P, 1 - P), from 0.5 to 1; it is right where P > 0.5, and half
right at 0.5. Confidence is cut into ten bins of equal width, and

    ECE = sum over bins of (pairs in the bin / all pairs) * |accuracy in the bin - mean confidence in the bin|

(Naeini et al. 2015; Guo et al. 2017, equation 3, over the range that two answers leave). 0 is a judge that is
right 80% of the times it says 80%. A small error is no merit by itself: a judge that always says 50% has one.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.intervals import Interval, accuracy_interval

BINS = 10
REWARDS = frozenset({"bt"})
"""Judges whose margin is a difference of rewards; the margin of the others is P - 0.5."""


@dataclass(frozen=True, kw_only=True)
class Bin:
    """The pairs whose confidence is from `low` to below `high`; 1 is in the last bin."""

    low: float
    high: float
    pairs: int
    confidence: float
    """Its mean over these pairs."""
    accuracy: Interval


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How a judge's confidence stands to its accuracy."""

    error: float
    """The expected calibration error, from 0 to 1; nan without pairs."""
    pairs: int
    confidence: float
    """Its mean over all pairs."""
    bins: tuple[Bin, ...]
    """Those that hold pairs."""


def probabilities(judge: str, margins: np.ndarray) -> np.ndarray:
    """P(chosen is better) from the margins that `judge` left in schemas.VERDICTS."""
    if judge in REWARDS:
        return 0.5 * (1 + np.tanh(margins / 2))  # the sigmoid; no margin overflows here
    return margins + 0.5


def calibration(chosen_better: np.ndarray, correct: np.ndarray) -> Calibration:
    """The calibration of a judge that gives these probabilities to the chosen answers; its verdicts (1 right,
    0.5 tie, 0 wrong) say what it made of them."""
    confidence = np.maximum(chosen_better, 1 - chosen_better)
    place = np.minimum(BINS - 1, np.floor((confidence - 0.5) * 2 * BINS)).astype(np.int64)
    bins = []
    for i in np.unique(place).tolist():
        own = place == i
        bins.append(
            Bin(
                low=0.5 + i / (2 * BINS),
                high=0.5 + (i + 1) / (2 * BINS),
                pairs=int(own.sum()),
                confidence=float(confidence[own].mean()),
                accuracy=accuracy_interval(float(correct[own].sum()), int(own.sum())),
            )
        )
    gaps = sum(one.pairs * abs(one.accuracy.mean - one.confidence) for one in bins)
    total = confidence.size
    return Calibration(
        error=gaps / total if total else float("nan"),
        pairs=total,
        confidence=float(confidence.mean()) if total else float("nan"),
        bins=tuple(bins),
    )
