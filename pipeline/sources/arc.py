"""ARC (AI2 Reasoning Challenge, Easy and Challenge; Hub allenai/ai2_arc): school science; CC-BY-SA-4.0.

A line of AI2's own files, or a row of the Hub:

    {"id": "a1", "question": {"stem": "What is ice?", "choices": [{"text": "water", "label": "A"},
     {"text": "sand", "label": "B"}]}, "answerKey": "A"}
    {"id": "a1", "question": "What is ice?", "choices": {"text": ["water", "sand"], "label": ["A", "B"]},
     "answerKey": "A"}

Texts: the question, and if wanted the question with its choices.
"""

from collections.abc import Iterable

from pydantic import model_validator

from pipeline.items import Item, Items, Shape, each
from pipeline.params import Params
from pipeline.questions import multiple_choice
from pipeline.raw import RawRow
from pipeline.upstream import Upstream

KIND = "benchmarks"
RULE = "the question, and if wanted the question with its choices"
SETS = (
    Upstream(
        name="allenai/ai2_arc",
        licence="CC-BY-SA-4.0",
        redistributable=True,
        files=("ARC-*/test-*.parquet",),
        columns=("question", "choices"),
        rows=3_548,
        rows_from="2,376 of ARC-Easy and 1,172 of ARC-Challenge, counted",
    ),
)


class Rules(Params):
    """What of a question is text."""

    with_choices: bool
    """Whether the question with its choices is a text besides the question alone."""


class Choice(Shape):
    """A choice of AI2's form."""

    text: str
    label: str


class Stem(Shape):
    """A question of AI2's form."""

    stem: str
    choices: list[Choice]


class Choices(Shape):
    """The choices of the Hub's form."""

    text: list[str]
    label: list[str]

    @model_validator(mode="after")
    def go_together(self) -> "Choices":
        """A label for each text."""
        if len(self.text) != len(self.label):
            raise ValueError(f"expected a label for each of {len(self.text)} texts, found {len(self.label)}")
        return self


class Row(Shape):
    """A question in either form."""

    question: Stem | str
    choices: Choices | None = None

    @model_validator(mode="after")
    def has_choices(self) -> "Row":
        """Choices inside the question or beside it."""
        if isinstance(self.question, str) and self.choices is None:
            raise ValueError("expected choices beside the question")
        return self


def items(rows: Iterable[RawRow], rules: Rules) -> Items:
    """The texts of each row."""
    return each(rows, Row, lambda row: benchmarks(row, rules))


def benchmarks(row: Row, rules: Rules) -> list[Item]:
    """The question, and if wanted its choices."""
    if isinstance(row.question, Stem):
        question, given = row.question.stem, row.question.choices
        texts, labels = [choice.text for choice in given], [choice.label for choice in given]
    else:
        question = row.question
        texts, labels = (row.choices.text, row.choices.label) if row.choices else ([], [])
    return multiple_choice(question, texts, labels, with_choices=rules.with_choices)
