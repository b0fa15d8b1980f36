"""A head trained on states is the head that TRL trains on a frozen backbone; only the time differs."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from pipeline.engines import head
from pipeline.engines.states import pair_states
from pipeline.engines.trainers import train_head, train_reward, trained_head
from pipeline.errors import UserError
from pipeline.training import RewardLoss
from tests.engines.tiny_runs import REWARD, curve, outputs, params, rows, run_in

PAIRS = rows("reward", 21)  # the last step of an epoch has fewer pairs
HEAD = params(train_layers="head", learning_rate=0.05, epochs=3.0, global_batch=8)
WITH_MARGIN = PAIRS.with_columns(margin=pl.Series(np.linspace(0, 2, PAIRS.height)))


def by_states(base, run, pairs=PAIRS, settings=HEAD, loss=REWARD):
    sides = pair_states(base, pairs, dtype=settings.precision)
    train_head(base, pairs, sides, settings, loss, run)
    return outputs(run)


def weights_of(run):
    return AutoModelForSequenceClassification.from_pretrained(
        run.out, dtype=torch.float32
    ).score.weight.detach()


@pytest.mark.parametrize(
    ("pairs", "settings", "loss"),
    [
        (PAIRS, {}, {}),
        (PAIRS, {"weight_decay": 1.0, "schedule": "linear", "max_grad_norm": 0.1}, {}),
        (PAIRS, {"optimizer": "sgd", "seed": 5}, {"center": 0.3}),
        (WITH_MARGIN, {"epochs": 1.5}, {"margin": 2.0, "label_smoothing": 0.2}),
    ],
)
def test_the_head_is_the_one_that_trl_trains(tiny_model, tmp_path, own_state, pairs, settings, loss):
    settings, loss = HEAD.model_copy(update=settings), RewardLoss(**REWARD.model_dump() | loss)
    # Beyond that a curve of accuracies is a mean over micro batches, whatever their size.
    whole, fast = run_in(tmp_path / "whole", micro_batch=8), run_in(tmp_path / "fast")
    train_reward(tiny_model, pairs, settings, loss, whole)
    by_states(tiny_model, fast, pairs, settings, loss)
    expected, found = weights_of(whole), weights_of(fast)
    drawn = head.load_reward_model(tiny_model, settings.seed).score.weight.detach()
    assert (expected - drawn).abs().max() > 1e-3, "nothing was learned"
    assert torch.allclose(found, expected, atol=1e-4 * float((expected - drawn).abs().max()) + 1e-6)
    for name in ("loss", "accuracy", "margin", "learning_rate"):
        assert curve(fast, name) == pytest.approx(curve(whole, name), abs=1e-4)


def test_the_folder_is_the_one_that_trl_leaves_but_for_the_head(tiny_model, tmp_path, own_state):
    whole, fast = run_in(tmp_path / "whole"), run_in(tmp_path / "fast")
    train_reward(tiny_model, PAIRS, HEAD, REWARD, whole)
    expected, found = outputs(whole), by_states(tiny_model, fast)
    assert found.keys() == expected.keys()
    model = {name for name in found if name.startswith("model/") and not name.endswith(".safetensors")}
    assert model and all(found[name] == expected[name] for name in model)


def test_rewards_of_the_saved_model_are_the_head_times_the_states(tiny_model, tmp_path, own_state):
    run = run_in(tmp_path)
    by_states(tiny_model, run)
    model = AutoModelForSequenceClassification.from_pretrained(run.out, dtype=torch.float32).eval()
    chosen, _ = pair_states(tiny_model, PAIRS, dtype="float32")
    for ids, state in zip(PAIRS["chosen_ids"].to_list(), chosen, strict=True):
        with torch.inference_mode():
            reward = model(torch.tensor([ids])).logits.item()
        assert reward == pytest.approx(float(state @ model.score.weight[0].detach().numpy()), abs=1e-4)


def test_the_same_run_gives_the_same_bytes_however_it_is_cut(tiny_model, tmp_path, own_state):
    first = by_states(tiny_model, run_in(tmp_path / "a"))
    assert by_states(tiny_model, run_in(tmp_path / "b")) == first
    spread = run_in(tmp_path / "c", micro_batch=1, processes=3)
    assert by_states(tiny_model, spread) == first


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(tiny_model, tmp_path, own_state, monkeypatch):
    expected = by_states(tiny_model, run_in(tmp_path / "whole"))
    run = run_in(tmp_path / "killed", save_every_seconds=0)

    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("pipeline.engines.fitting.publish", killed)
        with pytest.raises(KeyboardInterrupt):
            by_states(tiny_model, run)
    assert any(run.checkpoints.glob("checkpoint-*"))
    assert by_states(tiny_model, run) == expected


def test_in_bfloat16_the_states_are_rounded_and_the_head_is_not(tiny_model, tmp_path, own_state):
    rounded = HEAD.model_copy(update={"precision": "bfloat16"})
    sides = pair_states(tiny_model, PAIRS, dtype="bfloat16")
    found = trained_head(tiny_model, PAIRS, sides, rounded, REWARD, run_in(tmp_path / "a"))
    same = trained_head(tiny_model, PAIRS, sides, HEAD, REWARD, run_in(tmp_path / "b"))
    assert np.array_equal(found, same)


def test_only_a_frozen_backbone_has_states(tiny_model, tmp_path, own_state):
    sides = pair_states(tiny_model, PAIRS, dtype="float32")
    with pytest.raises(AssertionError, match="stays as it is"):
        trained_head(tiny_model, PAIRS, sides, params(), REWARD, run_in(tmp_path))
    with pytest.raises(AssertionError, match="a state per pair"):
        trained_head(tiny_model, PAIRS[1:], sides, HEAD, REWARD, run_in(tmp_path))


def test_no_pairs_are_told(tiny_model, tmp_path, own_state):
    none = (np.zeros((0, 32), np.float32),) * 2
    with pytest.raises(UserError, match="expected at least one row to train on"):
        trained_head(tiny_model, PAIRS.clear(), none, HEAD, REWARD, replace(run_in(tmp_path)))
