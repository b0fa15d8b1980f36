"""Read raw files of outside data sets into rows, by what the file's name says.

`.jsonl`, `.json` (an array, one object, or lines), `.csv` and `.parquet`; the first three also as
`.gz` or `.zst`; and `.zip`, whose members are such files but no Parquet, which is refused inside an archive.
A bad line is not fatal: it becomes a row with the reason why it cannot be read, for the ledger. A
bad file is: a UserError says what was expected, what was found and what mends it.

All are read in bounded parts but `.json` files that are one object, which are read whole. Where an
object has a key twice, its last value counts.
"""

import csv
import io
import re
import zipfile
import zlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import IO, Any

from pipeline.byte_streams import BOM, DAMAGE, LONGEST_LINE, Lines, line_runs, unpacked
from pipeline.errors import UserError
from pipeline.json_files import json_parts, line_rows
from pipeline.raw_rows import INVALID_UTF8, LONG_LINE, MALFORMED_CSV, MALFORMED_JSON, RawRow, defect

__all__ = [
    "INVALID_UTF8",
    "LONG_LINE",
    "MALFORMED_CSV",
    "MALFORMED_JSON",
    "Part",
    "RawRow",
    "RawRows",
    "read",
]


KINDS = (".jsonl", ".json", ".csv", ".parquet", ".zip")
#: Members of an archive that hold rows; others are licences, notes and folders.
MEMBER = re.compile(r"^(?!__MACOSX/).*\.(jsonl|json|csv)(\.gz|\.zst)?$")
#: Members that hold rows too, but can only be read as files by themselves.
WHOLE_MEMBER = re.compile(r"^(?!__MACOSX/).*\.(parquet|zip)$")
PARQUET_SLICE_ROWS = 2_000

#: How content begins that is not what a data file's name promises.
IMPOSTORS = {
    b"version https://git-lfs": "a Git LFS pointer (mend: git lfs pull, or fetch it from the Hub)",
    b"<!DOCTYPE": "an HTML page (the download was refused or redirected)",
    b"<html": "an HTML page (the download was refused or redirected)",
    b"\x1f\x8b": "gzip data (its name should end in .gz)",
    b"\x28\xb5\x2f\xfd": "zstd data (its name should end in .zst)",
    b"PK\x03\x04": "a zip archive (its name should end in .zip)",
    b"PAR1": "Parquet data (its name should end in .parquet)",
}

#: What `csv` says where a quoted field is open at the end of the data.
UNCLOSED = "unexpected end of data"

#: What a file is read as: runs of JSON lines, and rows of every other kind.
Part = Lines | RawRow


def read(folder: Path, files: Iterable[str], csv_columns: tuple[str, ...] | None = None) -> Iterator[RawRow]:
    """All rows of the `files` below `folder`, in order; see `parts`."""
    return rows_of_parts(parts(folder, files, csv_columns))


def rows_of_parts(parts: Iterable[Part]) -> Iterator[RawRow]:
    """The rows of all parts."""
    for part in parts:
        if isinstance(part, Lines):
            yield from line_rows(part)
        else:
            yield part


def parts(folder: Path, files: Iterable[str], csv_columns: tuple[str, ...] | None = None) -> Iterator[Part]:
    """All of the `files` below `folder`, in order: JSON lines as runs of lines, other files as rows.

    `csv_columns` names the columns of CSV files that have no header line; None: the first line is the header.
    UserError for a file that is missing, empty, cut off, or not what its name says.
    """
    for file in files:
        path = folder / file
        if not path.is_file():
            found = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
            raise UserError(f"{path}: expected a raw file, found {found[:5]}; mend: dvc repro -f fetch")
        found_rows = False
        with readable(path, file):
            for part in parts_of(path, file, csv_columns):
                found_rows = found_rows or not isinstance(part, Lines) or not part.content.isspace()
                yield part
        if not found_rows:
            raise defect(file, "at least one row", "an empty file")


class RawRows:
    """The raw rows of a source, which may be read more than once; knows how many the last reading gave."""

    def __init__(self, folder: Path, files: Sequence[str], csv_columns: tuple[str, ...] | None) -> None:
        self.source = (folder, files, csv_columns)
        self.given = 0

    def __iter__(self) -> Iterator[RawRow]:
        self.given = 0
        for row in read(*self.source):
            self.given += 1
            yield row

    def parts(self) -> Iterator[Part]:
        """The same rows as `raw.parts` gives them; these are not counted."""
        return parts(*self.source)


def in_order(files: Iterable[str]) -> list[str]:
    """The files in the order of the `file` of their rows: a member of an archive is `archive.zip/member`."""
    return sorted(files, key=lambda file: f"{file}/" if file.endswith(".zip") else file)


@contextmanager
def readable(path: Path, file: str) -> Generator[None]:
    """Turn what readers raise on damaged files into one UserError."""
    kind = "".join(path.suffixes[-2:])
    try:
        yield
    except (*DAMAGE, zlib.error, zipfile.BadZipFile, NotImplementedError) as error:
        raise defect(file, f"complete {kind} data", f"damaged or cut-off data ({error})") from error


def parts_of(path: Path, file: str, csv_columns: tuple[str, ...] | None) -> Iterator[Part]:
    """One file on disk."""
    if path.suffix == ".parquet":
        yield from parquet_rows(path, file)
    elif path.suffix == ".zip":
        yield from archive_parts(path, file, csv_columns)
    else:
        with path.open("rb", buffering=0) as stream:
            yield from stream_parts(stream, file, csv_columns)


def archive_parts(path: Path, file: str, csv_columns: tuple[str, ...] | None) -> Iterator[Part]:
    """The members of a zip archive that hold rows, in the order of their names."""
    with zipfile.ZipFile(path) as archive:
        names = sorted(archive.namelist())
        if whole := next(filter(WHOLE_MEMBER.search, names), None):
            found = f"{whole} (unpack the archive, and name its files in params.yaml)"
            raise defect(file, "an archive of .jsonl, .json or .csv files", found)
        for member in filter(MEMBER.search, names):
            with opened(archive, member, file) as stream:
                yield from stream_parts(stream, f"{file}/{member}", csv_columns)


def opened(archive: zipfile.ZipFile, member: str, file: str) -> IO[bytes]:
    """A member's bytes; UserError where it is encrypted, or packed in a way that cannot be read here."""
    try:
        return archive.open(member)
    except RuntimeError as error:  # NotImplementedError is one
        raise defect(file, "members that can be unpacked", f"{member}, which cannot ({error})") from error


def stream_parts(stream: Any, file: str, csv_columns: tuple[str, ...] | None) -> Iterator[Part]:
    """A byte stream, decompressed and parsed as the suffixes of `file` say."""
    content, name = unpacked(stream, file)
    with content:
        head = content.peek(64).removeprefix(BOM).lstrip()
        for magic, found in IMPOSTORS.items():
            if head.startswith(magic):
                raise defect(file, f"{Path(name).suffix} text", found)
        match Path(name).suffix:
            case ".jsonl":
                yield from line_runs(content, file)
            case ".json":
                yield from json_parts(content, file)
            case ".csv":
                yield from csv_rows(content, file, csv_columns)
            case suffix:
                raise UserError(
                    f"{file}: expected a name that ends in {', '.join(KINDS)}, perhaps with .gz or "
                    f".zst, found {suffix or 'no suffix'}; rename it, and correct its path in params.yaml"
                )


def csv_rows(lines: Any, file: str, columns: tuple[str, ...] | None) -> Iterator[RawRow]:
    """One row per CSV record, as a mapping of column to text."""
    csv.field_size_limit(LONGEST_LINE)  # the default of 128 KiB is less than a long answer
    # surrogateescape lets a line with invalid UTF-8 through, to be named here rather than to stop the file
    with io.TextIOWrapper(lines, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        records = csv.reader(text, strict=True)
        header = list(columns) if columns is not None else csv_header(records, file)
        for number in count():
            before = records.line_num
            try:
                record = next(records)
            except StopIteration:
                return
            except csv.Error as error:
                lines = records.line_num - before
                if str(error) == UNCLOSED:
                    found = f"one that never ends, begun in row {number} (the last {lines} lines)"
                    raise defect(file, "quoted fields that end", found) from error
                yield RawRow(file, number, None, MALFORMED_CSV, f"{error}; lines lost: {lines}")
                continue
            yield csv_row(file, number, header, record)


def csv_header(records: Any, file: str) -> list[str]:
    """The column names of the first line."""
    try:
        header = next(records, [])
    except csv.Error as error:
        raise defect(file, "a CSV header line", f"a broken one ({error})") from error
    # columns without a name, as spreadsheets leave at the end, are nobody's
    check_names(file, list(filter(None, header)))
    return header


def check_names(file: str, names: list[str]) -> None:
    """UserError where a column stands twice: no rule could say which of them it means."""
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise defect(file, "each column once", f"several named {', '.join(map(repr, twice[:3]))}")


def csv_row(file: str, number: int, header: list[str], record: list[str]) -> RawRow:
    """A record under its header, or a bad row."""
    if any(has_escape(field) for field in record):
        return RawRow(file, number, None, INVALID_UTF8)
    if len(record) != len(header):
        return RawRow(file, number, None, MALFORMED_CSV, f"{len(record)} fields, expected {len(header)}")
    return RawRow(file, number, dict(zip(header, record, strict=True)))


def has_escape(text: str) -> bool:
    """True where the text holds a byte that was not UTF-8."""
    return not text.isprintable() and any("\udc80" <= character <= "\udcff" for character in text)


def parquet_rows(path: Path, file: str) -> Iterator[RawRow]:
    """One row per row of a Parquet table, read in slices.

    By Arrow's reader: on damaged pages Polars' panics, ends the process, or gives fewer rows and no error.
    """
    import pyarrow as pa  # noqa: PLC0415  (only sources in Parquet need its start-up time)
    import pyarrow.parquet as pq  # noqa: PLC0415

    number = count()
    try:
        with pq.ParquetFile(path) as table:
            check_names(file, table.schema_arrow.names)
            for batch in table.iter_batches(PARQUET_SLICE_ROWS):
                batch.validate(full=True)
                for value in batch.to_pylist():
                    yield RawRow(file, next(number), value)
    except (pa.ArrowException, OSError) as error:
        found = f"damaged or other data ({' '.join(str(error).split())})"
        raise defect(file, "a Parquet table", found) from error
    except (ValueError, OverflowError) as error:  # by to_pylist, of times beyond Python's range or precision
        found = f"others (leave out the column, or cast it: {' '.join(str(error).split())})"
        raise defect(file, "values that Python can hold", found) from error
