"""Items as frames: the columns of each kind's table, with content-hash ids."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import polars as pl

from pipeline.ids import content_id, messages_key, pair_id, prompt_id
from pipeline.items import Benchmark, Conversation, Demonstration, Drop, Preference, Prompt
from pipeline.schemas import KINDS, ORIGIN

#: source, file, row, item.
Origin = tuple[str, str, int, int]

DROPS = ORIGIN | {"reason": pl.String, "value": pl.Float64, "threshold": pl.Float64, "detail": pl.String}


class Entry(NamedTuple):
    """An item and where it comes from."""

    origin: Origin
    item: Any


def items_frame(kind: str, entries: Sequence[Entry]) -> pl.DataFrame:
    """The kept items of one kind, with all columns of its table."""
    items = [entry.item for entry in entries]
    columns = origin_columns(entries) | COLUMNS[kind](items)
    return pl.DataFrame(columns, schema=KINDS[kind].schema, strict=True)


def drops_frame(entries: Sequence[Entry]) -> pl.DataFrame:
    """The drops of adapters, as the ledger takes them."""
    drops: list[Drop] = [entry.item for entry in entries]
    columns: dict[str, list[Any]] = origin_columns(entries) | {
        "reason": [drop.reason for drop in drops],
        "value": [None if drop.value is None else float(drop.value) for drop in drops],
        "threshold": [None if drop.threshold is None else float(drop.threshold) for drop in drops],
        "detail": [drop.detail for drop in drops],
    }
    return pl.DataFrame(columns, schema=DROPS, strict=True)


def origin_columns(entries: Sequence[Entry]) -> dict[str, list[Any]]:
    """The four columns that say where each item comes from."""
    return {name: [entry.origin[i] for entry in entries] for i, name in enumerate(ORIGIN)}


def answer(text: str) -> Conversation:
    """One assistant message."""
    return [{"role": "assistant", "content": text}]


def messages_series(conversations: Sequence[Conversation]) -> pl.Series:
    """Conversations as a column; built from flat columns, which is ten times as fast as from nested lists."""
    turns = [(i, turn["role"], turn["content"]) for i, turns in enumerate(conversations) for turn in turns]
    flat = pl.DataFrame(turns, schema={"i": pl.Int64, "role": pl.String, "content": pl.String}, orient="row")
    nested = flat.group_by("i", maintain_order=True).agg(messages=pl.struct("role", "content"))
    every = pl.DataFrame({"i": range(len(conversations))}, schema={"i": pl.Int64})
    joined = every.join(nested, on="i", how="left", maintain_order="left")
    return joined.select(pl.col("messages").fill_null([]))["messages"]


def preference_columns(items: Sequence[Preference]) -> dict[str, Any]:
    """Columns of `preferences`."""
    chosen = [answer(item.chosen) for item in items]
    rejected = [answer(item.rejected) for item in items]
    prompts = [item.prompt for item in items]
    return {
        "prompt_id": [prompt_id(prompt) for prompt in prompts],
        "pair_id": [pair_id(*parts) for parts in zip(prompts, chosen, rejected, strict=True)],
        "prompt": messages_series(prompts),
        "chosen": messages_series(chosen),
        "rejected": messages_series(rejected),
        "chosen_score": [item.chosen_score for item in items],
        "rejected_score": [item.rejected_score for item in items],
        "chosen_by": [item.chosen_by for item in items],
        "rejected_by": [item.rejected_by for item in items],
    }


def judge_set_columns(items: Sequence[Preference]) -> dict[str, Any]:
    """Columns of `judge_sets`."""
    return preference_columns(items) | {"subset": [item.subset for item in items]}


def demonstration_columns(items: Sequence[Demonstration]) -> dict[str, Any]:
    """Columns of `demonstrations`."""
    return {
        "id": [content_id(messages_key(item.messages)) for item in items],
        "messages": messages_series([item.messages for item in items]),
    }


def prompt_columns(items: Sequence[Prompt]) -> dict[str, Any]:
    """Columns of `prompts`."""
    return {
        "prompt_id": [prompt_id(item.prompt) for item in items],
        "prompt": messages_series([item.prompt for item in items]),
    }


def benchmark_columns(items: Sequence[Benchmark]) -> dict[str, Any]:
    """Columns of `benchmarks`."""
    return {"id": [content_id(item.text) for item in items], "text": [item.text for item in items]}


COLUMNS: dict[str, Callable[[Sequence[Any]], dict[str, Any]]] = {
    "preferences": preference_columns,
    "judge_sets": judge_set_columns,
    "demonstrations": demonstration_columns,
    "prompts": prompt_columns,
    "benchmarks": benchmark_columns,
}

#: The column of each kind that names what a row says.
ID_COLUMN = {
    "preferences": "pair_id",
    "judge_sets": "pair_id",
    "demonstrations": "id",
    "prompts": "prompt_id",
    "benchmarks": "id",
}
