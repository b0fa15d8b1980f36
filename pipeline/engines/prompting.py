"""The prompted judge: a model that is asked in words which answer is better, or how good one is.

LLM-as-a-judge (paper, section 2). How it is asked, and how its answer must end, says a template; every answer
comes through the row store. An answer without the template's closing line is no judgment: the question is
reported, its value is NaN, and nothing is guessed.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import polars as pl
from pydantic import Field, field_validator, model_validator

from pipeline.cells import Kind
from pipeline.chat import Chat, Messages
from pipeline.comparing import TOO_LONG, Compared, Question, Unjudged
from pipeline.engines.cached import Dtype, sample
from pipeline.engines.chat_endpoint import REFUSALS, ReplyWork
from pipeline.engines.launchers import launcher
from pipeline.errors import UserError
from pipeline.filling import fill
from pipeline.judge_account import Account, Prices, shortened
from pipeline.judge_templates import Template, load_template
from pipeline.models import SampleRequest
from pipeline.params import Params
from pipeline.planning import after_texts, is_stand_in
from pipeline.sampling_plan import prompt_tokens

PromptedEngine = Literal["chat", "openai", "transformers", "vllm", "fake"]

OWN_FIELDS = ("model", "messages", "n", "stream")
"""Fields of a request that are not the recipe's."""


class PromptedParams(Params):
    """How a model is asked to judge in words."""

    engine: PromptedEngine
    dtype: Dtype
    """Not used by the engines chat and fake."""
    endpoint: str | None
    """The name of the model at a chat endpoint; null: the model is a folder, or fake."""
    template: str
    max_length: int = Field(ge=32)
    """Tokens of a question; characters for the engines chat and fake, which have no tokenizer here."""
    max_new_tokens: int = Field(gt=0)
    request: dict[str, Any]
    """More fields of a request to a chat endpoint; null leaves out one that would else be sent."""
    prices: Prices | None
    max_unparsable: float = Field(ge=0, le=1)
    """Share of the asked questions that may stay without a judgment."""

    @property
    def cells(self) -> Kind:
        """The kind of cells that it asks."""
        return "reply" if self.engine in ("chat", "fake") else "sample"

    @field_validator("request")
    @classmethod
    def no_own_fields(cls, request: dict[str, Any]) -> dict[str, Any]:
        """ValueError for a field that the engine itself sets."""
        if wrong := sorted(set(request) & set(OWN_FIELDS)):
            raise ValueError(f"expected fields other than {', '.join(OWN_FIELDS)}, found {', '.join(wrong)}")
        return request

    @model_validator(mode="after")
    def endpoint_has_a_name(self) -> Self:
        """ValueError unless the engine chat, and no other, has a name to ask for."""
        if (self.engine == "chat") != bool(self.endpoint):
            raise ValueError(
                "expected the name of a model as endpoint for engine chat, and null for any other, found "
                f"{self.endpoint!r} for {self.engine}"
            )
        return self


@dataclass
class PromptedComparer:
    """A judge of two answers (`comparing.Compare`), the model in a folder or at the endpoint.

    By a template for two answers it is asked in both orders, and a tie is a half. By one for a single answer
    each is rated alone: the higher rating is better, equal ones tie, and there are no orders to disagree.

    A question is judged only where both replies can be read. UserError where of all that were asked so far,
    in whatever calls, more than `params.max_unparsable` cannot.
    """

    model: Path
    params: PromptedParams
    unjudged: list[Unjudged] = field(default_factory=list)
    """Questions of all calls, counted through."""
    account: Account = field(default_factory=Account)
    """Of all calls."""

    def __call__(self, questions: Sequence[Question]) -> Compared:
        template, judge = load_template(Path(self.params.template)), Judge.of(self.model, self.params)
        alone = template.kind == "single"
        both = [
            [
                judge.question(template, prompt, *answers)
                for answers in ([(a,), (b,)] if alone else [(a, b), (b, a)])
            ]
            for prompt, a, b in questions
        ]
        values, unjudged, account = judge.values(template, both)
        self.unjudged += [replace(one, index=one.index + self.account.questions) for one in unjudged]
        self.account += account
        judge.check(self.unjudged, self.account)
        first, second = values.reshape(-1, 2).T
        if alone:
            better = 0.5 + 0.5 * np.sign(first - second)
            return Compared.of_orders(better, better, unjudged)
        return Compared.of_orders(first, 1 - second, unjudged)


@dataclass(frozen=True)
class Judge:
    """The model of a prompted judge."""

    model: Path
    params: PromptedParams
    chat: Chat | None
    """The renderer of its folder; None for one that is asked in messages."""

    @classmethod
    def of(cls, model: Path, params: PromptedParams) -> "Judge":
        return cls(model, params, None if params.engine in ("chat", "fake") else Chat.load(model))

    def question(self, template: Template, prompt: Messages, *answers: str) -> Messages | None:
        """The question within `max_length`, or None where the answers leave no room."""
        return template.fitted(prompt, *answers, fits=self.fits)

    def fits(self, asked: Messages) -> bool:
        """Whether a question is within `max_length`."""
        if self.chat:
            return len(self.chat.prompt_ids(asked)) <= self.params.max_length
        return sum(len(turn["content"]) for turn in asked) <= self.params.max_length

    def answers(self, template: Template, asked: Sequence[Messages]) -> pl.DataFrame:
        """One answer per question: text, prompt_tokens, tokens, finish_reason, retries."""
        params = self.params
        if self.chat:
            prompts = prompt_tokens(pl.Series(asked), self.chat) if asked else []
            greedy = [SampleRequest(ids, 0.0, 0) for ids in prompts]
            assert params.engine not in ("chat", "fake")
            how = {"engine": params.engine, "dtype": params.dtype, "max_new_tokens": params.max_new_tokens}
            read = pl.Series("prompt_tokens", [len(ids) for ids in prompts], pl.Int64)
            with after_texts():
                return sample(self.model, greedy, **how).with_columns(read, retries=pl.lit(0))
        sent = {"temperature": 0, "max_tokens": params.max_new_tokens, **params.request}
        request = json.dumps({name: x for name, x in sent.items() if x is not None}, sort_keys=True)
        engine = "fake" if params.engine == "fake" else "chat"
        work = ReplyWork(params.endpoint or "fake", request, engine, tuple(template.verdicts))
        return fill(work, asked, launcher())

    def values(
        self, template: Template, asked: Sequence[Sequence[Messages | None]]
    ) -> tuple[np.ndarray, tuple[Unjudged, ...], Account]:
        """What is said to each question, in the orders it is asked in; NaN where a question is unjudged."""
        fitting = [i for i, orders in enumerate(asked) if None not in orders]
        sent = [one for i in fitting for one in asked[i] if one is not None]
        answers = self.answers(template, sent)
        said = iter(zip(answers["text"], answers["finish_reason"], strict=True))
        values = [[math.nan] * len(orders) for orders in asked]
        lost = {i: Unjudged(i, TOO_LONG, "") for i in range(len(asked))}
        for i in fitting:
            read = [reading(template, *next(said)) for _ in asked[i]]
            if failed := [one for one in read if isinstance(one, Unread)]:
                lost[i] = Unjudged(i, failed[0].reason, shortened(failed[0].text))
            else:
                values[i] = [value for value in read if not isinstance(value, Unread)]
                del lost[i]
        unparsable = sum(i in lost for i in fitting)
        account = replace(
            Account.of_answers(sent, answers),
            questions=len(asked),
            judged=len(fitting) - unparsable,
            unparsable=unparsable,
            too_long=len(asked) - len(fitting),
        )
        return np.array(values), tuple(lost.values()), account

    def check(self, unjudged: Sequence[Unjudged], account: Account) -> None:
        """UserError where too many of the asked questions are unparsable."""
        asked, limit = account.questions - account.too_long, self.params.max_unparsable
        if not asked or account.unparsable / asked <= limit:
            return
        shown = [one for one in unjudged if one.reason != TOO_LONG][:2]
        examples = "; ".join(f"question {one.index}, {one.reason}: {one.text!r}" for one in shown)
        raise UserError(
            f"the prompted judge {self.params.endpoint or self.model}: expected at most {limit:.1%} of "
            f"{asked} questions without a judgment, found {account.unparsable} ({examples}); mend "
            f"{self.params.template}, choose a judge that keeps to it, or raise max_unparsable or "
            "max_new_tokens in params.yaml"
        )


@dataclass(frozen=True)
class Unread:
    """An answer that is no judgment."""

    reason: str
    text: str


def reading(template: Template, text: str, finish_reason: str) -> float | Unread:
    """What an answer says; NaN for the stand-in of one that is still to be computed."""
    if is_stand_in(text):
        return math.nan
    if finish_reason in REFUSALS:
        return Unread(f"refused ({finish_reason})", text)
    if finish_reason == "length":  # its last line may be half of one that says otherwise
        return Unread("answer cut at the token limit", text)
    value = template.parse(text)
    return Unread("no closing line", text) if value is None else value
