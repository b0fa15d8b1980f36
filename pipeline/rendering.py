"""Conversations to the token rows that trainers take, with every over-long row accounted for.

A recipe chooses what happens to a row over its `max_length`: `drop` it, or `truncate_prompt`,
which cuts the prompt's oldest tokens and never the answer. An answer that alone leaves the prompt
fewer than MIN_PROMPT tokens is dropped under either rule. No training answer is ever cut.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Literal

import polars as pl

from pipeline.chat import Chat, Messages
from pipeline.tokenizing import batches, encoded, threads

Overflow = Literal["drop", "truncate_prompt"]

#: Tokens of the prompt that must survive truncation, or the row is dropped.
MIN_PROMPT = 16

IDS = pl.List(pl.Int32)

#: Rows whose texts and token lists exist at once while many are encoded.
ROWS = 4096


def preference_ids(
    pairs: pl.DataFrame,
    chat: Chat,
    *,
    max_length: int,
    overflow: Overflow,
    sides: Sequence[str] = ("chosen", "rejected"),
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Token rows of preferences, and the rows that do not fit.

    Gives (pair_id, prompt_ids, chosen_ids, rejected_ids, cut), the answers with their end of turn and `cut`
    the tokens that the prompt has lost, and the rows of `pairs` dropped with reason, value and threshold in
    tokens. Both answers of a pair follow the same prompt tokens. With one of the `sides` the other answer is
    not looked at. An answer that `chosen_ended` or `rejected_ended` says was cut has no end of turn: there is
    none to learn. Pairs without these columns are of whole answers.
    """
    rendered: dict[str, list[int]] = {}
    rows, lengths = [], []
    for row in with_ends(pairs).iter_rows(named=True):
        if row["prompt_id"] not in rendered:
            rendered[row["prompt_id"]] = chat.prompt_ids(row["prompt"])
        answers = [chat.response_ids(row[side][0]["content"], ended=row[f"{side}_ended"]) for side in sides]
        prompt, reason = fit(rendered[row["prompt_id"]], answers, max_length=max_length, overflow=overflow)
        whole = len(rendered[row["prompt_id"]])
        lengths.append((reason, float(whole + max(map(len, answers)))))
        rows.append((row["pair_id"], prompt, *answers, whole - len(prompt)))
    answers_ids = {f"{side}_ids": IDS for side in sides}
    schema = {"pair_id": pl.String, "prompt_ids": IDS, **answers_ids, "cut": pl.Int64}
    tokens = pl.DataFrame(rows, schema=schema, orient="row")
    verdict = pl.DataFrame(lengths, schema={"reason": pl.String, "value": pl.Float64}, orient="row")
    kept = tokens.filter(verdict["reason"].is_null())
    dropped = pl.concat([pairs, verdict], how="horizontal").drop_nulls("reason")
    return kept, dropped.with_columns(threshold=pl.lit(float(max_length)))


def with_ends(pairs: pl.DataFrame) -> pl.DataFrame:
    """pair_id, prompt_id, prompt, and of both answers the message and whether it ended."""
    ends = {f"{side}_ended": pl.lit(value=True) for side in ("chosen", "rejected")}
    columns = ("pair_id", "prompt_id", "prompt", "chosen", "rejected", *ends)
    return pairs.with_columns(**{name: end for name, end in ends.items() if name not in pairs}).select(
        columns
    )


def fit(
    prompt: list[int], answers: Sequence[list[int]], *, max_length: int, overflow: Overflow
) -> tuple[list[int], str | None]:
    """The prompt ids that leave room for the longest answer, and the reason to drop the row, if any."""
    room = max_length - max(map(len, answers))
    if len(prompt) <= room:
        return prompt, None
    if room < min(MIN_PROMPT, len(prompt)):
        return prompt, "answer longer than the window"
    if overflow == "drop":
        return prompt, "longer than the window"
    return prompt[-room:], None


def scored_ids(chat: Chat, prompt: Messages, response: str, *, max_length: int) -> list[int]:
    """Ids that a reward model reads: the prompt's end, as much as fits, and the whole answer.

    Where even the answer does not fit, its end is what the model sees: a score needs the last token.
    """
    answer = chat.response_ids(response)
    return [*chat.prompt_ids(prompt), *answer][-max_length:]


def scored_sequences(
    chat: Chat, rows: Iterable[tuple[Messages, str]], *, max_length: int
) -> "list[array[int]]":
    """`scored_ids` of each (prompt, response), in 4 bytes a token: each prompt of some thousand rows is
    rendered once, and many texts are encoded at a time."""
    found: list[array[int]] = []
    taken = iter(rows)
    while part := list(islice(taken, ROWS)):
        found += part_sequences(chat, part, max_length)
    return found


def part_sequences(
    chat: Chat, rows: Sequence[tuple[Messages, str]], max_length: int
) -> "Iterator[array[int]]":
    """`scored_ids` of each of the rows."""
    named = [tuple(tuple(message.items()) for message in prompt) for prompt, _ in rows]
    distinct = dict(zip(named, (prompt for prompt, _ in rows), strict=True))
    texts = [chat.text(prompt, add_generation_prompt=True) for prompt in distinct.values()]
    prompts = dict(zip(distinct, token_arrays(chat, texts, plain=False), strict=True))
    end = array("I", [chat.end_of_turn])
    answers = token_arrays(chat, [response for _, response in rows], plain=True)
    return ((prompts[name] + answer + end)[-max_length:] for name, answer in zip(named, answers, strict=True))


def token_arrays(chat: Chat, texts: Sequence[str], *, plain: bool) -> "list[array[int]]":
    """`Chat.encode` of each text, or `Chat.encode_plain`, many at a time and in 4 bytes a token."""
    with threads():
        return [
            array("I", ids)
            for part in batches([len(text) for text in texts])
            for ids in encoded(texts[part], chat, plain=plain)
        ]
