"""The section on pair rules: what others would have given from the candidates of each iteration."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from pipeline import tables
from pipeline.report.grids import Grid, count, number, share
from pipeline.report.inputs import read_json
from pipeline.schemas import COUNTERFACTUALS

NOTE = (
    "Each row changes one thing of the first one, which is the recipe's. Margins are means on the scale of "
    "the score that orders, after the length rule; the gap is the mean of characters of the chosen answer "
    "less those of the rejected one; equal lengths count half. Shared: pairs that the recipe's rule makes, "
    "too. Agreed: pairs whose chosen answer every judge scores higher."
)


@dataclass(frozen=True, kw_only=True)
class PairRuleFacts:
    """What stage counterfactual found for an iteration."""

    name: str
    rules: pl.DataFrame
    """schemas.COUNTERFACTUALS, the recipe's own rule first."""
    judges: list[str]
    rank_agreement: list[dict[str, Any]]
    """For every two judges Kendall's tau-b, and of how many prompts."""


def pair_rule_facts(name: str, folder: Path) -> PairRuleFacts:
    """The figures of iteration `name` in `folder`."""
    account = read_json(folder / "counterfactual.json", f"counterfactual@{name}")
    return PairRuleFacts(
        name=name,
        rules=tables.read(COUNTERFACTUALS, folder / "counterfactual.parquet"),
        judges=account["judges"],
        rank_agreement=account["rank_agreement"],
    )


def pair_rule_view(one: PairRuleFacts) -> list[Grid]:
    """The rules of an iteration beside each other; and how far judges rank alike, where there are several."""
    rows = [
        [
            row["strategy"],
            row["length"],
            count(row["paired"]),
            count(row["pairs"]),
            number(row["margin"]),
            number(row["length_gap"], 1),
            part(row["longer_chosen"]),
            part(row["overlap"]),
            part(row["agreement"]),
        ]
        for row in one.rules.iter_rows(named=True)
    ]
    columns = ["Strategy", "Length", "Prompts", "Pairs", "Margin", "Gap", "Longer chosen", "Shared", "Agreed"]
    grids = [Grid(f"Pair rules on {one.name}", columns, rows, words=2, marked=0, note=NOTE)]
    if one.rank_agreement:
        said = [
            [" and ".join(two["judges"]), number(two["tau_b"]), count(two["prompts"])]
            for two in one.rank_agreement
        ]
        note = (
            "Kendall's tau-b over all pairs of answers to one prompt: 1 for the same order, -1 for the other."
        )
        grids.append(Grid(f"Judges of {one.name}", ["Judges", "Rank agreement", "Prompts"], said, note=note))
    return grids


def part(value: float | None) -> str:
    """A share, or a dash."""
    return share(float("nan") if value is None else value)


def pair_rule_metrics(one: PairRuleFacts) -> dict[str, object]:
    """The figures by strategy and length rule, and between judges."""
    keys = ("paired", "pairs", "margin", "length_gap", "longer_chosen", "overlap", "agreement")
    found: dict[str, object] = {
        f"{row['strategy']}; length {row['length']}": {key: row[key] for key in keys}
        for row in one.rules.iter_rows(named=True)
    }
    ranks = {" and ".join(two["judges"]): two["tau_b"] for two in one.rank_agreement}
    return {"rules": found, "rank_agreement": ranks}
