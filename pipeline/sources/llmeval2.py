"""LLMEval^2 (github.com/AlibabaResearch/DAMO-ConvAI, WideDeep): human labels on pairs from 15 sets; MIT.

    {"query": "Name a colour.", "response1": "Blue.", "response2": "No.", "human": "model1", "dataset": "shp"}

`human` is model1, model2 or TIE (482 of 2,553). Pair rule: the label; ties dropped. `datasets`
chooses among the sets it is drawn from, which keep their own licences. The mt-bench rows
have an empty query with the conversation inside each answer: they fall to the rule on empty turns.
"""

from collections.abc import Iterable
from typing import Literal

from pipeline.answers import TIE
from pipeline.items import Drop, Item, Items, Preference, Shape, each, user
from pipeline.params import Params
from pipeline.raw import RawRow
from pipeline.upstream import Upstream

KIND = "preferences"
RULE = "the answer that people preferred; ties dropped; the sets it is drawn from can be chosen"
SETS = (
    Upstream(
        name="AlibabaResearch/DAMO-ConvAI",
        host="github",
        licence="MIT; the rows keep the licences of their sets",
        redistributable=False,
        files=("WideDeep/data/LLMEval2_benchmark.json",),
        columns=("query", "response1", "response2", "human", "dataset"),
        rows=2_553,
        rows_from="counted",
    ),
)


class Rules(Params):
    """Which of the sets count."""

    datasets: tuple[str, ...] | None
    """Values of the column `dataset`; null: all."""


class Row(Shape):
    """Two answers and a human label."""

    query: str
    response1: str
    response2: str
    human: Literal["model1", "model2", "TIE"]
    dataset: str


def items(rows: Iterable[RawRow], rules: Rules) -> Items:
    """One preference per row."""
    return each(rows, Row, lambda row: preference(row, rules))


def preference(row: Row, rules: Rules) -> Item:
    """The pair in the order of the label."""
    if rules.datasets is not None and row.dataset not in rules.datasets:
        return Drop("dataset not chosen", detail=row.dataset)
    if row.human == "TIE":
        return Drop(TIE)
    answers = (row.response1, row.response2) if row.human == "model1" else (row.response2, row.response1)
    return Preference(user(row.query), *answers)
