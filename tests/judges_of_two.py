"""Judges of two answers for tests: from a rule about the texts, with an account of what they were asked."""

from collections.abc import Callable, Sequence

import numpy as np

from pipeline.comparing import Compared, Question
from pipeline.ids import content_id
from pipeline.ranking import Answer, Contest

Rule = Callable[[str, str], float]
"""P(the first is better)."""


class Judge:
    """Answers by a rule; the order of showing takes `lean` to or from what it says."""

    def __init__(self, rule: Rule, lean: float = 0.0) -> None:
        self.rule, self.lean = rule, lean
        self.calls: list[list[Question]] = []

    def __call__(self, questions: Sequence[Question]) -> Compared:
        self.calls.append(list(questions))
        as_asked = np.array([self.rule(first, second) + self.lean for _, first, second in questions])
        swapped = np.array([self.rule(first, second) - self.lean for _, first, second in questions])
        return Compared.of_orders(as_asked, swapped)

    @property
    def questions(self) -> list[Question]:
        return [question for call in self.calls for question in call]


def by_strength(strengths: dict[str, float]) -> Judge:
    """A judge without contradictions: of two the stronger wins, the more surely the stronger it is."""

    def rule(first: str, second: str) -> float:
        return 1 / (1 + np.exp(strengths[second] - strengths[first]))

    return Judge(rule)


def hashed(first: str, second: str) -> float:
    """A probability without any order behind it: a > b > c > a is as likely as not."""
    low, high = sorted((first, second))
    better = (int(content_id(low, high), 16) % 9973 + 1) / 9975
    return better if first == low else 1 - better


def contest(*texts: str, priors: Sequence[float] | None = None, name: str = "p") -> Contest:
    """A contest of answers whose ids are hashes."""
    given = priors or [0.0] * len(texts)
    answers = [Answer(content_id(name, text), text, prior) for text, prior in zip(texts, given, strict=True)]
    return Contest([{"role": "user", "content": name}], answers)


def text(one: Contest, place: int) -> str:
    """The text of an answer."""
    return one.answers[place].text
