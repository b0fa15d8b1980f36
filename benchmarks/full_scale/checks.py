"""What must hold of the tables that the stages made of the input at full scale."""

import json
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.full_scale.plan import TABLE_5

STANDARD = Path("data/standard/preferences")
ROW = ("file", "row")


def checked(project: Path, fraction: float, mixed: Path) -> dict[str, dict[str, Any]]:
    """{stage: {in, kept, dropped}}; AssertionError for a lost row, a count other than Table 5's, a leak."""
    made = json.loads((project / "data/raw/manifest.json").read_text(encoding="utf-8"))
    found = {}
    for name, goal in TABLE_5.items():
        folder = project / STANDARD / name
        counts = conserved(folder, ["preferences"])
        whole = goal.part(fraction)
        pairs, prompts = size(folder / "preferences.parquet")
        assert (pairs, prompts) == (whole.pairs, whole.prompts), (
            f"{name}: {pairs} pairs, {prompts} prompts, not {whole}"
        )
        rows = answered_for(folder)
        assert rows == made[name]["rows"], f"{name}: {made[name]['rows']} raw rows, {rows} answered for"
        found[f"standardize@{name}"] = counts
    counts = conserved(project / mixed, ["train", "test"])
    assert counts["in"] == sum(stage["kept"] for stage in found.values()), "the mix has not read every pair"
    for column in ("prompt_id", "cluster_id"):
        both = leaks(project / mixed, column)
        assert both == 0, f"{both} values of {column} are in train and in test"
    return found | {f"mix@{mixed.name}": counts}


def conserved(folder: Path, tables: list[str]) -> dict[str, Any]:
    """The counts of a stage, after: in = rows of its tables + rows of its ledger."""
    told = json.loads((folder / "counts.json").read_text(encoding="utf-8"))
    kept = sum(height(folder / f"{table}.parquet") for table in tables)
    dropped = height(folder / "ledger.parquet")
    assert told["in"] == kept + dropped, f"{folder}: {told['in']} in, {kept} kept, {dropped} in the ledger"
    assert (told["kept"], sum(told["dropped"].values())) == (kept, dropped), f"{folder}: counts.json differs"
    return {key: told[key] for key in ("in", "kept", "dropped")}


def height(path: Path) -> int:
    """Rows of a table."""
    return pl.scan_parquet(path).select(pl.len()).collect().item()


def size(path: Path) -> tuple[int, int]:
    """Rows and distinct prompts."""
    found = pl.scan_parquet(path).select(pl.len(), pl.col("prompt_id").n_unique().alias("prompts"))
    pairs, prompts = found.collect().row(0)
    return pairs, prompts


def answered_for(folder: Path) -> int:
    """Raw rows that are in the table or in the ledger."""
    frames = [pl.scan_parquet(folder / f"{name}.parquet").select(ROW) for name in ("preferences", "ledger")]
    return pl.concat(frames).unique().select(pl.len()).collect().item()


def leaks(folder: Path, column: str) -> int:
    """Values of a column that train and test share."""
    train, test = (pl.scan_parquet(folder / f"{side}.parquet").select(column) for side in ("train", "test"))
    return train.unique().join(test.unique(), on=column).select(pl.len()).collect().item()
