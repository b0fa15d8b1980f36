"""UltraInteract pairs (Hub openbmb/UltraInteract_pair): multi-turn reasoning; MIT.

    {"task": "Math_CoT", "dataset": "MATH", "trajectory": [{"from": "user", "value": "Solve x + 1 = 2."}],
     "chosen": "x = 1", "rejected": "x = 2", "id": "0", "parent_id": "-1"}

Pair rule: as upstream ordered them. RLHFlow kept 161,927 of 219,522 by a filter that is not
documented; here `tasks` can choose. All turns of the trajectory are the prompt. No scores.
"""

from collections.abc import Iterable

from pipeline.conversations import Turn, from_turns
from pipeline.items import Drop, Item, Items, Preference, Shape, each
from pipeline.params import Params
from pipeline.raw import RawRow
from pipeline.upstream import Paper, Upstream

KIND = "preferences"
RULE = "as upstream ordered them: the trajectory is the prompt; tasks can be chosen"
SETS = (
    Upstream(
        name="openbmb/UltraInteract_pair",
        licence="MIT",
        redistributable=True,
        files=("0000_pair.parquet",),
        columns=("task", "trajectory", "chosen", "rejected"),
        rows=219_522,
        rows_from="the set's card",
        paper=Paper(
            name="UltraInteract",
            pairs=161_927,
            prompts=76_086,
            prompt_tokens=507.4,
            chosen_tokens=396.6,
            rejected_tokens=416.7,
            completion="LLM",
            annotator="LLM",
        ),
    ),
)


class Rules(Params):
    """Which tasks count."""

    tasks: tuple[str, ...] | None
    """Names such as Coding, Math_CoT, Math_PoT, Logic; null: all."""


class Row(Shape):
    """A trajectory and two continuations."""

    task: str
    trajectory: list[Turn]
    chosen: str
    rejected: str


def items(rows: Iterable[RawRow], rules: Rules) -> Items:
    """One preference per row."""
    return each(rows, Row, lambda row: preference(row, rules))


def preference(row: Row, rules: Rules) -> Item:
    """The pair, if its task is wanted."""
    if rules.tasks is not None and row.task not in rules.tasks:
        return Drop("task not chosen", detail=row.task)
    return Preference(from_turns(row.trajectory), row.chosen, row.rejected)
