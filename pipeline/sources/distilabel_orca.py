"""Argilla's re-rated Orca pairs (Hub argilla/distilabel-intel-orca-dpo-pairs): Apache-2.0.

    {"system": "Be brief.", "input": "Name a colour.", "chosen": "Blue.", "rejected": "A colour is ...",
     "order": ["rejected", "chosen"], "rating": [7.0, 9.0], "status": "unchanged", "in_gsm8k_train": false}

`order` names upstream's first chosen and rejected; where the status is "swapped", `chosen` and
`rejected` have changed places since, so the rating is not found through `order` any more. The higher
of the two ratings is always chosen's, which holds for both states; "tie" rows have equal ratings.
RLHFlow drops the system prompt; here it is kept. Set card: drop ties and rows from GSM8K's train set.
"""

from collections.abc import Iterable

from pydantic import Field

from pipeline.answers import Answer, RatedRules, rated_pair
from pipeline.items import Drop, Item, Items, Score, Shape, each, user
from pipeline.raw import RawRow

KIND = "preferences"


class Rules(RatedRules):
    """What is asked of the ratings."""

    min_chosen_score: float | None = Field(ge=0)
    """The card proposes 8; null: no such rule."""
    drop_gsm8k: bool
    """Drop rows whose question is in GSM8K's train set."""


class Row(Shape):
    """A question, two answers and their ratings."""

    system: str | None = None
    input: str
    chosen: str
    rejected: str
    rating: list[Score] | None = None
    in_gsm8k_train: bool | None = None


def items(rows: Iterable[RawRow], rules: Rules) -> Items:
    """One preference per row."""
    return each(rows, Row, lambda row: preference(row, rules))


def preference(row: Row, rules: Rules) -> Item:
    """The pair, if rules and ratings agree."""
    if rules.drop_gsm8k and row.in_gsm8k_train:
        return Drop("question is in the GSM8K train set")
    ratings = [rating for rating in row.rating or [] if rating is not None]
    high, low = (max(ratings), min(ratings)) if len(ratings) == 2 else (None, None)
    if rules.min_chosen_score is not None:
        if high is None:
            return Drop("missing score")
        if high < rules.min_chosen_score:
            return Drop("chosen score below minimum", high, rules.min_chosen_score)
    return rated_pair(user(row.input, row.system), Answer(row.chosen, high), Answer(row.rejected, low), rules)
