"""Small preference tables with real ids, for the tests of the stages that choose rows."""

import polars as pl

from pipeline.ids import content_id, pair_id, prompt_id
from pipeline.schemas import BENCHMARKS, PREFERENCES


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def assistant(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def preference(
    row: int, prompt: str, chosen: str, rejected: str, source: str = "a", scores=(None, None)
) -> dict:
    messages = user(prompt), assistant(chosen), assistant(rejected)
    return {
        "source": source,
        "file": "f.jsonl",
        "row": row,
        "item": 0,
        "prompt_id": prompt_id(messages[0]),
        "pair_id": pair_id(*messages),
        "prompt": messages[0],
        "chosen": messages[1],
        "rejected": messages[2],
        "chosen_score": scores[0],
        "rejected_score": scores[1],
        "chosen_by": None,
        "rejected_by": None,
    }


def preferences(*rows: dict) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=PREFERENCES.schema)


def benchmark(*texts: str) -> pl.DataFrame:
    rows = [
        {"source": "bench", "file": "b", "row": i, "item": 0, "id": content_id(text), "text": text}
        for i, text in enumerate(texts)
    ]
    return pl.DataFrame(rows, schema=BENCHMARKS.schema)
