"""What can be said of a table of preference pairs in numbers: how many, how long, what length predicts.

The length-only baseline is the accuracy of "the longer answer wins", a tie counting one half. It is
the figure that a reward model must beat before it has learned anything else from these pairs.
Means are exact sums (integers and halves) divided once, so the same rows give the same figures.
"""

from dataclasses import dataclass

import polars as pl

from pipeline.baselines import prefers

QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


@dataclass(frozen=True, kw_only=True)
class PairFacts:
    """Counts, mean lengths (characters and whitespace-separated words) and the length-only baseline."""

    rows: int
    prompts: int
    prompt_chars: float
    prompt_words: float
    chosen_chars: float
    chosen_words: float
    rejected_chars: float
    rejected_words: float
    longer_wins_chars: float
    longer_wins_words: float

    @property
    def gap_chars(self) -> float:
        """By how many characters the chosen answer is longer, in the mean."""
        return round(self.chosen_chars - self.rejected_chars, 4)


def lengths(column: str) -> dict[str, pl.Expr]:
    """Characters and words of a conversation column, all its messages together."""
    content = pl.element().struct.field("content").str
    return {
        f"{column}_chars": pl.col(column).list.eval(content.len_chars()).list.sum().cast(pl.Int64),
        f"{column}_words": pl.col(column).list.eval(content.count_matches(r"\S+")).list.sum().cast(pl.Int64),
    }


def pair_facts(frame: pl.DataFrame) -> PairFacts:
    """The facts of `frame` (columns prompt_id, prompt, chosen, rejected), which has at least one row."""
    assert not frame.is_empty(), "facts of no pairs"
    measured = frame.select("prompt_id", **lengths("prompt"), **lengths("chosen"), **lengths("rejected"))
    measured = measured.with_columns(
        longer_wins_chars=prefers(pl.col("chosen_chars"), pl.col("rejected_chars")),
        longer_wins_words=prefers(pl.col("chosen_words"), pl.col("rejected_words")),
    )
    means = {name: round(float(measured[name].sum()) / frame.height, 4) for name in measured.columns[1:]}
    return PairFacts(rows=frame.height, prompts=frame["prompt_id"].n_unique(), **means)


def facts_by(frame: pl.DataFrame, column: str) -> dict[str, PairFacts]:
    """The facts of the rows of each value of `column`, by value."""
    return {
        value: pair_facts(frame.filter(pl.col(column) == value)) for value in sorted(frame[column].unique())
    }


def margin_quantiles(frame: pl.DataFrame) -> dict[str, dict[str, float]]:
    """Per judge, quantiles of chosen_score - rejected_score; scores of two judges have no common scale."""
    margins = frame.select("judge", margin=pl.col("chosen_score") - pl.col("rejected_score"))
    wanted = [pl.col("margin").quantile(q, "nearest").round(6).alias(f"{q:.2f}") for q in QUANTILES]
    return {
        judge: margins.filter(pl.col("judge") == judge).select(wanted).row(0, named=True)
        for judge in sorted(margins["judge"].unique())
    }
