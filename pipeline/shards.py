"""The bytes of a shard: a Parquet file whose name carries when it was written and the digest of its bytes.

The key column is the last, so that it and the footer are the end of the file: what is stored is learnt from
one read of some kilobytes per shard. zstd at level 1 halves a file and costs a millisecond per 512 answers.
"""

import hashlib
import io
import re
from collections.abc import Generator
from contextlib import contextmanager

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.storage import stamp

SUFFIX = ".parquet"
DAMAGED = ".damaged"
#: The end of a shard that is read for its keys: enough for as many as `shard_rows` may be, for
#: beyond it each look-up reads the whole.
TAIL_BYTES = 1 << 16


class Damaged(Exception):  # noqa: N818 - a finding, not a failure
    """A shard that does not say what its name or its set promises."""


def encoded(rows: pl.DataFrame, schema: pl.Schema) -> bytes:
    """The bytes of a shard of `rows`, with checksums, so that its keys alone can be trusted."""
    buffer = io.BytesIO()
    pq.write_table(
        rows.select(*(name for name in schema if name != "key"), "key")
        .cast(schema)
        .to_arrow(compat_level=pl.CompatLevel.oldest()),
        buffer,
        compression="zstd",
        compression_level=1,
        use_dictionary=["finish_reason"],
        write_statistics=False,
        write_page_checksum=True,
        store_schema=False,
    )
    return buffer.getvalue()


def name(nanoseconds: int, content: bytes) -> str:
    """The file name of a shard written at a time."""
    return f"{stamp(nanoseconds)}-{digest(content)}{SUFFIX}"


def written(path: str) -> int:
    """When a shard or an unfinished file was written, by its name: ns since 1970; 0 where it says nothing."""
    found = re.match(r"[0-9a-f]{16}-", path.rpartition("/")[2])
    return int(found[0][:-1], 16) if found else 0


def set_aside(path: str) -> str:
    """The path of a damaged shard that nobody is to read any more."""
    return path.removesuffix(SUFFIX) + DAMAGED


def digest(content: bytes) -> str:
    """The digest of a shard's bytes that its name carries."""
    return hashlib.sha256(content).hexdigest()[:32]


def prove(path: str, content: bytes) -> None:
    """Raise Damaged where the bytes are not those that the shard's name promises."""
    if path.rpartition("-")[2] != digest(content) + SUFFIX:
        raise Damaged(path)


def keys(tail: bytes, size: int) -> pl.Series:
    """The keys of a shard of `size` bytes, given its end; Damaged where that is broken or too short."""
    # pyarrow wants a whole file. Before the tail it gets zeros, which it reads only if the tail is too short.
    whole = pa.BufferReader(bytes(max(0, size - len(tail))) + tail)
    with damage():
        column = pq.ParquetFile(whole, page_checksum_verification=True).read(["key"]).column("key")
    series = pl.Series("key", column)
    if series.dtype != pl.String or series.has_nulls() or series.is_empty():  # none is written without rows
        raise Damaged
    return series


def rows(content: bytes, schema: pl.Schema, keys: pl.Series) -> pl.DataFrame:
    """The rows of some keys in a shard; Damaged where its columns are others than those of `schema`."""
    with damage():
        table = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
    if set(table.column_names) != set(schema):
        raise Damaged
    # Arrow copies the few texts that are asked for; Polars would keep hold of all.
    asked = pl.Series(table.column("key")).is_in(keys.implode()).to_arrow()
    frame = pl.DataFrame(table.filter(asked)).select(schema.names())
    if frame.schema != schema:
        raise Damaged
    return frame


def count(tail: bytes, size: int) -> int:
    """The rows of a shard, from its footer; Damaged where there is none."""
    with damage():
        return pq.read_metadata(pa.BufferReader(bytes(max(0, size - len(tail))) + tail)).num_rows


@contextmanager
def damage() -> Generator[None]:
    """Turn what pyarrow raises of broken bytes, which may be anything, into Damaged."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise Damaged from error
