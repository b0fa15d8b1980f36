"""Items as frames: the columns of each kind's table, with content-hash ids."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import polars as pl

from pipeline.id_columns import conversation_ids, text_ids, with_preference_ids
from pipeline.items import Benchmark, Conversation, Demonstration, Drop, Preference, Prompt
from pipeline.schemas import KINDS, MESSAGES, ORIGIN

#: source, file, row, item.
Origin = tuple[str, str, int, int]

DROPS = ORIGIN | {"reason": pl.String, "value": pl.Float64, "threshold": pl.Float64, "detail": pl.String}


class Entry(NamedTuple):
    """An item and where it comes from."""

    origin: Origin
    item: Any


def items_frame(kind: str, entries: Sequence[Entry]) -> pl.DataFrame:
    """The kept items of one kind, with all columns of its table."""
    table = KINDS[kind]
    items = [entry.item for entry in entries]
    columns = origin_columns(entries) | COLUMNS[kind](items)
    given = {name: table.columns[name] for name in columns}
    frame = with_ids(kind, pl.DataFrame(columns, schema=given, strict=True))
    return frame.select(list(table.columns))


def with_ids(kind: str, frame: pl.DataFrame) -> pl.DataFrame:
    """`frame` with the ids of what its rows say."""
    match kind:
        case "preferences" | "judge_sets":
            return with_preference_ids(frame)
        case "demonstrations":
            return frame.with_columns(id=conversation_ids(pl.col("messages")))
        case "prompts":
            return frame.with_columns(prompt_id=conversation_ids(pl.col("prompt")))
        case _:
            return frame.with_columns(id=text_ids(pl.col("text")))


def completed(kind: str, rows: pl.DataFrame, source: str, file: str) -> pl.DataFrame:
    """All columns of a kind's table, of `row` and what the rows say; of each row one item, else null."""
    table = KINDS[kind]
    given = {"source": source, "file": file, "item": 0}
    columns = {name: pl.lit(value, table.columns[name]) for name, value in given.items()}
    missing = {name: pl.lit(None, table.columns[name]) for name in table.nullable if name not in rows.columns}
    return with_ids(kind, rows.with_columns(**columns, **missing)).select(list(table.columns))


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


def answers_series(texts: Sequence[str]) -> pl.Series:
    """A column of conversations of one assistant message each."""
    message = pl.struct(role=pl.lit("assistant"), content=pl.col("content"))
    return one_message_each(pl.DataFrame({"content": texts}, schema={"content": pl.String}), message)


def one_message_each(frame: pl.DataFrame, message: pl.Expr) -> pl.Series:
    """A column of conversations of the one `message` of each row."""
    return frame.select(message.reshape((-1, 1)).arr.to_list()).to_series().cast(MESSAGES)


def messages_series(conversations: Sequence[Conversation]) -> pl.Series:
    """Conversations as a column; built from flat columns, many times as fast as from nested lists."""
    lengths = pl.Series([len(turns) for turns in conversations], dtype=pl.UInt32)
    place = pl.int_range(pl.len(), dtype=pl.UInt32).repeat_by("n").list.explode(empty_as_null=False)
    flat = pl.DataFrame(
        {
            "i": pl.DataFrame({"n": lengths}).select(place).to_series(),
            "role": [turn["role"] for turns in conversations for turn in turns],
            "content": [turn["content"] for turns in conversations for turn in turns],
        },
        schema={"i": pl.UInt32, "role": pl.String, "content": pl.String},
    )
    nested = flat.group_by("i", maintain_order=True).agg(messages=pl.struct("role", "content"))
    if nested.height == len(conversations):
        return nested["messages"]
    every = pl.DataFrame({"i": pl.int_range(len(conversations), dtype=pl.UInt32, eager=True)})
    joined = every.join(nested, on="i", how="left", maintain_order="left")
    return joined.select(pl.col("messages").fill_null([]))["messages"]


def preference_columns(items: Sequence[Preference]) -> dict[str, Any]:
    """Columns of `preferences`, without ids."""
    return {
        "prompt": messages_series([item.prompt for item in items]),
        "chosen": answers_series([item.chosen for item in items]),
        "rejected": answers_series([item.rejected for item in items]),
        "chosen_score": [item.chosen_score for item in items],
        "rejected_score": [item.rejected_score for item in items],
        "chosen_by": [item.chosen_by for item in items],
        "rejected_by": [item.rejected_by for item in items],
    }


def judge_set_columns(items: Sequence[Preference]) -> dict[str, Any]:
    """Columns of `judge_sets`, without ids."""
    return preference_columns(items) | {"subset": [item.subset for item in items]}


def demonstration_columns(items: Sequence[Demonstration]) -> dict[str, Any]:
    """Columns of `demonstrations`, without ids."""
    return {"messages": messages_series([item.messages for item in items])}


def prompt_columns(items: Sequence[Prompt]) -> dict[str, Any]:
    """Columns of `prompts`, without ids."""
    return {"prompt": messages_series([item.prompt for item in items])}


def benchmark_columns(items: Sequence[Benchmark]) -> dict[str, Any]:
    """Columns of `benchmarks`, without ids."""
    return {"text": [item.text for item in items]}


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
