"""Intel orca_dpo_pairs (Hub Intel/orca_dpo_pairs): GPT-4 answers against Llama-2-13b-chat's; Apache-2.0.

    {"system": "Answer in one word.", "question": "Name a colour.", "chosen": "Blue.", "rejected": "Red?"}

Pair rule: as upstream ordered them (chosen is GPT-4's, not always better). The system prompt is
kept; a blank one makes no turn. Chosen answers are mostly the shorter ones (232 of 284 measured).
"""

from collections.abc import Iterable

from pipeline.items import Items, Preference, Shape, each, user
from pipeline.params import Params
from pipeline.raw import RawRow
from pipeline.upstream import Upstream

KIND = "preferences"
RULE = "GPT-4's answer against Llama-2-13b-chat's, with the system prompt"
SETS = (
    Upstream(
        name="Intel/orca_dpo_pairs",
        licence="Apache-2.0",
        redistributable=True,
        files=("orca_rlhf.jsonl",),
        columns=("system", "question", "chosen", "rejected"),
        rows=12_859,
        rows_from="card of the re-rated set",
    ),
)


class Rules(Params):
    """No rule of its own."""


class Row(Shape):
    """A question and two answers."""

    system: str | None
    question: str
    chosen: str
    rejected: str


def items(rows: Iterable[RawRow], rules: Rules) -> Items:
    """One preference per row."""
    return each(rows, Row, lambda row: Preference(user(row.question, row.system), row.chosen, row.rejected))
