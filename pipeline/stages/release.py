"""Join the pairs of every iteration, each with the origin of its prompt, and count them.

OUT/<t>/train.parquet holds the pairs of iteration t (released.RELEASED), so that
`load_dataset(OUT)` takes all of them and `load_dataset(OUT/<t>)` one iteration. OUT/facts.json
holds the figures, all computed: counts, lengths, the length-only baseline and the margins of each
judge, per iteration and for all. The files of an iteration do not change when another is added.

    python -m pipeline.stages.release ITERATIONS PROMPTS OUT
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from pipeline import edge, tables
from pipeline.errors import UserError
from pipeline.ledger import write_json
from pipeline.pair_facts import margin_quantiles, pair_facts
from pipeline.pair_texts import told_pairs
from pipeline.params import load
from pipeline.released import RELEASED, with_origin
from pipeline.schemas import SLICE


def released(iterations: Path, prompts: Path, names: list[str]) -> dict[str, pl.DataFrame]:
    """The released pairs by iteration."""
    return {
        name: with_origin(
            told_pairs(iterations / name / "generate", iterations / name / "pair"),
            tables.read(SLICE, prompts / f"{name}.parquet"),
        )
        for name in names
    }


def facts(pairs: pl.DataFrame) -> dict[str, Any]:
    """The figures of released pairs: those of pair_facts, the length gap, and rows and margins by judge."""
    counted = pair_facts(pairs)
    return asdict(counted) | {
        "gap_chars": counted.gap_chars,
        "judges": dict(pairs.group_by("judge").len().sort("judge").iter_rows()),
        "sources": dict(pairs.group_by("source").len().sort("source").iter_rows()),
        "margins": margin_quantiles(pairs),
    }


def main() -> None:
    """Read the pairs of all iterations of params.yaml, write them and their facts."""
    iterations, prompts, out = edge.arguments("ITERATIONS", "PROMPTS", "OUT")
    names = list(load("iterations", dict[str, Any]))
    if not names:
        raise UserError("params.yaml: expected a key below iterations, found none; add t1: {prev: t0}")
    frames = released(iterations, prompts, names)
    for name, frame in frames.items():
        tables.write(RELEASED, frame, out / name / "train.parquet")
    every = pl.concat(frames.values())
    by_iteration = {name: facts(frame) for name, frame in frames.items()}
    write_json(out / "facts.json", {"iterations": by_iteration, "all": facts(every)})


if __name__ == "__main__":
    edge.run("release", main)
