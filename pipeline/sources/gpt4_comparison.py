"""GPT-4-LLM comparisons (LLaMA-Factory's comparison_gpt4_data_en.json): CC-BY-NC-4.0, non-commercial.

    {"instruction": "Name a colour.", "input": "", "output": ["Blue.", "No."]}

The answers are ordered best first by GPT-4's score, which is not in the file. Pair rule: the first
against the last. The prompts are Alpaca's: they overlap with the Alpaca demonstrations by construction.
"""

from collections.abc import Iterable

from pipeline.answers import FEW_ANSWERS
from pipeline.instructions import instruction_text
from pipeline.items import Drop, Item, Items, Preference, Shape, each, user
from pipeline.params import Params
from pipeline.raw import RawRow
from pipeline.upstream import Upstream

KIND = "preferences"
RULE = "GPT-4's best answer against its worst"
SETS = (
    Upstream(
        name="hiyouga/LLaMA-Factory",
        host="github",
        licence="CC-BY-NC-4.0",
        redistributable=False,
        files=("data/comparison_gpt4_data_en.json",),
        columns=("instruction", "input", "output"),
    ),
)


class Rules(Params):
    """No rule of its own."""


class Row(Shape):
    """An instruction and its ordered answers."""

    instruction: str
    input: str | None = None
    output: list[str]


def items(rows: Iterable[RawRow], rules: Rules) -> Items:
    """One preference per row."""
    return each(rows, Row, preference)


def preference(row: Row) -> Item:
    """Best against worst."""
    if len(row.output) < 2:
        return Drop(FEW_ANSWERS, len(row.output), 2)
    return Preference(user(instruction_text(row.instruction, row.input)), row.output[0], row.output[-1])
