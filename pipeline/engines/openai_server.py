"""One row at a server of OpenAI's completions API: what is asked, and whether the answer is one.

A prompt is sent as token ids, so that `Chat` stays the only renderer. Whatever a server would take from the
model's generation_config.json or from defaults of its own (top-k, top-p, penalties) is said in the request.
There are no `stop` strings: they would also cut an answer that only spells the name of a special token. vLLM
and SGLang stop at `stop_token_ids`; llama.cpp does not know that field, and stops at the ends of turn of its
model file.

The model folder names what computes. That the server holds those weights is trusted; what can be seen is
checked: the name under which it serves them, the window, the number of prompt tokens, and that the text of an
answer is what our tokenizer makes of its tokens.
"""

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from pipeline.chat import Chat
from pipeline.errors import UserError
from pipeline.models import Completion, SampleRequest

RETRIES = 6
"""Of a request that meets a busy, failing or absent server; their pauses add up to half a minute."""

SECONDS = 1800
"""The longest wait for an answer, in the server's queue and in the making."""

#: The whole distribution, as the recipe's temperature shapes it. -1 is no top-k to all three servers.
UNCUT = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}

NO_CHARACTER = "\ufffd"
"""Stands for bytes that are no character; around them decoders differ."""


class Card(BaseModel):
    """A model that a server lists."""

    id: str
    max_model_len: int | None = None


class Listing(BaseModel):
    """The answer of GET /v1/models."""

    data: list[Card]


class Choice(BaseModel):
    """An answer; vLLM and SGLang give its token ids, too."""

    text: str
    finish_reason: str | None
    token_ids: list[int] | None = None


class Usage(BaseModel):
    """Tokens that the server counted, the one that ended the turn included."""

    prompt_tokens: int
    completion_tokens: int


class Answer(BaseModel):
    """The answer of POST /v1/completions."""

    choices: list[Choice] = Field(min_length=1, max_length=1)
    usage: Usage | None = None


@dataclass(frozen=True)
class Names:
    """What errors call a kind of server."""

    settings: str
    """What the names of its settings in exec.yaml begin with."""
    key: str
    """The variable that holds its key."""
    api: str
    serve: str
    """The command that starts one, before the model; empty where it runs elsewhere."""


COMPLETIONS = Names("openai", "OPENAI_API_KEY", "completions", "vllm serve")

Hook = Callable[[Any], Awaitable[None]]


def connected(
    url: str, *, key: str | None = None, seconds: float = SECONDS, before: Sequence[Hook] = ()
) -> Any:
    """A client; it sends a failed request again after growing pauses, or when the server wants it.

    key: null takes OPENAI_API_KEY; seconds: the longest wait for an answer; before: awaited before each try.
    """
    try:
        import openai
    except ModuleNotFoundError:
        raise UserError(
            "the openai engine expects the package openai, which is not installed; install it: "
            "pip install -e '.[openai]' -c requirements/constraints.txt"
        ) from None
    from httpx2 import Limits

    timeout = openai.Timeout(seconds, connect=min(seconds, 10))
    return openai.AsyncOpenAI(
        base_url=url,
        api_key=key or os.environ.get("OPENAI_API_KEY") or "none",
        max_retries=RETRIES,
        timeout=timeout,
        http_client=openai.DefaultAsyncHttpxClient(
            limits=Limits(max_connections=None), timeout=timeout, event_hooks={"request": list(before)}
        ),
    )


async def served_name(client: Any, model: Path, wanted: str | None, longest: int) -> str:
    """The server's name for the model folder; UserError where it serves another, or in too small a window.

    It is `wanted`, or else the one that is named like the folder: a server that still holds the policy of the
    iteration before would fill the row store with answers under a wrong name.
    """
    import openai

    try:
        found = await client.with_options(max_retries=min(RETRIES, 2)).models.with_raw_response.list()
        cards = {card.id: card for card in Listing.model_validate_json(found.http_response.content).data}
    except (openai.OpenAIError, ValidationError) as error:
        raise UserError(failure(client, model, error)) from None
    fitting = [name for name in cards if (name == wanted if wanted else is_named(name, model))]
    if len(fitting) != 1:
        raise UserError(
            f"{client.base_url}: expected one model called {wanted or model.name}, found "
            f"{', '.join(cards) or 'none'}; start a server of it: vllm serve {model}, or set openai_model in "
            f"exec.yaml to this server's name for {model}"
        )
    window = cards[fitting[0]].max_model_len
    if window and longest > window:
        raise UserError(
            f"{client.base_url}: expected a window of {longest} tokens, prompt and answer, found {window}; "
            f"start the server with --max-model-len {longest}, or lower the stage's limits in params.yaml"
        )
    return fitting[0]


def is_named(name: str, model: Path) -> bool:
    """Whether a server's name for a model ends in the folder's: models/policies/t0, t0 or t0.gguf."""
    return model.name in (Path(name).name, Path(name).stem)


@dataclass(frozen=True)
class Server:
    """A model at a server."""

    client: Any
    model: Path
    name: str
    chat: Chat
    max_new_tokens: int

    async def row(self, i: int, request: SampleRequest) -> tuple[int, Completion]:
        """`i` and the answer to the request; UserError where there is none, or one to another question."""
        import openai

        try:
            found = await self.client.completions.with_raw_response.create(
                model=self.name,
                prompt=list(request.prompt_ids),
                max_tokens=self.max_new_tokens,
                n=1,
                temperature=request.temperature,
                seed=request.seed,
                top_p=1.0,
                frequency_penalty=0.0,
                presence_penalty=0.0,
                extra_body={
                    **UNCUT,
                    "stop_token_ids": list(self.chat.stop_ids),
                    "return_token_ids": True,
                },
            )
            answer = Answer.model_validate_json(found.http_response.content)
        except (openai.OpenAIError, ValidationError) as error:
            raise UserError(failure(self.client, self.model, error)) from None
        return i, self.completion(answer, len(request.prompt_ids))

    def completion(self, answer: Answer, prompt_tokens: int) -> Completion:
        """The checked answer, in the words of our tokenizer where the server gives token ids."""
        choice, usage = answer.choices[0], answer.usage
        if usage and usage.prompt_tokens != prompt_tokens:
            raise self.unexpected(
                f"{prompt_tokens} prompt tokens, as were sent",
                f"{usage.prompt_tokens}; use a server that takes token ids as they are, and adds no BOS",
            )
        if choice.finish_reason not in ("stop", "length"):
            raise self.unexpected(
                "finish_reason stop or length", f"{choice.finish_reason}; look at the server's log"
            )
        stopped = choice.finish_reason == "stop"
        text, tokens = choice.text, usage.completion_tokens if usage else None
        if choice.token_ids is not None:
            text, tokens = self.decoded(choice, choice.token_ids, stopped=stopped), len(choice.token_ids)
        if tokens is None:
            tokens = len(self.chat.encode_plain(text)) + stopped
        elif tokens > self.max_new_tokens or not (stopped or tokens == self.max_new_tokens):
            raise self.unexpected(
                f"an answer that ends by itself or after {self.max_new_tokens} tokens",
                f"one of {tokens}; start the server with a larger window and without limits of its own",
            )
        return Completion(text, tokens, choice.finish_reason)

    def decoded(self, choice: Choice, ids: list[int], *, stopped: bool) -> str:
        """The text of an answer's ids; UserError where they end, or read in the server's text, otherwise."""
        stops = self.chat.stop_ids
        if stopped and (not ids or ids[-1] not in stops):
            raise self.unexpected(
                f"an answer that stops at one of the tokens {', '.join(map(str, stops))}",
                f"{ids[-1:]}; start the server with --generation-config vllm, so that it stops at no others",
            )
        ours = self.chat.decode(ids[:-1] if stopped else ids)
        if NO_CHARACTER not in ours + choice.text and ours.strip() != choice.text.strip():
            raise self.unexpected(
                f"the text {ours[:60]!r} for these tokens",
                f"{choice.text[:60]!r}, by another tokenizer; start its server: vllm serve {self.model}",
            )
        return ours

    def unexpected(self, expected: str, found: str) -> UserError:
        """An answer that cannot be used."""
        return UserError(f"{self.client.base_url}: expected {expected}, found {found}")


def failure(client: Any, model: Path | str, error: Exception, names: Names = COMPLETIONS) -> str:
    """Why no answer came, and what mends it."""
    import openai

    again = f"after {RETRIES + 1} tries"
    url, concurrency = f"{names.settings}_url", f"{names.settings}_concurrency"
    match error:
        case openai.APITimeoutError():
            seconds = client.timeout.read
            told = f"an answer within {seconds:g} s, found none {again}; lower {concurrency} in exec.yaml"
        case openai.APIConnectionError():
            cause = error.__cause__ or error
            start = f"start one: {names.serve} {model}, or" if names.serve else "start it, or"
            told = f"a server, found none ({type(cause).__name__}: {cause}); {start} set {url} in exec.yaml"
        case openai.APIStatusError(status_code=status):
            told = f"an answer, found status {status} ({' '.join(error.message.split())[:200]}); "
            told += remedy(status, names)
        case ValidationError():
            first = error.errors()[0]
            told = (
                f"an answer of OpenAI's {names.api} API, found another ({'.'.join(map(str, first['loc']))}: "
                f"{first['msg']}); set {url} in exec.yaml to a server of that API"
                f"{f', such as {names.serve}' if names.serve else ''}"
            )
        case _:
            told = f"an answer, found {error}"
    return f"{client.base_url}: expected {told}"


def remedy(status: int, names: Names) -> str:
    """What mends an error status."""
    match status:
        case 401 | 403:
            return f"set the variable {names.key} to the server's key"
        case 404:
            return (
                f"set {names.settings}_url in exec.yaml to a server of OpenAI's {names.api} API, "
                "with /v1 at its end"
            )
        case 429:
            return f"lower {names.settings}_concurrency in exec.yaml ({RETRIES + 1} tries)"
        case _ if status >= 500:
            return f"look at the server's log ({RETRIES + 1} tries)"
    return "mend what the server says"
