"""Argilla's re-rated Orca pairs (Hub argilla/distilabel-intel-orca-dpo-pairs): Apache-2.0.

    {"system": "Be brief.", "input": "Name a colour.", "chosen": "Blue.", "rejected": "A colour is ...",
     "generations": ["A colour is ...", "Blue."], "order": ["rejected", "chosen"], "rating": [7.0, 9.0],
     "status": "unchanged", "in_gsm8k_train": false}

`rating` is that of `generations`, in order. `order` names Intel's chosen and rejected; in the 2,000
rows whose status is "swapped" (set card), `chosen` and `rejected` have changed places since, so that
a rating found through `order`, as RLHFlow does, is the other answer's. Here a rating is found by the
answer's text; where that fails, the higher one is chosen's, which holds for swapped rows too. The
4,000 "tie" rows have equal ratings, some have none. RLHFlow drops the system prompt; here it is kept.
The card proposes to drop ties, chosen scores below 8 and questions of GSM8K's train set.
"""

from collections.abc import Iterable

from pydantic import Field

from pipeline.answers import MISSING_SCORE, Answer, RatedRules, rated_pair
from pipeline.items import WRONG_SHAPE, Drop, Item, Items, Score, Shape, each, user
from pipeline.raw import RawRow
from pipeline.upstream import Paper, Upstream

KIND = "preferences"
RULE = "as upstream ordered them after its swaps; ties, low scores and questions of GSM8K can be dropped"
SETS = (
    Upstream(
        name="argilla/distilabel-intel-orca-dpo-pairs",
        licence="Apache-2.0",
        redistributable=True,
        files=("data/train-*.parquet",),
        columns=("system", "input", "chosen", "rejected", "generations", "rating", "in_gsm8k_train"),
        rows=12_859,
        rows_from="the set's card",
        paper=Paper(
            name="OpenOrca",
            pairs=6_926,
            prompts=6_791,
            prompt_tokens=153.3,
            chosen_tokens=165.4,
            rejected_tokens=260.5,
            completion="LLM",
            annotator="LLM",
        ),
    ),
)


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
    generations: list[str] | None = None
    rating: list[Score] | None = None
    in_gsm8k_train: bool | None = None


def items(rows: Iterable[RawRow], rules: Rules) -> Items:
    """One preference per row."""
    return each(rows, Row, lambda row: preference(row, rules))


def preference(row: Row, rules: Rules) -> Item:
    """The pair, if rules and ratings agree."""
    if rules.drop_gsm8k and row.in_gsm8k_train is None:
        return Drop(WRONG_SHAPE, detail="in_gsm8k_train: Field required")
    if rules.drop_gsm8k and row.in_gsm8k_train:
        return Drop("question is in the GSM8K train set")
    chosen, rejected = ratings(row)
    if rules.min_chosen_score is not None:
        if chosen is None:
            return Drop(MISSING_SCORE)
        if chosen < rules.min_chosen_score:
            return Drop("chosen score below minimum", chosen, rules.min_chosen_score)
    prompt = user(row.input, row.system)
    return rated_pair(prompt, Answer(row.chosen, chosen), Answer(row.rejected, rejected), rules)


def ratings(row: Row) -> tuple[float | None, float | None]:
    """The ratings of chosen and rejected."""
    rated = row.rating or []
    if len(rated) != 2:
        return None, None
    first, second = rated
    if row.generations == [row.chosen, row.rejected]:
        return first, second
    if row.generations == [row.rejected, row.chosen]:
        return second, first
    return (None, None) if first is None or second is None else (max(first, second), min(first, second))
