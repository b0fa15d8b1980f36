"""Conversations as message lists in a named column.

    {"messages": [{"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": "Blue."}]}

For the Tulu 3 SFT mixture (ODC-BY), trl-lib/Capybara (Apache-2.0) and their like.
"""

from collections.abc import Iterable

from pipeline.conversations import Message, from_messages
from pipeline.items import Demonstration, Drop, Item, Items, OpenRow, Shape, each, parsed
from pipeline.params import Params
from pipeline.raw import RawRow
from pipeline.upstream import Upstream

KIND = "demonstrations"
RULE = "every conversation of a named column"
SETS = (
    Upstream(
        name="RLHFlow/SFT-OpenHermes-2.5-Standard",
        licence="none given; its parts keep theirs",
        redistributable=False,
        files=("data/train-*.parquet",),
        columns=("messages",),
    ),
    Upstream(
        name="allenai/tulu-3-sft-mixture",
        licence="ODC-BY",
        redistributable=True,
        files=("data/train-*.parquet",),
        columns=("messages",),
    ),
    Upstream(
        name="trl-lib/Capybara",
        licence="Apache-2.0",
        redistributable=True,
        files=("data/train-*.parquet",),
        columns=("messages",),
    ),
)


class Rules(Params):
    """The column."""

    column: str


class Row(Shape):
    """A conversation, moved here from its column."""

    messages: list[Message]


def items(rows: Iterable[RawRow], rules: Rules) -> Items:
    """One demonstration per row."""
    return each(rows, OpenRow, lambda row: demonstration(row, rules))


def demonstration(row: OpenRow, rules: Rules) -> Item:
    """The conversation of the named column."""
    content = row.column(rules.column)
    found = parsed(RawRow("", 0, {"messages": content}), Row)
    return found if isinstance(found, Drop) else Demonstration(from_messages(found.messages))
