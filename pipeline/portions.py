"""Raw rows to portions of a source's table and ledger, a bounded number of rows at a time.

Every adapter gives items row by row. One that also has `certain(texts, rules)` gets whole runs of rows as
columns of text (`row` and its COLUMNS): it returns those that the row by row way would surely keep (`row` and
the columns of its kind, without ids), and every other row goes row by row, which names what is wrong with it.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import numpy as np
import polars as pl

from pipeline import tables
from pipeline.byte_streams import Lines
from pipeline.item_tables import DROPS, ID_COLUMN, Entry, completed, drops_frame, items_frame
from pipeline.items import Drop, Items
from pipeline.json_columns import ScannedLines, scanned, text_columns
from pipeline.json_files import line_row
from pipeline.raw import Part, RawRow, RawRows
from pipeline.schemas import ORIGIN_KEY
from pipeline.validity import REASONS

#: Items turned into a frame at once: bounds the memory that Python objects take.
CHUNK_ITEMS = 20_000
#: Runs of lines in work at once; their order stays, so the output does not depend on it.
THREADS = 2

T = TypeVar("T")
R = TypeVar("R")


class Portion(NamedTuple):
    """What some raw rows came to; both frames are in the order of the origin."""

    kept: pl.DataFrame
    drops: pl.DataFrame
    """Drops of the adapter and of the validity rules, as the ledger takes them, with `id`."""
    rows: int
    """Raw rows that the adapter has answered for."""


@dataclass(frozen=True)
class RowMapper:
    """How the rows of one source become items of one kind."""

    source: str
    kind: str
    adapter: Any
    rules: Any

    def portions(self, rows: RawRows) -> Iterator[Portion]:
        """Portions of all rows; by whole runs of lines, where the adapter can."""
        if hasattr(self.adapter, "certain"):
            yield from in_turn(self.of_group, grouped(rows.parts()), THREADS)
            return
        answered = 0
        for portion in self.of_rows(rows):
            answered += portion.rows
            yield portion
        assert answered == rows.given, (
            f"{self.source}: {rows.given} raw rows in, the adapter answers for {answered}"
        )

    def of_rows(self, rows: Iterable[RawRow]) -> Iterator[Portion]:
        """Portions of CHUNK_ITEMS items; one without items where there is nothing at all."""
        answered = Answered(self.source, self.adapter.items(rows, self.rules))
        for chunk in chunks(answered, CHUNK_ITEMS):
            yield self.portion(chunk, answered.taken())

    def portion(self, chunk: list[Entry], rows: int) -> Portion:
        """The kept and the dropped of some items."""
        dropped = drops_frame([entry for entry in chunk if isinstance(entry.item, Drop)])
        kept, invalid = tables.sift(
            items_frame(self.kind, [entry for entry in chunk if not isinstance(entry.item, Drop)]),
            REASONS[self.kind],
        )
        named = invalid.select(pl.col(*list(DROPS)[:5]), pl.col(ID_COLUMN[self.kind]).alias("id"))
        drops = pl.concat([dropped.with_columns(id=pl.lit(None, pl.String)), named], how="diagonal")
        return Portion(kept, drops.sort(ORIGIN_KEY), rows)

    def of_group(self, group: Lines | list[RawRow]) -> Portion:
        """The portion of a run of lines, or of some rows, of an adapter whose rows stand alone."""
        if not isinstance(group, Lines):
            return self.of_few(group)
        scan = scanned(group)
        sure = self.surely(text_columns(scan, self.adapter.COLUMNS), group.file)
        return self.with_others(sure, rows_besides(scan, sure["row"].to_numpy()))

    def surely(self, texts: pl.DataFrame, file: str) -> pl.DataFrame:
        """The rows of the kind's table that the adapter is certain of; `texts` has `row` and its COLUMNS."""
        return completed(self.kind, self.adapter.certain(texts, self.rules), self.source, file)

    def with_others(self, sure: pl.DataFrame, others: list[RawRow]) -> Portion:
        """The portion of the rows kept for sure and of those that go row by row, of one file."""
        left = self.of_few(others)
        kept = sure if left.kept.is_empty() else pl.concat([sure, left.kept]).sort(ORIGIN_KEY)
        return Portion(kept, left.drops, sure.height + left.rows)

    def of_few(self, rows: list[RawRow]) -> Portion:
        """The portion of some rows."""
        parts = list(self.of_rows(rows))
        assert sum(part.rows for part in parts) == len(rows), (
            f"{self.source}: {len(rows)} raw rows in, the adapter answers for {sum(p.rows for p in parts)}"
        )
        kept, drops, counts = zip(*parts, strict=True)
        return Portion(pl.concat(kept), pl.concat(drops), sum(counts))


class Answered:
    """Each item with its origin, and how many raw rows these came from: an adapter owes each row one item."""

    def __init__(self, source: str, items: Items) -> None:
        self.source = source
        self.items = items
        self.rows = 0

    def __iter__(self) -> Iterator[Entry]:
        for row, outcomes in self.items:
            assert outcomes, f"{row.file} row {row.row}: the adapter gave neither an item nor a drop"
            self.rows += 1
            for number, item in enumerate(outcomes):
                yield Entry((self.source, row.file, row.row, number), item)

    def taken(self) -> int:
        """The raw rows answered for since the last call."""
        rows, self.rows = self.rows, 0
        return rows


def chunks(entries: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of up to `size`; one empty list where there is nothing at all."""
    entries = iter(entries)
    chunk = list(islice(entries, size))
    yield chunk
    while chunk := list(islice(entries, size)):
        yield chunk


def grouped(parts: Iterable[Part]) -> Iterator[Lines | list[RawRow]]:
    """Runs of lines as they are, and rows by CHUNK_ITEMS; neither reaches over the end of a file."""
    rows: list[RawRow] = []
    for part in parts:
        if rows and (isinstance(part, Lines) or part.file != rows[0].file or len(rows) == CHUNK_ITEMS):
            yield rows
            rows = []
        if isinstance(part, Lines):
            yield part
        else:
            rows.append(part)
    if rows:
        yield rows


def rows_besides(scan: ScannedLines, found: np.ndarray) -> list[RawRow]:
    """The rows of the lines whose number is not in `found`."""
    file, first, _ = scan.lines
    left = np.ones(scan.height, dtype=bool)
    left[found - first] = False
    rows = (line_row(file, first + int(place), scan.line(place)) for place in np.flatnonzero(left))
    return [row for row in rows if row is not None]


def in_turn(work: Callable[[T], R], given: Iterable[T], threads: int) -> Iterator[R]:
    """The results of `work`, in order, some of them in work while the next is read and the last is used."""
    with ThreadPoolExecutor(threads) as pool:
        waiting = deque()
        for one in given:
            waiting.append(pool.submit(work, one))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
