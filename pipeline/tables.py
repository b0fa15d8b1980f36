"""Read and write tables in one canonical form: the only code that touches our Parquet.

The same rows give the same bytes, in whatever order, chunking or worker count they arrive:
`write` checks, orders by the key (keys are unique, so the order is total), rechunks and uses a
fixed codec and row group size. DVC's early cut-off rests on this.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from pipeline.errors import UserError

log = logging.getLogger(__name__)

ROW_GROUP_ROWS = 65_536


@dataclass(frozen=True, kw_only=True)
class Table:
    """What a table is: its columns in order, its unique key, and rules that every row obeys."""

    name: str
    made_by: str
    columns: Mapping[str, pl.DataType | type[pl.DataType]]
    key: tuple[str, ...]
    nullable: frozenset[str] = frozenset()
    rules: Mapping[str, pl.Expr] = field(default_factory=dict)

    @property
    def schema(self) -> pl.Schema:
        """The Polars schema of the table."""
        return pl.Schema(self.columns)

    def empty(self) -> pl.DataFrame:
        """A frame with the table's columns and no rows."""
        return pl.DataFrame(schema=self.schema)


def check(table: Table, frame: pl.DataFrame) -> None:
    """Assert that `frame` has the table's columns, no forbidden null, unique keys and obeyed rules."""
    assert frame.schema == table.schema, f"{table.name}: columns {frame.schema}, expected {table.schema}"
    for column in set(table.columns) - table.nullable:
        nulls = frame[column].null_count()
        assert nulls == 0, f"{table.name}: {nulls} nulls in {column!r}"
    repeated = frame.select(table.key).is_duplicated()
    assert not repeated.any(), (
        f"{table.name}: {repeated.sum()} rows share a key; "
        f"first: {frame.select(table.key).row(repeated.arg_true()[0])}"
    )
    for rule, expression in table.rules.items():
        broken = frame.filter(expression.fill_null(value=False).not_())
        assert broken.is_empty(), (
            f"{table.name}: {broken.height} of {frame.height} rows break the rule {rule!r}; "
            f"first key: {broken.select(table.key).row(0)}"
        )


def write(table: Table, frame: pl.DataFrame, path: Path) -> None:
    """Check `frame` and write it canonically and atomically to `path`."""
    canonical = frame.select(list(table.columns)).sort(table.key).rechunk()
    check(table, canonical)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    canonical.write_parquet(
        partial, compression="zstd", compression_level=3, row_group_size=ROW_GROUP_ROWS, statistics=True
    )
    partial.replace(path)
    log.info("%s: wrote %d rows to %s", table.name, frame.height, path)


def read(table: Table, path: Path) -> pl.DataFrame:
    """Read and check a table.

    Raises UserError where the file is missing, damaged or does not have the table's columns.
    """
    if not path.exists():
        raise UserError(f"{path} is missing; make it with: dvc repro {table.made_by}")
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(
            f"{path}: expected the Parquet table {table.name!r}, found a damaged file ({error}); "
            f"remove it and make it again with: dvc repro {table.made_by}"
        ) from error
    if frame.schema != table.schema:
        raise UserError(
            f"{path}: expected the columns of {table.name!r} {list(table.columns)}, found {frame.columns}; "
            f"it was made by other code, make it again with: dvc repro {table.made_by}"
        )
    check(table, frame)
    return frame


def sift(frame: pl.DataFrame, reasons: Mapping[str, pl.Expr]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split `frame` into the rows that pass and those that do not, each of these with its first `reason`.

    `reasons` maps a name to an expression that is true where the row is bad; null counts as good.
    """
    if not reasons:
        return frame, frame.clear().with_columns(reason=pl.lit(None, pl.String))
    reason = pl.coalesce(*(pl.when(bad).then(pl.lit(name)) for name, bad in reasons.items()))
    marked = frame.with_columns(reason=reason)
    return marked.filter(pl.col("reason").is_null()).drop("reason"), marked.drop_nulls("reason")
