"""Stanford Human Preferences (Hub stanfordnlp/SHP): Reddit answers ranked by votes; Reddit API terms.

    {"post_id": "a1", "domain": "askculinary_train", "upvote_ratio": 0.97, "history": "Why salt pasta water?",
     "score_A": 12, "score_B": 4, "human_ref_A": "For taste.", "human_ref_B": "No idea.", "labels": 1,
     "seconds_difference": 120.0, "score_ratio": 3.0}

Pair rule (arXiv 2405.07863, appendix A): score_ratio above 2, at most 5 pairs per prompt. The paper
does not say which five; here those with the lowest hash of (seed, answers), so that the choice
depends neither on row order nor on other prompts. `labels` 1: A is preferred. Scores are votes.
"""

from collections.abc import Iterable

from pydantic import Field

from pipeline.answers import TIE
from pipeline.ids import content_id
from pipeline.items import Drop, Item, Items, Preference, Shape, parsed, user
from pipeline.params import Params
from pipeline.raw import RawRow

KIND = "preferences"


class Rules(Params):
    """The paper: min_ratio 2.0, max_pairs_per_prompt 5."""

    min_ratio: float = Field(ge=1)
    """The preferred answer must have more than this many times the other's votes."""
    max_pairs_per_prompt: int = Field(gt=0)
    seed: int
    """Decides which pairs of a prompt are kept."""


class Row(Shape):
    """Two answers to one post."""

    history: str
    answer_a: str = Field(alias="human_ref_A")
    answer_b: str = Field(alias="human_ref_B")
    votes_a: float = Field(alias="score_A")
    votes_b: float = Field(alias="score_B")
    labels: int = Field(ge=0, le=1)
    score_ratio: float


def items(rows: Iterable[RawRow], rules: Rules) -> Items:
    """One preference per row; needs all rows, for the cap per prompt."""
    outcomes: list[tuple[RawRow, Item]] = []
    by_prompt: dict[str, list[tuple[str, int]]] = {}
    for row in rows:
        raw = parsed(row, Row)
        outcome = raw if isinstance(raw, Drop) else preference(raw, rules)
        if isinstance(outcome, Preference):
            rank = content_id(rules.seed, outcome.chosen, outcome.rejected)
            by_prompt.setdefault(outcome.prompt[0]["content"], []).append((rank, len(outcomes)))
        outcomes.append((row, outcome))
    for ranked in by_prompt.values():
        for place, (_, index) in enumerate(sorted(ranked), start=1):
            if place > rules.max_pairs_per_prompt:
                drop = Drop("over the cap per prompt", place, rules.max_pairs_per_prompt)
                outcomes[index] = (outcomes[index][0], drop)
    return ((row, [outcome]) for row, outcome in outcomes)


def preference(row: Row, rules: Rules) -> Item:
    """The pair that the label and the ratio give."""
    if row.votes_a == row.votes_b:
        return Drop(TIE, row.votes_a)
    if row.score_ratio <= rules.min_ratio:
        return Drop("score ratio not above minimum", row.score_ratio, rules.min_ratio)
    a, b = (row.answer_a, row.votes_a), (row.answer_b, row.votes_b)
    chosen, rejected = (a, b) if row.labels == 1 else (b, a)
    if chosen[1] < rejected[1]:
        return Drop("label contradicts the votes", chosen[1] - rejected[1], 0.0)
    return Preference(user(row.history), chosen[0], rejected[0], chosen[1], rejected[1])
