"""Small pools of candidates and judgments for the tests of `pair` and what is compared with it."""

import polars as pl

from pipeline.ids import answer_id
from pipeline.schemas import CANDIDATES, JUDGMENTS
from tests.stages.preference_rows import assistant

Row = tuple[str, str, float]
"""Prompt, response, score."""


def pool(*rows: Row, judge: str = "bt") -> tuple[pl.DataFrame, pl.DataFrame]:
    """Candidates from rows, by two policies in turn, in the order of their table; and judgments."""
    candidates = [
        {
            "candidate_id": f"{prompt}{i:03d}",
            "prompt_id": prompt,
            "prompt": [{"role": "user", "content": prompt}],
            "policy": f"policies/t{i % 2}",
            "sample": i,
            "temperature": 1.0,
            "response": text,
            "response_id": answer_id(assistant(text)),
            "characters": len(text),
            "tokens": len(text),
            "finish_reason": "stop",
        }
        for i, (prompt, text, _) in enumerate(rows)
    ]
    scores = [score for *_, score in rows]
    frame = pl.DataFrame(candidates, schema=CANDIDATES.schema)
    return frame.sort(CANDIDATES.key), said_by(judge, frame, scores)


def texts_of(pairs: pl.DataFrame, candidates: pl.DataFrame) -> list[tuple[str, str]]:
    """The chosen and the rejected text of each pair."""
    texts = dict(candidates.select("candidate_id", "response").iter_rows())
    return [
        (texts[chosen], texts[rejected]) for chosen, rejected in pairs[["chosen_id", "rejected_id"]].rows()
    ]


def said_by(judge: str, candidates: pl.DataFrame, scores: list[float]) -> pl.DataFrame:
    """The judgments of one judge."""
    return candidates.select(
        "candidate_id",
        "prompt_id",
        judge=pl.lit(judge),
        score=pl.Series(scores, dtype=pl.Float64),
        disagreement=pl.lit(None, pl.Float64),
        comparisons=pl.lit(0, pl.Int64),
    ).select(list(JUDGMENTS.columns))
