"""Candidates: n per prompt or a named reason, and nothing that was sampled before is sampled again."""

import json
from pathlib import Path

import polars as pl
import pytest
from ruamel.yaml import YAML

from pipeline import tables
from pipeline.chat import Chat
from pipeline.engines import fake
from pipeline.engines.tiny_models import tiny_random
from pipeline.errors import UserError
from pipeline.models import Completion
from pipeline.params import parse
from pipeline.planning import planning
from pipeline.sampling_plan import Samples
from pipeline.schemas import CANDIDATES, LEDGER, SLICE
from pipeline.stages.generate import GenerateParams, generated, made, name_of, write
from pipeline.tables import check
from tests.stages.answers import slice_of

PROMPTS = slice_of("What is an owl?", "What is a bee?", "Why is the sky blue?")
LONG = "and then " * 400
BASE = GenerateParams(
    engine="fake",
    dtype="float32",
    samples=(
        Samples(policy="current", temperature=1.0, count=1),
        Samples(policy="current", temperature=0.7, count=1),
    ),
    max_prompt_tokens=200,
    max_new_tokens=40,
    unfinished="keep",
    seed=5,
)


def by(policy: str, *counts: tuple[float, int]) -> tuple[Samples, ...]:
    return tuple(Samples(policy=policy, temperature=heat, count=count) for heat, count in counts)


BOTH = BASE.model_copy(update={"samples": by("current", (1.0, 2)) + by("variant", (1.0, 1), (0.7, 1))})


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


@pytest.fixture(scope="session")
def other_model(tmp_path_factory) -> Path:
    """A model of other weights than `tiny_model`."""
    folder = tmp_path_factory.mktemp("other-model") / "models" / "policies" / "t0"
    tiny_random(folder, "smollm2", seed=1)
    return folder


def sampled(prompts, model, folder, params=BASE, variant=None):
    """Candidates and counts; the ledger asserts that nothing is lost."""
    done = generated("t1", prompts, {"current": model, "variant": variant or model}, params)
    check(CANDIDATES, done.candidates)
    assert done.asked == prompts.height * sum(wanted.count for wanted in params.samples)
    return done.candidates, done.ledger.close(done.asked, done.candidates.height, folder)


def test_every_prompt_is_answered_at_each_temperature(tiny_model, own_state, tmp_path):
    rows, counts = sampled(PROMPTS, tiny_model, tmp_path)
    assert sorted(rows.group_by("prompt_id", "temperature").len().rows()) == sorted(
        (identity, heat, 1) for identity in PROMPTS["prompt_id"] for heat in (0.7, 1.0)
    )
    assert counts["dropped"] == {}


def test_a_prompt_over_the_window_is_dropped_once_per_sample(tiny_model, own_state, tmp_path):
    prompts = slice_of("short?", LONG, LONG + "more")
    rows, counts = sampled(prompts, tiny_model, tmp_path)
    assert rows["prompt_id"].unique().to_list() == [prompts["prompt_id"][0]]
    assert counts["dropped"] == {"prompt longer than the window": 4}


def test_where_no_prompt_fits_the_table_is_empty_and_the_ledger_full(tiny_model, own_state, tmp_path):
    rows, counts = sampled(slice_of(LONG), tiny_model, tmp_path)
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
    rows, counts = sampled(slice_of("one?", "two?", LONG), tiny_model, tmp_path)
    assert rows["temperature"].to_list() == [1.0, 1.0]
    assert counts["dropped"] == {"empty answer": 2, "prompt longer than the window": 2}


def test_more_samples_compute_exactly_the_added_ones(tiny_model, own_state, tmp_path, asked):
    few, _ = sampled(PROMPTS, tiny_model, tmp_path)
    more, _ = sampled(
        PROMPTS, tiny_model, tmp_path, BASE.model_copy(update={"samples": by("current", (1.0, 2), (0.7, 1))})
    )
    assert [len(call) for call in asked] == [2 * PROMPTS.height, PROMPTS.height]
    assert set(few["candidate_id"]) < set(more["candidate_id"])
    assert more.height == 3 * PROMPTS.height


def test_a_prompt_of_two_slices_is_sampled_once(tiny_model, own_state, tmp_path, asked):
    first, _ = sampled(PROMPTS.head(2), tiny_model, tmp_path)
    second, _ = sampled(PROMPTS.tail(2), tiny_model, tmp_path)
    assert [len(call) for call in asked] == [4, 2]
    shared = PROMPTS["prompt_id"][1]
    assert sorted(first.filter(prompt_id=shared)["response"]) == sorted(
        second.filter(prompt_id=shared)["response"]
    )


@pytest.mark.parametrize("change", [{"seed": 6}, {"max_new_tokens": 41}, {"dtype": "bfloat16"}])
def test_what_decides_an_answer_is_part_of_its_key(tiny_model, own_state, tmp_path, asked, change):
    sampled(PROMPTS, tiny_model, tmp_path)
    sampled(PROMPTS, tiny_model, tmp_path, BASE.model_copy(update=change))
    assert [len(call) for call in asked] == [6, 6]


def test_another_policy_gives_other_answers(tiny_model, other_model, own_state, tmp_path, asked):
    first, _ = sampled(PROMPTS, tiny_model, tmp_path)
    second, _ = sampled(PROMPTS, other_model, tmp_path)
    assert [len(call) for call in asked] == [6, 6]
    assert set(first["response"]) != set(second["response"])


def test_two_policies_answer_side_by_side(tiny_model, other_model, own_state, tmp_path, asked):
    rows, counts = sampled(PROMPTS, tiny_model, tmp_path, BOTH, other_model)
    assert sorted(rows.group_by("policy", "temperature").len().rows()) == [
        ("model", 1.0, 6),
        ("policies/t0", 0.7, 3),
        ("policies/t0", 1.0, 3),
    ]
    assert [len(call) for call in asked] == [6, 6]
    assert sorted(rows.filter(prompt_id=PROMPTS["prompt_id"][0])["sample"]) == [0, 1, 2, 3]
    assert counts["dropped"] == {}
    alone, _ = sampled(PROMPTS, tiny_model, tmp_path, BASE.model_copy(update={"samples": BOTH.samples[:1]}))
    assert rows.filter(policy="model").sort("candidate_id").equals(alone.sort("candidate_id"))


def test_equal_texts_of_equal_seeds_by_two_policies_are_two_candidates(
    tiny_model, other_model, own_state, tmp_path, monkeypatch
):
    def parrot(model):
        return lambda asks, *, max_new_tokens: ((i, Completion("same", 2, "stop")) for i in range(len(asks)))

    monkeypatch.setattr(fake, "fake_sampler", parrot)
    first, _ = sampled(PROMPTS, tiny_model, tmp_path)
    second, _ = sampled(PROMPTS, other_model, tmp_path)
    assert first.drop("candidate_id", "policy").equals(second.drop("candidate_id", "policy"))
    assert not set(first["candidate_id"]) & set(second["candidate_id"])


def test_each_model_renders_with_its_own_tokenizer_and_drops_by_its_own_lengths(
    tiny_model, own_state, tmp_path
):
    # The other template has fewer tokens for the same words, so one prompt fits the variant alone.
    tiny_random(tmp_path / "llama", "llama3")
    prompts = slice_of("short?", "and then " * 20)
    lengths = {m: max(token_counts(prompts, m)) for m in (tiny_model, tmp_path / "llama")}
    narrow, wide = sorted(lengths, key=lambda model: -lengths[model])
    assert lengths[narrow] > lengths[wide]
    params = BOTH.model_copy(update={"max_prompt_tokens": lengths[wide]})
    rows, counts = sampled(prompts, narrow, tmp_path, params, wide)
    assert counts["dropped"] == {"prompt longer than the window": 2}
    long = rows.filter(prompt_id=prompts["prompt_id"][1])
    assert long["policy"].to_list() == [name_of(wide)] * 2


def token_counts(prompts: pl.DataFrame, model: Path) -> list[int]:
    chat = Chat.load(model)
    return [len(chat.prompt_ids(prompt)) for prompt in prompts["prompt"].to_list()]


def test_a_model_without_room_for_the_longest_prompt_and_answer_is_told_before_anything_is_sampled(
    tiny_model, own_state, tmp_path, asked
):
    params = BASE.model_copy(update={"max_new_tokens": 1024 - 200})
    sampled(PROMPTS, tiny_model, tmp_path, params)
    with pytest.raises(UserError, match=r"of at most 1024, the positions of .*model, found 1025") as error:
        sampled(PROMPTS, tiny_model, tmp_path, BASE.model_copy(update={"max_new_tokens": 1024 - 199}))
    assert "\n" not in str(error.value)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"samples": [{"policy": "current", "temperature": 1.0, "count": 1}] * 2},
            "each policy and temperature",
        ),
        ({"samples": [{"policy": "both", "temperature": 1.0, "count": 1}]}, "generate.samples.0.policy"),
        ({"engine": "openai"}, "one policy with the engine openai"),
        ({"unfinished": "cut"}, "generate.unfinished"),
    ],
)
def test_a_wrong_recipe_is_told_by_its_key(change, said):
    with pytest.raises(UserError, match=said):
        parse("generate", GenerateParams, BOTH.model_dump(mode="json") | change)


def ending(model):
    """A sampler whose answers at temperature 0.7 are cut at the limit; every second other one is blank."""

    def sample(requests, *, max_new_tokens):
        for i, request in enumerate(requests):
            cut = request.temperature == 0.7
            text = "same words" if cut or i % 4 == 0 else " \n"
            yield i, Completion(text, max_new_tokens if cut else 3, "length" if cut else "stop")

    return sample


def test_unfinished_answers_are_kept_or_dropped_by_name(tiny_model, own_state, tmp_path, monkeypatch):
    monkeypatch.setattr(fake, "fake_sampler", ending)
    kept, counts = sampled(slice_of("one?", "two?"), tiny_model, tmp_path)
    assert counts["dropped"] == {"empty answer": 1}
    params = BASE.model_copy(update={"unfinished": "drop"})
    rest, counts = sampled(slice_of("one?", "two?"), tiny_model, tmp_path, params)
    assert counts["dropped"] == {"answer cut at the limit": 2, "empty answer": 1}
    assert rest.equals(kept.filter(finish_reason="stop"))
    ledger = tables.read(LEDGER, tmp_path / "ledger.parquet").filter(reason="answer cut at the limit")
    assert ledger.select("value", "threshold").unique().rows() == [(40.0, 40.0)]
    assert set(ledger["id"]) == set(kept.filter(finish_reason="length")["candidate_id"])


def test_the_account_tells_what_was_asked_and_what_the_answers_are_like(
    tiny_model, other_model, own_state, tmp_path, monkeypatch
):
    monkeypatch.setattr(fake, "fake_sampler", ending)
    params = BOTH.model_copy(update={"unfinished": "drop"})
    prompts = slice_of("one?", "two?", LONG)
    done = generated("t1", prompts, {"current": tiny_model, "variant": other_model}, params)
    account = done.account
    dropped = {"answer cut at the limit": 2, "empty answer": 4, "prompt longer than the window": 4}
    assert (account["prompts"], account["asked"], account["kept"]) == (3, 12, done.candidates.height)
    assert account["dropped"] == dropped
    assert account["asked"] == account["kept"] + sum(dropped.values())
    first, second, third = account["samples"]
    assert first == {
        "policy": "model",
        "temperature": 1.0,
        "asked": 6,
        "answers": 4,
        "finished": 1.0,
        "unfinished": 0.0,
        "empty": 0.75,
        "mean_tokens": 3.0,
        "distinct_per_prompt": 1.5,
    }
    assert (second["policy"], second["temperature"], second["empty"]) == ("policies/t0", 1.0, 0.5)
    assert (third["temperature"], third["unfinished"], third["mean_tokens"]) == (0.7, 1.0, 40.0)
    assert account["all"]["answers"] == 8


def test_where_nothing_is_answered_there_are_no_shares(tiny_model, own_state):
    done = generated("t1", slice_of(LONG), {"current": tiny_model, "variant": tiny_model}, BASE)
    assert done.account["kept"] == 0
    for row in (*done.account["samples"], done.account["all"]):
        assert row["answers"] == 0
        assert row["mean_tokens"] is row["distinct_per_prompt"] is row["finished"] is None
    json.dumps(done.account, allow_nan=False)


def test_a_plan_computes_and_writes_nothing_and_knows_of_both_policies(
    tiny_model, other_model, own_state, tmp_path, asked
):
    with (tmp_path / "params.yaml").open("w") as file:
        YAML().dump({"generate": BOTH.model_dump(mode="json")}, file)
    tables.write(SLICE, PROMPTS, tmp_path / "prompts.parquet")
    words = ("t1", tmp_path / "prompts.parquet", tiny_model, other_model)
    with planning() as plan:
        made(*words)
    assert [len(fill.missing) for fill in plan.fills] == [6, 6]
    assert asked == []
    write(made(*words), tmp_path / "out")
    with planning() as plan:
        made(*words)
    assert [len(fill.missing) for fill in plan.fills] == [0, 0]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("candidates.parquet", "ledger.parquet", "counts.json", "generation.json")
    }


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("models/policies/t1", "policies/t1"),
        ("/x/models/checkpoints/t1/0.5", "checkpoints/t1/0.5"),
        ("models/base", "base"),
        ("elsewhere/one", "one"),
        ("x/models", "models"),
    ],
)
def test_a_policy_is_named_by_its_folder_below_models(folder, name):
    assert name_of(Path(folder)) == name


def test_the_order_of_the_prompts_changes_nothing(tiny_model, own_state, tmp_path):
    forward, _ = sampled(PROMPTS, tiny_model, tmp_path)
    backward, _ = sampled(PROMPTS.reverse(), tiny_model, tmp_path)
    assert forward.sort("candidate_id").equals(backward.sort("candidate_id"))


def test_the_real_engine_gives_a_row_per_request(tiny_model, own_state, tmp_path):
    params = BASE.model_copy(update={"engine": "transformers", "max_new_tokens": 6})
    rows, counts = sampled(PROMPTS, tiny_model, tmp_path, params)
    assert rows.height + sum(counts["dropped"].values()) == 6
    assert set(rows["finish_reason"]) <= {"stop", "length"}
