"""Near-duplicates among documents of realistic lengths: our search against datasketch, rensa and datatrove.

Timed is the whole search, from texts to clusters: words, sketches, LSH, and with us the exact check. What is
found is judged twice. On the labelled set (benchmarks/labelled/README.md) by its labels, class by class:
these are `recall` and `precision`. On the timed documents by the exact similarity of sets of Python strings:
this is in the notes, for us and for each peer.

    python -m benchmarks.dedup [--rows N] [--repeats N] [--threshold T] [--shingle N] [--labelled]

With --labelled only the labelled set is judged, in a second, and nothing is timed: with another --threshold
or --shingle the numbers change.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from benchmarks.labelled import near_duplicates
from benchmarks.measure import Result, flags, medians, tell
from benchmarks.near_duplicates.documents import Documents, documents
from benchmarks.near_duplicates.peers import PEERS
from pipeline.dedup import NearDedup, clusters

ROWS = 100_000
CHECKED = 5_000
"""Planted pairs whose exact similarity is counted, and joined pairs."""
COMPARABLE = 0.01
"""A peer whose recall is at most this much below ours is comparable."""


def search(texts: pl.Series, settings: NearDedup) -> np.ndarray:
    """A label per text: texts of one label are joined."""
    ids = pl.Series(np.arange(len(texts))).cast(pl.String).str.zfill(9)
    return clusters(ids, texts, settings)["cluster_id"].cast(pl.Int64).to_numpy()


def pairs_of(label: np.ndarray) -> np.ndarray:
    """(2, pairs): every two texts that are joined."""
    order = np.argsort(label, kind="stable")
    cuts = np.flatnonzero(np.diff(label[order])) + 1
    found = [
        np.sort(group)[np.stack(np.triu_indices(group.size, 1))]
        for group in np.split(order, cuts)
        if group.size > 1
    ]
    return np.concatenate([np.empty((2, 0), dtype=np.int64), *found], axis=1)


def quality(input_: Documents, rows: int, label: np.ndarray, settings: NearDedup) -> dict[str, float]:
    """Recall of the planted pairs and precision of the joined ones, a sample, by their exact similarity."""
    inside = (input_.originals < rows) & (input_.copies < rows)
    planted = np.stack([input_.originals[inside], input_.copies[inside]])[:, :CHECKED]
    planted = planted[:, near(input_.texts, planted, settings)]
    joined = pairs_of(label)
    joined = joined[:, np.random.default_rng(3).permutation(joined.shape[1])[:CHECKED]]
    right = near(input_.texts, joined, settings)
    return {
        "recall": round(float((label[planted[0]] == label[planted[1]]).mean()), 4),
        "precision": round(float(right.mean()), 4) if right.size else 1.0,
    }


def near(texts: pl.Series, pairs: np.ndarray, settings: NearDedup) -> np.ndarray:
    """The places of the pairs whose exact similarity, by Python sets, reaches the threshold."""
    left, right = (texts.gather(side).to_list() for side in pairs)
    alike = [
        near_duplicates.similarity(one, two, settings.shingle) for one, two in zip(left, right, strict=True)
    ]
    return np.array(alike) >= settings.threshold


def labelled(settings: NearDedup) -> dict[str, Any]:
    """Recall and precision by the labels; per class how many pairs are labelled near, and how many joined."""
    rows = pl.read_ndjson(near_duplicates.FILE)
    label = search(pl.concat([rows["left"], rows["right"]]), settings)
    left, right = label[: rows.height], label[rows.height :]
    rows = rows.with_columns(joined=pl.Series(left == right))
    # Two texts of different pairs are never near: joining them is wrong too.
    joined = pairs_of(label).shape[1]
    found = rows.filter("near", "joined").height
    classes = rows.group_by("class", maintain_order=True).agg(
        pairs=pl.len(), near=pl.col("near").sum(), joined=pl.col("joined").sum()
    )
    return {
        "recall": found / int(rows["near"].sum()),
        "precision": found / joined if joined else 1.0,
        "classes": {row.pop("class"): row for row in classes.iter_rows(named=True)},
    }


def timed(words: argparse.Namespace, settings: NearDedup) -> Result:
    """Everyone's speed and quality on the same documents."""
    input_, short = documents(words.rows), documents(words.rows, short=True)
    texts = input_.texts
    given = {name: texts[: min(words.rows, most)].to_list() for name, (_, most) in PEERS.items()}
    sides = [lambda: search(texts, settings), lambda: search(short.texts, settings)]
    sides += [lambda name=name: PEERS[name][0](given[name], settings.shingle) for name in PEERS]
    started = time.process_time()
    label = search(texts, settings)
    per_cpu_second = round(words.rows / (time.process_time() - started))
    notes: dict[str, Any] = {
        "ours": {"rows_per_cpu_second": per_cpu_second, **quality(input_, words.rows, label, settings)}
    }
    for name, (peer, _) in PEERS.items():
        rows = len(given[name])
        notes[name] = {"rows": rows, **quality(input_, rows, peer(given[name], settings.shingle), settings)}
    mine, mine_short, *theirs = medians(words.repeats, *sides)
    for name, taken in zip(PEERS, theirs, strict=True):
        notes[name]["rows_per_second"] = round(len(given[name]) / taken)
    notes["short_prompts"] = {"rows_per_second": round(words.rows / mine_short), "words": spread(short.texts)}
    notes["words"] = spread(texts)
    best = fastest(
        [name for name in PEERS if notes[name]["recall"] >= notes["ours"]["recall"] - COMPARABLE], notes
    )
    ours, peer = words.rows / mine, notes[best]["rows_per_second"] if best else None
    return Result(
        name="dedup",
        ours=ours,
        peer=peer,
        ratio=ours / peer if peer else None,
        unit="documents/s",
        peer_is=f"{best}, {notes[best]['rows']} documents" if best else None,
        input={"rows": words.rows, "bytes": int(texts.str.len_bytes().sum())},
        equality=f"up to {CHECKED} planted and {CHECKED} joined pairs of each side, by exact similarity",
        runs=words.repeats,
        notes=notes,
        **labelled(settings),
    )


def fastest(names: Sequence[str], notes: dict[str, Any]) -> str | None:
    """The fastest of these peers."""
    return max(names, key=lambda name: notes[name]["rows_per_second"], default=None)


def spread(texts: pl.Series) -> dict[str, int]:
    """Mean and quantiles of the words per text."""
    words = texts.str.count_matches(r"\S+").to_numpy()
    return {
        "mean": round(words.mean()),
        **{f"p{part}": round(np.percentile(words, part)) for part in (10, 50, 90, 99)},
    }


def main() -> None:
    """Judge the labelled set; time everyone unless that was all that was asked for."""
    parser = flags(__doc__ or "", rows=ROWS)
    parser.add_argument(
        "--threshold", type=float, default=near_duplicates.THRESHOLD, help="Jaccard similarity"
    )
    parser.add_argument("--shingle", type=int, default=near_duplicates.SHINGLE, help="words per shingle")
    parser.add_argument("--labelled", action="store_true", help="judge the labelled set only")
    words = parser.parse_args()
    settings = NearDedup(threshold=words.threshold, shingle=words.shingle)
    if words.labelled:
        sys.stdout.write(json.dumps(labelled(settings), indent=2) + "\n")
    else:
        tell(timed(words, settings))


if __name__ == "__main__":
    main()
