"""What can be guessed without reading: content-blind baselines of a mix, on its train and its test pairs.

A judge that does not beat them has learned the length of answers or the style of their writers.

- longer wins: the answer with more characters; equal lengths are half right.
- first wins: the answer that stands first where the pairwise model is shown the pair (`ab.swapped`). In a
  mix chosen always comes first and the order of the raw file is gone, so this is the position that
  training could learn.
- source decides: which model wrote the answer. For two writers of a data source, training pairs say who
  wins more often; pairs of one writer or of unknown writers are half right.
- longer or shorter by source: training pairs say for each data source which of the two wins, so that
  sources of opposite habits do not hide each other.

What is learned is judged on other pairs: the test side by all of train, one half of train's prompts by
the other half. A baseline that is not learned tells as much below a half as above: its opposite wins.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from pipeline.intervals import Interval, clustered_accuracy

LONGER, FIRST, WRITER = "longer wins", "first wins", "source decides"
LENGTH_HABIT = "longer or shorter by source"
LEARNED = frozenset({WRITER, LENGTH_HABIT})

TRAIN, TEST = "train", "test"


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """How often a baseline picks the chosen answer on one side of a mix."""

    name: str
    side: str
    source: str | None
    """The source whose pairs these are; None for all pairs of the side."""
    accuracy: Interval
    """Its interval takes the prompt for the unit: pairs of one prompt are no independent evidence."""
    decided: float
    """The share of pairs it has an opinion on; the others count as half right."""
    pairs: int

    @property
    def certain(self) -> float:
        """How often it is right for certain, or its opposite: the end of the interval nearer to a half.

        A learned baseline has no opposite: training has chosen its direction already.
        """
        return self.accuracy.low if self.name in LEARNED else max(self.accuracy.low, 1 - self.accuracy.high)


def answer(column: str) -> pl.Expr:
    """The text of a one-message answer."""
    return pl.col(column).list.first().struct.field("content")


def prefers(chosen: pl.Expr, rejected: pl.Expr) -> pl.Expr:
    """1 where the chosen side is greater, 0 where the rejected one is, 0.5 where they are equal."""
    return pl.when(chosen == rejected).then(0.5).otherwise((chosen > rejected).cast(pl.Float64))


def longer_wins() -> pl.Expr:
    """The verdict of "longer wins" on a pair: 1, 0.5 or 0."""
    return prefers(answer("chosen").str.len_chars(), answer("rejected").str.len_chars())


def blind_baselines(pairs: pl.DataFrame) -> list[Baseline]:
    """The baselines on each side that has pairs: of the whole mix, then of each of its sources.

    `pairs` has one row per pair and no text: `test` (whether it is on the test side), `source`, `prompt_id`
    (UInt64), `chosen_chars`, `rejected_chars`, `chosen_first`, `chosen_by`, `rejected_by`.
    """
    found = [one for name, verdict in verdicts(pairs).items() for one in measured(name, pairs, verdict)]
    return sorted(found, key=lambda one: (one.source is not None, one.source or ""))


def verdicts(pairs: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """The `verdict` of each baseline on each row of `pairs`: 1, 0.5 or 0."""
    longer = prefers(pl.col("chosen_chars"), pl.col("rejected_chars"))
    return {
        LONGER: pairs.select(verdict=longer),
        FIRST: pairs.select(verdict=pl.col("chosen_first").cast(pl.Float64)),
        WRITER: learned(writers(pairs), ["source", "first", "second"]),
        LENGTH_HABIT: learned(pairs.select("source", "test", half(), outcome=longer), ["source"]),
    }


def measured(name: str, pairs: pl.DataFrame, said: pl.DataFrame) -> Iterator[Baseline]:
    """A baseline on each side, as a whole and by source."""
    keyed = pl.concat([pairs.select("test", "source", "prompt_id"), said], how="horizontal")
    decided = (pl.col("verdict") != 0.5).sum()
    prompts = keyed.group_by("test", "source", "prompt_id").agg(
        right=pl.col("verdict").sum(), decided=decided, pairs=pl.len().cast(pl.Int64)
    )
    for side, test in ((TRAIN, False), (TEST, True)):
        own = prompts.filter(pl.col("test") == test)
        if own.is_empty():
            continue
        yield baseline(
            name, side, None, own.group_by("prompt_id").agg(pl.col("right", "decided", "pairs").sum())
        )
        for source in own["source"].unique().cast(pl.String).sort():
            yield baseline(name, side, source, own.filter(pl.col("source") == source))


def half() -> pl.Expr:
    """Which half of the prompts a pair is in: 0 or 1."""
    return (pl.col("prompt_id") % 2).alias("half")


def writers(pairs: pl.DataFrame) -> pl.DataFrame:
    """Per pair its two writers in a fixed order, null if not two known ones; outcome: whether `first` won."""
    chosen, rejected = (pl.col(column).to_physical() for column in ("chosen_by", "rejected_by"))
    known = chosen.is_not_null() & rejected.is_not_null() & (chosen != rejected)
    return pairs.select(
        "source",
        "test",
        half(),
        first=pl.when(known).then(pl.min_horizontal(chosen, rejected)),
        second=pl.when(known).then(pl.max_horizontal(chosen, rejected)),
        outcome=pl.when(known).then((chosen < rejected).cast(pl.Float64)).otherwise(0.5),
    )


def learned(pairs: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    """The `verdict` on each pair by the majority of the training pairs of its `key` that it may learn from.

    `pairs` has `test`, `half`, `outcome` (1, 0.5 or 0) and the key, of which a null has no opinion.
    """
    known = pairs.filter(~pl.col("test") & pl.all_horizontal(pl.col(key).is_not_null()))
    lead = (2 * pl.col("outcome") - 1).sum()  # of whole numbers: the order of the rows changes no digit
    votes = known.group_by(*key, "half").agg(own=lead)
    totals = known.group_by(key).agg(all=lead)
    judged = pairs.join(totals, on=key, how="left", maintain_order="left").join(
        votes, on=[*key, "half"], how="left", maintain_order="left"
    )
    own = pl.when("test").then(0.0).otherwise(pl.col("own").fill_null(0.0))
    agrees = (pl.col("all").fill_null(0.0) - own).sign() * (2 * pl.col("outcome") - 1)
    return judged.select(verdict=0.5 + 0.5 * agrees)


def baseline(name: str, side: str, source: str | None, prompts: pl.DataFrame) -> Baseline:
    """The figures of (right, decided, pairs) per prompt, at least one."""
    pairs = int(prompts["pairs"].sum())
    accuracy = Interval(*(round(end, 6) for end in clustered_accuracy(prompts["right"], prompts["pairs"])))
    decided = round(int(prompts["decided"].sum()) / pairs, 6)
    return Baseline(name=name, side=side, source=source, accuracy=accuracy, decided=decided, pairs=pairs)
