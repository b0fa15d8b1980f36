"""Anthropic HH-RLHF (github.com/anthropics/hh-rlhf, Hub Anthropic/hh-rlhf): MIT.

A row is two transcripts of one conversation with different ends:

    {"chosen": "\\n\\nHuman: Name a colour.\\n\\nAssistant: Blue.",
     "rejected": "\\n\\nHuman: Name a colour.\\n\\nAssistant: No."}

Pair rule (card of RLHFlow/HH-RLHF-Helpful-standard): the prompt is every turn but the last, which
must be the same in both and be followed by an assistant turn; the answers must differ. Some rows
differ before the last turn, end in a human turn or have an empty one: all dropped by name. No scores.
"""

from collections.abc import Iterable

from pipeline.conversations import from_transcript
from pipeline.items import Drop, Item, Items, Preference, Shape, each
from pipeline.params import Params
from pipeline.raw import RawRow

KIND = "preferences"


class Rules(Params):
    """No rule of its own: the shared validity rules do the rest."""


class Row(Shape):
    """Two transcripts."""

    chosen: str
    rejected: str


def items(rows: Iterable[RawRow], rules: Rules) -> Items:
    """One preference per row."""
    return each(rows, Row, preference)


def preference(row: Row) -> Item:
    """The pair, or why the two transcripts make none."""
    chosen, rejected = from_transcript(row.chosen), from_transcript(row.rejected)
    if chosen is None or rejected is None:
        return Drop("malformed transcript")
    if chosen[-1]["role"] != "assistant" or rejected[-1]["role"] != "assistant":
        return Drop("no answer", detail="a transcript ends with a human turn")
    if chosen[:-1] != rejected[:-1]:
        return Drop("contexts differ")
    return Preference(chosen[:-1], chosen[-1]["content"], rejected[-1]["content"])
