"""A mix on disk with its standardized sources beside it, for the tests of what reads mixes."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import polars as pl

from pipeline import read_sets, tables
from pipeline.ids import prompt_id
from pipeline.read_sets import ReadSet
from pipeline.schemas import MIX, SLICE
from pipeline.upstream import Paper
from tests.stages.preference_rows import preferences, user

PAPER = Paper(
    name="Owls",
    pairs=90,
    prompts=80,
    prompt_tokens=10.5,
    chosen_tokens=20.0,
    rejected_tokens=15.0,
    completion="LLM",
    annotator="Human",
)
"""A set of the paper that nobody has published."""


def write_mix(folder: Path, train: Iterable[dict], test: Iterable[dict] = ()) -> Path:
    """Both sides from rows of `preference_rows.preference`; each prompt is its own cluster."""
    for side, rows in (("train", train), ("test", test)):
        frame = preferences(*rows).with_columns(cluster_id=pl.col("prompt_id"))
        tables.write(MIX, frame.select(list(MIX.columns)), folder / f"{side}.parquet")
    return folder


def write_sources(folder: Path, sources: Mapping[str, ReadSet]) -> Path:
    """What `standardize` says of the raw rows of each source."""
    for name, read in sources.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        read_sets.write(folder / name, read)
    return folder


def write_validation(path: Path, *prompts: str) -> None:
    """The validation slice."""
    rows = [
        {"source": "p", "file": "f", "row": i, "item": 0, "prompt": user(text)}
        | {"prompt_id": prompt_id(user(text)), "cluster_id": prompt_id(user(text))}
        for i, text in enumerate(prompts)
    ]
    tables.write(SLICE, pl.DataFrame(rows, schema=SLICE.schema), path)
