"""What can be guessed without reading: content-blind baselines of a mix.

A judge that does not beat them has learned the length of answers or the style of their writers.

- longer wins: the answer with more characters; equal lengths are half right. Its complement is
  "shorter wins", so there is no second row for it.
- first in the alphabet wins: an order that knows nothing, so it shows what chance looks like. The
  order in which a source listed its answers is gone in a mix, which always names chosen first.
- source decides: which model wrote the answer. For every two writers the train side says who wins
  more often; pairs of one writer, of unknown writers or of two that never met in train are half right.
"""

from dataclasses import dataclass

import polars as pl

from pipeline.intervals import Interval, accuracy_interval

LONGER, ALPHABET, WRITER = "longer wins", "first in the alphabet wins", "source decides"
NAMES = (LONGER, ALPHABET, WRITER)


@dataclass(frozen=True)
class Baseline:
    """How often a baseline picks the chosen answer; `decided` is the share of pairs it has an opinion on."""

    name: str
    accuracy: Interval
    decided: float
    pairs: int


def answer(column: str) -> pl.Expr:
    """The text of a one-message answer."""
    return pl.col(column).list.first().struct.field("content")


def prefers(chosen: pl.Expr, rejected: pl.Expr) -> pl.Expr:
    """1 where the chosen side is greater, 0 where the rejected one is, 0.5 where they are equal."""
    return pl.when(chosen == rejected).then(0.5).otherwise((chosen > rejected).cast(pl.Float64))


def longer_wins() -> pl.Expr:
    """The verdict of "longer wins" on a pair: 1, 0.5 or 0."""
    return prefers(answer("chosen").str.len_chars(), answer("rejected").str.len_chars())


def first_in_the_alphabet_wins() -> pl.Expr:
    """The verdict of the alphabet on a pair: 1, 0.5 or 0."""
    return 1.0 - prefers(answer("chosen"), answer("rejected"))


def writers(frame: pl.DataFrame) -> pl.DataFrame:
    """Per pair: the two writers in alphabetical order (null if not two known ones), and if the first won."""
    chosen, rejected = pl.col("chosen_by"), pl.col("rejected_by")
    known = chosen.is_not_null() & rejected.is_not_null() & (chosen != rejected)
    return frame.select(
        first=pl.when(known).then(pl.min_horizontal(chosen, rejected)),
        second=pl.when(known).then(pl.max_horizontal(chosen, rejected)),
        first_won=(chosen < rejected).cast(pl.Float64),
    )


def source_decides(train: pl.DataFrame, test: pl.DataFrame) -> pl.Series:
    """The verdict of "source decides" on each test pair, learned from the train pairs."""
    known = writers(train).drop_nulls("first")
    wins = known.group_by("first", "second").agg(won=pl.col("first_won").sum(), met=pl.len())
    votes = wins.select("first", "second", vote=prefers(2 * pl.col("won"), pl.col("met")))
    judged = writers(test).join(votes, on=["first", "second"], how="left", maintain_order="left")
    agrees = (
        pl.when(pl.col("vote") == 0.5)
        .then(0.5)
        .otherwise((pl.col("vote") == pl.col("first_won")).cast(pl.Float64))
    )
    return judged.select(verdict=agrees.fill_null(0.5))["verdict"]


def blind_baselines(train: pl.DataFrame, test: pl.DataFrame) -> list[Baseline]:
    """The baselines of a mix, measured on its test pairs."""
    verdicts = {
        LONGER: test.select(v=longer_wins())["v"],
        ALPHABET: test.select(v=first_in_the_alphabet_wins())["v"],
        WRITER: source_decides(train, test),
    }
    return [baseline(name, verdict) for name, verdict in verdicts.items()]


def baseline(name: str, verdicts: pl.Series) -> Baseline:
    """Accuracy, share of decided pairs and number of pairs of a baseline's verdicts."""
    total = len(verdicts)
    decided = float((verdicts != 0.5).sum()) / total if total else float("nan")
    return Baseline(name, accuracy_interval(float(verdicts.sum()), total), decided, total)
