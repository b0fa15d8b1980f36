"""Pairs in the forms that TRL takes (its dataset formats page), under whatever licence they come.

Explicit prompt, as text or as messages; implicit prompt, as messages that both sides begin with:

    {"prompt": "Name a colour.", "chosen": "Blue.", "rejected": "No."}
    {"prompt": [{"role": "user", "content": "Name a colour."}],
     "chosen": [{"role": "assistant", "content": "Blue."}],
     "rejected": [{"role": "assistant", "content": "No."}]}
    {"chosen": [{"role": "user", "content": "A colour?"}, {"role": "assistant", "content": "Blue."}],
     "rejected": [{"role": "user", "content": "A colour?"}, {"role": "assistant", "content": "No."}]}

Pair rule: as the file orders them; scores, where their columns are named, may be asked to agree.
"""

from collections.abc import Iterable
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from pipeline.answers import Answer, RatedRules, rated_pair
from pipeline.conversations import Message, from_messages, split_pair
from pipeline.items import WRONG_SHAPE, Drop, Item, Items, OpenRow, Score, each, user
from pipeline.raw import RawRow

KIND = "preferences"

SCORE: TypeAdapter[float | None] = TypeAdapter(Score)


class Rules(RatedRules):
    """Where the prompt is, and which columns hold scores."""

    prompt: Literal["explicit", "implicit"]
    """`explicit`: in the column `prompt`. `implicit`: the shared beginning of chosen and rejected."""
    chosen_score: str | None
    """Column with chosen's score; null: none."""
    rejected_score: str | None


class Row(OpenRow):
    """A pair in any of the forms."""

    prompt: str | list[Message] | None = None
    chosen: str | list[Message]
    rejected: str | list[Message]


def items(rows: Iterable[RawRow], rules: Rules) -> Items:
    """One preference per row."""
    return each(rows, Row, lambda row: preference(row, rules))


def preference(row: Row, rules: Rules) -> Item:
    """The pair in one form."""
    try:
        chosen_score = SCORE.validate_python(row.column(rules.chosen_score))
        rejected_score = SCORE.validate_python(row.column(rules.rejected_score))
    except ValidationError:
        return Drop(WRONG_SHAPE, detail=f"{rules.chosen_score}, {rules.rejected_score}: expected numbers")
    split = implicit(row) if rules.prompt == "implicit" else explicit(row)
    if isinstance(split, Drop):
        return split
    prompt, chosen, rejected = split
    return rated_pair(prompt, Answer(chosen, chosen_score), Answer(rejected, rejected_score), rules)


def implicit(row: Row) -> tuple[list[dict[str, str]], str, str] | Drop:
    """The shared beginning and the two last turns."""
    if isinstance(row.chosen, str) or isinstance(row.rejected, str):
        return Drop(WRONG_SHAPE, detail="an implicit prompt needs message lists in chosen and rejected")
    return split_pair(from_messages(row.chosen), from_messages(row.rejected))


def explicit(row: Row) -> tuple[list[dict[str, str]], str, str] | Drop:
    """The prompt column, and one answer of each side."""
    if row.prompt is None:
        return Drop(WRONG_SHAPE, detail="prompt: Field required")
    prompt = user(row.prompt) if isinstance(row.prompt, str) else from_messages(row.prompt)
    chosen, rejected = answer(row.chosen), answer(row.rejected)
    if chosen is None or rejected is None:
        return Drop("no answer", detail="expected one assistant message on each side")
    return prompt, chosen, rejected


def answer(side: str | list[Message]) -> str | None:
    """The text of one assistant message, or of a string."""
    if isinstance(side, str):
        return side
    return side[0].content if len(side) == 1 and side[0].role == "assistant" else None
