"""Texts of an evaluation set, which decontamination keeps out of training: GSM8K, HumanEval, AlpacaEval, ...

    {"question": "What is 2 + 2?", "answer": "#### 4"}

The rows' named columns are joined by line breaks. A column may be text or a list of texts (choices);
a dot goes into a mapping, or into each mapping of a list: `question.stem`, `question.choices.text`. Where
several texts are joined, the first is an item by itself too: a prompt may have a question without the rest.
"""

from collections.abc import Iterable
from typing import Any

from pydantic import Field

from pipeline.items import WRONG_SHAPE, Benchmark, Drop, Item, Items, OpenRow, each, is_text
from pipeline.params import Params
from pipeline.raw import RawRow
from pipeline.upstream import FROM_MEMORY, Upstream

KIND = "benchmarks"
RULE = "the first of the named columns, and all of them joined"
SETS = (
    Upstream(
        name="openai/gsm8k",
        licence="MIT",
        redistributable=True,
        files=("main/test-*.parquet",),
        columns=("question",),
        rows=1_319,
        rows_from="counted",
    ),
    Upstream(
        name="openai/openai_humaneval",
        licence="MIT",
        redistributable=True,
        files=("openai_humaneval/test-*.parquet",),
        columns=("prompt",),
        rows=164,
        rows_from="counted",
    ),
    Upstream(
        name="tatsu-lab/alpaca_eval",
        licence="CC-BY-NC-4.0",
        redistributable=False,
        files=("alpaca_eval.json",),
        columns=("instruction",),
        rows=805,
        rows_from="counted",
    ),
    Upstream(
        name="google-research-datasets/mbpp",
        licence="CC-BY-4.0",
        redistributable=True,
        files=("full/*.parquet",),
        columns=("text",),
        rows=974,
        rows_from="counted",
    ),
    Upstream(
        name="truthfulqa/truthful_qa",
        licence="Apache-2.0",
        redistributable=True,
        files=("generation/validation-*.parquet",),
        columns=("question",),
        rows=817,
        rows_from="counted",
    ),
    Upstream(
        name="allenai/reward-bench",
        licence="ODC-BY",
        redistributable=True,
        files=("data/filtered-*.parquet",),
        columns=("prompt",),
        rows=2_985,
        rows_from=FROM_MEMORY,
    ),
)


class Rules(Params):
    """The columns."""

    columns: tuple[str, ...] = Field(min_length=1)


def items(rows: Iterable[RawRow], rules: Rules) -> Items:
    """The texts of each row."""
    return each(rows, OpenRow, lambda row: benchmarks(row, rules))


def benchmarks(row: OpenRow, rules: Rules) -> list[Item]:
    """The columns' first text, and all of them joined."""
    texts: list[str] = []
    for column in rules.columns:
        found = texts_of(value_at(row.model_extra, column.split(".")))
        if found is None:
            return [Drop(WRONG_SHAPE, detail=f"{column}: expected text or a list of texts")]
        texts += found
    joined = Benchmark("\n".join(texts))
    return [Benchmark(texts[0]), joined] if len(texts) > 1 else [joined]


def value_at(value: Any, path: list[str]) -> Any:
    """What stands at the end of the path, in a list for each of its members; None where it breaks off."""
    for i, name in enumerate(path):
        if isinstance(value, list):
            return [value_at(member, path[i:]) for member in value]
        value = value.get(name) if isinstance(value, dict) else None
    return value


def texts_of(value: Any) -> list[str] | None:
    """One text or a list of texts, as a list; None for anything else."""
    values = value if isinstance(value, list) else [value]
    return values if all(isinstance(text, str) and is_text(text) for text in values) else None
