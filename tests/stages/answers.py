"""Prompt slices and candidates with real ids, for the tests of the stages around the models."""

import polars as pl

from pipeline.ids import answer_id, content_id, prompt_id
from pipeline.schemas import CANDIDATES, SLICE
from tests.stages.preference_rows import assistant, user


def slice_of(*texts: str) -> pl.DataFrame:
    """A prompt slice (schemas.SLICE), one user turn per prompt."""
    rows = [
        {
            "source": "asks",
            "file": "f.jsonl",
            "row": i,
            "item": 0,
            "prompt_id": prompt_id(user(text)),
            "prompt": user(text),
            "cluster_id": prompt_id(user(text)),
        }
        for i, text in enumerate(texts)
    ]
    return pl.DataFrame(rows, schema=SLICE.schema)


def candidates_of(*rows: tuple[str, str]) -> pl.DataFrame:
    """Candidates (schemas.CANDIDATES) from (prompt, response)."""
    made = [
        {
            "candidate_id": content_id(prompt, i, response),
            "prompt_id": prompt_id(user(prompt)),
            "prompt": user(prompt),
            "policy": "policies/t0",
            "sample": i,
            "temperature": 1.0,
            "response": response,
            "response_id": answer_id(assistant(response)),
            "characters": len(response),
            "tokens": len(response.split()),
            "finish_reason": "stop",
        }
        for i, (prompt, response) in enumerate(rows)
    ]
    return pl.DataFrame(made, schema=CANDIDATES.schema)
