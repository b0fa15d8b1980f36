"""Work: what its cells and keys depend on, that it can be sent to a worker, and that it loads once."""

import pickle
from dataclasses import replace

import polars as pl
import pytest

from pipeline.cells import tokens_digest
from pipeline.engines import fake, inference
from pipeline.engines.engine_work import finite
from pipeline.engines.tiny_models import tiny_random
from pipeline.engines.work import LogProbsWork, PreferWork, SampleWork, ScoreWork
from pipeline.errors import UserError
from pipeline.filling import compute_into, fill, open_store
from pipeline.models import SampleRequest

REQUESTS = [SampleRequest((1, 2, 3), 1.0, seed) for seed in range(3)]
SEQUENCES = [[1, 2, 3], [4, 5]]
ANSWERS = [((1, 2), (3,)), ((4,), (5, 6))]


def works(model, engine="fake"):
    return {
        "sample": (SampleWork(model, engine, "float32", 9), REQUESTS),
        "score": (ScoreWork(model, engine, "float32"), SEQUENCES),
        "prefer": (PreferWork(model, engine, "float32", (7, 8)), SEQUENCES),
        "log_probs": (LogProbsWork(model, engine, "float32"), ANSWERS),
    }


@pytest.fixture(params=["sample", "score", "prefer", "log_probs"])
def kind(request) -> str:
    return request.param


def test_a_set_depends_on_model_engine_and_dtype(tiny_model, own_state, tmp_path, kind):
    tiny_random(tmp_path / "other", "smollm2", seed=1)
    one, _ = works(tiny_model)[kind]
    others = [
        replace(one, model=tmp_path / "other"),
        replace(one, engine="vllm"),
        replace(one, dtype="bfloat16"),
    ]
    assert one.cells.kind == kind
    assert len({work.cells.name for work in (one, *others)}) == 4
    assert replace(one).cells == one.cells


@pytest.mark.parametrize(
    ("kind", "change"), [("sample", {"max_new_tokens": 8}), ("prefer", {"labels": (8, 7)})]
)
def test_what_changes_every_answer_is_a_part_of_the_set(tiny_model, own_state, kind, change):
    one, _ = works(tiny_model)[kind]
    assert replace(one, **change).cells.name != one.cells.name


def test_a_sample_is_asked_by_prompt_temperature_and_seed(tiny_model):
    ask = REQUESTS[0]
    others = [
        replace(ask, prompt_ids=(1, 2)),
        replace(ask, temperature=0.7),
        replace(ask, seed=9),
        replace(ask, prompt_ids=(1, 2, 3, 0)),
    ]
    one, _ = works(tiny_model)["sample"]
    assert len(set(one.keys([ask, *others]))) == 5
    assert one.keys([ask, ask, *others])[:2] == one.keys([ask]) * 2
    assert {one.group(request) for request in REQUESTS} == {(1, 2, 3)}


def test_where_a_prompt_ends_is_a_part_of_what_is_asked(tiny_model):
    one, _ = works(tiny_model)["log_probs"]
    assert len(set(one.keys([([1, 2], [3]), ([1], [2, 3]), ([1, 2, 3], [])]))) == 3


def test_ids_of_any_sequence_type_are_the_same_ask(tiny_model):
    one, _ = works(tiny_model)["score"]
    assert one.keys([[1, 2]]) == one.keys([(1, 2)])
    assert tokens_digest([1, 2]) == tokens_digest((1, 2))


def test_tokens_are_those_generated_or_else_those_read(tiny_model, own_state):
    for name, expected in (("score", 5), ("prefer", 5), ("log_probs", 6)):
        one, asks = works(tiny_model)[name]
        assert one.tokens(asks, fill(one, asks, compute_into)) == expected
    one, asks = works(tiny_model)["sample"]
    found = fill(one, asks, compute_into)
    assert one.tokens(asks, found) == found["tokens"].sum() > 0


def test_work_can_be_sent_to_a_worker(tiny_model, own_state, kind):
    one, asks = works(tiny_model)[kind]
    sent = pickle.loads(pickle.dumps(one))
    assert sent == one
    assert dict(sent.start()(asks)) == dict(one.start()(asks))


@pytest.mark.parametrize("engine", ["transformers", "vllm", "openai", "fake"])
def test_only_engines_of_this_machine_need_its_gpus(tiny_model, engine):
    assert works(tiny_model, engine)["sample"][0].on_device == (engine in ("transformers", "vllm"))


@pytest.mark.parametrize("name", ["prefer", "log_probs"])
def test_one_start_loads_the_model_once_for_all_chunks(tiny_model, own_state, monkeypatch, name):
    loads = []
    load = inference.load_causal

    def counting(*arguments):
        loads.append(arguments)
        return load(*arguments)

    monkeypatch.setattr(inference, "load_causal", counting)
    one, asks = works(tiny_model, "transformers")[name]
    compute = one.start()
    apart = [value for ask in asks for _, (value,) in compute([ask])]
    together = dict(compute(asks))
    assert apart == pytest.approx([together[i][0] for i in range(len(asks))], abs=1e-4)
    assert len(loads) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_none_is_told_and_not_stored(tiny_model, own_state, monkeypatch, value):
    def broken(model):
        return lambda sequences: iter([(0, 1.5), (1, value)])

    monkeypatch.setattr(fake, "fake_scorer", broken)
    one, asks = works(tiny_model)["score"]
    with pytest.raises(UserError, match=f"found {value} for row 1"):
        fill(one, asks, compute_into)
    found = open_store().values(one.cells, work_keys(one, asks))
    assert found["value"].to_list() == [1.5]
    assert list(finite(tiny_model, [(3, 2)])) == [(3, (2.0,))]


def work_keys(one, asks):
    return pl.Series("key", one.keys(asks))
