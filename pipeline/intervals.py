"""How sure a mean is: seeded bootstrap intervals and the Wilson interval, all at 95%.

The draws depend on the seed alone (`ids.seed_for` of what is measured), so a report repeats its bytes.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

#: The quantile of the standard normal distribution that leaves 2.5% above it.
Z = 1.959963984540054
#: Index draws held in memory at once.
DRAWS_AT_ONCE = 4_000_000


class Interval(NamedTuple):
    """A mean and the ends of its 95% interval; nan where there is nothing to measure."""

    mean: float
    low: float
    high: float


NOTHING = Interval(float("nan"), float("nan"), float("nan"))


def bootstrap_mean(values: ArrayLike, seed: int, n: int = 2000) -> Interval:
    """The mean of `values` with its percentile interval over `n` resamples."""
    return grouped_mean([values], [1.0], seed, n)


def paired_difference(after: ArrayLike, before: ArrayLike, seed: int, n: int = 2000) -> Interval:
    """The mean of `after - before`, resampled in pairs: what differs between the items cancels out."""
    later, earlier = np.asarray(after, np.float64), np.asarray(before, np.float64)
    assert later.shape == earlier.shape, (
        f"{later.size} values against {earlier.size}: expected the same items"
    )
    return bootstrap_mean(later - earlier, seed, n)


def grouped_mean(groups: list[ArrayLike], weights: list[float], seed: int, n: int = 2000) -> Interval:
    """The weighted mean of group means; each group is resampled within itself."""
    rows = [np.asarray(group, np.float64) for group in groups]
    if not rows or any(row.size == 0 for row in rows):
        return NOTHING
    share = np.asarray(weights, np.float64) / np.sum(weights)
    rng = np.random.default_rng(seed)
    means = sum(w * resampled_means(row, rng, n) for w, row in zip(share, rows, strict=True))
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(
        float(sum(w * row.mean() for w, row in zip(share, rows, strict=True))), float(low), float(high)
    )


def resampled_means(values: np.ndarray, rng: np.random.Generator, n: int) -> np.ndarray:
    """`n` means of resamples with replacement.

    Verdicts and wins have few different values: their counts in a resample are multinomial, which
    costs the same for a million rows as for ten.
    """
    distinct, counts = np.unique(values, return_counts=True)
    if distinct.size <= 8:
        return rng.multinomial(values.size, counts / values.size, size=n) @ distinct / values.size
    at_once = max(1, DRAWS_AT_ONCE // values.size)
    draws = [
        values[rng.integers(0, values.size, (min(at_once, n - start), values.size))].mean(axis=1)
        for start in range(0, n, at_once)
    ]
    return np.concatenate(draws)


def accuracy_interval(correct: float, total: int) -> Interval:
    """The share `correct / total` with its Wilson interval; a tie may count as half a success."""
    if total == 0:
        return NOTHING
    share, z2 = correct / total, Z * Z / total
    centre = (share + z2 / 2) / (1 + z2)
    half = Z * np.sqrt(share * (1 - share) / total + z2 / (4 * total)) / (1 + z2)
    return Interval(share, max(0.0, float(centre - half)), min(1.0, float(centre + half)))
