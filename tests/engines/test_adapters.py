"""LoRA: what is trained, what is saved, and that who loads the result needs to know nothing of it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from pipeline.engines.adapters import merged
from pipeline.engines.tiny_models import tiny_random
from pipeline.engines.weights import load_language_model, load_reward_model
from pipeline.errors import UserError
from tests.engines.tiny_runs import KINDS, LORA, curve, params, rows, run_in, train

LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_random(folder, "smollm2")
    return folder


def changed(base: Path, out: Path) -> dict[str, torch.Tensor]:
    """What training added to each weight of the base that it changed."""
    before, after = load_file(base / "model.safetensors"), load_file(out / "model.safetensors")
    return {name: after[name] - t for name, t in before.items() if not t.equal(after[name])}


@pytest.mark.parametrize("kind", KINDS)
def test_each_linear_layer_gets_a_matrix_of_the_rank_and_nothing_else_changes(kind, tiny, tmp_path):
    run = run_in(tmp_path)
    train(kind, tiny, run, params(lora=LORA))
    found = changed(tiny, run.out)
    assert {name.split(".")[-2] for name in found} == set(LAYERS)
    assert len(found) == 2 * len(LAYERS)
    for name, difference in found.items():
        sizes = torch.linalg.svdvals(difference.double())
        assert sizes[LORA.rank - 1] > 1e-4, name
        assert sizes[LORA.rank] < 1e-6, name


@pytest.mark.parametrize("kind", KINDS)
def test_at_a_vanishing_rate_the_saved_model_is_the_base(kind, tiny, tmp_path):
    run = run_in(tmp_path)
    train(kind, tiny, run, params(lora=LORA, learning_rate=1e-30))
    assert changed(tiny, run.out) == {}


def test_the_score_head_is_trained_whole(tiny, tmp_path):
    run = run_in(tmp_path)
    train("reward", tiny, run, params(lora=LORA))
    start = load_reward_model(tiny, 1).score.weight
    assert (load_file(run.out / "model.safetensors")["score.weight"] != start).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_folder_is_that_of_a_model_trained_without_adapters(kind, tiny, tmp_path):
    whole, run = run_in(tmp_path / "whole"), run_in(tmp_path / "lora")
    without, files = train(kind, tiny, whole), train(kind, tiny, run, params(lora=LORA))
    assert set(files) == set(without)
    assert files["model/config.json"] == without["model/config.json"]
    names, plain = (load_file(place.out / "model.safetensors").keys() for place in (run, whole))
    assert names == plain
    head: Any = AutoModelForSequenceClassification if kind == "reward" else AutoModelForCausalLM
    _, told = head.from_pretrained(run.out, output_loading_info=True)
    assert not any(told.values())
    assert AutoTokenizer.from_pretrained(run.out).chat_template == (tiny / "chat_template.jinja").read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_call_gives_the_same_bytes_and_the_seed_decides(kind, tiny, tmp_path):
    first, again, other = (
        train(kind, tiny, run_in(tmp_path / name), params(lora=LORA, seed=seed))
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first == again
    assert other["model/model.safetensors"] != first["model/model.safetensors"]


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_learn_what_the_rows_say(kind, tiny, tmp_path):
    run = run_in(tmp_path)
    train(kind, tiny, run, params(epochs=20.0, learning_rate=2e-2, lora=LORA), rows(kind, bias=77))
    if kind == "sft":  # the output layer is not trained, and a random one says little
        assert curve(run, "loss")[-1] < curve(run, "loss")[0] - 0.1
    else:
        assert curve(run, "accuracy")[-1] == 1.0
        assert curve(run, "margin")[-1] > 0


@pytest.mark.parametrize("kind", KINDS)
def test_each_setting_of_the_adapters_counts(kind, tiny, tmp_path):
    changes = {"alpha": 7, "dropout": 0.0, "rank": 4, "targets": ("q_proj", "v_proj")}
    settings = [LORA, *(LORA.model_copy(update={key: value}) for key, value in changes.items())]
    weights = {
        train(kind, tiny, run_in(tmp_path / str(number)), params(lora=lora))["model/model.safetensors"]
        for number, lora in enumerate(settings)
    }
    assert len(weights) == len(settings)
    assert {name.split(".")[-2] for name in changed(tiny, tmp_path / "4" / "model")} == {"q_proj", "v_proj"}


@pytest.mark.parametrize("template", ["smollm2", "llama3"])
def test_the_sum_is_that_of_peft(template, tmp_path):
    """For tied and untied output layers."""
    tiny_random(tmp_path / "base", template)
    config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=6, target_modules="all-linear")
    model = get_peft_model(load_language_model(tmp_path / "base"), config)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    ours = merged(model.state_dict(), config)
    theirs = model.merge_and_unload().state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in theirs)


@pytest.mark.parametrize("targets", [("q_proj", "c_attn"), ("lm_head",), ("score",), ("embed_tokens",)])
@pytest.mark.parametrize("kind", ["sft", "reward"])
def test_targets_that_are_no_layers_of_the_backbone_are_named(kind, targets, tiny, tmp_path):
    lora = LORA.model_copy(update={"targets": targets})
    with pytest.raises(
        UserError, match=rf"section\.training\.lora\.targets.*'q_proj'.*found \['{targets[-1]}'\]"
    ):
        train(kind, tiny, run_in(tmp_path), params(lora=lora))
