"""The doctor of judges: sound models pass, and each way of being wrong has a line that says what to do."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from pipeline.chat import TOKENIZER_FILES
from pipeline.cli import main
from pipeline.commands import judges
from pipeline.doctor import Finding
from pipeline.engines import judge_checks
from pipeline.engines.tiny_models import tiny_random

NO_END = 0  # <|endoftext|> of the tiny ChatML model, which ends no answer


@pytest.fixture(scope="module")
def causal(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("causal")
    tiny_random(folder)
    return folder


def reward_model(base: Path, folder: Path, *, pad: int | None, labels: int = 1, head: float = 50.0) -> Path:
    """A reward model on `base` with a random head."""
    torch.manual_seed(0)
    network = AutoModelForSequenceClassification.from_pretrained(base, num_labels=labels, dtype=torch.float32)
    with torch.no_grad():
        network.score.weight.mul_(head)
    network.config.pad_token_id = pad
    network.save_pretrained(folder)
    for name in TOKENIZER_FILES:
        shutil.copy(base / name, folder)
    return folder


def examined(folder: Path) -> Finding:
    (finding,) = judges.findings([folder])
    return finding


def run(*words: str) -> object:
    """The exit status of `pairmill doctor judges`."""
    with pytest.raises(SystemExit) as leaving:
        main(["doctor", "judges", *words])
    return leaving.value.code


@pytest.mark.parametrize("pad", [NO_END, None])
def test_a_sound_reward_model_passes_and_says_how_little_its_scores_move(causal, tmp_path, pad):
    found = examined(reward_model(causal, tmp_path, pad=pad))
    assert found.good
    assert found.message.startswith(
        "reward model: scores of 12 conversations alone, in a batch, reversed and"
    )
    assert "(limit 0.0001)" in found.message and "in bfloat16" in found.message


def test_a_language_model_is_examined_by_its_probabilities_of_a_and_b(causal):
    found = examined(causal)
    assert found.good and found.message.startswith("preference model: ")


def test_a_pad_token_that_ends_answers_fails_loudly(causal, tmp_path, capsys):
    sound, broken = (
        reward_model(causal, tmp_path / name, pad=pad) for name, pad in (("sound", 0), ("broken", 2))
    )
    assert run(str(sound), str(broken)) == 1
    good, bad = capsys.readouterr().out.splitlines()
    assert good.startswith(f"ok  {sound}: ")
    assert bad.startswith(
        f"BAD {broken}: reward model in float32: a score as transformers' own head reads it"
    )
    assert "the pad token <|im_end|> also ends answers" in bad and "set pad_token_id in config.json" in bad


def test_attention_to_padding_is_found(causal, monkeypatch):
    def blind(judge, side, pad):
        batch = padded(judge, side, pad)
        return batch | {"attention_mask": torch.ones_like(batch["attention_mask"])}

    padded = judge_checks.padded
    monkeypatch.setattr(judge_checks, "padded", blind)
    found = examined(causal)
    assert not found.good
    assert (
        "a score padded left differs by" in found.message and "cannot be scored in batches" in found.message
    )


def test_a_score_that_depends_on_the_order_is_found(causal, monkeypatch):
    class Drifting(judge_checks.Judge):
        def scores(self, sequences, batch_tokens):
            return [value + i / 100 for i, value in enumerate(super().scores(sequences, batch_tokens))]

    monkeypatch.setattr(judge_checks, "Judge", Drifting)
    found = examined(causal)
    assert not found.good and "a score in reversed order differs by 0.11 " in found.message


def test_one_score_for_every_text_is_no_judgment(causal, tmp_path):
    found = examined(reward_model(causal, tmp_path, pad=NO_END, head=0.0))
    assert not found.good and "expected scores that depend on the text, found 0 for all 12" in found.message


def test_weights_that_are_no_numbers_are_named(causal, tmp_path):
    found = examined(reward_model(causal, tmp_path, pad=NO_END, head=float("nan")))
    assert not found.good and "expected finite rewards, found nan" in found.message


def test_another_number_of_labels_and_another_head_are_named(causal, tmp_path):
    found = examined(reward_model(causal, tmp_path, pad=NO_END, labels=2))
    assert (
        not found.good and "expected a reward model with one output (num_labels 1), found 2" in found.message
    )
    config = tmp_path / "config.json"
    words = json.loads(config.read_text()) | {"architectures": ["LlamaForTokenClassification"]}
    config.write_text(json.dumps(words))
    found = examined(tmp_path)
    assert not found.good and "found LlamaForTokenClassification; give the folder of a judge" in found.message


def test_a_folder_without_a_model_is_named(tmp_path, capsys):
    assert run(str(tmp_path)) == 1
    assert "expected a model (config.json), found none" in capsys.readouterr().out


def test_the_default_is_the_models_of_the_recipe_that_exist(causal, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copy(Path(__file__).parents[2] / "params.yaml", tmp_path)
    assert run() == 2
    assert "found none of models/reward, models/pairwise, models/base" in capsys.readouterr().err
    shutil.copytree(causal, tmp_path / "models" / "base")
    assert run() == 0
    assert capsys.readouterr().out.startswith("ok  models/base: preference model")
