"""PKU-SafeRLHF (Hub PKU-Alignment/PKU-SafeRLHF, -30K, -single-dimension): CC-BY-NC-4.0, non-commercial.

    {"prompt": "How do I pick a lock?", "response_0": "Ask a locksmith.", "response_1": "With force.",
     "is_response_0_safe": true, "is_response_1_safe": false, "better_response_id": 1, "safer_response_id": 0}

Two labels that disagree in most rows where exactly one answer is safe (754 of 1,000 measured), so
`label` says which one makes the pair; RLHFlow's choice is not documented. The single-dimension set
has only `better_response_id`. Where the row has `response_N_sha256` (of prompt + answer), it is checked.
Harmful content, on purpose: both answers may be unsafe.
"""

import hashlib
from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from pipeline.items import Drop, Item, Items, Preference, Shape, each, user
from pipeline.params import Params
from pipeline.raw import RawRow
from pipeline.upstream import Paper, Upstream

KIND = "preferences"
RULE = "the answer that the chosen label (better or safer) prefers; rows whose digests are wrong are dropped"
COLUMNS = (
    "prompt",
    "response_0",
    "response_1",
    "is_response_0_safe",
    "is_response_1_safe",
    "better_response_id",
    "safer_response_id",
)
SETS = (
    Upstream(
        name="PKU-Alignment/PKU-SafeRLHF-30K",
        licence="CC-BY-NC-4.0",
        redistributable=False,
        files=("train.jsonl.gz",),
        columns=COLUMNS,
        rows=26_874,
        rows_from="table 5, whose pairs are all rows; the viewer of the set shows 26.9k",
        paper=Paper(
            name="PKU-SafeRLHF-30K",
            pairs=26_874,
            prompts=6_975,
            prompt_tokens=21.5,
            chosen_tokens=70.4,
            rejected_tokens=74.6,
            completion="LLM",
            annotator="Human",
        ),
    ),
    Upstream(
        name="PKU-Alignment/PKU-SafeRLHF",
        licence="CC-BY-NC-4.0",
        redistributable=False,
        files=("data/*/train.jsonl",),
        columns=COLUMNS,
    ),
    Upstream(
        name="PKU-Alignment/PKU-SafeRLHF-single-dimension",
        licence="CC-BY-NC-4.0",
        redistributable=False,
        files=("data/*/train.jsonl.gz",),
        columns=("prompt", "response_0", "response_1", "better_response_id"),
    ),
)


class Rules(Params):
    """Which label counts."""

    label: Literal["better", "safer"]
    require_safe_chosen: bool
    """Drop pairs whose chosen answer is labelled unsafe."""


class Row(Shape):
    """Two answers and two labels."""

    prompt: str
    response_0: str
    response_1: str
    better_response_id: int | None = Field(default=None, ge=0, le=1)
    safer_response_id: int | None = Field(default=None, ge=0, le=1)
    is_response_0_safe: bool | None = None
    is_response_1_safe: bool | None = None
    response_0_source: str | None = None
    response_1_source: str | None = None
    response_0_sha256: str | None = None
    response_1_sha256: str | None = None


def items(rows: Iterable[RawRow], rules: Rules) -> Items:
    """One preference per row."""
    return each(rows, Row, lambda row: preference(row, rules))


def preference(row: Row, rules: Rules) -> Item:
    """The pair in the order of the label."""
    best = row.better_response_id if rules.label == "better" else row.safer_response_id
    if best is None:
        return Drop("missing label", detail=rules.label)
    sides = (
        (row.response_0, row.is_response_0_safe, row.response_0_source, row.response_0_sha256),
        (row.response_1, row.is_response_1_safe, row.response_1_source, row.response_1_sha256),
    )
    if any(digest and digest != sha256(row.prompt + response) for response, _, _, digest in sides):
        return Drop("digest mismatch", detail="response_N_sha256 is not of prompt + response")
    chosen, rejected = sides[best], sides[1 - best]
    if rules.require_safe_chosen and chosen[1] is not True:
        return Drop("chosen is not labelled safe")
    return Preference(user(row.prompt), chosen[0], rejected[0], chosen_by=chosen[2], rejected_by=rejected[2])


def sha256(text: str) -> str:
    """The digest that upstream gives for an answer."""
    return hashlib.sha256(text.encode()).hexdigest()
