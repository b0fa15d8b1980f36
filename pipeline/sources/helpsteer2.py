"""HelpSteer2-Preference (Hub nvidia/HelpSteer2, preference/preference.jsonl.gz): CC-BY-4.0.

    {"prompt": "Name a colour.", "response_1": "No.", "response_2": "Blue.", "preference_strength": 3,
     "preference_statement": "Response 2 answers.", "preference_elaboration": "..."}

`preference_strength` runs from -3 (response 1 much better) over 0 (as good) to 3 (response 2 much
better). Pair rule: its sign; 0 is a tie and dropped, and so is what is weaker than `min_strength`.
Earlier turns stand in the prompt after `<extra_id_1>` lines. The rated part has its own adapter, `helpsteer`.
"""

from collections.abc import Iterable

from pydantic import Field

from pipeline.answers import TIE
from pipeline.conversations import from_nemo
from pipeline.items import Drop, Item, Items, Preference, Shape, each
from pipeline.params import Params
from pipeline.raw import RawRow
from pipeline.upstream import Upstream

KIND = "preferences"
RULE = "the answer that the sign of preference_strength prefers; ties and weak preferences dropped"
SETS = (
    Upstream(
        name="nvidia/HelpSteer2",
        licence="CC-BY-4.0",
        redistributable=True,
        files=("preference/preference.jsonl.gz",),
        columns=("prompt", "response_1", "response_2", "preference_strength"),
        rows=7_118,
        rows_from="6,766 train and 352 validation pairs, arXiv 2410.01257",
    ),
)


class Rules(Params):
    """How sure the annotators must be."""

    min_strength: int = Field(ge=1, le=3)


class Row(Shape):
    """Two answers and how strongly the second is preferred."""

    prompt: str
    response_1: str
    response_2: str
    preference_strength: int = Field(ge=-3, le=3)


def items(rows: Iterable[RawRow], rules: Rules) -> Items:
    """One preference per row."""
    return each(rows, Row, lambda row: preference(row, rules))


def preference(row: Row, rules: Rules) -> Item:
    """The pair in the order of the sign."""
    strength = abs(row.preference_strength)
    if strength == 0:
        return Drop(TIE, 0)
    if strength < rules.min_strength:
        return Drop("preference too weak", strength, rules.min_strength)
    better, worse = row.response_1, row.response_2
    if row.preference_strength > 0:
        better, worse = worse, better
    return Preference(from_nemo(row.prompt), better, worse)
