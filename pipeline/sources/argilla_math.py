"""Distilabel math preferences (Hub argilla/distilabel-math-preference-dpo): Apache-2.0.

    {"metadata": "{}", "instruction": "What is 2 + 2?", "chosen_response": "4", "chosen_rating": 5.0,
     "rejected_response": "5", "rejected_rating": 1.0}

Pair rule: as upstream ordered them; RLHFlow keeps all 2,418 rows.
"""

from collections.abc import Iterable

from pipeline.answers import Answer, RatedRules, rated_pair
from pipeline.items import Item, Items, Score, Shape, each, user
from pipeline.raw import RawRow

KIND = "preferences"


class Rules(RatedRules):
    """What is asked of upstream's order."""


class Row(Shape):
    """An instruction and two rated answers."""

    instruction: str
    chosen_response: str
    chosen_rating: Score = None
    rejected_response: str
    rejected_rating: Score = None


def items(rows: Iterable[RawRow], rules: Rules) -> Items:
    """One preference per row."""
    return each(rows, Row, lambda row: preference(row, rules))


def preference(row: Row, rules: Rules) -> Item:
    """The pair, if its ratings agree."""
    chosen = Answer(row.chosen_response, row.chosen_rating)
    rejected = Answer(row.rejected_response, row.rejected_rating)
    return rated_pair(user(row.instruction), chosen, rejected, rules)
