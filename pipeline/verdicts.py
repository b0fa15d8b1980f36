"""What becomes of every row of a catalog, and the account of it: in = kept + dropped, by reason.

A drop is held as some thirty bytes; its line in the ledger is written out when the account is closed.
"""

from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from pipeline.catalog import digits
from pipeline.errors import UserError
from pipeline.ledger import LedgerStream

DROP = {
    "place": pl.UInt32,
    "reason": pl.Categorical,
    "value": pl.Float64,
    "threshold": pl.Float64,
    "says": pl.Categorical,
    "other": pl.UInt32,
    "note": pl.String,
}
LINES = 65_536
"""Lines of the ledger written out at once."""


@dataclass
class Verdicts:
    """Collects the drops of one stage over the rows of `catalog`."""

    stage: str
    unit: str
    catalog: pl.DataFrame
    id_column: str
    """The column of `catalog` with the ids of its rows."""
    drops: list[pl.DataFrame] = field(default_factory=list)

    def drop(
        self,
        rows: pl.DataFrame,
        reason: str | pl.Expr,
        bad: pl.Expr,
        *,
        value: pl.Expr | None = None,
        threshold: float | pl.Expr | None = None,
        says: str = "",
        other: pl.Expr | None = None,
        note: pl.Expr | None = None,
    ) -> pl.DataFrame:
        """The rows where `bad` is not true; the others are entered with these facts.

        The ledger's detail is `note`, or where `other` is a place: `says` and the origin of the row there.
        """
        nothing = pl.lit(None)
        # All in one step: a fact may look at rows that stay, such as the first of a group.
        marked = rows.with_columns(
            bad=bad.fill_null(value=False),
            drop=pl.struct(
                place="place",
                reason=pl.lit(reason) if isinstance(reason, str) else reason,
                value=nothing if value is None else value,
                threshold=threshold if isinstance(threshold, pl.Expr) else pl.lit(threshold),
                says=pl.lit(says),
                other=nothing if other is None else other,
                note=nothing if note is None else note,
            ),
        )
        dropped = marked.filter("bad").select("drop").unnest("drop")
        self.drops.append(dropped.with_columns(pl.col(name).cast(kind) for name, kind in DROP.items()))
        return marked.filter(~pl.col("bad")).select(rows.columns)

    def dropped(self) -> pl.DataFrame:
        """All drops with the `source` of each, in the order of places."""
        drops = pl.concat([pl.DataFrame(schema=DROP), *self.drops]).sort("place")
        return drops.with_columns(self.catalog["source"].gather(drops["place"]).cast(pl.String))

    def reasons(self) -> dict[str, int]:
        """The number of drops by reason."""
        found = self.dropped().with_columns(pl.col("reason").cast(pl.String)).group_by("reason").len()
        return dict(found.sort("reason").iter_rows())

    def close(self, kept: int, folder: Path, **more: object) -> None:
        """Assert in = kept + dropped; write ledger.parquet and, with `more` entries, counts.json."""
        drops = self.dropped().sort("source", "place")
        with LedgerStream(self.stage, self.unit, folder) as ledger:
            for part in drops.iter_slices(LINES):
                ledger.drop(self.lines(part), id_column="id")
            ledger.close(self.catalog.height, kept).update(more)

    def lines(self, drops: pl.DataFrame) -> pl.DataFrame:
        """Some drops as the ledger takes them."""
        origin = self.catalog.select("source", "file", "row", "item", id=self.id_column)[drops["place"]]
        known = drops.with_row_index("line").filter(pl.col("other").is_not_null())
        others = self.catalog.select(where())[known["other"]]
        details = known.select(
            "line", detail=pl.format("{} {}", pl.col("says").cast(pl.String), others["where"])
        )
        facts = drops.with_row_index("line").join(details, on="line", how="left", maintain_order="left")
        lines = origin.with_columns(
            digits(origin["id"]),
            *facts.select("reason", "value", "threshold", detail=pl.coalesce("note", "detail")),
        )
        return lines.with_columns(
            pl.col("source", "file", "reason").cast(pl.String), pl.col("row", "item").cast(pl.Int64)
        )

    def refuse_empty(self, rows: pl.DataFrame, what: str) -> None:
        """UserError with the counts by reason where nothing is left."""
        if rows.height:
            return
        if self.catalog.is_empty():
            raise UserError(
                f"{self.stage}: expected {self.unit} in its sources, found no rows in any of them; the "
                f"ledger.parquet beside each table of data/standard says why"
            )
        raise UserError(
            f"{self.stage}: expected at least one of {self.catalog.height} {self.unit} to be left for "
            f"{what}, found none (dropped by reason: {self.reasons()}); relax in params.yaml "
            f"the keys that these reasons follow from, then: dvc repro {self.stage}"
        )


def where() -> pl.Expr:
    """The origin of a row in words."""
    source, file = (pl.col(name).cast(pl.String) for name in ("source", "file"))
    return pl.format("{}/{} row {} item {}", source, file, "row", "item").alias("where")
