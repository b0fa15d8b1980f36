"""Distilabel math preferences (Hub argilla/distilabel-math-preference-dpo): Apache-2.0.

    {"metadata": "{}", "instruction": "What is 2 + 2?", "chosen_response": "4", "chosen_rating": 5.0,
     "rejected_response": "5", "rejected_rating": 1.0}

Pair rule: as upstream ordered them; RLHFlow keeps all 2,418 rows.
"""

from collections.abc import Iterable

from pipeline.answers import Answer, RatedRules, rated_pair
from pipeline.items import Item, Items, Score, Shape, each, user
from pipeline.raw import RawRow
from pipeline.upstream import ROUNDED, Paper, Upstream

KIND = "preferences"
RULE = "as upstream ordered them, unless the ratings are asked to agree"
SETS = (
    Upstream(
        name="argilla/distilabel-math-preference-dpo",
        licence="Apache-2.0",
        redistributable=True,
        files=("data/train-*.parquet",),
        columns=("instruction", "chosen_response", "chosen_rating", "rejected_response", "rejected_rating"),
        rows=2_418,
        rows_from="the set's card",
        paper=Paper(
            name="Argilla-Math",
            pairs=2_418,
            prompts=2_352,
            prompt_tokens=36.5,
            chosen_tokens=276.5,
            rejected_tokens=265.3,
            completion="LLM",
            annotator="LLM",
            pairs_confirmed_by=ROUNDED,
        ),
    ),
)


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
