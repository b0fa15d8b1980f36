"""The account of every stage that drops rows: in = kept + dropped, by reason.

A stage's folder holds `ledger.parquet` (one row per dropped item, with its reason, the measured
value, the threshold and where it came from) and `counts.json` (the sums). `close` asserts the sum.
`Ledger` takes drops in any order and holds them; `LedgerStream` takes them in key order and holds none.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import polars as pl

from pipeline import tables
from pipeline.schemas import LEDGER, ORIGIN_KEY


def ledger_rows(stage: str, unit: str, dropped: pl.DataFrame, id_column: str | None = None) -> pl.DataFrame:
    """Rows of the ledger, from the origin columns and `reason`; takes value, threshold and detail."""
    optional = {"value": pl.Float64, "threshold": pl.Float64, "detail": pl.String}
    return dropped.select(
        *ORIGIN_KEY,
        pl.lit(stage).alias("stage"),
        pl.lit(unit).alias("unit"),
        (pl.col(id_column) if id_column else pl.lit(None, pl.String)).alias("id"),
        "reason",
        *(
            pl.col(name).cast(kind) if name in dropped.columns else pl.lit(None, kind).alias(name)
            for name, kind in optional.items()
        ),
    ).select(list(LEDGER.columns))


@dataclass
class Ledger:
    """Collects the drops of one stage over one unit ("pairs", "prompts", "candidates", ...)."""

    stage: str
    unit: str
    drops: list[pl.DataFrame] = field(default_factory=list)
    cut: dict[str, int] | None = None
    """Of what was kept, how much was made shorter, where a stage does so; it is a part of the counts."""

    def drop(self, dropped: pl.DataFrame, *, id_column: str | None = None) -> None:
        """Enter dropped rows: needs the origin columns and `reason`, takes value, threshold and detail."""
        self.drops.append(ledger_rows(self.stage, self.unit, dropped, id_column))

    def close(self, rows_in: int, rows_kept: int, folder: Path) -> dict[str, object]:
        """Assert in = kept + dropped; write ledger.parquet and counts.json to `folder`, give the counts."""
        rows = pl.concat(self.drops) if self.drops else LEDGER.empty()
        counts = counts_of(self.stage, self.unit, rows_in, rows_kept, rows)
        counts |= {} if self.cut is None else {"cut": self.cut}
        tables.write(LEDGER, rows, folder / "ledger.parquet")
        write_json(folder / "counts.json", counts)
        return counts


class LedgerStream:
    """A ledger written while drops come in: a context manager that leaves no file after an error."""

    def __init__(self, stage: str, unit: str, folder: Path) -> None:
        self.stage = stage
        self.unit = unit
        self.folder = folder
        self.reasons: Counter[tuple[str, str]] = Counter()
        """Drops so far by source and reason."""
        self.writer = tables.Writer(LEDGER, folder / "ledger.parquet")
        self.counts: dict[str, object] | None = None

    def __enter__(self) -> Self:
        self.writer.__enter__()
        return self

    def drop(self, dropped: pl.DataFrame, *, id_column: str | None = None) -> None:
        """Enter dropped rows as `Ledger.drop` does; all calls together come in the order of the origin."""
        rows = ledger_rows(self.stage, self.unit, dropped, id_column)
        self.reasons.update(tally(rows))
        self.writer.write(rows)

    def close(self, rows_in: int, rows_kept: int) -> dict[str, object]:
        """Assert in = kept + dropped, and give the counts, which are written with the ledger."""
        self.counts = sums(self.stage, self.unit, rows_in, rows_kept, self.reasons)
        return self.counts

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.__exit__(kind, error, trace)
        if kind is None:
            assert self.counts is not None, f"{self.stage}: the ledger was not closed"
            write_json(self.folder / "counts.json", self.counts)


def counts_of(stage: str, unit: str, rows_in: int, rows_kept: int, rows: pl.DataFrame) -> dict[str, object]:
    """The counts of the ledger's `rows`, as `sums` gives them."""
    return sums(stage, unit, rows_in, rows_kept, tally(rows))


def tally(rows: pl.DataFrame) -> dict[tuple[str, str], int]:
    """The number of rows by source and reason."""
    found = rows.group_by("source", "reason").len().sort("source", "reason")
    return {(source, reason): n for source, reason, n in found.iter_rows()}


def sums(
    stage: str, unit: str, rows_in: int, rows_kept: int, reasons: Mapping[tuple[str, str], int]
) -> dict[str, object]:
    """{stage, unit, in, kept, dropped: {reason: n}, by_source: {source: {reason: n}}}; asserts the sum."""
    dropped = sum(reasons.values())
    assert rows_in == rows_kept + dropped, (
        f"{stage}: {rows_in} {unit} in, {rows_kept} kept, {dropped} in the ledger"
    )
    by_reason: Counter[str] = Counter()
    by_source: dict[str, dict[str, int]] = {}
    for (source, reason), n in sorted(reasons.items()):
        by_reason[reason] += n
        by_source.setdefault(source, {})[reason] = n
    return {
        "stage": stage,
        "unit": unit,
        "in": rows_in,
        "kept": rows_kept,
        "dropped": dict(sorted(by_reason.items())),
        "by_source": by_source,
    }


def write_json(path: Path, content: object) -> None:
    """Write JSON in canonical form: sorted keys, two spaces, a final newline."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
    )
