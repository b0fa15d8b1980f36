"""RewardBench (Hub allenai/reward-bench, split filtered): 2,985 pairs that test reward models; ODC-BY.

    {"prompt": "Name a colour.", "chosen": "Blue.", "chosen_model": "human", "rejected": "No.",
     "rejected_model": "m1", "subset": "alpacaeval-easy", "id": 0}

Pair rule: as upstream ordered them. A judge's accuracy is reported per subset.
"""

from collections.abc import Iterable

from pipeline.items import Drop, Item, Items, Preference, Shape, each, user
from pipeline.params import Params
from pipeline.raw import RawRow
from pipeline.upstream import FROM_MEMORY, Upstream

KIND = "judge_sets"
RULE = "as upstream ordered them, by subset; judges alone are tested on it"
SETS = (
    Upstream(
        name="allenai/reward-bench",
        licence="ODC-BY",
        redistributable=True,
        files=("data/filtered-*.parquet",),
        columns=("prompt", "chosen", "rejected", "subset", "chosen_model", "rejected_model"),
        rows=2_985,
        rows_from=FROM_MEMORY,
    ),
)


class Rules(Params):
    """Which subsets count."""

    subsets: tuple[str, ...] | None
    """Values of the column `subset`; null: all."""


class Row(Shape):
    """A pair and its subset."""

    prompt: str
    chosen: str
    rejected: str
    subset: str
    chosen_model: str | None = None
    rejected_model: str | None = None


def items(rows: Iterable[RawRow], rules: Rules) -> Items:
    """One pair per row."""
    return each(rows, Row, lambda row: pair(row, rules))


def pair(row: Row, rules: Rules) -> Item:
    """The pair, if its subset is wanted."""
    if rules.subsets is not None and row.subset not in rules.subsets:
        return Drop("subset not chosen", detail=row.subset)
    return Preference(
        user(row.prompt),
        row.chosen,
        row.rejected,
        chosen_by=row.chosen_model,
        rejected_by=row.rejected_model,
        subset=row.subset,
    )
