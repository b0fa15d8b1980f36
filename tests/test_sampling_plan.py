"""What is asked for a prompt: which samples there are, in which order, and which seed each has."""

import polars as pl
import pytest

from pipeline.chat import Chat
from pipeline.ids import seed_for
from pipeline.models import SampleRequest
from pipeline.sampling_plan import Samples, planned, prompt_tokens, requests
from tests.stages.answers import slice_of
from tests.stages.preference_rows import assistant, user

IDS = pl.Series("prompt_id", ["p", "q", "r"])


def by(policy: str, temperature: float, count: int) -> Samples:
    return Samples(policy=policy, temperature=temperature, count=count)


def asked(plan: pl.DataFrame) -> dict[tuple, int]:
    """Seeds by place, role and temperature, and the number of the seed among these."""
    number = pl.int_range(pl.len()).over("place", "role", "temperature")
    rows = plan.with_columns(number=number).select("place", "role", "temperature", "number", "seed")
    return {row[:4]: row[4] for row in rows.iter_rows()}


def test_a_plan_has_every_sample_of_every_prompt_in_order():
    plan = planned(IDS, [by("current", 1.0, 2), by("variant", 0.0, 1)], 7)
    assert plan.select("place", "sample").rows() == [(p, s) for p in range(3) for s in range(3)]
    assert plan["role"].to_list() == ["current", "current", "variant"] * 3
    assert plan["temperature"].to_list() == [1.0, 1.0, 0.0] * 3
    assert plan["seed"][4] == seed_for(7, "q", 1.0, 1)
    assert plan["seed"].n_unique() == 9


@pytest.mark.parametrize("temperature", [-1.0, 1e-9, 0.009])
def test_a_temperature_that_an_engine_would_raise_is_refused(temperature):
    with pytest.raises(ValueError, match=r"expected 0 or at least 0\.01"):
        by("current", temperature, 1)
    assert [by("current", heat, 1).temperature for heat in (0.0, 0.01)] == [0.0, 0.01]


def test_a_plan_without_prompts_is_empty():
    plan = planned(IDS.clear(), [by("current", 1.0, 2)], 7)
    assert plan.is_empty()
    assert requests(plan, []) == []


@pytest.mark.parametrize(
    "more",
    [
        [by("current", 1.0, 5), by("current", 0.7, 2), by("variant", 1.0, 2)],
        [by("variant", 1.0, 3), by("current", 0.5, 1), by("current", 0.7, 3), by("current", 1.0, 2)],
    ],
)
def test_more_samples_and_prompts_in_any_order_leave_the_seeds_of_the_others(more):
    few = asked(planned(IDS, [by("current", 1.0, 2), by("current", 0.7, 2), by("variant", 1.0, 2)], 7))
    many = asked(planned(pl.concat([IDS, pl.Series("prompt_id", ["s"])]), more, 7))
    assert few.items() <= many.items()
    assert len(set(many.values())) == len(many), "two samples of one seed"


def test_two_policies_draw_with_seeds_of_their_own():
    # Nearly equal weights give nearly equal answers to one seed, which would explore nothing.
    plan = planned(IDS, [by("current", 1.0, 4), by("variant", 1.0, 4)], 7)
    seeds = {role: set(plan.filter(role=role)["seed"]) for role in ("current", "variant")}
    assert not seeds["current"] & seeds["variant"]


def test_many_prompts_have_the_tokens_that_each_has_alone(tiny_model, own_state):
    chat = Chat.load(tiny_model)
    turns = [*user("a <|im_end|> b"), *assistant("no"), *user("Why?")]
    prompts = [user("What is an owl?"), turns, user("  spaces \n"), user("é 漢字 <|im_start|>user")]
    series = pl.Series(prompts, dtype=slice_of("x").schema["prompt"])
    assert prompt_tokens(series, chat) == [tuple(chat.prompt_ids(prompt)) for prompt in prompts]
    assert prompt_tokens(series.clear(), chat) == []


def test_a_request_carries_the_tokens_of_its_prompt():
    plan = planned(IDS, [by("current", 0.7, 1)], 7).filter(pl.col("place") != 1)
    made = requests(plan, [(1,), (2,), (3, 4)])
    assert made == [
        SampleRequest((1,), 0.7, seed_for(7, "p", 0.7, 0)),
        SampleRequest((3, 4), 0.7, seed_for(7, "r", 0.7, 0)),
    ]
