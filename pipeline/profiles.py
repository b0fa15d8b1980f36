"""What a mix is: Table 5 of the paper for each source and side, the blind baselines, and the gate.

Table 5 counts distinct prompts and pairs, and means the tokens of prompt, preferred and rejected answer over
the pairs. It is kept as sums, which are whole numbers: means follow, and totals add up.

The gate asks whether a mix may be trained on. A baseline fails it where even the end of its 95% interval
nearer to a half is above the threshold: a small mix does not fail by bad luck, and what fails is sure.
Both sides count, since training learns from one and is measured on the other; so does "shorter wins", the
opposite of a baseline that is mostly wrong.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl
from pydantic import TypeAdapter

from pipeline.baselines import TEST, TRAIN, Baseline, blind_baselines
from pipeline.errors import UserError
from pipeline.ledger import write_json
from pipeline.read_sets import ReadSet

WHOLE = "whole"
SIDES = ("prompt", "chosen", "rejected")
FILE = "profile.json"
Part = Literal["whole", "train", "test"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of table 5; the three lengths are sums over the pairs, in tokens."""

    part: Part
    source: str | None
    """None for all sources together."""
    prompts: int
    pairs: int
    prompt_tokens: int
    chosen_tokens: int
    rejected_tokens: int

    def mean(self, text: str) -> float:
        """Tokens of the prompt, chosen or rejected answer of a pair, in the mean."""
        return getattr(self, f"{text}_tokens") / self.pairs


@dataclass(frozen=True, kw_only=True)
class Profile:
    """All that stage `profile` finds out about a mix."""

    mix: str
    gate: float | None
    """Highest accuracy of a content-blind baseline; None where the mix has no gate."""
    table: tuple[Row, ...]
    baselines: tuple[Baseline, ...]
    sets: dict[str, ReadSet]
    """By source, what its raw rows are."""

    def rows(self, part: Part) -> list[Row]:
        """Table 5 of a part: by source, the total last; empty where the part has no pairs."""
        return [row for row in self.table if row.part == part]

    def total(self, part: Part) -> Row:
        """All sources of a part that has pairs; the whole always has."""
        return self.rows(part)[-1]

    def of(self, source: str | None) -> list[Baseline]:
        """The baselines of a source, or of the whole mix."""
        return [one for one in self.baselines if one.source == source]

    def failures(self) -> list[Baseline]:
        """The baselines of the whole mix that are above its gate for certain."""
        return [] if self.gate is None else [one for one in self.of(None) if one.certain > self.gate]


def profile(mix: str, pairs: pl.DataFrame, sets: dict[str, ReadSet], gate: float | None) -> Profile:
    """The profile of a mix from `pair_lengths` of its pairs."""
    return Profile(
        mix=mix,
        gate=gate,
        table=tuple(table_5(pairs)),
        baselines=tuple(blind_baselines(pairs)),
        sets=sets,
    )


def table_5(pairs: pl.DataFrame) -> Iterator[Row]:
    """The rows of each part that has pairs: its sources by name, then all of them."""
    parts: dict[Part, pl.DataFrame] = {
        WHOLE: pairs,
        TRAIN: pairs.filter(~pl.col("test")),
        TEST: pairs.filter(pl.col("test")),
    }
    figures = [
        pl.col("prompt_id").n_unique().alias("prompts"),
        pl.len().alias("pairs"),
        *(pl.col(f"{text}_tokens").cast(pl.Int64).sum() for text in SIDES),
    ]
    for part, own in parts.items():
        if own.is_empty():
            continue
        by_source = own.group_by(pl.col("source").cast(pl.String)).agg(figures).sort("source")
        total = own.select(pl.lit(None, pl.String).alias("source"), *figures)
        for row in [*by_source.iter_rows(named=True), total.row(0, named=True)]:
            yield Row(part=part, **row)


def write(folder: Path, found: Profile) -> None:
    """Leave a profile in its folder."""
    write_json(folder / FILE, TypeAdapter(Profile).dump_python(found, mode="json"))


def read(folder: Path) -> Profile:
    """The profile that stage `profile` left; UserError where there is none."""
    path = folder / FILE
    if not path.exists():
        raise UserError(f"{path} is missing; make it with: dvc repro profile@{folder.name}")
    return TypeAdapter(Profile).validate_json(path.read_bytes())
