"""Answers to one prompt, and the preferences that their scores make.

Pair rules of the paper's data (arXiv 2405.07863, appendix A): all combinations or best against
worst, ties dropped. Small margins are a rule of the mix, which sees a whole source at once. Every
pair that is not kept is a drop with its reason.
"""

from itertools import combinations
from typing import Literal, NamedTuple

from pipeline.items import Conversation, Drop, Item, Preference
from pipeline.params import Params

MISSING_SCORE = "missing score"
TIE = "tie"
REVERSED = "rejected is rated higher"
FEW_ANSWERS = "fewer than two answers"


class Answer(NamedTuple):
    """One answer, its score (higher is better) and the model that wrote it."""

    text: str
    score: float | None = None
    by: str | None = None


class RankedRules(Params):
    """How the scored answers to one prompt become pairs."""

    pairs: Literal["all", "best_vs_worst"]
    """Every combination of two answers, or only the highest against the lowest score; ties are dropped."""


class RatedRules(Params):
    """What is asked of pairs that upstream has already put in order."""

    scores_must_agree: bool
    """Drop pairs whose chosen answer is not rated strictly higher; without both scores, none is."""


def ranked_pairs(prompt: Conversation, answers: list[Answer], rules: RankedRules) -> list[Item]:
    """The pairs among `answers`, or the drops of those that are none; never empty."""
    if len(answers) < 2:
        return [Drop(FEW_ANSWERS, len(answers), 2)]
    if rules.pairs == "all":
        return [ranked_pair(prompt, a, b) for a, b in combinations(answers, 2)]
    scored = [(answer.score, -i, answer) for i, answer in enumerate(answers) if answer.score is not None]
    if len(scored) < 2:
        return [Drop(MISSING_SCORE, len(scored), 2)]
    ordered = [answer for _, _, answer in sorted(scored, key=lambda entry: entry[:2])]
    return [ranked_pair(prompt, ordered[-1], ordered[0])]


def ranked_pair(prompt: Conversation, a: Answer, b: Answer) -> Item:
    """The preference for the higher score of two."""
    if a.score is None or b.score is None:
        return Drop(MISSING_SCORE)
    if a.score == b.score:
        return Drop(TIE, a.score)
    chosen, rejected = (a, b) if a.score > b.score else (b, a)
    return preferred(prompt, chosen, rejected)


def rated_pair(prompt: Conversation, chosen: Answer, rejected: Answer, rules: RatedRules) -> Item:
    """The preference as upstream gives it, unless its scores deny it and the rules ask for agreement."""
    if rules.scores_must_agree:
        if chosen.score is None or rejected.score is None:
            return Drop(MISSING_SCORE)
        if chosen.score == rejected.score:
            return Drop(TIE, chosen.score)
        if chosen.score < rejected.score:
            return Drop(REVERSED, chosen.score - rejected.score, 0.0)
    return preferred(prompt, chosen, rejected)


def preferred(prompt: Conversation, chosen: Answer, rejected: Answer) -> Preference:
    """The preference for `chosen`, with scores and authors."""
    return Preference(
        prompt, chosen.text, rejected.text, chosen.score, rejected.score, chosen.by, rejected.by
    )
