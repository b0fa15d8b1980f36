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

TOO_LONG = "answers longer than the window"
"""The reason where two answers leave no room for a question."""


@dataclass(frozen=True)
class Unjudged:
    """A question without a judgment."""

    index: int
    """Its place among the questions."""
    reason: str
    """For the ledger."""
    text: str
    """What was answered, shortened, or what does not fit."""


@dataclass(frozen=True)
class Compared:
    """What a judge says of questions: arrays with one number per question, in their order.

    A number that is none stands for a question in `unjudged`, or in a plan for one that nobody has asked.
    """

    first_better: np.ndarray
    """P(the first answer is better), the mean over both orders."""
    disagreement: np.ndarray
    """|P in one order - P in the other|: 0 where the order means nothing, 1 where it decides alone."""
    unjudged: tuple[Unjudged, ...] = ()

    @classmethod
    def of_orders(
        cls, as_asked: np.ndarray, reversed_order: np.ndarray, unjudged: tuple[Unjudged, ...] = ()
    ) -> "Compared":
        """From P(first is better) of the questions as asked, and with their answers in the other order."""
        return cls((as_asked + reversed_order) / 2, np.abs(as_asked - reversed_order), unjudged)

    @property
    def judgments(self) -> list[float | None]:
        """P(the first answer is better), None where there is no judgment."""
        lost = {one.index for one in self.unjudged}
        return [None if i in lost else better for i, better in enumerate(self.first_better.tolist())]


class Compare(Protocol):
    """A judge of two answers."""

    def __call__(self, questions: Sequence[Question]) -> Compared: ...
