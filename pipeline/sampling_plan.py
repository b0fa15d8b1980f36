"""What to sample for a prompt, and where each sample's seed comes from."""

import polars as pl
from pydantic import Field

from pipeline.chat import Chat
from pipeline.ids import seed_for
from pipeline.models import SampleRequest
from pipeline.params import Params


class Temperature(Params):
    """`count` samples at one `temperature`; the paper takes n/2 at 1.0 and n/2 at 0.7 (section 3.2)."""

    temperature: float = Field(ge=0)
    count: int = Field(gt=0)


def requests(
    prompts: pl.DataFrame, chat: Chat, samples: tuple[Temperature, ...], seed: int
) -> tuple[pl.DataFrame, list[SampleRequest]]:
    """One row and one request per prompt, temperature and repetition.

    The frame has prompt_id, prompt, sample (from 0 within the prompt) and temperature, in the order of
    the requests. A seed depends on the prompt, the temperature and the repetition within it, so more
    samples or prompts leave the others as they are.
    """
    rows, asked = [], []
    for identity, prompt in prompts.select("prompt_id", "prompt").iter_rows():
        ids = tuple(chat.prompt_ids(prompt))
        sample = 0
        for wanted in samples:
            for repetition in range(wanted.count):
                rows.append((identity, prompt, sample, wanted.temperature))
                row_seed = seed_for(seed, identity, wanted.temperature, repetition)
                asked.append(SampleRequest(ids, wanted.temperature, row_seed))
                sample += 1
    schema = {
        **{c: prompts.schema[c] for c in ("prompt_id", "prompt")},
        "sample": pl.Int64,
        "temperature": pl.Float64,
    }
    return pl.DataFrame(rows, schema=schema, orient="row"), asked
