"""What a judge of two answers is to the rest: a function from questions to probabilities.

Each question is asked in both orders, because a model that reads two answers leans to one place. The mean of
the two is the judgment; how far they lie apart is kept, for it tells how much of it is the place alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pipeline.chat import Messages

Question = tuple[Messages, str, str]
"""A prompt, and the two answers that are compared."""

MOST_QUESTIONS = 1 << 16
"""Questions that exist at once as texts or tokens: half a gigabyte where each has a thousand tokens."""


@dataclass(frozen=True)
class Compared:
    """What a judge says of questions: arrays with one number per question, in their order."""

    first_better: np.ndarray
    """P(the first answer is better), the mean over both orders."""
    disagreement: np.ndarray
    """|P in one order - P in the other|: 0 where the order means nothing, 1 where it decides alone."""

    @classmethod
    def of_orders(cls, as_asked: np.ndarray, reversed_order: np.ndarray) -> "Compared":
        """From P(first is better) of the questions as asked, and with their answers in the other order."""
        return cls((as_asked + reversed_order) / 2, np.abs(as_asked - reversed_order))


class Compare(Protocol):
    """A judge of two answers."""

    def __call__(self, questions: Sequence[Question]) -> Compared: ...
