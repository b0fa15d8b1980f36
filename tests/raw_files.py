"""Rows written as raw files in every form that sources come in."""

import csv
import gzip
import io
import json
import random
from typing import Any

import polars as pl
import zstandard

Rows = list[Any]


def written(rows: Rows, rng: random.Random) -> tuple[str, bytes]:
    """A file name and the bytes of `rows` in a form that can hold them; `packed` may compress it."""
    form = rng.choice(["jsonl", "jsonl", "json", "json lines", "parquet", "csv"])
    if form == "parquet" and (content := parquet(rows)) is not None:
        return "f.parquet", content
    if form == "csv" and (content := comma_separated(rows)) is not None:
        return "f.csv", content
    if form == "json":
        return "f.json", array(rows)
    return ("f.json" if form == "json lines" else "f.jsonl"), lines(rows, rng)


def packed(name: str, content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """The file plain, or compressed; Parquet has its own compression."""
    match rng.randrange(4) if name != "f.parquet" else None:
        case 0:
            return f"{name}.gz", gzip.compress(content, mtime=0)
        case 1:
            return f"{name}.zst", zstandard.compress(content)
        case _:
            return name, content


def as_json(row: Any) -> str:
    """A row as JSON, as Python writes it: NaN and Infinity are left bare. A `str` is already JSON."""
    return row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)


def lines(rows: Rows, rng: random.Random) -> bytes:
    """One row per line, now and then with blank lines or line ends of Windows."""
    end = rng.choice(["\n", "\n", "\n", "\r\n", "\n\n", "\n \t\n"])
    return "".join(as_json(row) + end for row in rows).encode("utf-8", "surrogatepass")


def array(rows: Rows) -> bytes:
    """One JSON array."""
    return ("[" + ", ".join(map(as_json, rows)) + "]").encode("utf-8", "surrogatepass")


def parquet(rows: Rows) -> bytes | None:
    """A Parquet table; None where the rows are not of one type."""
    target = io.BytesIO()
    try:
        pl.DataFrame(rows, strict=False, infer_schema_length=None).write_parquet(target)
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError, AttributeError):
        return None
    return target.getvalue()


def comma_separated(rows: Rows) -> bytes | None:
    """CSV with a header; None where a row is more than texts."""
    if not all(isinstance(row, dict) and all(isinstance(v, str) for v in row.values()) for row in rows):
        return None
    target = io.StringIO()
    writer = csv.DictWriter(target, sorted({key for row in rows for key in row}), restval="")
    writer.writeheader()
    writer.writerows(rows)
    return target.getvalue().encode("utf-8", "surrogatepass")
