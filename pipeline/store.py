"""The content-addressed row store: what has been computed once is never computed again.

It lives outside DVC outs (`<state>/store/<kind>/`), because DVC deletes outs before a run. A key is
the digest of what computes (weights, tokenizer, settings) and of what is asked (row content,
sample index); the value is JSON. Shards are immutable Parquet files, written whole and renamed, so
a reader sees only complete ones and any number of writers may append. Two writers of one key are
harmless: the first in shard-name order is the truth for every reader.
"""

import json
import logging
import os
import time
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
            except (pl.exceptions.PolarsError, OSError) as error:
                log.warning("%s is damaged (%s): set aside, its rows will be computed again", path, error)
                path.rename(path.with_suffix(".damaged"))
                continue
            if frame.schema == SCHEMA:
                yield path, frame

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
        frame = pl.DataFrame(
            {"key": list(values), "value": [json.dumps(value, ensure_ascii=False) for value in values.values()]},
            schema=SCHEMA,
        ).sort("key")
        name = content_id(frame.rows())
        partial = self.folder / f".{name}.{os.getpid()}.partial"
        frame.write_parquet(partial)
        partial.replace(self.folder / f"{name}.parquet")


def fill(store: RowStore, keys: Sequence[str], compute: Compute, *, shard_rows: int) -> list[Any]:
    """The values of `keys`, in order: those in the store, and the rest computed once and stored.

    `compute` gets the indices of the first appearance of each missing key. Every `shard_rows`
    values are written at once, which is what a crash can cost.
    """
    values = store.get(keys)
    missing = list({key: i for i, key in reversed(list(enumerate(keys))) if key not in values}.values())
    missing.sort()
    log.info("%s: %d of %d rows are stored, %d to compute", store.folder.name, len(values), len(keys), len(missing))
    started, pending = time.monotonic(), {}
    for done, (i, value) in enumerate(compute(missing) if missing else (), start=1):
        pending[keys[i]] = values[keys[i]] = value
        if len(pending) >= shard_rows:
            store.append(pending)
            pending = {}
            rate = done / max(time.monotonic() - started, 1e-9)
            log.info("%s: %d of %d, %.0f s left", store.folder.name, done, len(missing), (len(missing) - done) / rate)
    store.append(pending)
    return [values[key] for key in keys]
