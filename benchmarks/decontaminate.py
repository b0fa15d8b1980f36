"""Find benchmark items in prompts: our search against a plain set of n-grams and datatrove's filter.

Quality is judged on the labelled set (benchmarks/labelled/README.md): `recall` over all planted items,
`precision` over all that was flagged, and per class how many were. With the environment variable
PAIRMILL_DATA also on real items and prompts (`real` in the notes). Timed is the whole of `matches`, from
texts to evidence, the index of the items included: real prompts of HH-RLHF with real items where
PAIRMILL_DATA is set, else made documents of realistic lengths with as many made items.

    python -m benchmarks.decontaminate [--rows N] [--repeats N] [--ngram N] [--min-words N] [--coverage P]
        [--max-items N] [--max-prompts N] [--labelled]

The rule is the one of recipes/paper.yaml unless told otherwise. With --labelled nothing is timed.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.decontamination.peers import PEERS
from benchmarks.labelled import decontamination, decontamination_real
from benchmarks.measure import Result, flags, medians, tell
from benchmarks.near_duplicates.documents import documents
from pipeline.decontamination import Decontaminate, matches
from pipeline.params import load

ROWS = 335_000
"""About the distinct prompts of the paper's mix, by its table 5."""
ITEMS = 10_000
"""Made items: about as many n-grams as in the real ones."""
RULE = ("ngram", "min_words", "coverage", "max_items", "max_prompts")
NOT_ITEMS = (*decontamination.NEGATIVES, "training split")
NOT_COUNTED = ("shared passage",)


def flagged(prompts: pl.DataFrame, items: pl.DataFrame, settings: Decontaminate) -> set[str]:
    """The ids of the prompts that hold an item."""
    return set(matches(prompts["id"], prompts["text"], items, settings)["id"])


def judged(prompts: pl.DataFrame, found: set[str]) -> dict[str, Any]:
    """Recall, precision, the flagged part of the hard negatives, and the counts of each label."""
    rows = prompts.with_columns(flagged=pl.col("id").is_in(sorted(found)))
    classes = rows.group_by("label", maintain_order=True).agg(
        prompts=pl.len(), flagged=pl.col("flagged").sum()
    )
    classes = classes.with_columns(part=(pl.col("flagged") / pl.col("prompts")).round(4))
    negative = pl.col("label").is_in(NOT_ITEMS)
    counted = rows.filter(~pl.col("label").is_in(NOT_COUNTED))
    planted, negatives = counted.filter(~negative), counted.filter(negative)
    right, wrong = int(planted["flagged"].sum()), int(negatives["flagged"].sum())
    return {
        "recall": round(right / planted.height, 4),
        "precision": round(right / (right + wrong), 4) if right + wrong else 1.0,
        "negatives_flagged": round(wrong / negatives.height, 4),
        "classes": {row.pop("label"): row for row in classes.iter_rows(named=True)},
    }


def real(folder: Path, settings: Decontaminate) -> tuple[dict[str, Any], pl.DataFrame, list[str]]:
    """What `judged` gives on real rows; the real items; and the real prompts to be timed."""
    items, chats = decontamination_real.benchmarks(folder), decontamination_real.chats(folder)
    prompts = decontamination_real.prompts(folder, items, chats)
    return judged(prompts, flagged(prompts, items, settings)), items, chats


def repeated(texts: Sequence[str], rows: int) -> pl.Series:
    """`rows` prompts, again from the first where they run out, each with its number."""
    return pl.Series([f"{texts[i % len(texts)]} {i}" for i in range(rows)])


def made(rows: int) -> tuple[pl.Series, pl.DataFrame]:
    """Documents, and the labelled items with backward documents: no run of words is in both."""
    texts = documents(max(rows, ITEMS)).texts
    items = decontamination.benchmarks()
    backward = texts[:ITEMS].str.split(" ").list.reverse().list.join(" ")
    origin = items.head(1).drop("row", "id", "text").join(pl.DataFrame({"text": backward}), how="cross")
    row = pl.int_range(pl.len()) + items.height
    more = origin.with_columns(row=row, id=row.cast(pl.String)).select(items.columns)
    return texts[:rows], pl.concat([items, more])


def timed(words: argparse.Namespace, settings: Decontaminate, judgement: dict[str, Any]) -> Result:
    """Everyone's speed on the same prompts, and the peers' quality on the labelled set."""
    notes: dict[str, Any] = {"negatives_flagged": judgement.pop("negatives_flagged")}
    labelled, items = decontamination.prompts(), decontamination.benchmarks()
    texts, known = labelled["text"].to_list(), items["text"].to_list()
    found = {name: {f"p{i}" for i in peer(texts, known, settings.ngram)} for name, (peer, _) in PEERS.items()}
    notes |= {name: judged(labelled, ids) for name, ids in found.items()}
    bare = settings.model_copy(update={"coverage": 1e-9, "max_items": 10**9, "max_prompts": 10**9})
    differ = flagged(labelled, long_items(items, settings.ngram), bare) ^ found["plain set"]
    if folder := os.environ.get("PAIRMILL_DATA"):
        notes["real"], items, chats = real(Path(folder), settings)
        given_texts = repeated(chats, words.rows)
    else:
        given_texts, items = made(words.rows)
    prompts = pl.DataFrame({"id": np.arange(words.rows), "text": given_texts})
    prompts = prompts.with_columns(pl.col("id").cast(pl.String))
    known = items["text"].to_list()
    given = {name: prompts["text"][:most].to_list() for name, (_, most) in PEERS.items()}
    mine, *theirs = medians(
        words.repeats,
        lambda: matches(prompts["id"], prompts["text"], items, settings),
        *(partial(peer, given[name], known, settings.ngram) for name, (peer, _) in PEERS.items()),
    )
    rates = {name: len(given[name]) / taken for name, taken in zip(PEERS, theirs, strict=True)}
    notes |= {f"{name} rows_per_second": round(rate) for name, rate in rates.items()}
    best = max(rates, key=lambda name: rates[name])
    size = int(prompts["text"].str.len_bytes().sum())
    notes |= {"characters_per_prompt": round(size / words.rows), "items": items.height}
    return Result(
        name="decontaminate",
        ours=words.rows / mine,
        peer=rates[best],
        ratio=words.rows / mine / rates[best],
        unit="rows/s",
        peer_is=f"{best}, the faster of {' and '.join(PEERS)}",
        input={"rows": words.rows, "bytes": size},
        equality=f"by any n-gram, {len(differ)} of {labelled.height} verdicts differ from the plain set",
        runs=words.repeats,
        notes=notes,
        **judgement,
    )


def long_items(items: pl.DataFrame, ngram: int) -> pl.DataFrame:
    """The items that have an n-gram, as the plain set counts words."""
    return items.filter(pl.col("text").str.to_lowercase().str.count_matches(r"[\p{L}\p{N}]+") >= ngram)


def main() -> None:
    """Judge, time, tell."""
    rule = load("mixes.mix2.decontaminate", Decontaminate, Path("recipes/paper.yaml"))
    parser = flags(__doc__ or "", rows=ROWS)
    parser.add_argument("--labelled", action="store_true", help="judge the labelled set, time nothing")
    for name in RULE:
        kind = type(getattr(rule, name))
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=getattr(rule, name))
    words = parser.parse_args()
    settings = Decontaminate(benchmarks=(), **{name: getattr(words, name) for name in RULE})
    prompts = decontamination.prompts()
    judgement = judged(prompts, flagged(prompts, decontamination.benchmarks(), settings))
    if words.labelled:
        sys.stdout.write(json.dumps(judgement) + "\n")
    else:
        tell(timed(words, settings, judgement))


if __name__ == "__main__":
    main()
