"""What an iteration made: candidates, their rewards, and the pairs that came of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pipeline import tables
from pipeline.length_bias import LengthBias, length_bias
from pipeline.pair_facts import lengths
from pipeline.pair_texts import with_texts
from pipeline.report.mixes import mean
from pipeline.report.samples import sample_figures
from pipeline.schemas import CANDIDATES, JUDGMENTS, PAIRS

EXAMPLES = 2


@dataclass(frozen=True, kw_only=True)
class IterationFacts:
    """The figures of an iteration. Rewards are on the judge's own scale, lengths of candidates in tokens."""

    name: str
    candidates: int
    prompts: int
    per_prompt: int
    tokens: float
    unfinished: float
    rewards: np.ndarray
    reward: float
    best: float
    worst: float
    length_bias: dict[str, LengthBias]
    """By judge of the iteration, how its scores go with the lengths of answers (paper, figure 3)."""
    judges: list[str]
    """Whose rewards are shown."""
    pairs: int
    margins: np.ndarray
    margin: float
    chosen_words: float
    rejected_words: float
    longer_chosen: float
    chosen_cut: float
    rejected_cut: float
    samples: list[dict[str, Any]]
    """What generation.json says of each policy and temperature, and of `all`."""
    examples: pl.DataFrame
    """Rows of PAIRS to show, with texts: the largest margin, and the median one."""


def by_judge(candidates: pl.DataFrame, judgments: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """Each judge with what it scored: candidate_id, prompt_id, tokens, score."""
    lengths = candidates.select("candidate_id", "prompt_id", "tokens")
    for judge in judgments["judge"].unique().sort():
        own = judgments.filter(pl.col("judge") == judge).select("candidate_id", "score")
        yield judge, lengths.join(own, on="candidate_id", how="inner", validate="1:1")


def examples(pairs: pl.DataFrame) -> pl.DataFrame:
    """The pair with the largest margin and the one in the middle; ties go to the lower prompt id."""
    ordered = pairs.sort(["margin", "prompt_id"], descending=[True, False])
    places = sorted({0, ordered.height // 2} if ordered.height else set())
    return ordered[places].head(EXAMPLES)


def iteration_facts(name: str, folder: Path) -> IterationFacts:
    """The figures of iteration `name` in `folder`."""
    candidates = tables.read(CANDIDATES, folder / "generate" / "candidates.parquet")
    judgments = tables.read(JUDGMENTS, folder / "judge" / "judgments.parquet")
    pairs = with_texts(tables.read(PAIRS, folder / "pair" / "pairs.parquet"), candidates)
    # Scores of two judges have no common scale: of several that were joined the first is shown.
    joined = {judge for label in pairs["judge"].unique() for judge in label.split("+")}
    judges = sorted(joined or {*judgments["judge"]})[:1]
    scored = candidates.select("candidate_id", "prompt_id", "tokens", "finish_reason").join(
        judgments.filter(pl.col("judge").is_in(judges)), on=["candidate_id", "prompt_id"], how="inner"
    )
    scored = scored.sort("prompt_id", "candidate_id", "judge")
    extremes = scored.group_by("prompt_id", maintain_order=True).agg(
        best=pl.col("score").max(), worst=pl.col("score").min(), n=pl.len()
    )
    words = pairs.select(**lengths("chosen"), **lengths("rejected"))
    return IterationFacts(
        name=name,
        candidates=candidates.height,
        prompts=candidates["prompt_id"].n_unique(),
        per_prompt=max(extremes["n"].to_list(), default=0),
        tokens=mean(candidates["tokens"]),
        unfinished=mean((candidates["finish_reason"] == "length").cast(pl.Float64)),
        rewards=scored["score"].to_numpy(),
        reward=mean(scored["score"]),
        best=mean(extremes["best"]),
        worst=mean(extremes["worst"]),
        length_bias={judge: length_bias(rows, judge) for judge, rows in by_judge(candidates, judgments)},
        judges=judges,
        pairs=pairs.height,
        margins=pairs["margin"].to_numpy(),
        margin=mean(pairs["margin"]),
        chosen_words=mean(words["chosen_words"]),
        rejected_words=mean(words["rejected_words"]),
        longer_chosen=mean((words["chosen_words"] > words["rejected_words"]).cast(pl.Float64)),
        chosen_cut=mean((~pairs["chosen_ended"]).cast(pl.Float64)),
        rejected_cut=mean((~pairs["rejected_ended"]).cast(pl.Float64)),
        samples=sample_figures(name, folder / "generate"),
        examples=examples(pairs),
    )


def best_of_n_bound(n: int) -> float:
    """KL of best-of-n from its policy in nats, at most log n - (n - 1) / n (Beirami et al. 2024)."""
    return float(np.log(n) - (n - 1) / n) if n > 0 else float("nan")
