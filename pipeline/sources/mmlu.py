"""MMLU (github.com/hendrycks/test, Hub cais/mmlu): 57 subjects of multiple choice; MIT.

A CSV line without a header (question, four choices, letter), or a row of the Hub:

    What is 2 + 2?,3,4,5,6,B
    {"question": "What is 2 + 2?", "subject": "algebra", "choices": ["3", "4", "5", "6"], "answer": 1}

Texts: the question, and if wanted the question with its choices.
"""

from collections.abc import Iterable
from string import ascii_uppercase
from typing import Annotated

from pydantic import Field, model_validator

from pipeline.items import Item, Items, Shape, each
from pipeline.params import Params
from pipeline.questions import multiple_choice
from pipeline.raw import RawRow
from pipeline.upstream import Upstream

KIND = "benchmarks"
RULE = "the question, and if wanted the question with its choices"
SETS = (
    Upstream(
        name="cais/mmlu",
        licence="MIT",
        redistributable=True,
        files=("all/test-*.parquet",),
        columns=("question", "choices"),
        rows=14_042,
        rows_from="counted",
    ),
)
CSV_COLUMNS = ("question", "A", "B", "C", "D", "answer")


class Rules(Params):
    """What of a question is text."""

    with_choices: bool
    """Whether the question with its choices is a text besides the question alone."""


class Row(Shape):
    """A question in either form."""

    question: str
    choices: Annotated[list[str], Field(max_length=26)] | None = None
    A: str | None = None
    B: str | None = None
    C: str | None = None
    D: str | None = None

    @model_validator(mode="after")
    def has_choices(self) -> "Row":
        """Choices as a list or as four columns."""
        if self.choices is None and None in (self.A, self.B, self.C, self.D):
            raise ValueError("expected choices, or the columns A, B, C, D")
        return self


def items(rows: Iterable[RawRow], rules: Rules) -> Items:
    """The texts of each row."""
    return each(rows, Row, lambda row: benchmarks(row, rules))


def benchmarks(row: Row, rules: Rules) -> list[Item]:
    """The question, and if wanted its choices."""
    choices = row.choices if row.choices is not None else [row.A or "", row.B or "", row.C or "", row.D or ""]
    return multiple_choice(
        row.question, choices, ascii_uppercase[: len(choices)], with_choices=rules.with_choices
    )
