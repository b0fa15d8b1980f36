"""A run of a policy, from pairs to a model, for every objective: what carries a loss, and what is written."""

import json

import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from pipeline.chat import Chat
from pipeline.engines.policy import PolicyParams, Start, demonstrations, optimise
from pipeline.engines.tiny_models import tiny_random
from pipeline.packing import TOKENS
from pipeline.params import parse
from tests.smoke_project import ROOT
from tests.stages.preference_rows import preference, preferences

TEMPLATES = {"smollm2": "<|im_end|>", "llama3": "<|eot_id|>"}
DPO = {
    "kind": "dpo",
    "beta": 0.1,
    "loss": [{"name": "nca_pair", "weight": 1.0}],
    "label_smoothing": 0.0,
    "divergence": "reverse_kl",
}
OBJECTIVES = {
    "dpo": DPO,
    "simpo": {"kind": "simpo", "beta": 2.0, "margin": 1.0},
    "orpo": {"kind": "orpo", "weight": 0.1},
    "raft": {"kind": "raft"},
}
PAIRS = preferences(*(preference(i, f"Question {i}?", f"good {i}", f"bad answer {i}") for i in range(12)))


def params(objective: dict, **changes) -> PolicyParams:
    body = YAML(typ="safe").load((ROOT / "recipes" / "smoke.yaml").read_text())["train"]
    kept = {name: body[name] for name in PolicyParams.model_fields}
    return parse("train", PolicyParams, kept | {"objective": objective} | changes)


@pytest.fixture(scope="module", params=TEMPLATES)
def model(request, tmp_path_factory):
    """A model of each template, and the name of the token that ends its turns."""
    folder = tmp_path_factory.mktemp("models") / request.param
    tiny_random(folder, request.param)
    return folder, TEMPLATES[request.param]


def trained_labels(rows: pl.DataFrame) -> list[list[int]]:
    """The tokens that carry a loss in each sequence, as TRL's collators hand them to the model."""
    if "chosen_ids" in rows.columns:
        batch = DataCollatorForPreference(pad_token_id=0)(rows.to_dicts())
        ids, counts = batch["input_ids"], batch["completion_mask"].bool()
    else:
        batch = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)(rows.to_dicts())
        ids, counts = batch["labels"], batch["labels"] != -100
        ends = torch.tensor(rows["seq_lengths"].list.sum().to_list()).cumsum(0).tolist()
        starts = [0, *ends[:-1]]
        cuts = [slice(first, end) for first, end in zip(starts, ends, strict=True)]
        return [ids[0, cut][counts[0, cut]].tolist() for cut in cuts]
    return [row[own].tolist() for row, own in zip(ids, counts, strict=True)]


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_the_end_of_turn_is_trained_and_is_what_generation_stops_on(kind, model, own_state):
    folder, end = model
    chat = Chat.load(folder)
    (token,) = [chat.tokenizer.convert_tokens_to_ids(end)]
    rows, _ = Start("train@t1", PAIRS, folder, folder, params(OBJECTIVES[kind])).rows()
    labels = trained_labels(demonstrations(rows) if kind == "raft" else rows)
    assert len(labels) == (12 if kind == "raft" else 24)
    assert {ids[-1] for ids in labels} == {token}, "the last label is the end of turn, and it is not masked"
    assert all(ids.count(token) == 1 for ids in labels)
    assert {chat.decode(ids[:-1]) for ids in labels} <= {*answers("chosen"), *answers("rejected")}
    assert chat.stop_ids[0] == token == chat.end_of_turn


def answers(side: str) -> list[str]:
    return [answer[0]["content"] for answer in PAIRS[side]]


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_every_objective_writes_a_policy_its_curves_and_its_account(kind, tiny_model, own_state, tmp_path):
    start = Start("train@t1", PAIRS, tiny_model, tiny_model, params(OBJECTIVES[kind]))
    optimise(start, tmp_path / "model", tmp_path / "curves", tmp_path / "training")
    assert (tmp_path / "model" / "model.safetensors").exists()
    counts = json.loads((tmp_path / "training" / "counts.json").read_text())
    assert (counts["in"], counts["kept"]) == (12, 12)
    series = {path.stem for path in (tmp_path / "curves").iterdir()}
    assert {"loss", "grad_norm", "learning_rate"} <= series
    sides = {f"{side}_{what}" for side in ("chosen", "rejected") for what in ("reward", "logp")}
    assert sides <= series or kind == "raft"
    assert not list((own_state / "checkpoints").glob("*"))


lists = st.lists(st.integers(0, 500), min_size=1, max_size=6)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(lists, lists), min_size=1, max_size=5))
def test_a_demonstration_is_the_prompt_and_the_answer_with_a_loss_on_the_answer(rows):
    frame = pl.DataFrame(rows, schema={"prompt_ids": TOKENS, "chosen_ids": TOKENS}, orient="row")
    found = demonstrations(frame).rows()
    assert found == [(p + a, [-100] * len(p) + a, [len(p) + len(a)]) for p, a in rows]
