"""Map a source's raw rows to the table of its kind.

    python -m pipeline.stages.standardize SOURCE RAW OUT

Writes `<kind>.parquet`, `ledger.parquet` and `counts.json` below OUT. The adapter gives items and drops
per raw row; the shared validity rules drop more, by name. Every raw row ends in at least one of the tables.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

import polars as pl

from pipeline import edge, raw, tables
from pipeline.errors import UserError
from pipeline.item_tables import DROPS, ID_COLUMN, Entry, drops_frame, items_frame
from pipeline.items import BAD_ROW_REASONS, Drop, Items
from pipeline.ledger import Ledger
from pipeline.params import load, parse
from pipeline.raw import RawRow
from pipeline.schemas import KINDS
from pipeline.source_params import Source
from pipeline.sources import adapter
from pipeline.validity import REASONS

log = logging.getLogger(__name__)

#: Items turned into a frame at once: bounds the memory that Python objects take.
CHUNK_ITEMS = 20_000

T = TypeVar("T")


@dataclass
class Account:
    """What one source's raw rows came to."""

    kept: list[pl.DataFrame] = field(default_factory=list)
    drops: list[pl.DataFrame] = field(default_factory=list)
    """Drops of the adapter and of the validity rules, as the ledger takes them, with `id`."""
    items: int = 0
    rows: int = 0
    """Raw rows that the adapter has answered for."""


def main() -> None:
    """Read the arguments and the source's section, and standardize."""
    name, raw_folder, out = edge.arguments("source", "raw", "out")
    standardize(str(name), load(f"sources.{name}", Source), raw_folder, out)


def standardize(name: str, source: Source, raw_folder: Path, out: Path) -> dict[str, object]:
    """Write the source's table and ledger below `out`; gives the counts.

    UserError where the raw rows are mostly broken, or where nothing is kept.
    """
    module = adapter(source.adapter)
    if source.kind != module.KIND:
        raise UserError(
            f"params.yaml: sources.{name}.kind: the adapter {source.adapter} makes {module.KIND}, "
            f"found {source.kind}; write kind: {module.KIND}"
        )
    rules = parse(f"sources.{name}.rules", module.Rules, source.rules)
    counted = Counted(
        raw.read(raw_folder, [file.path for file in source.files], getattr(module, "CSV_COLUMNS", None))
    )
    account = assemble(name, source.kind, module.items(counted, rules))
    assert account.rows == counted.rows, (
        f"{name}: {counted.rows} raw rows in, the adapter answers for {account.rows}"
    )
    drops = pl.concat(account.drops)
    demand_sound(name, source, counted.rows, drops)
    kept = pl.concat(account.kept)
    if kept.is_empty():
        reasons = dict(Counter(drops["reason"]).most_common(5))
        raise UserError(f"sources.{name}: expected at least one row to keep, found none; dropped: {reasons}")
    tables.write(KINDS[source.kind], kept, out / f"{source.kind}.parquet")
    ledger = Ledger(f"standardize@{name}", source.kind)
    ledger.drop(drops, id_column="id")
    counts = ledger.close(account.items, kept.height, out)
    log.info("%s: %d raw rows, %d items, %d kept", name, counted.rows, account.items, kept.height)
    return counts


class Counted:
    """An iterable of raw rows that knows how many it has given."""

    def __init__(self, rows: Iterable[RawRow]) -> None:
        self.source = rows
        self.rows = 0

    def __iter__(self) -> Iterator[RawRow]:
        for row in self.source:
            self.rows += 1
            yield row


def assemble(name: str, kind: str, items: Items) -> Account:
    """Frames of kept and dropped items, a bounded number of items at a time."""
    account = Account()
    for chunk in chunks(numbered(name, items, account), CHUNK_ITEMS):
        dropped = drops_frame([entry for entry in chunk if isinstance(entry.item, Drop)])
        kept, invalid = tables.sift(
            items_frame(kind, [entry for entry in chunk if not isinstance(entry.item, Drop)]), REASONS[kind]
        )
        ids = invalid.select(pl.col(*list(DROPS)[:5]), pl.col(ID_COLUMN[kind]).alias("id"))
        account.kept.append(kept)
        account.drops.append(
            pl.concat([dropped.with_columns(id=pl.lit(None, pl.String)), ids], how="diagonal")
        )
        account.items += len(chunk)
    return account


def numbered(name: str, items: Items, account: Account) -> Iterator[Entry]:
    """Each item with its origin; counts the raw rows, of which an adapter owes at least one item each."""
    for row, outcomes in items:
        assert outcomes, f"{row.file} row {row.row}: the adapter gave neither an item nor a drop"
        account.rows += 1
        for number, item in enumerate(outcomes):
            yield Entry((name, row.file, row.row, number), item)


def chunks(entries: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of up to `size`; one empty list where there is nothing at all."""
    entries = iter(entries)
    chunk = list(islice(entries, size))
    yield chunk
    while chunk := list(islice(entries, size)):
        yield chunk


def demand_sound(name: str, source: Source, rows: int, drops: pl.DataFrame) -> None:
    """UserError where more of the raw rows are unreadable or misshapen than the source allows."""
    bad = drops.filter(pl.col("reason").is_in(BAD_ROW_REASONS))
    if bad.height <= source.max_bad_fraction * rows:
        return
    file, row, reason, detail = bad.select("file", "row", "reason", "detail").row(0)
    raise UserError(
        f"sources.{name}: expected at most {source.max_bad_fraction:.0%} unreadable rows, found "
        f"{bad.height} of {rows}; first: {file} row {row}: {reason} ({detail}); check that "
        f"the adapter {source.adapter} fits these files, or raise sources.{name}.max_bad_fraction"
    )


if __name__ == "__main__":
    edge.run("standardize", main)
