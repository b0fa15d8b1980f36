"""Raw rows into files of the form that a name says: lines of JSON, plain or gzip, and Parquet."""

import gzip
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

GROUP_ROWS = 1_000
"""Rows of a row group, as the Hub's own files have."""

ROWS = Iterator[tuple[str, dict[str, Any] | bytes]]
"""File and row; bytes are a line as it is, which need not be JSON."""


class ParquetFile:
    """Rows of a Parquet file, a group at a time; the first group's types are those of all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.writer: pq.ParquetWriter | None = None

    def add(self, row: dict[str, Any]) -> None:
        """One row more."""
        self.rows.append(row)
        if len(self.rows) == GROUP_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write the rows at hand as a group."""
        if not self.rows:
            return
        table = pa.Table.from_pylist(self.rows, schema=self.writer.schema if self.writer else None)
        if self.writer is None:
            self.writer = pq.ParquetWriter(self.path, table.schema)
        self.writer.write_table(table)
        self.rows = []

    def close(self) -> None:
        """Write what is left."""
        self.flush()
        if self.writer is not None:
            self.writer.close()


def write(folder: Path, rows: ROWS) -> tuple[list[str], int]:
    """(files, number of rows) of what was written below `folder`."""
    tables: dict[str, ParquetFile] = {}
    lines: dict[str, BinaryIO] = {}
    number = 0
    with ExitStack() as stack:
        for file, row in rows:
            number += 1
            if file.endswith(".parquet"):
                if file not in tables:
                    tables[file] = ParquetFile(opened(folder / file))
                    stack.callback(tables[file].close)
                assert isinstance(row, dict)
                tables[file].add(row)
            else:
                if file not in lines:
                    lines[file] = stack.enter_context(line_file(opened(folder / file)))
                lines[file].write(
                    row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False).encode()
                )
                lines[file].write(b"\n")
    return sorted([*tables, *lines]), number


def opened(path: Path) -> Path:
    """The path, with its folder made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def line_file(path: Path) -> Any:
    """A file to write lines to; gzip without a clock in its head."""
    return gzip.GzipFile(path, "wb", compresslevel=1, mtime=0) if path.suffix == ".gz" else path.open("wb")
