"""10k prompts ranked (Hub DIBT/10k_prompts_ranked): prompts that people rated from 1 to 5; licence "other".

    {"prompt": "Name a colour.", "avg_rating": 4.5, "num_responses": 2, "agreement_ratio": 1.0}

Rules: the mean rating, how many rated, and how far they agree. 0 for each keeps every prompt.
"""

from collections.abc import Iterable

from pydantic import Field

from pipeline.items import Drop, Item, Items, Prompt, Score, Shape, each, user
from pipeline.params import Params
from pipeline.raw import RawRow
from pipeline.upstream import Upstream

KIND = "prompts"
RULE = "prompts with a least mean rating, number of ratings and agreement"
SETS = (
    Upstream(
        name="DIBT/10k_prompts_ranked",
        licence="other",
        redistributable=False,
        files=("data/train-*.parquet",),
        columns=("prompt", "avg_rating", "num_responses", "agreement_ratio"),
        rows=10_331,
        rows_from="the set's card",
    ),
)


class Rules(Params):
    """Least values of the three measures."""

    min_rating: float = Field(ge=0, le=5)
    min_responses: int = Field(ge=0)
    min_agreement: float = Field(ge=0, le=1)


class Row(Shape):
    """A rated prompt."""

    prompt: str
    avg_rating: Score = None
    num_responses: Score = None
    agreement_ratio: Score = None


def items(rows: Iterable[RawRow], rules: Rules) -> Items:
    """One prompt per row."""
    return each(rows, Row, lambda row: prompt(row, rules))


def prompt(row: Row, rules: Rules) -> Item:
    """The prompt, if it is rated well enough; a missing measure passes only a minimum of 0."""
    measures = (
        ("rating below minimum", row.avg_rating, rules.min_rating),
        ("too few ratings", row.num_responses, rules.min_responses),
        ("agreement below minimum", row.agreement_ratio, rules.min_agreement),
    )
    for reason, value, minimum in measures:
        if (value or 0.0) < minimum:
            return Drop(reason, value, minimum)
    return Prompt(user(row.prompt))
