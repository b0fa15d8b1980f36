"""Read raw files of outside data sets into rows, by what the file's name says.

`.jsonl`, `.json` (an array, one object, or lines), `.csv` and `.parquet`; the first three also as
`.gz` or `.zst`; and `.zip`, whose members are files of these kinds. A bad line is not fatal: it
becomes a row with the reason why it cannot be read, for the ledger. A bad file is: a UserError
says what was expected, what was found and what mends it.
"""

import csv
import gzip
import io
import json
import re
import sys
import zipfile
import zlib
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import zstandard

from pipeline.errors import UserError

MALFORMED_JSON = "malformed json"
MALFORMED_CSV = "malformed csv"
INVALID_UTF8 = "invalid utf-8"

KINDS = (".jsonl", ".json", ".csv", ".parquet", ".zip")
#: Members of an archive that hold rows; others are licences, notes and folders.
MEMBER = re.compile(r"^(?!__MACOSX/).*\.(jsonl|json|csv)(\.gz|\.zst)?$")
PARQUET_SLICE_ROWS = 10_000
BOM = b"\xef\xbb\xbf"

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


class RawRow(NamedTuple):
    """One row as upstream released it, and where it stands."""

    file: str
    """Path below the raw folder; of a member of an archive: `archive.zip/member`."""
    row: int
    """From 0: the line of a lines file, the place in an array or table."""
    value: Any
    """The parsed content; None where `bad` is set."""
    bad: str | None = None
    """Why the row could not be read."""
    detail: str | None = None


def read(folder: Path, files: Iterable[str], csv_columns: tuple[str, ...] | None = None) -> Iterator[RawRow]:
    """All rows of the `files` below `folder`, in order.

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
            for row in rows_of(path, file, csv_columns):
                found_rows = True
                yield row
        if not found_rows:
            raise defect(file, "at least one row", "an empty file")


def defect(file: str, expected: str, found: str) -> UserError:
    """The error for a file that cannot be read as a whole."""
    return UserError(
        f"{file}: expected {expected}, found {found}; mend: put the right file where its source is, "
        "correct its sha256 in params.yaml, and run: dvc repro"
    )


@contextmanager
def readable(path: Path, file: str) -> Generator[None]:
    """Turn what readers raise on damaged files into one UserError."""
    kind = "".join(path.suffixes[-2:])
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError, zipfile.BadZipFile) as error:
        raise defect(file, f"complete {kind} data", f"damaged or cut-off data ({error})") from error
    except pl.exceptions.PolarsError as error:
        found = f"damaged or other data ({' '.join(str(error).split())})"
        raise defect(file, "a Parquet table", found) from error


def rows_of(path: Path, file: str, csv_columns: tuple[str, ...] | None) -> Iterator[RawRow]:
    """The rows of one file on disk."""
    if path.suffix == ".parquet":
        yield from parquet_rows(path, file)
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            for member in sorted(filter(MEMBER.search, archive.namelist())):
                with archive.open(member) as stream:
                    yield from stream_rows(stream, f"{file}/{member}", csv_columns)
    else:
        with path.open("rb", buffering=0) as stream:
            yield from stream_rows(stream, file, csv_columns)


def stream_rows(stream: Any, file: str, csv_columns: tuple[str, ...] | None) -> Iterator[RawRow]:
    """The rows of a byte stream, decompressed and parsed as the suffixes of `file` say."""
    name = file
    if name.endswith(".gz"):
        name, stream = name.removesuffix(".gz"), gzip.GzipFile(fileobj=stream)
    elif name.endswith(".zst"):
        name, stream = name.removesuffix(".zst"), unpacked_zstd(stream.read())
    with io.BufferedReader(stream) as lines:
        head = lines.peek(64).removeprefix(BOM).lstrip()
        for magic, found in IMPOSTORS.items():
            if head.startswith(magic):
                raise defect(file, f"{Path(name).suffix} text", found)
        match Path(name).suffix:
            case ".jsonl":
                yield from line_rows(lines, file)
            case ".json":
                yield from json_rows(lines.read(), file)
            case ".csv":
                yield from csv_rows(lines, file, csv_columns)
            case suffix:
                raise UserError(
                    f"{file}: expected a name that ends in {', '.join(KINDS)}, perhaps with .gz or "
                    f".zst, found {suffix or 'no suffix'}; rename it, and correct its path in params.yaml"
                )


def unpacked_zstd(content: bytes) -> io.BytesIO:
    """All frames of zstd data; ZstdError where the last is cut off, which a stream reader hides."""
    unpacked = io.BytesIO()
    while content:
        frame = zstandard.ZstdDecompressor().decompressobj()
        unpacked.write(frame.decompress(content))
        if not frame.eof:
            raise zstandard.ZstdError("the data ends inside a frame")
        content = frame.unused_data
    unpacked.seek(0)
    return unpacked


def line_rows(lines: Iterable[bytes], file: str) -> Iterator[RawRow]:
    """One row per line that is not blank."""
    for number, line in enumerate(lines):
        content = (line.removeprefix(BOM) if number == 0 else line).strip()
        if not content:
            continue
        parsed = json_row(content, file, number)
        if number == 0 and parsed.bad and content.startswith(b"["):
            raise defect(file, "one JSON value per line", "a JSON array (its name should end in .json)")
        yield parsed


def json_row(content: bytes, file: str, number: int) -> RawRow:
    """A parsed line, or a bad row."""
    try:
        return RawRow(file, number, json.loads(content.decode("utf-8")))
    except UnicodeDecodeError as error:
        return RawRow(file, number, None, INVALID_UTF8, str(error))
    except (ValueError, RecursionError) as error:
        return RawRow(file, number, None, MALFORMED_JSON, str(error))


def json_rows(content: bytes, file: str) -> Iterator[RawRow]:
    """The elements of an array, one object as one row, or lines."""
    content = content.removeprefix(BOM).strip()
    whole = json_row(content, file, 0)
    if whole.bad is None:
        rows = whole.value if isinstance(whole.value, list) else [whole.value]
        yield from (RawRow(file, number, value) for number, value in enumerate(rows))
    elif content.startswith(b"[") and json_row(content.split(b"\n", 1)[0], file, 0).bad:
        raise defect(file, "a JSON array", f"a broken one ({whole.bad}: {whole.detail})")
    elif content:
        yield from line_rows(content.split(b"\n"), file)


def csv_rows(lines: Any, file: str, columns: tuple[str, ...] | None) -> Iterator[RawRow]:
    """One row per CSV record, as a mapping of column to text."""
    csv.field_size_limit(sys.maxsize)  # the default of 128 KiB is less than a long answer
    # surrogateescape lets a line with invalid UTF-8 through, to be named here rather than to stop the file
    with io.TextIOWrapper(lines, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        records = csv.reader(text, strict=True)
        header = list(columns) if columns is not None else next(records, [])
        for number in count():
            try:
                record = next(records)
            except StopIteration:
                return
            except csv.Error as error:
                yield RawRow(file, number, None, MALFORMED_CSV, str(error))
                continue
            yield csv_row(file, number, header, record)


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
    """One row per row of a Parquet table, read in slices."""
    number = 0
    for part in pl.read_parquet(path).iter_slices(PARQUET_SLICE_ROWS):
        for value in part.iter_rows(named=True):
            yield RawRow(file, number, value)
            number += 1
