"""Alpaca's form: Stanford Alpaca and GPT4-LLM (CC-BY-NC-4.0), GPTeacher (MIT), CodeAlpaca (CC-BY-4.0).

    {"instruction": "Name a colour.", "input": "", "output": "Blue."}

GPTeacher's answer column is `response`. The user turn is the instruction and, after a blank line,
the input; "<noinput>" and its spellings count as none. A few outputs are empty; files of this family
repeat each other's prompts.
"""

from collections.abc import Iterable

from pydantic import AliasChoices, Field

from pipeline.instructions import instruction_text
from pipeline.items import Demonstration, Item, Items, Shape, each, user
from pipeline.params import Params
from pipeline.raw import RawRow
from pipeline.upstream import FROM_MEMORY, Upstream

KIND = "demonstrations"
RULE = "every row: instruction and input are the request"
SETS = (
    Upstream(
        name="vicgalle/alpaca-gpt4",
        licence="CC-BY-NC-4.0",
        redistributable=False,
        files=("data/train-*.parquet",),
        columns=("instruction", "input", "output"),
        rows=52_002,
        rows_from=FROM_MEMORY,
    ),
    Upstream(
        name="teknium/GPTeacher-General-Instruct",
        licence="MIT",
        redistributable=True,
        files=("gpt4-instruct-dedupe-only-dataset.json",),
        columns=("instruction", "input", "response"),
    ),
    Upstream(
        name="tatsu-lab/alpaca",
        licence="CC-BY-NC-4.0",
        redistributable=False,
        files=("data/train-*.parquet",),
        columns=("instruction", "input", "output"),
        rows=52_002,
        rows_from=FROM_MEMORY,
    ),
)


class Rules(Params):
    """No rule of its own."""


class Row(Shape):
    """An instruction and its answer."""

    instruction: str
    input: str | None = None
    output: str = Field(validation_alias=AliasChoices("output", "response"))


def items(rows: Iterable[RawRow], rules: Rules) -> Items:
    """One demonstration per row."""
    return each(rows, Row, demonstration)


def demonstration(row: Row) -> Item:
    """A single turn."""
    request = user(instruction_text(row.instruction, row.input))
    return Demonstration([*request, {"role": "assistant", "content": row.output}])
