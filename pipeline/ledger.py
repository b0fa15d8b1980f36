"""The account of every stage that drops rows: in = kept + dropped, by reason.

A stage's folder holds `ledger.parquet` (one row per dropped item, with its reason, the measured
value, the threshold and where it came from) and `counts.json` (the sums). `close` asserts the sum.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from pipeline import tables
from pipeline.schemas import LEDGER, ORIGIN_KEY


@dataclass
class Ledger:
    """Collects the drops of one stage over one unit ("pairs", "prompts", "candidates", ...)."""

    stage: str
    unit: str
    drops: list[pl.DataFrame] = field(default_factory=list)

    def drop(self, dropped: pl.DataFrame, *, id_column: str | None = None) -> None:
        """Enter dropped rows: needs the origin columns and `reason`, takes value, threshold and detail."""
        optional = {"value": pl.Float64, "threshold": pl.Float64, "detail": pl.String}
        self.drops.append(
            dropped.select(
                *ORIGIN_KEY,
                pl.lit(self.stage).alias("stage"),
                pl.lit(self.unit).alias("unit"),
                (pl.col(id_column) if id_column else pl.lit(None, pl.String)).alias("id"),
                "reason",
                *(
                    pl.col(name).cast(kind) if name in dropped.columns else pl.lit(None, kind).alias(name)
                    for name, kind in optional.items()
                ),
            ).select(list(LEDGER.columns))
        )

    def close(self, rows_in: int, rows_kept: int, folder: Path) -> dict[str, object]:
        """Assert in = kept + dropped; write ledger.parquet and counts.json to `folder`, give the counts."""
        rows = pl.concat(self.drops) if self.drops else LEDGER.empty()
        assert rows_in == rows_kept + rows.height, (
            f"{self.stage}: {rows_in} {self.unit} in, {rows_kept} kept, {rows.height} in the ledger"
        )
        tables.write(LEDGER, rows, folder / "ledger.parquet")
        counts = counts_of(self.stage, self.unit, rows_in, rows_kept, rows)
        write_json(folder / "counts.json", counts)
        return counts


def counts_of(stage: str, unit: str, rows_in: int, rows_kept: int, rows: pl.DataFrame) -> dict[str, object]:
    """{stage, unit, in, kept, dropped: {reason: n}, by_source: {source: {reason: n}}}."""
    by_reason = rows.group_by("reason").len().sort("reason")
    by_source: dict[str, dict[str, int]] = {}
    for source, reason, n in rows.group_by("source", "reason").len().sort("source", "reason").iter_rows():
        by_source.setdefault(source, {})[reason] = n
    return {
        "stage": stage,
        "unit": unit,
        "in": rows_in,
        "kept": rows_kept,
        "dropped": dict(by_reason.iter_rows()),
        "by_source": by_source,
    }


def write_json(path: Path, content: object) -> None:
    """Write JSON in canonical form: sorted keys, two spaces, a final newline."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
    )
