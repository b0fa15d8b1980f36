"""How the accuracy of each reward model grows with the pairs that its head is trained on."""

from typing import Any

import polars as pl

from pipeline import figures, tables
from pipeline.intervals import Interval
from pipeline.report.grids import NONE, Grid, count, percent
from pipeline.report.inputs import Folders, Recipe
from pipeline.schemas import LEARNING_CURVE

ACCURACY, LONGER = ("accuracy", "low", "high"), ("longer", "longer_low", "longer_high")


def learning_curves(folders: Folders, recipe: Recipe) -> dict[str, pl.DataFrame]:
    """The curve (schemas.LEARNING_CURVE) of each reward model that has one."""
    found = {
        name: tables.read(LEARNING_CURVE, folders.learning_curve / name / "curve.parquet")
        for name in recipe.rewards
    }
    return {name: curve for name, curve in found.items() if not curve.is_empty()}


def learning_view(curves: dict[str, pl.DataFrame], recipe: Recipe) -> list[dict[str, Any]]:
    """For each reward model a drawing over all pairs, and a table by source."""
    views = []
    for name, curve in curves.items():
        whole = curve.filter(pl.col("subset") == "").sort("part")
        shown = [
            (f"{count(row['pairs'])} pairs", interval(row, ACCURACY).times(100))
            for row in whole.iter_rows(named=True)
        ]
        title = f"Accuracy of {name} on held-out pairs, %"
        views.append(
            {
                "figure": figures.whiskers(shown, title, reference=100 * whole["longer"][0]),
                "grid": learning_grid(name, curve, recipe.rewards[name]),
            }
        )
    return views


def learning_grid(name: str, curve: pl.DataFrame, mix: str) -> Grid:
    """A row per number of pairs, a column per source; the last row is what longer answers win."""
    subsets = sorted(curve["subset"].unique())
    sizes = curve.select("part", "pairs").unique("part").sort("part")
    at = {(row["part"], row["subset"]): row for row in curve.iter_rows(named=True)}
    rows = []
    for part, pairs in sizes.iter_rows():
        own = [at.get((part, subset)) for subset in subsets]
        spread = at[part, ""]
        runs = f"{100 * spread['least']:.1f} to {100 * spread['most']:.1f}"
        rows.append([count(pairs), runs, *(percent(interval(one, ACCURACY)) if one else NONE for one in own)])
    last = [at[sizes["part"][-1], subset] for subset in subsets]
    rows.append(["longer wins", NONE, *(percent(interval(one, LONGER)) for one in last)])
    titles = [f"{one['subset'] or 'All'} ({count(one['held_out'])})" for one in last]
    note = (
        f"Heads on states of the base model, trained on nested parts of the mix {mix} as models/{name} is, "
        f"and asked about its test side; means over {last[0]['seeds']} seeds, which draw the parts. "
        "Intervals have the prompt as the unit; Runs are the lowest and the highest seed on all pairs."
    )
    columns = ["Pairs trained on", "Runs, %", *titles]
    return Grid(f"Accuracy of {name} by pairs, in %", columns, rows, note=note)


def interval(row: dict[str, Any], names: tuple[str, str, str]) -> Interval:
    """Three columns as an interval."""
    return Interval(*(row[name] for name in names))
