"""Selecting from tables larger than memory: facts about every row, and the rows again when they are chosen.

A catalog has one row per row of the inputs, without the texts: `place` (its number, from 0, in the order of
the recipe's sources and then of origin), the origin, and the facts that rules look at, some hundred bytes in
all. Ids are numbers there, in the same order as their hex digits. What a rule chooses is a set of places;
`Inputs.pick` streams the tables once more and gives those rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import polars as pl
import pyarrow as pa

from pipeline import tables
from pipeline.errors import UserError
from pipeline.progress import progress
from pipeline.schemas import BENCHMARKS, KINDS
from pipeline.spill import Spill, let_go
from pipeline.tables import Table


@dataclass(frozen=True)
class Input:
    """The standard table of one source."""

    source: str
    table: Table
    path: Path


@dataclass(frozen=True)
class Inputs:
    """The tables that a recipe selects from, in its order: of equal rows, the first is kept."""

    tables: tuple[Input, ...]
    scratch: Path
    """Folder for temporary files."""

    @cached_property
    def starts(self) -> dict[str, int]:
        """For each source the place of its first row."""
        rows = [tables.rows(one.table, one.path) for one in self.tables]
        return dict(zip((one.source for one in self.tables), accumulate([0, *rows]), strict=False))

    def catalog(self, facts: Mapping[str, pl.Expr], title: str) -> pl.DataFrame:
        """place, source, file, row, item, and `facts`, computed from the columns of the tables."""
        origin = {
            "file": pl.col("file").cast(pl.Categorical),
            "row": pl.col("row").cast(pl.UInt32),
            "item": pl.col("item").cast(pl.UInt32),
        }
        names = pl.Enum([one.source for one in self.tables])
        columns = needed([*origin.values(), *facts.values()])
        parts = [
            batch.select(source=pl.lit(one.source, names), **origin, **facts)
            for one, _, batch in self.stream(self.tables, columns, title)
        ]
        empty = [
            one.table.empty().select(source=pl.lit(None, names), **origin, **facts) for one in self.tables
        ]
        return pl.concat([*(frame.clear() for frame in empty), *parts], rechunk=True).with_row_index("place")

    def pick(
        self,
        picks: Mapping[str, pl.DataFrame],
        columns: Sequence[str],
        title: str,
        *,
        by_source: bool = False,
    ) -> Iterator[tuple[str, pl.DataFrame]]:
        """The rows at the places of each of `picks`, block by block: (name of the pick, rows).

        A pick has `place`, rising; its other columns are joined to the rows. Rows come in the order of
        places, or `by_source`, in the order of the sources' names: the key order of tables with an origin.
        """
        wanted = [one for one in self.tables if self.holds(one, picks)]
        if by_source:
            wanted.sort(key=lambda one: one.source)
        for _, start, batch in self.stream(wanted, columns, title):
            for name, pick in picks.items():
                first, last = pick["place"].search_sorted(pl.Series([start, start + batch.height]))
                if first < last:
                    part = pick[first:last]
                    rows = batch[part["place"] - start]
                    yield name, rows.hstack(part.get_columns())

    def holds(self, one: Input, picks: Mapping[str, pl.DataFrame]) -> bool:
        """Whether any pick has a row of this input."""
        start = self.starts[one.source]
        stop = start + tables.rows(one.table, one.path)
        return any(pick["place"].is_between(start, stop, closed="left").any() for pick in picks.values())

    def rows(self, kept: pl.DataFrame, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """The kept rows in key order, block by block, with the other columns of `kept`."""
        for _, rows in self.pick({"kept": kept}, columns, "writing", by_source=True):
            yield rows.drop("place")

    def texts(self, places: pl.Series, text: pl.Expr, title: str) -> pl.Series:
        """The texts at `places`, which rise, as a column on disk."""
        return self.columns({"text": (places, text)}, title)["text"]

    def columns(self, wanted: Mapping[str, tuple[pl.Series, pl.Expr]], title: str) -> dict[str, pl.Series]:
        """Several columns of texts on disk, each (places, text), from one reading."""
        spills = {name: Spill(self.scratch) for name in wanted}
        picks = {name: places.alias("place").to_frame() for name, (places, _) in wanted.items()}
        for name, rows in self.pick(picks, needed([text for _, text in wanted.values()]), title):
            spills[name].add(rows.select(text=wanted[name][1])["text"])
        return {name: spill.column() for name, spill in spills.items()}

    def stream(
        self, wanted: Sequence[Input], columns: Sequence[str], title: str
    ) -> Iterator[tuple[Input, int, pl.DataFrame]]:
        """(input, place of the first row, rows), block by block."""
        let_go()
        total = sum(tables.rows(one.table, one.path) for one in wanted)
        with progress(title, total, "rows") as bar:
            for one in wanted:
                place = self.starts[one.source]
                for batch in tables.batches(one.table, one.path, columns):
                    yield one, place, batch
                    place += batch.height
                    bar.update(batch.height)


def needed(expressions: Sequence[pl.Expr]) -> list[str]:
    """The columns that `expressions` read."""
    return list(dict.fromkeys(name for expression in expressions for name in expression.meta.root_names()))


def number(column: str) -> pl.Expr:
    """An id of 16 hex digits as the number that it writes."""
    return pl.col(column).str.decode("hex").bin.reinterpret(dtype=pl.UInt64, endianness="big")


def digits(numbers: pl.Series) -> pl.Series:
    """The hex digits of ids that `number` has read."""
    raw = pa.py_buffer(numbers.to_numpy().astype(">u8").tobytes())
    column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(8), len(numbers), [None, raw])
    return pl.Series(numbers.name, column, dtype=pl.Binary).bin.encode("hex")


def content(messages: pl.Expr) -> pl.Expr:
    """All messages of a conversation as one text."""
    return messages.list.eval(pl.element().struct.field("content")).list.join("\n")


def table_path(kind: str, folder: Path, source: str) -> Path:
    """Where the standard table of a source lies below the folder of its kind."""
    return folder / source / f"{kind}.parquet"


def find(kind: str, folder: Path, source: str, wanted_by: str) -> Input:
    """The standard table of one source; UserError names who wanted it and how to make it."""
    path = table_path(kind, folder, source)
    if not path.exists():
        raise UserError(
            f"{wanted_by}: expected the {kind} of source {source!r} at {path}, found nothing there; "
            f"make it with: dvc repro standardize@{source} (the source must be of kind {kind} in params.yaml)"
        )
    return Input(source, KINDS[kind], path)


def read_benchmarks(folder: Path, names: Sequence[str], wanted_by: str) -> pl.DataFrame:
    """The benchmarks of these names, one after the other."""
    found = [find("benchmarks", folder, name, wanted_by) for name in names]
    return pl.concat([BENCHMARKS.empty(), *(tables.read(one.table, one.path) for one in found)])
