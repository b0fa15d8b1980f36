"""What is in a row store, and the removal of what nobody wants any more.

Removing is safe beside readers and writers, and after a kill at any moment: a shard is removed only when
its wanted rows stand in another one, and what is younger than an age is left alone, since somebody may
be about to ask for it.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, cast

import polars as pl

from pipeline import shards
from pipeline.cells import VALUES, Cells, Kind
from pipeline.storage import PARTIAL
from pipeline.store import RowStore, Unchanged, by_shard, stacked

PARTIAL_SECONDS = 3600
"""Age below which an unfinished file is its writer's, whatever is to be removed."""

Why = Literal["set is not wanted", "no row is wanted", "some rows are not wanted", "damaged", "partial"]


@dataclass(frozen=True, kw_only=True)
class SetStats:
    """What the store has of one set of cells."""

    name: str
    """The folder: kind/digest."""
    identity: dict[str, Any]
    """What computes the set, as its identity.json says; empty where there is none."""
    shards: int
    rows: int
    """Rows of its shards; a key that two writers wrote at once counts twice."""
    bytes: int
    newest: datetime | None
    damaged: int
    """Shards that were set aside."""
    partial: int
    """Files that a writer has not finished: it is at work, or was killed."""


@dataclass(frozen=True, kw_only=True)
class Removed:
    """One removal: a file, or the unwanted rows of a shard that is rewritten without them."""

    path: str
    rows: int
    bytes: int
    why: Why


def set_names(store: RowStore) -> list[str]:
    """The sets of cells of a store, as kind/digest, in order."""
    return [name for kind in VALUES for name in store.storage.folders(kind)]


def stats(store: RowStore) -> list[SetStats]:
    """What a store has, set by set. Rows are read from the footers of shards, which is no proof of them."""
    return [set_stats(store, name) for name in set_names(store)]


def set_stats(store: RowStore, name: str) -> SetStats:
    """What a store has of one set."""
    files = store.storage.files(name)
    found = {path: size for path, size in files.items() if path.endswith(shards.SUFFIX)}
    rows = counted(store, found)
    times = [shards.written(path) for path in found]
    return SetStats(
        name=name,
        identity=identity(store, name),
        shards=len(found),
        rows=sum(filter(None, rows)),
        bytes=sum(found.values()),
        newest=date(max(times, default=None)),
        damaged=sum(path.endswith(shards.DAMAGED) for path in files) + rows.count(None),
        partial=sum(path.endswith(PARTIAL) for path in files),
    )


def counted(store: RowStore, sizes: Mapping[str, int]) -> list[int | None]:
    """The rows of each shard, given its size by its path; None where it does not say."""

    def count(shard: tuple[str, int]) -> int | None:
        path, size = shard
        tail = store.storage.read(path, max(0, size - shards.TAIL_BYTES))
        try:
            return 0 if tail is None else shards.count(tail, size)
        except (shards.Damaged, MemoryError):  # broken bytes may ask for any amount
            return None

    return store.parallel(count, list(sizes.items()))


def identity(store: RowStore, name: str) -> dict[str, Any]:
    """What computes a set."""
    try:
        return dict(json.loads(store.storage.read(f"{name}/identity.json") or b"{}"))
    except ValueError:
        return {}


def date(nanoseconds: int | None) -> datetime | None:
    """A time of a shard's name as a date."""
    return None if nanoseconds is None else datetime.fromtimestamp(nanoseconds / 1e9, UTC)


def keep(
    store: RowStore,
    wanted: Mapping[str, pl.Series | None],
    *,
    older_than_seconds: float,
    dry_run: bool,
) -> list[Removed]:
    """Remove all rows but the wanted ones, damaged shards, and unfinished files of killed writers.

    `wanted` names the sets that stay (`Cells.name`), each with the keys of it that are wanted, or None for
    all its rows; a set that it does not name goes whole. What is younger than `older_than_seconds`
    stays in any case. Gives what was removed, or with `dry_run`, which changes nothing, what would be.
    """
    before = time.time_ns() - int(older_than_seconds * 1e9)
    removed: list[Removed] = []
    store = Unchanged(store) if dry_run else store
    for name in set_names(store):
        files = store.storage.files(name)
        old = {path: size for path, size in files.items() if shards.written(path) < before}
        if name not in wanted:
            removed += unwanted_set(store, old)
        elif (keys := wanted[name]) is not None:
            removed += unwanted_rows(store, name, old, keys, dry_run=dry_run)
        removed += leavings(store, name, before)
    if not dry_run:
        for item in removed:
            store.storage.remove(item.path)
        for name in set(set_names(store)) - set(wanted):
            forget(store, name)
    return removed


def leavings(store: RowStore, name: str, before: int) -> list[Removed]:
    """Damaged shards of a set, those just found among them, and files that a writer did not finish."""
    aside = store.damaged if isinstance(store, Unchanged) else set()
    files = {shards.set_aside(p) if p in aside else p: s for p, s in store.storage.files(name).items()}
    ends: dict[str, tuple[Why, int]] = {
        shards.DAMAGED: ("damaged", before),
        PARTIAL: ("partial", min(before, time.time_ns() - int(PARTIAL_SECONDS * 1e9))),
    }
    return [
        Removed(path=path, rows=0, bytes=size, why=why)
        for path, size in files.items()
        for end, (why, limit) in ends.items()
        if path.endswith(end) and shards.written(path) < limit
    ]


def unwanted_set(store: RowStore, files: Mapping[str, int]) -> list[Removed]:
    """All shards of a set."""
    found = {path: size for path, size in files.items() if path.endswith(shards.SUFFIX)}
    return [
        Removed(path=path, rows=rows or 0, bytes=size, why="set is not wanted")
        for (path, size), rows in zip(found.items(), counted(store, found), strict=True)
    ]


def unwanted_rows(
    store: RowStore, name: str, files: Mapping[str, int], keys: pl.Series, *, dry_run: bool
) -> list[Removed]:
    """The shards of a set that are to go for rows other than those of `keys`. The wanted rows of one stand
    in another shard then."""
    index = store.index(name)
    asked = keys.rename("key").to_frame()
    stay = by_shard(index, stacked(index).join(asked, on="key", how="semi", maintain_order="left"))
    removed: list[Removed] = []
    for path in index.keys() & files.keys():
        rows = len(index[path]) - (stay[path].height if path in stay else 0)
        if path not in stay:
            removed.append(Removed(path=path, rows=rows, bytes=files[path], why="no row is wanted"))
        elif rows:
            size = rewritten(store, path, stay[path]["key"], dry_run=dry_run)
            if size is not None:
                why: Why = "some rows are not wanted"
                removed.append(Removed(path=path, rows=rows, bytes=files[path] - size, why=why))
    return sorted(removed, key=lambda item: item.path)


def rewritten(store: RowStore, path: str, keys: pl.Series, *, dry_run: bool) -> int | None:
    """Write the rows of `keys` of a shard as another one that is as old; the bytes of that. None where the
    shard is gone or damaged."""
    name, _, _ = path.rpartition("/")
    schema = Cells(cast(Kind, name.partition("/")[0]), ()).schema
    rows = store.proven(path, lambda content: shards.rows(content, schema, keys))
    if rows is None:
        return None
    content = shards.encoded(rows, schema)
    if not dry_run:
        store.storage.write(f"{name}/{shards.name(shards.written(path), content)}", content)
    return len(content)


def forget(store: RowStore, name: str) -> None:
    """Remove the description of a set of which nothing else is left. Who appends to it writes it anew."""
    description = f"{name}/identity.json"
    if set(store.storage.files(name)) <= {description}:
        store.storage.remove(description)
