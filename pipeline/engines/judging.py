"""Judges as functions from answers to scores: what the loop, the evaluation and the tables share.

`bt` reads one answer and gives the reward of a Bradley-Terry model (any real number).
`pairwise` reads two answers and gives a probability, each pair asked in both orders (paper, section 2);
`prompted` does the same with a model that was not trained to, or asks one in words by a template
(pipeline/engines/prompting.py). They rank n answers by a knock-out or a round robin (pipeline/ranking.py),
and a score is a mean win probability. A prompt with a question that gets no judgment has none at all.
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
from pipeline.cells import Kind
from pipeline.chat import Chat, Messages
from pipeline.comparing import MOST_QUESTIONS, TOO_LONG, Compare, Compared, Unjudged
from pipeline.engines.cached import Dtype, ScorerEngine, prefer, score
from pipeline.engines.prompting import PromptedComparer, PromptedParams
from pipeline.errors import UserError
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

MODELS: Mapping[str, str] = {
    "bt": "models/reward",
    "pairwise": "models/pairwise",
    "prompted": "models/base",
    "cascade": "models/reward",
}
"""The model of each kind of judge."""


class JudgeParams(Params):
    """Which judge scores the candidates: its kind, the folder of its model, and how it is run."""

    kind: Literal["bt", "pairwise", "prompted", "cascade"]
    also: tuple[Literal["bt", "pairwise", "prompted"], ...]
    """Judges who score the candidates as well, each by itself; their models are `model` or `referee`."""
    model: str
    ranking: Literal["knockout", "round_robin"]
    """How a judge of two answers ranks n."""
    referee: str
    """The folder of a second model: of the judge of two answers that a cascade asks, or of one in `also`;
    the same as `model` where there is none."""
    referee_margin: float = Field(ge=0)
    """Of a cascade, in rewards: answers this near to the best or worst are in doubt."""
    engine: ScorerEngine
    dtype: Dtype
    max_length: int = Field(ge=32)
    prompted: PromptedParams | None
    """How a judge that was not trained to is asked in words; None: at one letter, as the trained one is."""

    @property
    def jury(self) -> "tuple[JudgeParams, ...]":
        """Each judge by itself, the first one as `kind` names it."""
        alone = self.model_copy(update={"also": ()})
        others = ({"kind": kind, "model": MODELS[kind]} for kind in self.also)
        return (alone, *(alone.model_copy(update=other) for other in others))

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

    @property
    def in_words(self) -> PromptedParams | None:
        """How its judge of two answers is asked by a template; None for one that is read at a letter."""
        return self.prompted if self.wording == "prompted" else None

    @property
    def cells(self) -> tuple[Kind, str]:
        """The kind of cells that its judge of two answers asks, and the engine that fills them."""
        return (self.in_words.cells, self.in_words.engine) if self.in_words else ("prefer", self.engine)


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

    Two answers that leave no room for a question are not asked, and unjudged. UserError for labels that are
    not one token each.
    """
    labels = ab.labels(chat)
    found, lost = np.full((len(rows), 2), np.nan), []
    for start in range(0, len(rows), MOST_QUESTIONS):
        part = rows[start : start + MOST_QUESTIONS]
        both = {}
        sequences = question_sequences(chat, part, wording, max_length)
        for i, orders in enumerate(zip(sequences, sequences, strict=True)):
            fitting = [ids for ids in orders if ids is not None]
            if len(fitting) == 2:
                both[start + i] = fitting
            else:
                sizes = " and ".join(str(len(chat.encode_plain(text))) for text in part[i][1:])
                lost.append(Unjudged(start + i, TOO_LONG, f"{sizes} tokens, window {max_length}"))
        values = prefer(model, list(chain(*both.values())), labels, engine=engine, dtype=dtype)
        found[list(both)] = np.reshape(values, (-1, 2))
    return Compared.of_orders(found[:, 0], 1 - found[:, 1], tuple(lost))


def comparer(model: Path, params: JudgeParams) -> Compare:
    """The judge of two answers that the recipe means: any other way to ask one goes in here."""
    if params.in_words:
        return PromptedComparer(model, params.in_words)
    chat = Chat.load(model)
    settings: Any = {"engine": params.engine, "dtype": params.dtype, "max_length": params.max_length}
    return lambda questions: compared(model, chat, questions, wording=params.wording, **settings)


def question_sequences(
    chat: Chat, rows: Iterable[tuple[Messages, str, str]], wording: Wording, max_length: int
) -> "Iterator[array[int] | None]":
    """What `ab.fit` gives of each (prompt, first, second) in both orders, in 4 bytes a token, None where
    there is no room; many are encoded at a time, and those that need a cut once more by themselves."""
    asked = (ask for prompt, *two in rows for ask in ((prompt, *two), (prompt, *reversed(two))))
    while part := list(islice(asked, ROWS)):
        texts = [chat.text(ab.WORDINGS[wording](*ask), add_generation_prompt=True) for ask in part]
        for ask, ids in zip(part, token_arrays(chat, texts, plain=False), strict=True):
            if len(ids) <= max_length:
                yield array("I", ids)
            else:
                cut = ab.fit(chat, *ask, wording=wording, max_length=max_length)
                yield None if cut is None else array("I", cut.ids)


class Judged(NamedTuple):
    """What a judge says of candidates."""

    judgments: pl.DataFrame
    """A judgment per candidate (schemas.JUDGMENTS)."""
    without: pl.DataFrame
    """The candidates that have none, with reason and detail (judgments.without)."""
    account: dict[str, Any]
    """What the judge was asked (judgments.account)."""


def judged(candidates: pl.DataFrame, model: Path, referee: Path, params: JudgeParams) -> Judged:
    """What the judge of the recipe says of each candidate; `referee` is asked by a cascade alone.

    UserError where no prompt has a judgment.
    """
    if not params.rewards:
        found, compare = judgments.contests(candidates), comparer(model, params)
        return told(candidates, params, found, ranked(found, compare, params), compare)
    rows = candidates.select("prompt", "response").iter_rows()
    values = rewards(model, Chat.load(model), rows, params)
    if params.kind == "bt":
        table = judgments.rewarded(candidates, params.kind, values)
        return Judged(table, judgments.without(candidates, ()), judgments.account(params.kind, table))
    found = judgments.contests(candidates, values)
    games = [cascaded(one, params.referee_margin) for one in found]
    compare = comparer(referee, params)
    played(games, compare)
    return told(candidates, params, found, [cascaded_scores(one) for one in games], compare)


def jury(candidates: pl.DataFrame, model: Path, referee: Path, params: JudgeParams) -> list[Judged]:
    """What each judge of the recipe says, the first one first: `judged` with the model of each."""
    folders = {params.referee: referee, params.model: model}
    return [judged(candidates, folders[one.model], referee, one) for one in params.jury]


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
    candidates: pl.DataFrame,
    params: JudgeParams,
    found: Sequence[Contest],
    scores: Sequence[Sequence[float]],
    compare: Compare,
) -> Judged:
    """The tables and the account of contests that are over."""
    if found and all(one.unjudged for one in found):
        first = found[0].unjudged[0]
        raise UserError(
            f"the judge {params.kind}: expected a judgment for at least one prompt, found none for "
            f"{len(found)}: {first.reason} ({first.text}); raise max_length of judge, or of judge.prompted, "
            "in params.yaml"
        )
    ends = (one.outcomes(own).items() for one, own in zip(found, scores, strict=True) if not one.unjudged)
    outcomes: dict[str, Outcome] = dict(chain.from_iterable(ends))
    table, words = judgments.table(candidates, params.kind, outcomes), None
    if isinstance(compare, PromptedComparer):
        words = compare.account.told(compare.params.prices)
    account = judgments.account(params.kind, table, found, words)
    return Judged(table, judgments.without(candidates, found), account)
