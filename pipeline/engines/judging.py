"""Judges as functions from answers to scores: what the loop, the evaluation and the tables share.

`bt` reads one answer and gives the reward of a Bradley-Terry model (any real number).
`pairwise` reads two answers and gives a probability, each pair asked in both orders (paper, section 2);
`prompted` does the same with a model that was not trained to. They rank n answers by a knock-out or a round
robin (pipeline/ranking.py), and a score is a mean win probability.
`cascade` is `bt`, but where best or worst is in doubt it asks a referee, a judge of two answers
(pipeline/cascading.py).
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import polars as pl
from pydantic import Field

from pipeline import ab, judgments
from pipeline.cascading import cascaded, cascaded_scores
from pipeline.chat import Chat, Messages
from pipeline.comparing import MOST_QUESTIONS, Compare, Compared
from pipeline.engines.cached import Dtype, ScorerEngine, prefer, score
from pipeline.params import Params
from pipeline.planning import at_most, is_planning
from pipeline.ranking import (
    Contest,
    Knockout,
    Outcome,
    knockout,
    knockout_scores,
    round_robin,
    round_robin_scores,
)
from pipeline.rendering import ROWS, scored_sequences, token_arrays

Wording = Literal["trained", "prompted"]

WORDINGS: Mapping[str, Wording] = {
    "models/pairwise": "trained",
    "models/base": "prompted",
}
"""The models that judge two answers, and how each is asked."""


class JudgeParams(Params):
    """Which judge scores the candidates: its kind, the folder of its model, and how it is run."""

    kind: Literal["bt", "pairwise", "prompted", "cascade"]
    model: str
    ranking: Literal["knockout", "round_robin"]
    """How a judge of two answers ranks n."""
    referee: str
    """The folder of the judge of two answers that a cascade asks; the same as `model` for other kinds."""
    referee_margin: float = Field(ge=0)
    """Of a cascade, in rewards: answers this near to the best or worst are in doubt."""
    engine: ScorerEngine
    dtype: Dtype
    max_length: int = Field(ge=32)

    @property
    def rewards(self) -> bool:
        """Whether it gives single answers a reward."""
        return self.kind in ("bt", "cascade")

    @property
    def wording(self) -> Wording:
        """How its judge of two answers is asked."""
        match self.kind:
            case "cascade":
                return WORDINGS[self.referee]
            case "prompted":
                return "prompted"
            case _:
                return "trained"


class Reading(Protocol):
    """How a judge is run."""

    @property
    def engine(self) -> ScorerEngine: ...

    @property
    def dtype(self) -> Dtype: ...

    @property
    def max_length(self) -> int: ...


def rewards(model: Path, chat: Chat, rows: Iterable[tuple[Messages, str]], params: Reading) -> list[float]:
    """The Bradley-Terry reward of each (prompt, response)."""
    sequences = scored_sequences(chat, rows, max_length=params.max_length)
    return score(model, sequences, engine=params.engine, dtype=params.dtype)


def compared(
    model: Path,
    chat: Chat,
    rows: Sequence[tuple[Messages, str, str]],
    *,
    wording: Wording,
    max_length: int,
    engine: ScorerEngine,
    dtype: Dtype,
) -> Compared:
    """What the model says of each (prompt, first, second): P(first is better), asked in both orders.

    UserError for two answers that leave no room for a question, and for labels that are not one token each.
    """
    labels = ab.labels(chat)
    found: list[float] = []
    for start in range(0, len(rows), MOST_QUESTIONS):
        part = rows[start : start + MOST_QUESTIONS]
        questions = list(question_sequences(chat, part, wording, max_length))
        found += prefer(model, questions, labels, engine=engine, dtype=dtype)
    both = np.array(found, dtype=float).reshape(-1, 2)
    return Compared.of_orders(both[:, 0], 1 - both[:, 1])


def comparer(model: Path, params: JudgeParams) -> Compare:
    """The judge of two answers that the recipe means: any other way to ask one goes in here."""
    chat = Chat.load(model)
    settings: Any = {"engine": params.engine, "dtype": params.dtype, "max_length": params.max_length}
    return lambda questions: compared(model, chat, questions, wording=params.wording, **settings)


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


class Judged(NamedTuple):
    """A judgment per candidate (schemas.JUDGMENTS), and what the judge was asked (judgments.account)."""

    judgments: pl.DataFrame
    account: dict[str, Any]


def judged(candidates: pl.DataFrame, model: Path, referee: Path, params: JudgeParams) -> Judged:
    """What the judge of the recipe says of each candidate; `referee` is asked by a cascade alone."""
    if not params.rewards:
        found = judgments.contests(candidates)
        return told(candidates, params, found, ranked(found, comparer(model, params), params))
    rows = candidates.select("prompt", "response").iter_rows()
    values = rewards(model, Chat.load(model), rows, params)
    if params.kind == "bt":
        table = judgments.rewarded(candidates, params.kind, values)
        return Judged(table, judgments.account(params.kind, table))
    found = judgments.contests(candidates, values)
    games = [cascaded(one, params.referee_margin) for one in found]
    played(games, comparer(referee, params))
    return told(candidates, params, found, [cascaded_scores(one) for one in games])


def ranked(found: Sequence[Contest], compare: Compare, params: JudgeParams) -> list[list[float]]:
    """The scores of each contest's answers by a judge of two."""
    if params.ranking == "round_robin":
        round_robin(found, compare)
        return [round_robin_scores(one) for one in found]
    games = [Knockout.of_all(one) for one in found]
    played(games, compare)
    return [knockout_scores(one) for one in games]


def played(games: Sequence[Knockout], compare: Compare) -> None:
    """Play to the end. In a plan, where later rounds depend on what nobody has asked yet, as many questions
    stand for them as there can be."""
    knockout(games, compare)
    pending = [
        ([{"role": "user", "content": f"pending {one.contest.answers[0].identity} {i}"}], "a", "b")
        for one in games
        for i in range(one.contest.undecided)
    ]
    assert is_planning() or not pending, "a judge of two answers gave a probability that is none"
    if pending:
        with at_most():
            compare(pending)


def told(
    candidates: pl.DataFrame, params: JudgeParams, found: Sequence[Contest], scores: Sequence[Sequence[float]]
) -> Judged:
    """The table and the account of contests that are over."""
    ends = (one.outcomes(own).items() for one, own in zip(found, scores, strict=True))
    outcomes: dict[str, Outcome] = dict(chain.from_iterable(ends))
    table = judgments.table(candidates, params.kind, outcomes)
    return Judged(table, judgments.account(params.kind, table, found))
