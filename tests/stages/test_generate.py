"""Candidates: n per prompt or a named reason, and nothing that was sampled before is sampled again."""

import pytest

from pipeline.engines import fake
from pipeline.engines.tiny_models import tiny_random
from pipeline.ledger import Ledger
from pipeline.models import Completion
from pipeline.sampling_plan import Temperature
from pipeline.schemas import CANDIDATES
from pipeline.stages.generate import GenerateParams, candidates
from pipeline.tables import check
from tests.stages.answers import slice_of

PROMPTS = slice_of("What is an owl?", "What is a bee?", "Why is the sky blue?")
LONG = "and then " * 400
BASE = GenerateParams(
    engine="fake",
    dtype="float32",
    samples=(Temperature(temperature=1.0, count=1), Temperature(temperature=0.7, count=1)),
    max_prompt_tokens=200,
    max_new_tokens=40,
    seed=5,
)


def samples(*counts: tuple[float, int]) -> tuple[Temperature, ...]:
    return tuple(Temperature(temperature=heat, count=count) for heat, count in counts)


@pytest.fixture
def asked(monkeypatch) -> list[list[int]]:
    """The seeds that reach the engine, call by call."""
    calls: list[list[int]] = []
    sampler = fake.fake_sampler

    def listening(model):
        def sample(requests, *, max_new_tokens):
            calls.append([request.seed for request in requests])
            yield from sampler(model)(requests, max_new_tokens=max_new_tokens)

        return sample

    monkeypatch.setattr(fake, "fake_sampler", listening)
    return calls


def generated(prompts, model, folder, params=BASE):
    """Candidates and counts; the ledger asserts that nothing is lost."""
    ledger = Ledger("generate@t1", "candidates")
    rows = candidates(prompts, model, params, ledger)
    check(CANDIDATES, rows)
    n = sum(wanted.count for wanted in params.samples)
    return rows, ledger.close(prompts.height * n, rows.height, folder)


def test_every_prompt_is_answered_at_each_temperature(tiny_model, own_state, tmp_path):
    rows, counts = generated(PROMPTS, tiny_model, tmp_path)
    assert sorted(rows.group_by("prompt_id", "temperature").len().rows()) == sorted(
        (identity, heat, 1) for identity in PROMPTS["prompt_id"] for heat in (0.7, 1.0)
    )
    assert counts["dropped"] == {}


def test_a_prompt_over_the_window_is_dropped_once_per_sample(tiny_model, own_state, tmp_path):
    prompts = slice_of("short?", LONG, LONG + "more")
    rows, counts = generated(prompts, tiny_model, tmp_path)
    assert rows["prompt_id"].unique().to_list() == [prompts["prompt_id"][0]]
    assert counts["dropped"] == {"prompt longer than the window": 4}


def test_where_no_prompt_fits_the_table_is_empty_and_the_ledger_full(tiny_model, own_state, tmp_path):
    rows, counts = generated(slice_of(LONG), tiny_model, tmp_path)
    assert rows.is_empty()
    assert (counts["in"], counts["kept"]) == (2, 0)


def test_an_empty_answer_is_dropped_by_name_beside_over_long_prompts(
    tiny_model, own_state, tmp_path, monkeypatch
):
    def silent(model):
        def sample(requests, *, max_new_tokens):
            for i, request in enumerate(requests):
                yield i, Completion(" \n" if request.temperature == 0.7 else "words", 2, "stop")

        return sample

    monkeypatch.setattr(fake, "fake_sampler", silent)
    rows, counts = generated(slice_of("one?", "two?", LONG), tiny_model, tmp_path)
    assert rows["temperature"].to_list() == [1.0, 1.0]
    assert counts["dropped"] == {"empty answer": 2, "prompt longer than the window": 2}


def test_more_samples_compute_exactly_the_added_ones(tiny_model, own_state, tmp_path, asked):
    few, _ = generated(PROMPTS, tiny_model, tmp_path)
    more, _ = generated(
        PROMPTS, tiny_model, tmp_path, BASE.model_copy(update={"samples": samples((1.0, 2), (0.7, 1))})
    )
    assert [len(call) for call in asked] == [2 * PROMPTS.height, PROMPTS.height]
    assert set(few["candidate_id"]) < set(more["candidate_id"])
    assert more.height == 3 * PROMPTS.height


def test_a_prompt_of_two_slices_is_sampled_once(tiny_model, own_state, tmp_path, asked):
    first, _ = generated(PROMPTS.head(2), tiny_model, tmp_path)
    second, _ = generated(PROMPTS.tail(2), tiny_model, tmp_path)
    assert [len(call) for call in asked] == [4, 2]
    shared = PROMPTS["prompt_id"][1]
    assert sorted(first.filter(prompt_id=shared)["response"]) == sorted(
        second.filter(prompt_id=shared)["response"]
    )


@pytest.mark.parametrize("change", [{"seed": 6}, {"max_new_tokens": 41}, {"dtype": "bfloat16"}])
def test_what_decides_an_answer_is_part_of_its_key(tiny_model, own_state, tmp_path, asked, change):
    generated(PROMPTS, tiny_model, tmp_path)
    generated(PROMPTS, tiny_model, tmp_path, BASE.model_copy(update=change))
    assert [len(call) for call in asked] == [6, 6]


def test_another_policy_gives_other_answers(tiny_model, own_state, tmp_path, asked):
    tiny_random(tmp_path / "other", "smollm2", seed=1)
    first, _ = generated(PROMPTS, tiny_model, tmp_path)
    second, _ = generated(PROMPTS, tmp_path / "other", tmp_path)
    assert [len(call) for call in asked] == [6, 6]
    assert set(first["response"]) != set(second["response"])


def test_the_order_of_the_prompts_changes_nothing(tiny_model, own_state, tmp_path):
    forward, _ = generated(PROMPTS, tiny_model, tmp_path)
    backward, _ = generated(PROMPTS.reverse(), tiny_model, tmp_path)
    assert forward.sort("candidate_id").equals(backward.sort("candidate_id"))


def test_the_real_engine_gives_a_row_per_request(tiny_model, own_state, tmp_path):
    params = BASE.model_copy(update={"engine": "transformers", "max_new_tokens": 6})
    rows, counts = generated(PROMPTS, tiny_model, tmp_path, params)
    assert rows.height + sum(counts["dropped"].values()) == 6
    assert set(rows["finish_reason"]) <= {"stop", "length"}
