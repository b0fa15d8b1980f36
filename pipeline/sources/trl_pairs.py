"""Pairs in the forms that TRL takes (its dataset formats page), under whatever licence they come.

Explicit prompt, as text or as messages; implicit prompt, as what both sides begin with:

    {"prompt": "Name a colour.", "chosen": "Blue.", "rejected": "No."}
    {"prompt": [{"role": "user", "content": "Name a colour."}],
     "chosen": [{"role": "assistant", "content": "Blue."}],
     "rejected": [{"role": "assistant", "content": "No."}]}
    {"chosen": "The sky is blue.", "rejected": "The sky is green."}
    {"chosen": [{"role": "user", "content": "A colour?"}, {"role": "assistant", "content": "Blue."}],
     "rejected": [{"role": "user", "content": "A colour?"}, {"role": "assistant", "content": "No."}]}

A text's implicit prompt ends where TRL's `extract_prompt` ends it: at the first character that differs,
or at the space before it. So it may end inside a word: an explicit prompt is better where there is one.

Pair rule: as the file orders them; scores, where their columns are named, may be asked to agree.
"""

from collections.abc import Iterable
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from pipeline.answers import Answer, RatedRules, rated_pair
from pipeline.conversations import Message, from_messages, split_pair
from pipeline.items import WRONG_SHAPE, Drop, Item, Items, OpenRow, Score, each, user
from pipeline.raw import RawRow
from pipeline.upstream import Upstream

KIND = "preferences"
RULE = (
    "as the file orders them; the prompt is a column or what both sides share; scores can be asked to agree"
)
SETS = (
    Upstream(
        name="hendrydong/preference_700K",
        licence="none given; its parts keep theirs",
        redistributable=False,
        files=("data/train-*.parquet",),
        columns=("chosen", "rejected", "chosen_score", "rejected_score"),
        rows=700_000,
        rows_from="the set's card",
    ),
    Upstream(
        name="allenai/llama-3.1-tulu-3-8b-preference-mixture",
        licence="ODC-BY",
        redistributable=True,
        files=("data/train-*.parquet",),
        columns=("chosen", "rejected"),
    ),
)

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
    if lacking := row.lacks(rules.chosen_score, rules.rejected_score):
        return lacking
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
    """The shared beginning and what is different: the end of a text, or the last turn."""
    if isinstance(row.chosen, str) and isinstance(row.rejected, str):
        return split_texts(row.chosen, row.rejected)
    if isinstance(row.chosen, str) or isinstance(row.rejected, str):
        return Drop(WRONG_SHAPE, detail="chosen and rejected: expected two texts or two message lists")
    return split_pair(from_messages(row.chosen), from_messages(row.rejected))


def split_texts(chosen: str, rejected: str) -> tuple[list[dict[str, str]], str, str]:
    """The shared beginning of two texts, without the space at its end, and what follows it."""
    ends = min(len(chosen), len(rejected))
    shared = next((place for place in range(ends) if chosen[place] != rejected[place]), ends)
    if shared and chosen[shared - 1] == " ":
        shared -= 1
    return user(chosen[:shared]), chosen[shared:], rejected[shared:]


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
