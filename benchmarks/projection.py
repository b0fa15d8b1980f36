"""Read what is wanted back from a warm row store: ours against a cache of JSON Lines read by Python.

The store has ten times as many rows as are asked for, in shards of 512: answers of 400 tokens or so, eight to
a prompt. Timed is the projection: the rows of given keys, in the order of the keys. The peer keeps one line
per answer with the key of its request, as caches of requests do, and takes from it the lines of the same
keys. Each run is a process of its own, of which the peak memory is told. In the notes:

- `lookup`: what of all stored keys, and one more in a hundred, is missing;
- `scattered`: the projection of as many rows from all shards instead of a tenth of them;
- `stage`: the whole stage `generate` on the warm store, from prompts to its table.

    python -m benchmarks.projection [--rows N] [--repeats N]
"""

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.measure import Result, flags, tell
from pipeline import shards
from pipeline.cells import Cells
from pipeline.chat import Chat
from pipeline.engines.work import SampleWork
from pipeline.sampling_plan import Samples, planned, prompt_tokens, requests
from pipeline.schemas import SLICE
from pipeline.stages import generate
from pipeline.store import RowStore

ROWS = 160_000
STORED = 10
"""Times as many rows as are asked for."""
SHARD = 512
SAMPLES = (
    Samples(policy="current", temperature=1.0, count=4),
    Samples(policy="current", temperature=0.7, count=4),
)
N = sum(wanted.count for wanted in SAMPLES)
PARAMS = generate.GenerateParams(
    engine="fake",
    dtype="float32",
    samples=SAMPLES,
    max_prompt_tokens=512,
    max_new_tokens=512,
    unfinished="keep",
    seed=7,
)
Rows = Iterable[tuple[Any, ...]]


class Place:
    """The files of the benchmark in its folder."""

    def __init__(self, folder: Path) -> None:
        self.model, self.prompts = folder / "model", folder / "prompts.parquet"
        self.store, self.state, self.lines = folder / "store", folder / "state", folder / "cache.jsonl"
        self.keys, self.out = folder / "keys.parquet", folder / "out"

    @property
    def cells(self) -> Cells:
        return SampleWork(self.model, PARAMS.engine, PARAMS.dtype, PARAMS.max_new_tokens).cells

    def asked(self, column: str) -> pl.Series:
        """The keys for which a column of keys.parquet is true."""
        return pl.read_parquet(self.keys).filter(column)["key"]


def texts(count: int, words: int, draw: np.random.Generator) -> list[str]:
    """Texts of about so many words, as unequal in their frequency as those of a language."""
    vocabulary = np.array([draw.bytes(5).hex()[: 2 + i % 9] for i in range(20_000)])
    weights = 1 / np.arange(1, len(vocabulary) + 1)
    lengths = draw.integers(words // 2, words * 3 // 2, count)
    drawn = draw.choice(vocabulary, lengths.sum(), p=weights / weights.sum())
    return [" ".join(part) for part in np.split(drawn, np.cumsum(lengths)[:-1])]


def prompts_of(count: int, draw: np.random.Generator) -> pl.DataFrame:
    """Prompts of one turn (schemas.SLICE)."""
    rows = [
        {
            **{"source": "made", "file": "made.jsonl", "row": i, "item": 0},
            **{"prompt_id": f"{i:016x}", "cluster_id": f"{i:016x}"},
            "prompt": [{"role": "user", "content": text}],
        }
        for i, text in enumerate(texts(count, 60, draw))
    ]
    return pl.DataFrame(rows, SLICE.schema)


def make(place: Place, rows: int) -> None:
    """Write the model, the prompts, the store and the peer's file; the wanted rows lie in the middle."""
    from pipeline.engines.tiny_models import tiny_random  # noqa: PLC0415 - imports torch, which no run needs

    draw = np.random.default_rng(5)
    tiny_random(place.model)
    prompts = prompts_of(rows // N, draw)
    prompts.write_parquet(place.prompts)
    plan = planned(prompts["prompt_id"], SAMPLES, PARAMS.seed)
    asks = requests(plan, prompt_tokens(prompts["prompt"], Chat.load(place.model)))
    own = SampleWork(place.model, "fake", PARAMS.dtype, PARAMS.max_new_tokens).keys(asks)
    others = [draw.bytes(16).hex() for _ in range(rows * (STORED - 1))]
    keys = pl.Series("key", others[: len(others) // 2] + own + others[len(others) // 2 :])
    scattered = np.zeros(len(keys), bool)
    scattered[draw.choice(len(keys), rows, replace=False)] = True
    marks = {"near": keys.is_in(own), "scattered": scattered, "stored": True}
    pl.DataFrame({"key": keys, **marks}).write_parquet(place.keys)
    write(place, keys, texts(8192, 240, draw))


def write(place: Place, keys: pl.Series, pool: list[str]) -> None:
    """The same rows as shards of the store and as lines of the peer's file."""
    store, cells = RowStore(place.store), place.cells
    store.describe(cells)
    with place.lines.open("w", encoding="utf-8") as lines:
        for start in range(0, len(keys), SHARD):
            part = keys[start : start + SHARD]
            values = [f"{i} {pool[i * 37 % len(pool)]}" for i in range(start, start + len(part))]
            columns = {"key": part, "text": values, "tokens": 400, "finish_reason": "stop"}
            frame = pl.DataFrame(columns).cast(cells.schema)
            content = shards.encoded(frame, cells.schema)
            store.storage.write(f"{cells.name}/{shards.name(start, content)}", content)
            lines.writelines(json.dumps(row) + "\n" for row in frame.iter_rows(named=True))


def digest(rows: Rows) -> str:
    """The digest of rows in their order."""
    found = hashlib.sha256()
    for row in rows:
        found.update("\x1f".join(map(str, row)).encode())
    return found.hexdigest()


def read_lines(place: Place) -> list[tuple[Any, ...]]:
    """The rows of the wanted keys from the peer's file."""
    asked = place.asked("near").to_list()
    wanted, found = set(asked), {}
    with place.lines.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if row["key"] in wanted:
                found[row["key"]] = tuple(row.values())
    return [found[key] for key in asked]


def lookup(place: Place) -> pl.DataFrame:
    """What is missing of all stored keys and some more."""
    stored = place.asked("stored")
    more = pl.Series("key", [f"new {i}" for i in range(len(stored) // 100)])
    return RowStore(place.store).missing(place.cells, pl.concat([stored, more])).to_frame()


def stage(place: Place) -> pl.DataFrame:
    """The stage `generate`, without its command line."""
    os.environ.update(PAIRMILL_STORE=str(place.store), PAIRMILL_STATE=str(place.state))
    prompts = pl.read_parquet(place.prompts)
    place.out.mkdir(exist_ok=True)
    generate.write(generate.generated("t1", prompts, {"current": place.model}, PARAMS), place.out)
    assert not (place.state / "cells.jsonl").exists(), "the store was not warm"
    return pl.read_parquet(place.out / "candidates.parquet", columns=["response"])


def projection(place: Place, which: str) -> pl.DataFrame:
    """The rows of keys from the store."""
    return RowStore(place.store).values(place.cells, place.asked(which))


SIDES: dict[str, Callable[[Place], pl.DataFrame | list[tuple[Any, ...]]]] = {
    "ours": lambda place: projection(place, "near"),
    "peer": read_lines,
    "lookup": lookup,
    "scattered": lambda place: projection(place, "scattered"),
    "stage": stage,
}


def one(side: str, folder: Path) -> None:
    """Time a side in this process."""
    started = time.perf_counter()
    found = SIDES[side](Place(folder))
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    rows: Iterator[tuple[Any, ...]] = iter(found) if isinstance(found, list) else found.iter_rows()
    told = {"seconds": seconds, "peak_mib": peak, "rows": len(found), "digest": digest(rows)}
    sys.stdout.write(json.dumps(told) + "\n")


def run(side: str, folder: Path) -> dict[str, Any]:
    """Time a side in a process of its own."""
    return json.loads(start("--side", side, folder=folder).splitlines()[-1])


def start(*words: str, folder: Path) -> str:
    """What this program writes in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.projection", *words, "--folder", str(folder)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The median time of some runs and the highest of their peaks."""
    seconds = statistics.median(run["seconds"] for run in runs)
    peak = max(run["peak_mib"] for run in runs)
    return {"rows": runs[0]["rows"], "seconds": round(seconds, 3), "peak_mib": peak}


def compare(folder: Path, words: argparse.Namespace) -> Result:
    """Make the input, let the sides take turns, check, sum up."""
    place = Place(folder)
    start("--make", str(words.rows), folder=folder)  # a child's peak memory begins with that of its parent
    turns = [{side: run(side, folder) for side in SIDES} for _ in range(words.repeats)]
    assert all(turn["ours"]["digest"] == turn["peer"]["digest"] for turn in turns), "the two sides differ"
    told = {side: summary([turn[side] for turn in turns]) for side in SIDES}
    stored = words.rows * STORED
    assert told["lookup"]["rows"] == stored // 100, "the look-up missed or made up keys"
    assert told["ours"]["rows"] == told["scattered"]["rows"] == told["stage"]["rows"] == words.rows
    size = sum(path.stat().st_size for path in place.store.rglob("*.parquet"))
    ours, peer = told.pop("ours"), told.pop("peer")
    memory = {"peak_mib": ours["peak_mib"], "peer_peak_mib": peer["peak_mib"], "stored_rows": stored}
    return Result(
        name="projection",
        ours=ours["seconds"],
        peer=peer["seconds"],
        ratio=peer["seconds"] / ours["seconds"],
        unit="s",
        peer_is="JSON Lines by key, read by Python",
        input={"rows": words.rows, "bytes": size},
        equality="all rows and their order; the look-up finds exactly the new keys; nothing is computed",
        runs=words.repeats,
        notes=memory | told,
    )


def main() -> None:
    """Make, time, tell; or be one of the runs."""
    parser = flags(__doc__ or "", rows=ROWS)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--make", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.make:
        make(Place(words.folder), words.make)
        return
    if words.side:
        one(words.side, words.folder)
        return
    if words.rows % N:
        parser.error(f"--rows: expected a multiple of {N}, the answers to a prompt, found {words.rows}")
    with tempfile.TemporaryDirectory() as folder:
        tell(compare(Path(folder), words))


if __name__ == "__main__":
    main()
