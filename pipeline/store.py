"""The content-addressed row store: what has been computed once is never computed again.

It lives outside DVC outs, because DVC deletes outs before a run: in a folder, or below any fsspec
URL. Each set of cells (pipeline/cells.py) has a folder of immutable Parquet shards (pipeline/shards.py).
A shard's name is the time at which it was written and the digest of its bytes: it is written whole or not
at all, damage is seen, and of two values for one key every reader takes the older of those it sees. Any
number of writers on any number of machines may append; none waits for another.

A look-up reads the ends of shards, where keys are, and proves no more than them; whoever asks for values
gets those of shards whose every byte was proven.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl

from pipeline import shards
from pipeline.cells import Cells
from pipeline.storage import Storage

log = logging.getLogger(__name__)

READERS = {True: 4, False: 16}
"""Shards read at once, by whether they are local: what hides the latency of an object store would only have
threads wait for each other on a disk."""
LISTINGS = 5
"""How often a folder is listed because a shard was gone when it was read."""
LISTED_SECONDS = 5.0
"""How old the listing may be after which a writer names its next shard. A listing costs the more, the more
shards there are: one per shard would take longer and longer."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class RowStore:
    """Values by key, for many sets of cells, below one folder or URL. UserError: it cannot be used."""

    def __init__(self, url: str | Path) -> None:
        self.storage = Storage(url)
        self.url = self.storage.url
        self.newest: dict[str, tuple[int, float]] = {}
        """The time of the newest shard known in a set, and when (monotonic) the set was listed for it."""
        self.known: tuple[str, dict[str, pl.Series]] = "", {}
        """The set looked up last, and the keys of its shards by their paths: they do not change."""

    def missing(self, cells: Cells, keys: pl.Series) -> pl.Series:
        """Those of `keys` that have no value yet; distinct, in order of their first appearance."""
        stored = stacked(self.index(cells.name))
        return distinct(keys).join(stored, on="key", how="anti", maintain_order="left")["key"]

    def values(self, cells: Cells, keys: pl.Series) -> pl.DataFrame:
        """key and value of those distinct `keys` that are stored, in order of their first appearance."""
        asked = left = distinct(keys)
        found = pl.DataFrame(schema=cells.schema)
        while places := self.places(cells, left):
            parts = self.parallel(partial(self.rows, cells), places)
            found = pl.concat([found, *(part for part in parts if part is not None)])
            if all(part is not None for part in parts):
                break
            # What stood in a shard that was damaged or removed may stand in another one, too.
            left = asked.join(found, on="key", how="anti", maintain_order="left")
        return asked.join(found, on="key", how="inner", maintain_order="left")

    def append(self, cells: Cells, rows: pl.DataFrame) -> None:
        """Write one shard of `rows` (key and value columns) atomically."""
        if rows.is_empty():
            return
        content = shards.encoded(rows, cells.schema)
        newest, listed = self.newest.get(cells.name, (0, -math.inf))
        if (now := time.monotonic()) - listed > LISTED_SECONDS:
            newest, listed = max(newest, *map(shards.written, self.describe(cells)), 0), now
        # No shard gets a name before one that was seen, though this machine's clock be slow: what was read
        # from the store before this writer began must stay the first value of its key.
        written = max(time.time_ns(), newest + 1)
        self.storage.write(f"{cells.name}/{shards.name(written, content)}", content)
        self.newest[cells.name] = written, listed

    def describe(self, cells: Cells) -> dict[str, int]:
        """Have what the set is beside its shards; gives the files of the set. Done before anything is
        computed, it shows that a new set can be written."""
        files, path = self.storage.files(cells.name), f"{cells.name}/identity.json"
        if path not in files:
            self.storage.write(path, cells.description.encode())
        return files

    def index(self, name: str) -> dict[str, pl.Series]:
        """The keys of every shard of a set (`Cells.name`) by its path, the oldest first; damaged ones are
        set aside."""
        known = self.known[1] if self.known[0] == name else {}
        sizes: dict[str, int] = {}
        for _ in range(LISTINGS):
            files = self.storage.files(name).items()
            sizes = {path: size for path, size in files if path.endswith(shards.SUFFIX)}
            new = [path for path in sizes if path not in known]
            found = zip(new, self.parallel(self.keys, [(path, sizes[path]) for path in new]), strict=True)
            known |= {path: keys for path, keys in found if keys is not None}
            if known.keys() >= sizes.keys():
                break  # or else a shard was removed, or rewritten under another name
        self.known = name, {path: known[path] for path in sizes if path in known}
        return dict(self.known[1])

    def places(self, cells: Cells, keys: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
        """The shards that have some of `keys` first, each with those of them that it has first."""
        if keys.is_empty():
            return []
        index = self.index(cells.name)
        stored = stacked(index).join(keys, on="key", how="semi", maintain_order="left")
        return list(by_shard(index, stored.unique("key", keep="first", maintain_order=True)).items())

    def keys(self, shard: tuple[str, int]) -> pl.Series | None:
        """The keys of a shard of a path and size; None where it is gone, or damaged and set aside."""
        path, size = shard
        tail = self.storage.read(path, max(0, size - shards.TAIL_BYTES))
        if tail is None:
            return None
        try:
            return shards.keys(tail, size)
        except (shards.Damaged, MemoryError):  # broken bytes may ask for any amount
            return self.proven(path, lambda content: shards.keys(content, len(content)))

    def rows(self, cells: Cells, place: tuple[str, pl.DataFrame]) -> pl.DataFrame | None:
        """The rows of some keys in a shard; None where it is gone, or damaged and set aside."""
        path, keys = place
        found = self.proven(path, lambda content: shards.rows(content, cells.schema, keys["key"]))
        return None if found is None else found.unique("key", keep="first", maintain_order=True)

    def proven(self, path: str, read: Callable[[bytes], Result]) -> Result | None:
        """What is read from a shard whose every byte was proven; None where it is gone, or damaged and
        set aside."""
        content = self.storage.read(path)
        if content is None:
            return None
        try:
            shards.prove(path, content)
            return read(content)
        except shards.Damaged:
            self.set_aside(path)
            return None

    def parallel(self, read: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """What `read` gives for each item, in order."""
        with ThreadPoolExecutor(READERS[self.storage.local]) as pool:
            return list(pool.map(read, items))

    def set_aside(self, path: str) -> None:
        """Rename a damaged shard, so that nobody reads it again."""
        log.warning("%s is damaged: set aside, its rows will be computed again", self.storage.full(path))
        self.storage.set_aside(path, shards.set_aside(path))


class Unchanged(RowStore):
    """A store that is only looked at: its damaged shards stay in their place, and are noted and passed by."""

    def __init__(self, store: RowStore) -> None:
        super().__init__(store.url)
        self.damaged: set[str] = set()

    def set_aside(self, path: str) -> None:
        self.damaged.add(path)
        self.known[1].pop(path, None)

    def keys(self, shard: tuple[str, int]) -> pl.Series | None:
        return None if shard[0] in self.damaged else super().keys(shard)


def distinct(keys: pl.Series) -> pl.DataFrame:
    """Keys without repeats, in order of their first appearance."""
    return keys.rename("key").unique(maintain_order=True).to_frame()


def stacked(index: Mapping[str, pl.Series]) -> pl.DataFrame:
    """The keys of an index of shards, each with the number of its shard."""
    keys = pl.concat([pl.Series("key", [], pl.String), *index.values()])
    numbers = np.repeat(np.arange(len(index)), [len(column) for column in index.values()])
    return keys.to_frame().with_columns(shard=pl.Series(numbers, dtype=pl.Int64))


def by_shard(index: Mapping[str, pl.Series], rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Rows of `stacked` by the path of their shard."""
    paths = list(index)
    parts = rows.partition_by("shard", as_dict=True, include_key=False)
    return {paths[number]: part for (number,), part in parts.items()}


def shard_frame(cells: Cells, rows: Iterable[tuple[Any, ...]]) -> pl.DataFrame:
    """Rows of (key, value ...) as a frame for `RowStore.append`."""
    return pl.DataFrame(list(rows), schema=cells.schema, orient="row")
