"""The account of every stage: rows in, rows kept, and the dropped ones by reason, with examples.

Each account comes from a stage's counts.json and ledger.parquet. Whether they agree is shown on the
page, not assumed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from pipeline import tables
from pipeline.report.inputs import OFFLINE, PI0, Folders, Recipe, read_json
from pipeline.schemas import LEDGER, ORIGIN_KEY

EXAMPLES = 3


@dataclass(frozen=True, kw_only=True)
class Account:
    """What went into a stage and what became of it."""

    stage: str
    """Name as `dvc repro` takes it, such as mix@quickstart."""
    unit: str
    rows_in: int
    kept: int
    reasons: dict[str, int]
    """Dropped rows by reason, most frequent first."""
    drops: pl.DataFrame
    """The ledger, one row per dropped item."""

    @property
    def dropped(self) -> int:
        """Number of dropped rows."""
        return sum(self.reasons.values())

    @property
    def balances(self) -> bool:
        """Whether in = kept + dropped, and the ledger has a row for each dropped one."""
        return self.rows_in == self.kept + self.dropped and self.drops.height == self.dropped

    def by_source(self) -> pl.DataFrame:
        """(source, reason, count) of the dropped rows, in order of their names."""
        return self.drops.group_by("source", "reason").agg(count=pl.len()).sort("source", "reason")

    def examples(self, reason: str) -> pl.DataFrame:
        """The first few dropped rows of a reason, in order of origin."""
        return self.drops.filter(pl.col("reason") == reason).sort(ORIGIN_KEY).head(EXAMPLES)


def account(stage: str, folder: Path) -> Account:
    """The account of one stage from its folder."""
    counts = read_json(folder / "counts.json", stage)
    dropped = sorted(counts["dropped"].items(), key=lambda item: (-item[1], item[0]))
    return Account(
        stage=stage,
        unit=counts["unit"],
        rows_in=counts["in"],
        kept=counts["kept"],
        reasons=dict(dropped),
        drops=tables.read(LEDGER, folder / "ledger.parquet"),
    )


def places(folders: Folders, recipe: Recipe) -> Iterator[tuple[str, Path]]:
    """Every stage that drops rows, in the order of the pipeline, and its folder."""
    for source, kind in recipe.kinds.items():
        yield f"standardize@{source}", folders.standard / kind / source
    for mix in recipe.mixes:
        yield f"mix@{mix}", folders.mixes / mix
    yield "prompts", folders.prompts
    yield "sft_mix", folders.sft_mix
    yield "pack", folders.packed
    for run in (*recipe.rewards, "pairwise", OFFLINE):
        yield run, folders.training / run
    yield "offline_pairs", folders.history / PI0
    yield "evaluate_judges", folders.judge_evaluation
    yield "evaluate_baselines", folders.baselines
    for t in recipe.iterations:
        yield f"generate@{t}", folders.iterations / t / "generate"
        yield f"judge@{t}", folders.iterations / t / "judge"
        yield f"pair@{t}", folders.iterations / t / "pair"
        yield f"gather@{t}", folders.history / t
        yield f"train@{t}", folders.training / t
        yield f"evaluate@{t}", folders.iterations / t / "evaluate"


def accounts(folders: Folders, recipe: Recipe) -> dict[str, Account]:
    """The accounts by stage."""
    return {stage: account(stage, folder) for stage, folder in places(folders, recipe)}


def ledger_rows(every: dict[str, Account]) -> pl.DataFrame:
    """(stage, source, reason, count) over all stages."""
    parts = [one.by_source().select(pl.lit(stage).alias("stage"), pl.all()) for stage, one in every.items()]
    schema = {"stage": pl.String, "source": pl.String, "reason": pl.String, "count": pl.UInt32}
    return pl.concat([pl.DataFrame(schema=schema), *parts]).cast({"count": pl.Int64})
