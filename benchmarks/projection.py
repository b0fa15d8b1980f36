"""Read what is wanted back from a warm row store: ours against a cache of JSON Lines read by Python.

The store has ten times as many rows as are asked for, in shards of 512: answers of 400 tokens or so, eight to
a prompt. Timed is the projection: the rows of given keys, in the order of the keys. The peer keeps one line
per answer with the key of its request, as caches of requests do, and takes from it the lines of the same
keys. Each run is a process of its own on two cores, of which the peak memory is told. In the notes:

- `lookup`: what of all stored keys, and one more in a hundred, is missing;
- `scattered`: the projection of as many rows from all shards instead of a tenth of them;
- `stage`: the whole stage `generate` on the warm store, from prompts to its table, which renders and
  tokenises the prompts and writes the answers besides;
- `limits`: what these may take for 160,000 rows and more; beyond them the program ends with status 1.

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
from collections.abc import Callable, Iterable
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
CORES = 2
"""What the measured processes may use, where the system can bind a process to some."""
PROJECTION_SECONDS = 15.0
PROJECTION_MIB = 2048
LOOKUP_SECONDS = 10.0
LIMITED = ("ours", "scattered", "stage")
"""What is a projection, and has its limits."""
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
        for i, text in enumerate(texts(count, 45, draw))
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


def expected(place: Place) -> dict[str, str]:
    """The digests of the rows that the projections must give, from the peer's file, by their sides."""
    marks = pl.read_parquet(place.keys)
    with place.lines.open(encoding="utf-8") as lines:
        stored = zip(marks["scattered"], marks["near"], map(json.loads, lines), strict=True)
        picked = [(far, near, tuple(row.values())) for far, near, row in stored if far or near]
    near = [row for _, wanted, row in picked if wanted]
    return {
        "ours": digest(near),
        "scattered": digest(row for far, _, row in picked if far),
        "stage": digest(sorted((f"{i // N:016x}", row[1]) for i, row in enumerate(near))),
    }


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
    return pl.read_parquet(place.out / "candidates.parquet", columns=["prompt_id", "response"])


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
    rows: Rows = found if isinstance(found, list) else found.iter_rows()
    if side == "stage":
        rows = sorted(rows)  # its own order is that of what it calls the answers
    told = {"seconds": seconds, "peak_mib": peak, "rows": len(found), "digest": digest(rows)}
    sys.stdout.write(json.dumps(told) + "\n")


def bind() -> None:
    """Keep this process, and those that it starts, to CORES cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])


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
    rows = expected(place)
    for side, wanted in {**rows, "peer": rows["ours"]}.items():
        assert all(turn[side]["digest"] == wanted for turn in turns), f"{side}: other rows than were stored"
    told = {side: summary([turn[side] for turn in turns]) for side in SIDES}
    stored = words.rows * STORED
    assert told["lookup"]["rows"] == stored // 100, "the look-up missed or made up keys"
    assert told["ours"]["rows"] == told["scattered"]["rows"] == told["stage"]["rows"] == words.rows
    size = sum(path.stat().st_size for path in place.store.rglob("*.parquet"))
    ours, peer = told.pop("ours"), told.pop("peer")
    memory = {"peak_mib": ours["peak_mib"], "peer_peak_mib": peer["peak_mib"], "stored_rows": stored}
    limits = {"projection_seconds": PROJECTION_SECONDS, "projection_mib": PROJECTION_MIB}
    told["limits"] = limits | {"lookup_seconds": LOOKUP_SECONDS, "cores": CORES}
    return Result(
        name="projection",
        ours=ours["seconds"],
        peer=peer["seconds"],
        ratio=peer["seconds"] / ours["seconds"],
        unit="s",
        peer_is="JSON Lines by key, read by Python",
        input={"rows": words.rows, "bytes": size},
        equality="all rows of all projections, and their order; exactly the new keys; nothing is computed",
        runs=words.repeats,
        notes=memory | told,
    )


def beyond(result: Result) -> list[str]:
    """What took more than its limit, one line each."""
    told = result.notes | {"ours": {"seconds": result.ours, "peak_mib": result.notes["peak_mib"]}}
    limits = [(side, "seconds", PROJECTION_SECONDS) for side in LIMITED]
    limits += [(side, "peak_mib", PROJECTION_MIB) for side in LIMITED]
    limits += [("lookup", "seconds", LOOKUP_SECONDS)]
    return [
        f"{side}: expected at most {limit:g} {what}, found {told[side][what]:g}"
        for side, what, limit in limits
        if told[side][what] > limit
    ]


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
    bind()
    with tempfile.TemporaryDirectory() as folder:
        tell(result := compare(Path(folder), words))
    if words.rows >= ROWS and (found := beyond(result)):
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
