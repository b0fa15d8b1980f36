"""What the stages that choose rows share: reading sources in their order, and dropping with an account.

Every function that drops takes the `Ledger`, enters what it drops there, and gives the rest. Frames carry the
origin columns and `priority`, the place of the row's source in the recipe; they are kept in the order of
(priority, file, row, item), so that "the first" means the same on every run.
"""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from pipeline import splits, tables
from pipeline.decontamination import Decontaminate, matches
from pipeline.dedup import NearDedup
from pipeline.errors import UserError
from pipeline.ledger import Ledger, counts_of
from pipeline.schemas import BENCHMARKS, KINDS, LEDGER, ORIGIN_KEY
from pipeline.shingles import similarity

EXACT = "exact duplicate"
NEAR = "near-duplicate"
CONTAMINATED = "benchmark contamination"
TOO_LONG = "too long"

WHERE = pl.format("{}/{} row {} item {}", "source", "file", "row", "item")
"""The origin of a row in words."""


def table_path(kind: str, folder: Path, source: str) -> Path:
    """Where the standard table of a source lies below the folder of its kind."""
    return folder / source / f"{kind}.parquet"


def read_source(kind: str, folder: Path, source: str, wanted_by: str) -> pl.DataFrame:
    """The standard table of one source; UserError names who wanted it and how to make it."""
    path = table_path(kind, folder, source)
    if not path.exists():
        raise UserError(
            f"{wanted_by}: expected the {kind} of source {source!r} at {path}, found nothing there; "
            f"make it with: dvc repro standardize@{source} (the source must be of kind {kind} in params.yaml)"
        )
    return tables.read(KINDS[kind], path)


def read_benchmarks(folder: Path, settings: Decontaminate, wanted_by: str) -> pl.DataFrame:
    """The benchmarks that `settings` names, one after the other."""
    found = [read_source("benchmarks", folder, name, wanted_by) for name in settings.benchmarks]
    return pl.concat([BENCHMARKS.empty(), *found])


def in_priority(frame: pl.DataFrame, sources: Sequence[str]) -> pl.DataFrame:
    """`frame` with `priority`, ordered by it and by origin."""
    places = {name: place for place, name in enumerate(sources)}
    priority = pl.col("source").replace_strict(places, return_dtype=pl.Int64)
    return frame.with_columns(priority=priority).sort("priority", *ORIGIN_KEY)


def unique_names(names: Sequence[str]) -> None:
    """ValueError where a source is listed twice: its rows would count twice."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"expected each source once, found {', '.join(twice)} more than once")


def content(column: str) -> pl.Expr:
    """All messages of a conversation as one text."""
    return pl.col(column).list.eval(pl.element().struct.field("content")).list.join("\n")


def drop(
    rows: pl.DataFrame,
    ledger: Ledger,
    reason: str,
    bad: pl.Expr,
    *,
    id_column: str,
    value: pl.Expr | None = None,
    threshold: float | pl.Expr | None = None,
    detail: pl.Expr | None = None,
) -> pl.DataFrame:
    """The rows where `bad` is not true; the others go to the ledger with these facts."""
    # All in one step: a fact may look at rows that stay, such as the first of a group.
    marked = rows.with_columns(
        bad=bad.fill_null(value=False),
        reason=pl.lit(reason),
        value=pl.lit(None) if value is None else value,
        threshold=threshold if isinstance(threshold, pl.Expr) else pl.lit(threshold),
        detail=pl.lit(None) if detail is None else detail,
    )
    ledger.drop(marked.filter("bad"), id_column=id_column)
    return marked.filter(~pl.col("bad")).select(rows.columns)


def drop_too_long(
    rows: pl.DataFrame, ledger: Ledger, characters: pl.Expr, limit: int | None, *, id_column: str
) -> pl.DataFrame:
    """Drop rows of more than `limit` characters (null: none)."""
    if limit is None:
        return rows
    bad = characters > limit
    return drop(rows, ledger, TOO_LONG, bad, id_column=id_column, value=characters, threshold=limit)


def drop_repeats(rows: pl.DataFrame, ledger: Ledger, *, id_column: str) -> pl.DataFrame:
    """Keep the first row of each id."""
    first = WHERE.first().over(id_column)
    repeated = ~pl.col(id_column).is_first_distinct()
    return drop(rows, ledger, EXACT, repeated, id_column=id_column, detail=pl.format("same as {}", first))


def drop_near(
    rows: pl.DataFrame,
    ledger: Ledger,
    group: Sequence[str],
    text: pl.Expr,
    settings: NearDedup | None,
    *,
    id_column: str,
) -> pl.DataFrame:
    """Keep the first row of each `group` of near-duplicates.

    `value` is the similarity of `text` to that of the row kept. It can be below the threshold where a chain
    of near-duplicates joins the two.
    """
    if settings is None:
        return rows
    frame = rows.with_columns(text=text, place=pl.int_range(pl.len()))
    frame = frame.with_columns(kept_place=pl.col("place").first().over(group), near=WHERE.first().over(group))
    again = frame.filter(pl.col("kept_place") != pl.col("place"))
    alike = similarity(
        frame["text"], again["place"].to_numpy(), again["kept_place"].to_numpy(), settings.shingle
    )
    measured = again.select("place", alike=pl.Series(alike, dtype=pl.Float64))
    frame = frame.join(measured, on="place", how="left", maintain_order="left", validate="1:1")
    kept = drop(
        frame,
        ledger,
        NEAR,
        pl.col("kept_place") != pl.col("place"),
        id_column=id_column,
        value=pl.col("alike"),
        threshold=settings.threshold,
        detail=pl.format("near {}", "near"),
    )
    return kept.select(rows.columns)


def drop_contaminated(
    rows: pl.DataFrame,
    ledger: Ledger,
    text: pl.Expr,
    benchmarks: pl.DataFrame,
    settings: Decontaminate,
    *,
    id_column: str,
    text_id: str,
) -> pl.DataFrame:
    """Drop rows whose text, one per `text_id`, holds a benchmark item."""
    if benchmarks.is_empty():
        return rows
    texts = rows.select(id=pl.col(text_id), text=text).unique("id", keep="any")
    found = matches(texts["id"], texts["text"], benchmarks, settings)
    evidence = found.rename({"id": text_id, "value": "words", "threshold": "needed", "detail": "evidence"})
    return drop(
        rows.join(evidence, on=text_id, how="left", maintain_order="left", validate="m:1"),
        ledger,
        CONTAMINATED,
        pl.col("evidence").is_not_null(),
        id_column=id_column,
        value=pl.col("words"),
        threshold=pl.col("needed"),
        detail=pl.col("evidence"),
    ).select(rows.columns)


def drop_over_cap(
    rows: pl.DataFrame,
    ledger: Ledger,
    reason: str,
    group: str,
    cap: pl.Expr,
    seed: Sequence[object],
    *,
    id_column: str,
) -> pl.DataFrame:
    """Keep at most `cap` (null: all) rows of each `group`: those whose ids come first in hash order."""
    ranked = splits.rank_within(rows, id_column, group, *seed)
    bad = pl.col("rank") > cap
    kept = drop(ranked, ledger, reason, bad, id_column=id_column, value=pl.col("rank"), threshold=cap)
    return kept.drop("rank")


def by_source(column: str, values: dict[str, object], kind: type[pl.DataType]) -> pl.Expr:
    """The value of each row's source."""
    return pl.col("source").replace_strict(values, return_dtype=kind).alias(column)


def refuse_empty(rows: pl.DataFrame, ledger: Ledger, rows_in: int, what: str) -> None:
    """UserError with the counts by reason where nothing is left."""
    if rows.height:
        return
    drops = pl.concat([LEDGER.empty(), *ledger.drops])
    dropped = counts_of(ledger.stage, ledger.unit, rows_in, 0, drops)["dropped"]
    raise UserError(
        f"{ledger.stage}: expected at least one of {rows_in} {ledger.unit} to be left for {what}, found none "
        f"(dropped by reason: {dropped}); relax these keys in params.yaml, then: dvc repro {ledger.stage}"
    )
