"""Read and write tables in one canonical form: the only code that touches our Parquet.

The same rows give the same bytes, in whatever order, chunking or worker count they arrive:
`write` checks, orders by the key (keys are unique, so the order is total) and uses a fixed codec
and row group size. `Writer` gives the same bytes of rows that come in key order, part by part, and
holds one row group at a time. DVC's early cut-off rests on this.
"""

import logging
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import polars as pl

from pipeline.errors import UserError

log = logging.getLogger(__name__)

#: What a writer holds and a reader gets at once: 10 to 50 MB of conversations.
ROW_GROUP_ROWS = 8192
#: Of zstd. On real pairs level 3 takes 1.4 times as long for 20% fewer bytes; lz4 gives half as many again.
COMPRESSION_LEVEL = 1


@dataclass(frozen=True, kw_only=True)
class Table:
    """What a table is: its columns in order, its unique key, and rules that every row obeys."""

    name: str
    made_by: str
    columns: Mapping[str, pl.DataType | type[pl.DataType]]
    key: tuple[str, ...]
    nullable: frozenset[str] = frozenset()
    rules: Mapping[str, pl.Expr] = field(default_factory=dict)
    group_rows: int = ROW_GROUP_ROWS
    """Rows of a row group: fewer where a row is large."""

    @property
    def schema(self) -> pl.Schema:
        """The Polars schema of the table."""
        return pl.Schema(self.columns)

    def empty(self) -> pl.DataFrame:
        """A frame with the table's columns and no rows."""
        return pl.DataFrame(schema=self.schema)


def check(table: Table, frame: pl.DataFrame) -> None:
    """Assert that `frame` has the table's columns, no forbidden null, unique keys and obeyed rules."""
    check_rows(table, frame)
    # What `write` has written stands in order, which is seen ten times as fast as that no key comes twice.
    if in_order(table, frame):
        return
    keys = frame.select(table.key)
    repeated = keys.is_duplicated()
    assert not repeated.any(), (
        f"{table.name}: {repeated.sum()} rows share a key; first: {keys.row(repeated.arg_true()[0])}"
    )


def check_rows(table: Table, frame: pl.DataFrame) -> None:
    """The part of `check` that looks at each row alone."""
    assert frame.schema == table.schema, f"{table.name}: columns {frame.schema}, expected {table.schema}"
    for column in set(table.columns) - table.nullable:
        nulls = frame[column].null_count()
        assert nulls == 0, f"{table.name}: {nulls} nulls in {column!r}"
    for rule, expression in table.rules.items():
        broken = frame.filter(expression.fill_null(value=False).not_())
        assert broken.is_empty(), (
            f"{table.name}: {broken.height} of {frame.height} rows break the rule {rule!r}; "
            f"first key: {broken.select(table.key).row(0)}"
        )


def in_order(table: Table, keys: pl.DataFrame) -> bool:
    """Whether each key comes after the one before it."""
    return keys.select(beside_the_last(table)[0]).to_series()[1:].all(ignore_nulls=False) is True


def check_order(table: Table, keys: pl.DataFrame) -> None:
    """Assert that each key comes after the one before it, which makes keys unique, too."""
    after, same = beside_the_last(table)
    wrong = keys.with_row_index("place").select("place", after=after, same=same).slice(1)
    repeated, astray = wrong.filter("same"), wrong.filter(~pl.col("after") & ~pl.col("same"))
    assert repeated.is_empty(), (
        f"{table.name}: {repeated.height} rows share a key; first: {keys.row(repeated['place'][0])}"
    )
    assert astray.is_empty(), (
        f"{table.name}: expected rows in the order of {', '.join(table.key)}, "
        f"found {keys.row(astray['place'][0])} after {keys.row(astray['place'][0] - 1)}"
    )


def beside_the_last(table: Table) -> tuple[pl.Expr, pl.Expr]:
    """Whether a row's key comes after that of the row before, and whether it is the same; null at first."""
    same, after = pl.lit(value=True), pl.lit(value=False)
    for name in reversed(table.key):
        here, before = pl.col(name), pl.col(name).shift(1)
        after = (here > before) | ((here == before) & after)
        same = (here == before) & same
    return after, same


class Writer:
    """Writes a table part by part: a context manager, whose file appears when it ends without an error.

    The rows of all parts together come in key order. However they are cut, the bytes are those of `write`.
    """

    def __init__(self, table: Table, path: Path) -> None:
        self.table = table
        self.path = path
        self.partial = path.with_name(f".{path.name}.partial")
        self.height = 0
        """Rows written so far."""
        self.waiting: list[pl.DataFrame] = []
        """Rows that do not fill a row group yet."""
        self.last = table.empty().select(table.key)
        self.file: Any = None
        self.made_folder = False
        self.thread = ThreadPoolExecutor(1)
        """Writes while the caller makes the next rows."""
        self.writing: Future[None] | None = None

    def __enter__(self) -> Self:
        import pyarrow.parquet as pq  # noqa: PLC0415  (a tenth of a second that reading stages need not spend)

        self.made_folder = not self.path.parent.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = pq.ParquetWriter(
            self.partial,
            arrow(self.table.empty()).schema,
            compression="zstd",
            compression_level=COMPRESSION_LEVEL,
            use_dictionary=False,
            write_statistics=list(self.table.key),
            store_schema=False,
        )
        return self

    def write(self, frame: pl.DataFrame) -> None:
        """Check the rows of `frame` and add them."""
        frame = frame.select(list(self.table.columns))
        check_rows(self.table, frame)
        keys = pl.concat([self.last, frame.select(self.table.key)])
        check_order(self.table, keys)
        self.last = keys.tail(1)
        self.height += frame.height
        # A few rows of a large block would keep all its texts in memory: they get a copy of their own.
        self.waiting.append(frame if frame.height > self.table.group_rows // 2 else apart(frame))
        if sum(part.height for part in self.waiting) >= self.table.group_rows:
            rows = pl.concat(self.waiting, rechunk=False)
            whole = rows.height - rows.height % self.table.group_rows
            self.done()
            self.writing = self.thread.submit(self.put, rows.head(whole))
            self.waiting = [rows.slice(whole)]

    def done(self) -> None:
        """Wait until the row groups in writing are written; raises what their writing has raised."""
        if self.writing is not None:
            self.writing.result()

    def put(self, rows: pl.DataFrame) -> None:
        """Write row groups; all but the table's last one are full."""
        for group in rows.iter_slices(self.table.group_rows):
            self.file.write_table(arrow(group), row_group_size=self.table.group_rows)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.thread.shutdown()
            if kind is None:
                self.done()
                self.put(pl.concat([self.table.empty(), *self.waiting]))
            self.file.close()
            if kind is None:
                self.partial.replace(self.path)
                log.info("%s: wrote %d rows to %s", self.table.name, self.height, self.path)
        finally:
            self.partial.unlink(missing_ok=True)
            if kind is not None and self.made_folder and not any(self.path.parent.iterdir()):
                self.path.parent.rmdir()


def arrow(frame: pl.DataFrame) -> Any:
    """An Arrow table of one chunk; with the oldest types, which every reader knows."""
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks()


def apart(frame: pl.DataFrame) -> pl.DataFrame:
    """The same rows, which share no memory with others."""
    return pl.DataFrame(pl.from_arrow(arrow(frame)), schema=frame.schema)


def write(table: Table, frame: pl.DataFrame, path: Path) -> None:
    """Check `frame` and write it canonically and atomically to `path`."""
    canonical = frame.select(list(table.columns))
    if not in_order(table, canonical):
        canonical = canonical.sort(table.key)
    with Writer(table, path) as writer:
        writer.write(canonical)


def read(table: Table, path: Path) -> pl.DataFrame:
    """Read and check a table.

    Raises UserError where the file is missing, damaged or does not have the table's columns.
    """
    frame = columns(table, path, list(table.columns))
    check(table, frame)
    return frame


def columns(table: Table, path: Path, names: Sequence[str]) -> pl.DataFrame:
    """Only the columns `names` of a table; the bytes of the others are not read.

    Raises as `read` does. The table's rules are not checked again.
    """
    with intact(table, path):
        rows = pl.scan_parquet(path)
        demand_columns(table, path, rows.collect_schema())
        return rows.select(list(names)).collect()


def batches(table: Table, path: Path, columns: Sequence[str] | None = None) -> Iterator[pl.DataFrame]:
    """The rows in key order, some thousands at a time; only `columns`, where they are given.

    Raises as `read` does. The table's rules are not checked again.
    """
    with intact(table, path):
        demand_columns(table, path, pl.read_parquet_schema(path))
        wanted = pl.scan_parquet(path).select(list(columns or table.columns))
    # One row group at a time: `collect_batches` reads ahead without bound, twice the file twice the memory.
    for start in range(0, rows(table, path), table.group_rows):
        with intact(table, path):
            part = wanted.slice(start, table.group_rows).collect()
        yield part


def rows(table: Table, path: Path) -> int:
    """The number of rows, from the file's footer; raises as `read` does."""
    with intact(table, path):
        demand_columns(table, path, pl.read_parquet_schema(path))
        return pl.scan_parquet(path).select(pl.len()).collect().item()


@contextmanager
def intact(table: Table, path: Path) -> Generator[None]:
    """UserError where the file is missing or damaged."""
    if not path.exists():
        raise UserError(f"{path} is missing; make it with: dvc repro {table.made_by}")
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(
            f"{path}: expected the Parquet table {table.name!r}, found a damaged file ({error}); "
            f"remove it and make it again with: dvc repro {table.made_by}"
        ) from error


def demand_columns(table: Table, path: Path, found: Mapping[str, Any]) -> None:
    """UserError where the file has other columns than the table."""
    if pl.Schema(found) != table.schema:
        raise UserError(
            f"{path}: expected the columns of {table.name!r} {list(table.columns)}, found {list(found)}; "
            f"it was made by other code, make it again with: dvc repro {table.made_by}"
        )


def sift(frame: pl.DataFrame, reasons: Mapping[str, pl.Expr]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split `frame` into the rows that pass and those that do not, each of these with its first `reason`.

    `reasons` maps a name to an expression that is true where the row is bad; null counts as good.
    """
    if not reasons:
        return frame, frame.clear().with_columns(reason=pl.lit(None, pl.String))
    reason = pl.coalesce(*(pl.when(bad).then(pl.lit(name)) for name, bad in reasons.items()))
    marked = frame.with_columns(reason=reason)
    return marked.filter(pl.col("reason").is_null()).drop("reason"), marked.drop_nulls("reason")
