"""N-grams of words as hashes: finding them, and telling common ones."""

from dataclasses import dataclass
from typing import Self

import numpy as np

SPARE_BITS = 4
"""A filter has at least 2 to this power places per hash: one in 256 strangers gets past its two tables."""
MOST_BITS = 26
PERIOD = 4
"""Longest cycle of words that counts as a repetition."""

NOTHING = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Filter:
    """Two tables that are true at the top and at the low bits of some hashes; few other hashes pass both.

    A search in a sorted million costs far more than two looks into a table.
    """

    top: np.ndarray
    low: np.ndarray

    @classmethod
    def of(cls, hashes: np.ndarray) -> Self:
        """The filter of these hashes."""
        bits = min(MOST_BITS, int(hashes.size).bit_length() + SPARE_BITS)
        filters = cls(np.zeros(1 << bits, dtype=bool), np.zeros(1 << bits, dtype=bool))
        filters.top[filters.high_bits(hashes)] = True
        filters.low[filters.low_bits(hashes)] = True
        return filters

    def high_bits(self, hashes: np.ndarray) -> np.ndarray:
        """Places in `top`."""
        return hashes >> np.uint64(65 - int(self.top.size).bit_length())

    def low_bits(self, hashes: np.ndarray) -> np.ndarray:
        """Places in `low`."""
        return hashes & np.uint64(self.low.size - 1)

    def passing(self, hashes: np.ndarray) -> np.ndarray:
        """The rising positions of the hashes that pass: all that it was made of, and few others."""
        maybe = np.flatnonzero(self.top[self.high_bits(hashes)])
        return maybe[self.low[self.low_bits(hashes[maybe])]]


@dataclass(frozen=True)
class Grams:
    """Some grams, to be found by their hash."""

    hashes: np.ndarray
    """uint64, rising and distinct."""
    offsets: np.ndarray
    """Gram i stands at the places offsets[i] to offsets[i + 1]."""
    items: np.ndarray
    """For each place the item."""
    positions: np.ndarray
    """For each place the number of the gram in its item."""
    filter: Filter
    """Of the hashes: most of a text's n-grams end here, without a search."""

    @classmethod
    def of(cls, hashes: np.ndarray, items: np.ndarray, positions: np.ndarray) -> Self:
        """The grams with these hashes, which may repeat."""
        # The order of equal hashes does not matter: whoever finds grams sorts what was found.
        order = np.argsort(hashes)
        first = np.flatnonzero(changes(hashes[order]))
        distinct = hashes[order[first]]
        offsets = np.append(first, hashes.size)
        return cls(distinct, offsets, items[order], positions[order], Filter.of(distinct))

    def find(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(position in `hashes`, item, number of the gram in it) for every place of every known hash."""
        if not self.hashes.size:
            return NOTHING, NOTHING, NOTHING
        maybe = self.filter.passing(hashes)
        slot = np.minimum(np.searchsorted(self.hashes, hashes[maybe]), self.hashes.size - 1)
        known = self.hashes[slot] == hashes[maybe]
        slot, which = slot[known], maybe[known]
        places = self.offsets[slot + 1] - self.offsets[slot]
        before = np.repeat(np.cumsum(places) - places, places)
        place = np.repeat(self.offsets[slot], places) + np.arange(before.size) - before
        return np.repeat(which, places), self.items[place], self.positions[place]


def covered(first: np.ndarray, size: np.ndarray, number: int) -> np.ndarray:
    """For each of `number` words whether one of the stretches of `size` words from `first` on holds it."""
    steps = np.bincount(first, minlength=number + 1) - np.bincount(first + size, minlength=number + 1)
    return np.cumsum(steps)[:-1] > 0


def rows_of_equal(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """For each value the number of different `rows` (rising) among the values equal to it."""
    order = np.argsort(values, kind="stable")
    new = changes(values[order])
    group = np.cumsum(new) - 1
    number = np.zeros(values.size, dtype=np.int64)
    number[order] = np.bincount(group, weights=new | changes(rows[order]))[group] if values.size else 0
    return number


def repeats(grams: np.ndarray, at: np.ndarray, start: np.ndarray) -> np.ndarray:
    """For each place `at` in `grams` whether its gram equals one of the PERIOD before it, from `start` on.

    In "0 0 0 0 ..." every gram of an item stands at every place of a text: such stretches are looked for
    once, in items and in texts alike, and not in all their alignments.
    """
    found = np.zeros(at.size, dtype=bool)
    for step in range(1, PERIOD + 1):
        before = np.maximum(at - step, start)
        found |= (before < at) & (grams[before] == grams[at])
    return found


def changes(values: np.ndarray) -> np.ndarray:
    """For each value whether it is the first, or differs from the one before."""
    new = np.ones(values.size, dtype=bool)
    new[1:] = values[1:] != values[:-1]
    return new
