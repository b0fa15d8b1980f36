"""Small preference tables with real ids, for the tests of the stages that choose rows."""

from pathlib import Path

import polars as pl

from pipeline import tables
from pipeline.catalog import Inputs, find, table_path
from pipeline.ids import answer_id, pair_id, prompt_id, text_id
from pipeline.schemas import BENCHMARKS, KINDS, PREFERENCES

BENCHMARK_SEARCH = {"ngram": 13, "min_words": 4, "coverage": 0.8, "max_items": 5, "max_prompts": 5}
"""The settings of `decontaminate`, without its list of benchmarks."""


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def system(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": text}]


def assistant(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def preference(
    row: int, prompt: str | list, chosen: str, rejected: str, source: str = "a", scores=(None, None)
) -> dict:
    asked = user(prompt) if isinstance(prompt, str) else prompt
    messages = asked, assistant(chosen), assistant(rejected)
    return {
        "source": source,
        "file": "f.jsonl",
        "row": row,
        "item": 0,
        "prompt_id": prompt_id(messages[0]),
        "pair_id": pair_id(*messages),
        "chosen_id": answer_id(messages[1]),
        "rejected_id": answer_id(messages[2]),
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
        {"source": "bench", "file": "b", "row": i, "item": 0, "id": text_id(text), "text": text}
        for i, text in enumerate(texts)
    ]
    return pl.DataFrame(rows, schema=BENCHMARKS.schema)


def inputs(kind: str, frame: pl.DataFrame, sources: list[str], folder: Path) -> Inputs:
    """Standard tables of these sources, written below `folder` and ready to be selected from."""
    for source in sources:
        tables.write(KINDS[kind], frame.filter(source=source), table_path(kind, folder, source))
    return Inputs(tuple(find(kind, folder, source, "a test") for source in sources), folder / "scratch")
