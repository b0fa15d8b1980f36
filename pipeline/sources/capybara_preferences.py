"""Capybara preferences (Hub argilla/Capybara-Preferences-Filtered and its 7k forerunner): Apache-2.0.

    {"chosen": [{"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": "Blue."}],
     "rejected": [{"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": "No."}],
     "chosen_rating": 5, "rejected_rating": 2, "chosen_model": "gpt-4", "rejected_model": "m1"}

Multi-turn: the prompt is every turn but the last. Pair rule: as upstream ordered them; RLHFlow keeps
all 14,811 rows of -Filtered, and dropped the ties of argilla/distilabel-capybara-dpo-7k-binarized,
whose columns are rating_chosen and rating_rejected.
"""

from collections.abc import Iterable

from pydantic import AliasChoices, Field

from pipeline.answers import Answer, RatedRules, rated_pair
from pipeline.conversations import Message, from_messages, split_pair
from pipeline.items import Drop, Item, Items, Score, Shape, each
from pipeline.raw import RawRow
from pipeline.upstream import Paper, Upstream

KIND = "preferences"
RULE = "as upstream ordered them: every turn but the last is the prompt; the ratings can be asked to agree"
SETS = (
    Upstream(
        name="argilla/Capybara-Preferences-Filtered",
        licence="Apache-2.0",
        redistributable=True,
        files=("data/train-*.parquet",),
        columns=("chosen", "rejected", "chosen_rating", "rejected_rating", "chosen_model", "rejected_model"),
        rows=14_811,
        rows_from="card of RLHFlow/Capybara-distibalel-Filter-standard, which keeps every row",
        paper=Paper(
            name="Capybara",
            pairs=14_811,
            prompts=14_740,
            prompt_tokens=634.5,
            chosen_tokens=348.4,
            rejected_tokens=401.9,
            completion="LLM",
            annotator="LLM",
        ),
    ),
    Upstream(
        name="argilla/distilabel-capybara-dpo-7k-binarized",
        licence="Apache-2.0",
        redistributable=True,
        files=("data/train-*.parquet",),
        columns=("chosen", "rejected", "rating_chosen", "rating_rejected", "chosen_model", "rejected_model"),
        rows=7_563,
        rows_from="the set's card",
    ),
)


class Rules(RatedRules):
    """What is asked of upstream's order."""


class Row(Shape):
    """Two rated conversations."""

    chosen: list[Message]
    rejected: list[Message]
    chosen_rating: Score = Field(None, validation_alias=AliasChoices("chosen_rating", "rating_chosen"))
    rejected_rating: Score = Field(None, validation_alias=AliasChoices("rejected_rating", "rating_rejected"))
    chosen_model: str | None = None
    rejected_model: str | None = None


def items(rows: Iterable[RawRow], rules: Rules) -> Items:
    """One preference per row."""
    return each(rows, Row, lambda row: preference(row, rules))


def preference(row: Row, rules: Rules) -> Item:
    """The pair, if both conversations share their prompt."""
    split = split_pair(from_messages(row.chosen), from_messages(row.rejected))
    if isinstance(split, Drop):
        return split
    prompt, chosen, rejected = split
    return rated_pair(
        prompt,
        Answer(chosen, row.chosen_rating, row.chosen_model),
        Answer(rejected, row.rejected_rating, row.rejected_model),
        rules,
    )
