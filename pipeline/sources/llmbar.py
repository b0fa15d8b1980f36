"""LLMBar (github.com/princeton-nlp/LLMBar): pairs that test whether a judge follows instructions; MIT.

    {"input": "Name a colour.", "output_1": "Blue.", "output_2": "A lovely day!", "label": 1}

`label` is the number of the better output. A file is one subset, named by the rule. Part of
RewardBench's Chat Hard.
"""

from collections.abc import Iterable

from pydantic import Field

from pipeline.items import Item, Items, Preference, Shape, each, user
from pipeline.params import Params
from pipeline.raw import RawRow
from pipeline.upstream import Upstream

KIND = "judge_sets"
RULE = "the output that the label calls better; judges alone are tested on it"
SETS = (
    Upstream(
        name="princeton-nlp/LLMBar",
        host="github",
        licence="MIT",
        redistributable=True,
        files=("Dataset/LLMBar/*/dataset.json",),
        columns=("input", "output_1", "output_2", "label"),
        rows=419,
        rows_from="100 natural and 319 adversarial instances, arXiv 2310.07641",
    ),
)


class Rules(Params):
    """What the file is."""

    subset: str = Field(min_length=1)
    """Name under which accuracy is reported."""


class Row(Shape):
    """Two outputs and a label."""

    input: str
    output_1: str
    output_2: str
    label: int = Field(ge=1, le=2)


def items(rows: Iterable[RawRow], rules: Rules) -> Items:
    """One pair per row."""
    return each(rows, Row, lambda row: pair(row, rules))


def pair(row: Row, rules: Rules) -> Item:
    """The pair in the order of the label."""
    better, worse = (row.output_1, row.output_2) if row.label == 1 else (row.output_2, row.output_1)
    return Preference(user(row.input), better, worse, subset=rules.subset)
