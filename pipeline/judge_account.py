"""The account of a prompted judge: what was asked, what stayed without a judgment, and what it took."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import polars as pl
from pydantic import Field

from pipeline.cells import messages_key
from pipeline.chat import Messages
from pipeline.params import Params

MILLION = 1_000_000

SHOWN = 160
"""Characters of an answer that are quoted."""


class Prices(Params):
    """What an endpoint takes for a million tokens."""

    currency: str
    prompt: float = Field(ge=0)
    completion: float = Field(ge=0)


@dataclass(frozen=True)
class Account:
    """What was asked and what it took, whenever that was: the same whether the rows were stored or not.

    questions = judged + unparsable + too_long.
    """

    questions: int = 0
    judged: int = 0
    unparsable: int = 0
    too_long: int = 0
    """Whose answers leave no room: they were not asked."""
    requests: int = 0
    """Distinct ones."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    uncounted: int = 0
    """Requests whose tokens the endpoint did not tell: tokens and cost are without them."""
    retries: int = 0
    """How often a request was sent again."""

    def __add__(self, other: "Account") -> "Account":
        """Both together, as if no request stood in both."""
        return Account(*(getattr(self, part.name) + getattr(other, part.name) for part in fields(Account)))

    def cost(self, prices: Prices) -> float:
        """In the currency of the prices."""
        paid = self.prompt_tokens * prices.prompt + self.completion_tokens * prices.completion
        return paid / MILLION

    def told(self, prices: Prices | None) -> dict[str, Any]:
        """For an account that is written: every count, and `cost`, which is null where no price is known."""
        cost = prices and {"currency": prices.currency, "amount": self.cost(prices)}
        return asdict(self) | {"cost": cost}

    @classmethod
    def of_answers(cls, asked: Sequence[Messages], answers: pl.DataFrame) -> "Account":
        """The tokens and retries of the distinct requests among `asked`."""
        places = {messages_key(ask): i for i, ask in reversed([*enumerate(asked)])}
        own = answers[sorted(places.values())]
        return cls(
            requests=own.height,
            prompt_tokens=int(own["prompt_tokens"].sum()),
            completion_tokens=int(own["tokens"].sum()),
            uncounted=own["tokens"].null_count(),
            retries=int(own["retries"].sum()),
        )


def shortened(text: str) -> str:
    """A text in one line of at most SHOWN characters: its beginning, and its end, where a verdict belongs."""
    line = " ".join(text.split())
    third = SHOWN // 3
    return line if len(line) <= SHOWN else f"{line[:third]} ... {line[len(line) - (SHOWN - third - 5) :]}"
