"""Models kept on the way: they are what the run was then, and keeping them changes nothing of its end."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.engines.keeping import due
from pipeline.engines.tiny_models import tiny_random
from pipeline.training import Kept
from tests.engines.test_checkpoints import train_until
from tests.engines.tiny_runs import LORA, params, run_in, train


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_random(folder, "smollm2")
    return folder


def keeping(folder: Path, *parts: float, **changes):
    return run_in(folder, kept=Kept(folder / "kept", parts), **changes)


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_kept_model_is_what_a_run_that_ends_there_gives(tiny, tmp_path):
    steady = {"schedule": "constant", "warmup_ratio": 0.0}
    run = keeping(tmp_path / "long", 0.5)
    train("dpo", tiny, run, params(epochs=2.0, **steady))
    short = run_in(tmp_path / "short")
    train("dpo", tiny, short, params(epochs=1.0, **steady))
    assert files(run.kept.folder / "0.5") == files(short.out)


def test_a_kept_model_of_adapters_is_whole_and_costs_the_run_nothing(tiny, tmp_path):
    steady = {"schedule": "constant", "warmup_ratio": 0.0, "lora": LORA}
    run = keeping(tmp_path / "long", 0.5)
    train("dpo", tiny, run, params(epochs=2.0, **steady))
    plain, short = run_in(tmp_path / "plain"), run_in(tmp_path / "short")
    train("dpo", tiny, plain, params(epochs=2.0, **steady))
    train("dpo", tiny, short, params(epochs=1.0, **steady))
    assert files(run.out) == files(plain.out)
    assert files(run.kept.folder / "0.5") == files(short.out)
    assert {p.name for p in (run.kept.folder / "0.5").iterdir()} == {p.name for p in run.out.iterdir()}


def test_keeping_leaves_the_end_as_it_is(tiny, tmp_path):
    run = keeping(tmp_path / "kept", 0.3, 0.9)
    assert train("dpo", tiny, run) == train("dpo", tiny, run_in(tmp_path / "plain"))
    assert not run.checkpoints.exists()
    ends = [tiny, run.out, run.kept.folder / "0.3", run.kept.folder / "0.9"]
    assert len({(folder / "model.safetensors").read_bytes() for folder in ends}) == 4


def test_a_kept_model_loads_plainly_and_chats_like_the_last_one(tiny, tmp_path):
    run = keeping(tmp_path, 0.5)
    train("dpo", tiny, run)
    folder = run.kept.folder / "0.5"
    assert {p.name for p in folder.iterdir()} == {p.name for p in run.out.iterdir()}
    assert AutoModelForCausalLM.from_pretrained(folder).dtype == torch.float32
    assert AutoTokenizer.from_pretrained(folder).chat_template == (tiny / "chat_template.jinja").read_text()
    assert (folder / "config.json").read_bytes() == (run.out / "config.json").read_bytes()


@pytest.mark.parametrize("step", [2, 3, 5])
def test_a_run_cut_before_or_after_the_step_keeps_the_same_bytes(step, tiny, tmp_path, monkeypatch, caplog):
    whole = keeping(tmp_path / "whole", 0.5)
    train("dpo", tiny, whole)
    run = keeping(tmp_path / "cut", 0.5, save_every_seconds=0)
    train_until(step, monkeypatch, "dpo", tiny, run, params())
    if step >= 3:
        early = load_file(run.checkpoints / "kept" / "0.5" / "model.safetensors")
    if step == 3:
        state = load_file(run.checkpoints / "checkpoint-3" / "model.safetensors")
        assert all(early[name].equal(state[name]) for name in state)
    caplog.set_level("INFO")
    train("dpo", tiny, run)
    assert f"going on after step {step}" in caplog.text
    assert files(run.kept.folder) == files(whole.kept.folder)
    assert files(run.out) == files(whole.out)


@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_where_a_kept_model_is_damaged_the_run_starts_anew(damage, tiny, tmp_path, monkeypatch, caplog):
    whole = keeping(tmp_path / "whole", 0.5)
    train("dpo", tiny, whole)
    run = keeping(tmp_path / "cut", 0.5, save_every_seconds=0)
    train_until(4, monkeypatch, "dpo", tiny, run, params())
    weights = run.checkpoints / "kept" / "0.5" / "model.safetensors"
    if damage == "flipped":
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    else:
        weights.unlink()
    train("dpo", tiny, run)
    assert "the model kept after 0.5 of the run is damaged; starting anew" in caplog.text
    assert files(run.kept.folder) == files(whole.kept.folder)


def test_without_parts_the_folder_tells_that_there_are_none(tiny, tmp_path):
    run = keeping(tmp_path)
    (run.kept.folder / "0.7").mkdir(parents=True)
    train("dpo", tiny, run)
    assert files(run.kept.folder) == {"index.json": b"{}\n"}
    assert not (run.kept.folder / "0.7").exists()


def test_the_index_tells_the_step_of_each(tiny, tmp_path):
    run = keeping(tmp_path, 0.5, 0.8)  # twenty rows, eight a step, twice: six steps
    train("dpo", tiny, run)
    index = json.loads((run.kept.folder / "index.json").read_text())
    assert index == {"0.5": {"step": 3, "steps": 6}, "0.8": {"step": 5, "steps": 6}}


@pytest.mark.parametrize(
    ("part", "steps", "step"), [(0.5, 6, 3), (0.29, 100, 29), (0.01, 6, 1), (0.99, 6, 6), (0.5, 1, 1)]
)
def test_a_model_is_kept_after_the_nearest_step_but_never_at_the_start(part, steps, step, tmp_path):
    assert list(due(keeping(tmp_path, part), steps)) == [
        (step, tmp_path / "checkpoints" / "kept" / str(part))
    ]
