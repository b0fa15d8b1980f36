"""One question and one answer in two named columns.

    {"question": "What is 2 + 2?", "answer": "4"}

For MathInstruct (instruction, output), Magicoder-Evol-Instruct (instruction, response; Apache-2.0),
Orca-Math (question, answer; MIT), UltraInteract_sft (instruction, response; MIT) and their like.
"""

from collections.abc import Iterable

from pipeline.items import WRONG_SHAPE, Demonstration, Drop, Item, Items, OpenRow, each, user
from pipeline.params import Params
from pipeline.raw import RawRow
from pipeline.upstream import FROM_MEMORY, Upstream

KIND = "demonstrations"
RULE = "every row: one named column asks, another answers"
SETS = (
    Upstream(
        name="TIGER-Lab/MathInstruct",
        licence="MIT",
        redistributable=True,
        files=("MathInstruct.json",),
        columns=("instruction", "output"),
        rows=262_039,
        rows_from=FROM_MEMORY,
    ),
    Upstream(
        name="ise-uiuc/Magicoder-Evol-Instruct-110K",
        licence="Apache-2.0",
        redistributable=True,
        files=("data-evol_instruct-decontaminated.jsonl",),
        columns=("instruction", "response"),
        rows=111_183,
        rows_from=FROM_MEMORY,
    ),
    Upstream(
        name="microsoft/orca-math-word-problems-200k",
        licence="MIT",
        redistributable=True,
        files=("data/train-*.parquet",),
        columns=("question", "answer"),
        rows=200_035,
        rows_from=FROM_MEMORY,
    ),
    Upstream(
        name="openbmb/UltraInteract_sft",
        licence="MIT",
        redistributable=True,
        files=("0000_sft.parquet",),
        columns=("instruction", "response"),
        rows=288_579,
        rows_from=FROM_MEMORY,
    ),
)


class Rules(Params):
    """The columns."""

    instruction: str
    response: str
    system: str | None
    """Column with a system message; null: none."""


def items(rows: Iterable[RawRow], rules: Rules) -> Items:
    """One demonstration per row."""
    return each(rows, OpenRow, lambda row: demonstration(row, rules))


def demonstration(row: OpenRow, rules: Rules) -> Item:
    """A single turn."""
    if lacking := row.lacks(rules.instruction, rules.response, rules.system):
        return lacking
    instruction, response = row.text(rules.instruction), row.text(rules.response)
    if instruction is None or response is None:
        return Drop(WRONG_SHAPE, detail=f"expected text in {rules.instruction} and {rules.response}")
    system = row.text(rules.system)
    if system is None and row.column(rules.system) is not None:
        return Drop(WRONG_SHAPE, detail=f"{rules.system}: expected text or null")
    return Demonstration([*user(instruction, system), {"role": "assistant", "content": response}])
