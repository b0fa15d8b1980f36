"""Map a source's raw rows to the table of its kind.

    python -m pipeline.stages.standardize SOURCE RAW OUT

Writes `<kind>.parquet`, `ledger.parquet`, `counts.json` and `upstream.json` (read_sets.py: how many raw rows
of which published set) below OUT. The adapter gives items and drops per raw row; the shared validity rules
drop more, by name. Every raw row ends in at least one of the tables.
Rows are read, mapped and written a portion at a time, so that memory does not grow with the source.
"""

import logging
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from pipeline import edge, raw, read_sets, tables
from pipeline.errors import UserError
from pipeline.items import BAD_ROW_REASONS
from pipeline.ledger import LedgerStream
from pipeline.params import load, parse
from pipeline.portions import Portion, RowMapper
from pipeline.schemas import KINDS
from pipeline.source_params import Source
from pipeline.sources import adapter

log = logging.getLogger(__name__)


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
    files = raw.in_order(file.path for file in source.files)
    rows = raw.RawRows(raw_folder, files, getattr(module, "CSV_COLUMNS", None))
    account = Account()
    with ExitStack() as outputs:
        table = outputs.enter_context(tables.Writer(KINDS[source.kind], out / f"{source.kind}.parquet"))
        ledger = outputs.enter_context(LedgerStream(f"standardize@{name}", source.kind, out))
        for portion in RowMapper(name, source.kind, module, rules).portions(rows):
            account.add(portion)
            table.write(portion.kept)
            ledger.drop(portion.drops, id_column="id")
        demand_sound(name, source, account)
        counts = ledger.close(account.items, table.height)
    read_sets.write(out, read_sets.read_set(source, getattr(module, "SETS", ()), account.rows))
    log.info("%s: %d raw rows, %d items, %d kept", name, account.rows, account.items, table.height)
    return counts


@dataclass
class Account:
    """What one source's raw rows came to."""

    rows: int = 0
    items: int = 0
    kept: int = 0
    bad: int = 0
    """Raw rows that are broken, whatever the rules."""
    first_bad: tuple[Any, ...] | None = None
    """Of these the first: file, row, reason, detail."""
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, portion: Portion) -> None:
        """Count a portion."""
        bad = portion.drops.filter(pl.col("reason").is_in(BAD_ROW_REASONS))
        self.rows += portion.rows
        self.items += portion.kept.height + portion.drops.height
        self.kept += portion.kept.height
        self.bad += bad.height
        if self.first_bad is None and bad.height:
            self.first_bad = bad.select("file", "row", "reason", "detail").row(0)
        self.reasons.update(portion.drops["reason"].to_list())


def demand_sound(name: str, source: Source, account: Account) -> None:
    """UserError where more raw rows are unreadable or misshapen than the source allows, or none is kept."""
    if account.bad > source.max_bad_fraction * account.rows and account.first_bad:
        file, row, reason, detail = account.first_bad
        raise UserError(
            f"sources.{name}: expected at most {source.max_bad_fraction:.0%} unreadable rows, found "
            f"{account.bad} of {account.rows}; first: {file} row {row}: {reason} ({detail}); check that "
            f"the adapter {source.adapter} fits these files, or raise sources.{name}.max_bad_fraction"
        )
    if not account.kept:
        reasons = dict(account.reasons.most_common(5))
        raise UserError(f"sources.{name}: expected at least one row to keep, found none; dropped: {reasons}")


if __name__ == "__main__":
    edge.run("standardize", main)
