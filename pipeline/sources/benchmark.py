"""Texts of an evaluation set, which decontamination keeps out of training: GSM8K, HumanEval, AlpacaEval, ...

    {"question": "What is 2 + 2?", "answer": "#### 4"}

The rows' named columns are joined by line breaks. A column may be text or a list of texts (choices);
a dot goes into a mapping: `question.stem`.
"""

from collections.abc import Iterable
from typing import Any

from pydantic import Field

from pipeline.items import WRONG_SHAPE, Benchmark, Drop, Item, Items, OpenRow, each, is_text
from pipeline.params import Params
from pipeline.raw import RawRow

KIND = "benchmarks"


class Rules(Params):
    """The columns."""

    columns: tuple[str, ...] = Field(min_length=1)


def items(rows: Iterable[RawRow], rules: Rules) -> Items:
    """One text per row."""
    return each(rows, OpenRow, lambda row: benchmark(row, rules))


def benchmark(row: OpenRow, rules: Rules) -> Item:
    """The columns' texts, joined."""
    texts: list[str] = []
    for column in rules.columns:
        found = texts_of(value_at(row.model_extra, column.split(".")))
        if found is None:
            return Drop(WRONG_SHAPE, detail=f"{column}: expected text or a list of texts")
        texts += found
    return Benchmark("\n".join(texts))


def value_at(value: Any, path: list[str]) -> Any:
    """What stands at the end of the path; None where it breaks off."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def texts_of(value: Any) -> list[str] | None:
    """One text or a list of texts, as a list; None for anything else."""
    values = value if isinstance(value, list) else [value]
    return values if all(isinstance(text, str) and is_text(text) for text in values) else None
