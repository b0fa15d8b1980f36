"""MMLU (github.com/hendrycks/test, Hub cais/mmlu): 57 subjects of multiple choice; MIT.

A CSV line without a header (question, four choices, letter), or a row of the Hub:

    What is 2 + 2?,3,4,5,6,B
    {"question": "What is 2 + 2?", "subject": "algebra", "choices": ["3", "4", "5", "6"], "answer": 1}

Text: the question, or the question and its choices.
"""

from collections.abc import Iterable

from pydantic import model_validator

from pipeline.items import Benchmark, Item, Items, Shape, each
from pipeline.params import Params
from pipeline.raw import RawRow

KIND = "benchmarks"
CSV_COLUMNS = ("question", "A", "B", "C", "D", "answer")


class Rules(Params):
    """What of a question is text."""

    with_choices: bool
    """Choices that many questions share ("True, False") make texts look more alike."""


class Row(Shape):
    """A question in either form."""

    question: str
    choices: list[str] | None = None
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
    """One text per row."""
    return each(rows, Row, lambda row: benchmark(row, rules))


def benchmark(row: Row, rules: Rules) -> Item:
    """The question and, if wanted, its choices."""
    choices = row.choices if row.choices is not None else [row.A, row.B, row.C, row.D]
    texts = [row.question, *choices] if rules.with_choices else [row.question]
    return Benchmark("\n".join(text for text in texts if text is not None))
