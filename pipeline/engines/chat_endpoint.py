"""Answers of a chat endpoint: a model that is known by its name alone, and is asked in messages.

For a model whose weights and tokenizer are not here: one behind OpenAI's chat completions API. The name in
the recipe, and the fields that go with every request, say what computes; the messages say what is asked. That
the endpoint means one model by the name is trusted.
"""

import asyncio
import json
import os
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl
from pydantic import BaseModel, Field, ValidationError

from pipeline.cells import Cells, messages_key
from pipeline.chat import Messages
from pipeline.engines.openai_engine import Calls, through
from pipeline.engines.openai_server import Hook, Names, Usage, connected, failure
from pipeline.errors import UserError
from pipeline.execution import execution
from pipeline.filling import Compute
from pipeline.ids import seed_for

Value = tuple[str, int | None, int | None, str, int]
"""Text, prompt tokens, tokens, finish_reason, retries (`cells.VALUES`)."""

ENDPOINT = Names("judge", "JUDGE_API_KEY", "chat completions", serve="")

GARBLED_RETRIES = 2
"""Of a request whose answer is none; a proxy on the way may have sent it."""

PAUSE = 1.0
"""Seconds before the first of these."""

REFUSALS = ("content_filter", "content_policy_violation", "context_length_exceeded")
"""Codes with which an endpoint refuses one question for what it says or for its length: its answer, too."""


class Said(BaseModel):
    """A message of an assistant; null where the endpoint gives a refusal instead."""

    content: str | None = None
    refusal: str | None = None


class Choice(BaseModel):
    """An answer and why it ended."""

    message: Said
    finish_reason: str | None = None


class Reply(BaseModel):
    """The answer of POST /v1/chat/completions."""

    choices: list[Choice] = Field(min_length=1, max_length=1)
    usage: Usage | None = None


@dataclass(frozen=True)
class ReplyWork:
    """One answer per list of messages; `pipeline.filling.Work` says what its methods are for."""

    name: str
    """The endpoint's name for the model."""
    request: str
    """JSON of the other fields of a request."""
    engine: Literal["chat", "fake"]
    closings: tuple[str, ...] = ()
    """Of these the fake engine picks one for the last line of its answer."""
    dtype: str = "unknown"

    @property
    def model(self) -> Path:
        return Path(self.name)

    @property
    def on_device(self) -> bool:
        return False

    @property
    def cells(self) -> Cells:
        own = {f"closing_{i}": line for i, line in enumerate(self.closings) if self.engine == "fake"}
        identity = {"model": self.name, "engine": self.engine, "request": self.request, **own}
        return Cells("reply", tuple(identity.items()))

    def keys(self, asks: Sequence[Messages]) -> list[str]:
        return [messages_key(ask) for ask in asks]

    def group(self, ask: Messages) -> Hashable | None:
        return None

    def tokens(self, asks: Sequence[Messages], values: pl.DataFrame) -> int:
        return int(values["tokens"].sum())

    def start(self) -> Compute:
        return self.fake if self.engine == "fake" else self.served

    def fake(self, asks: Sequence[Messages]) -> Iterator[tuple[int, Value]]:
        """Reasons of two words and a closing line by a hash of the question: a word is a token."""
        for i, ask in enumerate(asks):
            text = "Fake reasons.\n" + self.closings[seed_for("closing", *ask) % len(self.closings)]
            read = sum(len(turn["content"].split()) for turn in ask)
            yield i, (text, read, len(text.split()), "stop", 0)

    def served(self, asks: Sequence[Messages]) -> Iterator[tuple[int, Value]]:
        """The endpoint's answers as they finish.

        Where a request fails for good no other is begun, the open ones are awaited, and every answer that
        came is given before the UserError.
        """
        settings = execution()
        per_minute = settings.judge_requests_per_minute / settings.workers
        client = connected(
            settings.judge_url or settings.openai_url,
            key=os.environ.get("JUDGE_API_KEY"),
            seconds=settings.judge_seconds,
            before=[paced(per_minute)] if per_minute else [],
        )
        fields = json.loads(self.request)

        def calls(_: asyncio.Runner) -> Calls[tuple[int, Value]]:
            return (replied(client, self.name, fields, i, ask) for i, ask in enumerate(asks))

        yield from through(client, calls, len(asks), settings.judge_concurrency)


def paced(per_minute: float) -> Hook:
    """A hook that lets tries begin at even distances, so many a minute."""
    begins = 0.0

    async def wait(_: Any) -> None:
        nonlocal begins
        begins = max(begins + 60 / per_minute, time.monotonic())
        await asyncio.sleep(begins - time.monotonic())

    return wait


async def replied(
    client: Any, name: str, fields: Mapping[str, Any], i: int, ask: Messages
) -> tuple[int, Value]:
    """`i` and the endpoint's answer, or its refusal of this question; UserError where there is neither."""
    import openai

    retries = garbled = 0
    while True:
        try:
            found = await client.chat.completions.with_raw_response.create(
                model=name, messages=[dict(turn) for turn in ask], extra_body=fields
            )
            retries += found.retries_taken
            return i, value(Reply.model_validate_json(found.http_response.content), retries)
        except openai.APIStatusError as error:
            if error.code not in REFUSALS:
                raise UserError(failure(client, name, error, ENDPOINT)) from None
            retries += int(error.request.headers.get("x-stainless-retry-count", 0))
            return i, (error.message, None, None, str(error.code), retries)
        except ValidationError as error:
            if garbled == GARBLED_RETRIES:
                raise UserError(failure(client, name, error, ENDPOINT)) from None
            garbled += 1
            retries += 1
            await asyncio.sleep(PAUSE * 2**garbled / 2)
        except openai.OpenAIError as error:
            raise UserError(failure(client, name, error, ENDPOINT)) from None


def value(reply: Reply, retries: int) -> Value:
    """The columns of an answer."""
    (choice,), usage = reply.choices, reply.usage
    text = choice.message.content or choice.message.refusal or ""
    counted = (usage.prompt_tokens, usage.completion_tokens) if usage else (None, None)
    return text, *counted, choice.finish_reason or "unknown", retries
