"""Small pools of candidates and judgments for the tests of `pair` and what is compared with it."""

import polars as pl

from pipeline.schemas import CANDIDATES, JUDGMENTS

Row = tuple[str, str, float]
"""Prompt, response, score."""


def pool(*rows: Row, judge: str = "bt") -> tuple[pl.DataFrame, pl.DataFrame]:
    """Candidates and judgments from rows, by two policies in turn."""
    candidates = [
        {
            "candidate_id": f"{prompt}{i:03d}",
            "prompt_id": prompt,
            "prompt": [{"role": "user", "content": prompt}],
            "policy": f"policies/t{i % 2}",
            "sample": i,
            "temperature": 1.0,
            "response": text,
            "tokens": len(text),
            "finish_reason": "stop",
        }
        for i, (prompt, text, _) in enumerate(rows)
    ]
    scores = [score for *_, score in rows]
    frame = pl.DataFrame(candidates, schema=CANDIDATES.schema)
    return frame, said_by(judge, frame, scores)


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
