"""What a preference mix holds: sizes, lengths, margins, content-blind baselines and leaks, per source too."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from pipeline import tables
from pipeline.baselines import Baseline, blind_baselines, longer_wins
from pipeline.pair_facts import lengths
from pipeline.report.accounts import Account
from pipeline.schemas import MIX

SIDES = ("prompt", "chosen", "rejected")


@dataclass(frozen=True, kw_only=True)
class SourceShare:
    """What one source gave to a mix; means are nan where it gave nothing."""

    source: str
    rows_in: int
    train: int
    test: int
    dropped: dict[str, int]
    words: dict[str, float]
    margin: float
    longer_wins: float


@dataclass(frozen=True, kw_only=True)
class MixFacts:
    """The figures of a mix; lengths in words, margins on the sources' own scales."""

    name: str
    train: int
    test: int
    prompts: int
    clusters: int
    leaked_clusters: int
    words: dict[str, float]
    margins: np.ndarray
    baselines: list[Baseline]
    sources: list[SourceShare]


def mean(column: pl.Series) -> float:
    """The mean without nulls in the order of the rows; nan of nothing."""
    values = column.drop_nulls().to_numpy()
    return float(values.mean()) if values.size else float("nan")


def measured(frame: pl.DataFrame, side: str) -> pl.DataFrame:
    """The figures of each pair of a split."""
    return frame.select(
        "source",
        "prompt_id",
        "cluster_id",
        **{f"{name}_words": lengths(name)[f"{name}_words"] for name in SIDES},
        margin=pl.col("chosen_score") - pl.col("rejected_score"),
        longer=longer_wins(),
        split=pl.lit(side),
    )


def share(rows: pl.DataFrame, source: str, dropped: dict[str, int]) -> SourceShare:
    """The figures of one source's rows."""
    own = rows.filter(pl.col("source") == source)
    return SourceShare(
        source=source,
        rows_in=own.height + sum(dropped.values()),
        train=own.filter(pl.col("split") == "train").height,
        test=own.filter(pl.col("split") == "test").height,
        dropped=dropped,
        words={name: mean(own[f"{name}_words"]) for name in SIDES},
        margin=mean(own["margin"]),
        longer_wins=mean(own["longer"]),
    )


def mix_facts(name: str, folder: Path, account: Account) -> MixFacts:
    """The figures of the mix in `folder`."""
    train, test = (tables.read(MIX, folder / f"{side}.parquet") for side in ("train", "test"))
    rows = pl.concat([measured(train, "train"), measured(test, "test")])
    drops: dict[str, dict[str, int]] = {}
    for source, reason, count in account.by_source().iter_rows():
        drops.setdefault(source, {})[reason] = count
    return MixFacts(
        name=name,
        train=train.height,
        test=test.height,
        prompts=rows["prompt_id"].n_unique(),
        clusters=rows["cluster_id"].n_unique(),
        leaked_clusters=len(set(train["cluster_id"]) & set(test["cluster_id"])),
        words={side: mean(rows[f"{side}_words"]) for side in SIDES},
        margins=rows["margin"].drop_nulls().to_numpy(),
        baselines=blind_baselines(train, test),
        sources=[share(rows, source, drops.get(source, {})) for source in sorted({*rows["source"], *drops})],
    )
