"""What to sample for each prompt: whose answers, at which temperature, and where its seed comes from."""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import polars as pl
from pydantic import AfterValidator, Field

from pipeline.chat import Chat
from pipeline.ids import seed_for
from pipeline.models import SampleRequest
from pipeline.params import Params
from pipeline.tokenizing import batches, encoded, threads

Role = Literal["current", "variant"]


LEAST_TEMPERATURE = 0.01
"""Below it, but for 0, vLLM samples at this temperature without saying so."""


def servable(temperature: float) -> float:
    """`temperature`; ValueError unless every engine samples at it."""
    if temperature != 0 and temperature < LEAST_TEMPERATURE:
        raise ValueError(f"expected 0 or at least {LEAST_TEMPERATURE}, found {temperature}")
    return temperature


Temperature = Annotated[float, AfterValidator(servable)]


class Samples(Params):
    """`count` samples at one `temperature`; the paper takes n/2 at 1.0 and n/2 at 0.7 (section 3.2)."""

    policy: Role
    """Who answers: the policy that training goes on from, or the other model of the iteration's row."""
    temperature: Temperature
    count: int = Field(gt=0)


def planned(prompt_ids: pl.Series, samples: Sequence[Samples], seed: int) -> pl.DataFrame:
    """A row per prompt and sample: place (of the prompt), sample (within it), role, temperature, seed.

    Places and samples count from 0, and rows are in their order. A seed depends on the prompt, the role,
    the temperature and the repetition within these, so more samples or prompts leave the others as they
    are, and two policies of nearly the same weights do not repeat each other's answers.
    """
    own = [
        (wanted.policy, wanted.temperature, repetition, *([] if wanted.policy == "current" else ["variant"]))
        for wanted in samples
        for repetition in range(wanted.count)
    ]
    asked = len(prompt_ids)
    return pl.DataFrame(
        {
            "place": np.repeat(np.arange(asked), len(own)),
            "sample": np.tile(np.arange(len(own)), asked),
            "role": pl.Series([role for role, *_ in own] * asked, dtype=pl.String),
            "temperature": pl.Series([temperature for _, temperature, *_ in own] * asked, dtype=pl.Float64),
            "seed": pl.Series(
                [seed_for(seed, identity, *parts) for identity in prompt_ids for _, *parts in own],
                dtype=pl.Int64,
            ),
        }
    )


def prompt_tokens(prompts: pl.Series, chat: Chat) -> list[tuple[int, ...]]:
    """`Chat.prompt_ids` of each prompt; many are encoded at once."""
    texts = [chat.text(prompt, add_generation_prompt=True) for prompt in prompts.to_list()]
    with threads():
        parts = [encoded(texts[part], chat, plain=False) for part in batches([len(text) for text in texts])]
    return [tuple(ids) for part in parts for ids in part]


def requests(plan: pl.DataFrame, tokens: Sequence[tuple[int, ...]]) -> list[SampleRequest]:
    """One request per row of a plan, given the tokens of each place."""
    columns = plan.select("place", "temperature", "seed").iter_rows()
    return [SampleRequest(tokens[place], temperature, seed) for place, temperature, seed in columns]
