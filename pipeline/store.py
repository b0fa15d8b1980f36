"""The content-addressed row store: what has been computed once is never computed again.

It lives outside DVC outs (`<state>/store/<kind>/`), because DVC deletes outs before a run. A key is
the digest of what computes (weights, tokenizer, settings) and of what is asked (row content,
sample index); the value is JSON. Shards are immutable Parquet files, written whole and renamed, so
a reader sees only complete ones and any number of writers may append. A shard is named after the
digest of its rows, so damage is seen. Two writers of one key are harmless: the first in shard-name
order is the truth for every reader, the writers included.
"""

import contextlib
import json
import logging
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.ids import content_id

log = logging.getLogger(__name__)

SCHEMA = pl.Schema({"key": pl.String, "value": pl.String})

#: Computes the rows at the given indices, and yields each index with its value as soon as it has it.
Compute = Callable[[Sequence[int]], Iterable[tuple[int, Any]]]


class RowStore:
    """Values by key, in shards below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def shards(self) -> Iterator[tuple[Path, pl.DataFrame]]:
        """Every readable shard, by name; a damaged one is set aside, so that its rows are computed again."""
        for path in sorted(self.folder.glob("*.parquet")):
            try:
                frame = pl.read_parquet(path)
                right = frame.schema == SCHEMA and shard_name(frame) == path.stem
                reason = None if right else "not what was written"
            except FileNotFoundError:
                continue  # another reader has set it aside meanwhile
            except pl.exceptions.PolarsError as error:
                frame, reason = pl.DataFrame(schema=SCHEMA), str(error)
            if reason is None:
                yield path, frame
                continue
            log.warning("%s is damaged (%s): set aside, its rows will be computed again", path, reason)
            with contextlib.suppress(FileNotFoundError):
                path.rename(path.with_suffix(".damaged"))

    def get(self, keys: Sequence[str]) -> dict[str, Any]:
        """The stored values of those `keys` that are there."""
        wanted = pl.DataFrame({"key": list(dict.fromkeys(keys))}, schema={"key": pl.String})
        found: dict[str, Any] = {}
        for _, shard in self.shards():
            for key, value in shard.join(wanted, on="key", how="semi").iter_rows():
                found.setdefault(key, json.loads(value))
        return found

    def append(self, values: Mapping[str, Any]) -> None:
        """Write one shard, atomically; its name is its content's digest, so writing it twice is one shard."""
        if not values:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        texts = [json.dumps(value, ensure_ascii=False) for value in values.values()]
        frame = pl.DataFrame({"key": list(values), "value": texts}, schema=SCHEMA).sort("key")
        name = shard_name(frame)
        partial = self.folder / f".{name}.{uuid.uuid4().hex}.partial"
        frame.write_parquet(partial)
        partial.replace(self.folder / f"{name}.parquet")


def shard_name(frame: pl.DataFrame) -> str:
    """The name of a shard: the digest of its rows."""
    return content_id(frame.rows())


def fill(store: RowStore, keys: Sequence[str], compute: Compute, *, shard_rows: int) -> list[Any]:
    """The values of `keys`, in order: those in the store, and the rest computed once and stored.

    `compute` gets the indices of the first appearance of each missing key. Every `shard_rows`
    values are written at once, which is what a kill can cost; an exception costs nothing. Values are
    given as the store holds them (JSON), the first time as every other.
    """
    stored = store.get(keys)
    first = {key: i for i, key in reversed(list(enumerate(keys)))}
    missing = sorted(i for key, i in first.items() if key not in stored)
    log.info("%s: %d of %d rows are stored", store.folder.name, len(stored), len(first))
    if missing:
        compute_into(store, keys, missing, compute, shard_rows)
        stored = store.get(keys)
    return [stored[key] for key in keys]


def compute_into(
    store: RowStore, keys: Sequence[str], missing: Sequence[int], compute: Compute, shard_rows: int
) -> None:
    """Compute the missing rows and append them shard by shard; what is there when `compute` fails is kept."""
    started, pending = time.monotonic(), {}
    try:
        for done, (i, value) in enumerate(compute(missing), start=1):
            pending[keys[i]] = value
            if len(pending) >= shard_rows:
                store.append(pending)
                pending = {}
                left = (time.monotonic() - started) / done * (len(missing) - done)
                log.info("%s: %d of %d, %.0f s left", store.folder.name, done, len(missing), left)
    finally:
        store.append(pending)
