"""Prompts in a named column, as text or as messages: Koala's and WizardLM's test sets, and their like.

    {"id": "koala_0", "prompt": "Name a colour."}

For RLHFlow/prompt-collection-v0.1 the column is `context_messages`.
"""

from collections.abc import Iterable

from pipeline.conversations import Message, from_messages
from pipeline.items import Drop, Item, Items, OpenRow, Prompt, Shape, each, parsed, user
from pipeline.params import Params
from pipeline.raw import RawRow
from pipeline.upstream import Upstream

KIND = "prompts"
RULE = "every prompt of a named column"
SETS = (
    Upstream(
        name="RLHFlow/prompt-collection-v0.1",
        licence="none given; its parts keep theirs",
        redistributable=False,
        files=("data/train-*.parquet",),
        columns=("context_messages",),
        rows=179_465,
        rows_from="the set's card",
    ),
    Upstream(
        name="yizhongw/self-instruct",
        host="github",
        licence="Apache-2.0",
        redistributable=True,
        files=("human_eval/user_oriented_instructions.jsonl",),
        columns=("instruction",),
    ),
)


class Rules(Params):
    """The column."""

    column: str


class Row(Shape):
    """A prompt, moved here from its column."""

    prompt: str | list[Message]


def items(rows: Iterable[RawRow], rules: Rules) -> Items:
    """One prompt per row."""
    return each(rows, OpenRow, lambda row: prompt(row, rules))


def prompt(row: OpenRow, rules: Rules) -> Item:
    """The prompt of the named column."""
    found = parsed(RawRow("", 0, {"prompt": row.column(rules.column)}), Row)
    if isinstance(found, Drop):
        return found
    return Prompt(user(found.prompt) if isinstance(found.prompt, str) else from_messages(found.prompt))
