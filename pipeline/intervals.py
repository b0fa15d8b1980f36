"""How sure a mean is: seeded bootstrap intervals for means, the Wilson interval for accuracies, all at 95%.

The draws depend on the seed alone (`ids.seed_for` of what is measured), so a report repeats its bytes.
"""

from collections.abc import Iterator
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

    def times(self, factor: float) -> "Interval":
        """The same in another unit, such as percent."""
        return Interval(factor * self.mean, factor * self.low, factor * self.high)


NOTHING = Interval(float("nan"), float("nan"), float("nan"))


def bootstrap_mean(values: ArrayLike, seed: int, n: int = 2000) -> Interval:
    """The mean of `values` with its percentile interval over `n` resamples."""
    rows = np.asarray(values, np.float64)
    if rows.size == 0:
        return NOTHING
    low, high = np.quantile(resampled_means(rows, np.random.default_rng(seed), n), [0.025, 0.975])
    return Interval(float(rows.mean()), float(low), float(high))


def paired_difference(after: ArrayLike, before: ArrayLike, seed: int, n: int = 2000) -> Interval:
    """The mean of `after - before`, resampled in pairs: what differs between the items cancels out."""
    later, earlier = np.asarray(after, np.float64), np.asarray(before, np.float64)
    assert later.shape == earlier.shape, (
        f"{later.size} values against {earlier.size}: expected the same items"
    )
    return bootstrap_mean(later - earlier, seed, n)


def bootstrap_ratio(parts: ArrayLike, wholes: ArrayLike, seed: int, n: int = 2000) -> Interval:
    """sum(parts) / sum(wholes), resampled in pairs: a figure per token, where lengths differ."""
    above, below = np.asarray(parts, np.float64), np.asarray(wholes, np.float64)
    if below.size == 0:
        return NOTHING
    ratios = [above[i].sum(axis=1) / below[i].sum(axis=1) for i in resamples(below.size, seed, n)]
    low, high = np.quantile(np.concatenate(ratios), [0.025, 0.975])
    return Interval(float(above.sum() / below.sum()), float(low), float(high))


def resamples(size: int, seed: int, n: int) -> Iterator[np.ndarray]:
    """`n` resamples with replacement of the places 0 to `size` - 1, one in each row; some at a time."""
    rng, at_once = np.random.default_rng(seed), max(1, DRAWS_AT_ONCE // size)
    for start in range(0, n, at_once):
        yield rng.integers(0, size, (min(at_once, n - start), size))


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


def accuracy_interval(correct: float, total: float) -> Interval:
    """The share `correct / total` with its Wilson interval; a tie may count as half a success."""
    if total == 0:
        return NOTHING
    share, z2 = correct / total, Z * Z / total
    centre = (share + z2 / 2) / (1 + z2)
    half = Z * np.sqrt(share * (1 - share) / total + z2 / (4 * total)) / (1 + z2)
    return Interval(share, max(0.0, float(centre - half)), min(1.0, float(centre + half)))


def clustered_accuracy(successes: ArrayLike, rows: ArrayLike) -> Interval:
    """The share of successes where rows come in clusters, such as the pairs of one prompt.

    Per cluster its successes (a tie is half of one) and its rows. Rows of a cluster tend to agree, so the
    interval is Wilson's for as many independent rows as would vary as much as the clusters do (Kish's
    effective size, from the linearised variance of a ratio): at most all rows, and one per cluster where
    all have the same outcome. The sums are of integers, so the order of the clusters changes no digit.
    """
    doubled, sizes = np.rint(2 * np.asarray(successes)).astype(np.int64), np.asarray(rows, np.int64)
    clusters, total, right = int(sizes.size), int(sizes.sum()), int(doubled.sum())
    if total == 0:
        return NOTHING
    share = right / (2 * total)
    if clusters == 1 or share in (0.0, 1.0):
        return accuracy_interval(share * clusters, clusters)
    squares, cross, own = (int(sums) for sums in (doubled @ doubled, doubled @ sizes, sizes @ sizes))
    spread = (squares / 4 - share * cross + share * share * own) * clusters / (clusters - 1)
    effective = min(float(total), share * (1 - share) * total * total / spread) if spread > 0 else total
    return accuracy_interval(share * effective, effective)
