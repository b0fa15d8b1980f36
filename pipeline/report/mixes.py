"""What a preference mix holds: its profile, its margins and leaks, and what each source gave and lost.

Of the mix itself only small columns are read, a bounded number of rows at a time.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from pipeline import profiles, tables
from pipeline.baselines import TEST, TRAIN
from pipeline.profiles import Profile
from pipeline.report.accounts import Account
from pipeline.schemas import MIX


@dataclass(frozen=True, kw_only=True)
class SourceShare:
    """What one source gave to a mix; the margin is on the source's own scale, nan without scores."""

    source: str
    rows_in: int
    train: int
    test: int
    dropped: dict[str, int]
    margin: float


@dataclass(frozen=True, kw_only=True)
class MixFacts:
    """The figures of a mix; margins on the sources' own scales."""

    name: str
    train: int
    test: int
    clusters: int
    leaked_clusters: int
    margins: np.ndarray
    sources: list[SourceShare]
    profile: Profile


def mean(column: pl.Series) -> float:
    """The mean without nulls in the order of the rows; nan of nothing."""
    values = column.drop_nulls().to_numpy()
    return float(values.mean()) if values.size else float("nan")


def small_columns(folder: Path) -> pl.DataFrame:
    """(side, source, cluster_id, margin) of every pair, train first."""
    wanted = ("source", "cluster_id", "chosen_score", "rejected_score")
    margin = pl.col("chosen_score") - pl.col("rejected_score")
    return pl.concat(
        part.select(pl.lit(side).alias("side"), "source", "cluster_id", margin=margin)
        for side in (TRAIN, TEST)
        for part in tables.batches(MIX, folder / f"{side}.parquet", wanted)
    )


def share(rows: pl.DataFrame, source: str, dropped: dict[str, int]) -> SourceShare:
    """The figures of one source's rows."""
    own = rows.filter(pl.col("source") == source)
    return SourceShare(
        source=source,
        rows_in=own.height + sum(dropped.values()),
        train=own.filter(pl.col("side") == TRAIN).height,
        test=own.filter(pl.col("side") == TEST).height,
        dropped=dropped,
        margin=mean(own["margin"]),
    )


def mix_facts(name: str, mixes: Path, profiled: Path, account: Account) -> MixFacts:
    """The figures of a mix."""
    rows = small_columns(mixes / name)
    drops: dict[str, dict[str, int]] = {}
    for source, reason, count in account.by_source().iter_rows():
        drops.setdefault(source, {})[reason] = count
    homes = rows.group_by("cluster_id").agg(sides=pl.col("side").n_unique())
    return MixFacts(
        name=name,
        train=rows.filter(pl.col("side") == TRAIN).height,
        test=rows.filter(pl.col("side") == TEST).height,
        clusters=homes.height,
        leaked_clusters=homes.filter(pl.col("sides") > 1).height,
        margins=rows["margin"].drop_nulls().to_numpy(),
        sources=[share(rows, source, drops.get(source, {})) for source in sorted({*rows["source"], *drops})],
        profile=profiles.read(profiled / name),
    )
