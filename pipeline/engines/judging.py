"""Judges as functions from answers to scores: what the loop, the evaluation and the tables share.

`bt` reads one answer and gives the reward of a Bradley-Terry model (any real number).
`pairwise` reads two answers and gives a probability; an answer's score among n is its mean win
probability against the others, each pair asked in both orders (paper, section 2).
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, islice
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field

from pipeline import ab
from pipeline.chat import Chat, Messages
from pipeline.comparing import Compared
from pipeline.engines.cached import Dtype, ScorerEngine, prefer, score
from pipeline.params import Params
from pipeline.rendering import ROWS, scored_sequences, token_arrays

Wording = Literal["trained", "prompted"]


class JudgeParams(Params):
    """Which judge scores the candidates: its kind, the folder of its model, and how it is run."""

    kind: Literal["bt", "pairwise"]
    model: str
    engine: ScorerEngine
    dtype: Dtype
    max_length: int = Field(ge=32)


def rewards(
    model: Path, chat: Chat, rows: Iterable[tuple[Messages, str]], params: JudgeParams
) -> list[float]:
    """The Bradley-Terry reward of each (prompt, response)."""
    sequences = scored_sequences(chat, rows, max_length=params.max_length)
    return score(model, sequences, engine=params.engine, dtype=params.dtype)


def preferences(
    model: Path,
    chat: Chat,
    rows: Sequence[tuple[Messages, str, str]],
    *,
    wording: Wording,
    max_length: int,
    engine: ScorerEngine,
    dtype: Dtype,
) -> Compared:
    """What the model says of each (prompt, first, second), asked in both orders."""
    labels = ab.labels(chat)
    questions = list(question_sequences(chat, rows, wording, max_length))
    both = np.array(prefer(model, questions, labels, engine=engine, dtype=dtype)).reshape(-1, 2)
    return Compared.of_orders(both[:, 0], 1 - both[:, 1])


def question_sequences(
    chat: Chat, rows: Iterable[tuple[Messages, str, str]], wording: Wording, max_length: int
) -> "Iterator[array[int]]":
    """`ab.question_ids` of each (prompt, first, second) in both orders, in 4 bytes a token; many are encoded
    at a time, and those that need a cut once more by themselves."""
    asked = (ask for prompt, *two in rows for ask in ((prompt, *two), (prompt, *reversed(two))))
    while part := list(islice(asked, ROWS)):
        texts = [chat.text(ab.WORDINGS[wording](*ask), add_generation_prompt=True) for ask in part]
        for ask, ids in zip(part, token_arrays(chat, texts, plain=False), strict=True):
            fits = len(ids) <= max_length
            cut = ids if fits else ab.question_ids(chat, *ask, wording=wording, max_length=max_length)
            yield array("I", cut)


def scores(candidates: pl.DataFrame, model: Path, params: JudgeParams) -> pl.DataFrame:
    """A judgment per candidate: candidate_id, prompt_id, judge, score (schemas.JUDGMENTS)."""
    chat = Chat.load(model)
    if params.kind == "bt":
        values = rewards(model, chat, candidates.select("prompt", "response").iter_rows(), params)
        judged = candidates.select("candidate_id", "prompt_id").with_columns(
            score=pl.Series(values, dtype=pl.Float64)
        )
    else:
        judged = round_robin(candidates, model, chat, params)
    return judged.with_columns(judge=pl.lit(params.kind))


def round_robin(candidates: pl.DataFrame, model: Path, chat: Chat, params: JudgeParams) -> pl.DataFrame:
    """Each candidate's mean win probability against the other candidates of its prompt."""
    games, players = [], []
    for _, group in candidates.sort("candidate_id").group_by("prompt_id", maintain_order=True):
        rows = list(group.select("candidate_id", "prompt", "response").iter_rows())
        for (a, prompt, text_a), (b, _, text_b) in combinations(rows, 2):
            games.append((prompt, text_a, text_b))
            players.append((a, b))
    wins = preferences(
        model,
        chat,
        games,
        wording="trained",
        max_length=params.max_length,
        engine=params.engine,
        dtype=params.dtype,
    ).first_better
    totals: dict[str, list[float]] = {identity: [] for identity in candidates["candidate_id"]}
    for (a, b), win in zip(players, wins.tolist(), strict=True):
        totals[a].append(win)
        totals[b].append(1 - win)
    # A candidate alone for its prompt has no opponent: it is neither better nor worse than itself.
    means = [float(np.mean(totals[i])) if totals[i] else 0.5 for i in candidates["candidate_id"]]
    return candidates.select("candidate_id", "prompt_id").with_columns(
        score=pl.Series(means, dtype=pl.Float64)
    )
