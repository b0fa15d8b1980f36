"""The loss of the reward model, held against plain torch: each option alone and all together."""

import math
from pathlib import Path

import polars as pl
import pytest
import torch
from torch.nn.functional import logsigmoid
from transformers import AutoConfig, AutoModelForSequenceClassification

from pipeline.engines.tiny_models import tiny_random
from pipeline.engines.weights import load_reward_model
from pipeline.errors import UserError
from pipeline.training import RewardLoss
from tests.engines.tiny_runs import END, LORA, REWARD, curve, params, rows, run_in, train

OPTIONS = {
    "plain": {},
    "center": {"center": 0.5},
    "margin": {"margin": 3.0},
    "smoothing": {"label_smoothing": 0.3},
    "all": {"center": 0.5, "margin": 3.0, "label_smoothing": 0.3},
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """Its random head is made a hundred times as large, so that rewards lie far apart."""
    folder = tmp_path_factory.mktemp("models")
    tiny_random(folder / "tiny", "smollm2")
    model = load_reward_model(folder / "tiny", 1)
    model.score.weight.data.mul_(100)
    model.save_pretrained(folder / "tiny")
    return folder / "tiny"


def pairs(loss: RewardLoss) -> pl.DataFrame:
    """Pairs of which one half has a margin, as the stage hands them over."""
    data = rows("reward")
    if loss.margin is None:
        return data
    return data.with_columns(margin=pl.int_range(pl.len()) % 2 * loss.margin)


def rewards(folder: Path, sequences: pl.Series, pad: int | None = None) -> torch.Tensor:
    """The reward of each sequence alone: at its last token, or at the last that is not `pad`."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, pad_token_id=pad).eval()
    with torch.no_grad():
        return torch.tensor([model(torch.tensor([ids])).logits.item() for ids in sequences.to_list()])


def expected(folder: Path, data: pl.DataFrame, loss: RewardLoss) -> float:
    """The formula of `RewardLoss`, written out."""
    chosen, rejected = (rewards(folder, data[f"{side}_ids"]) for side in ("chosen", "rejected"))
    margin = torch.tensor(data["margin"].to_list()) if "margin" in data.columns else 0.0
    d, s = chosen - rejected - margin, loss.label_smoothing
    terms = (1 - s) * -logsigmoid(d) + s * -logsigmoid(-d) + (loss.center or 0.0) * (chosen + rejected) ** 2
    return terms.mean().item()


def once(option: str, base: Path, folder: Path, **changes):
    """One step over all pairs, in micro batches of 3 of 20, the last one shorter."""
    loss = REWARD.model_copy(update=OPTIONS[option])
    run = run_in(folder / option, micro_batch=3)
    settings = params(**({"epochs": 1.0, "global_batch": 21, "warmup_ratio": 0.0} | changes))
    files = train("reward", base, run, settings, pairs(loss), loss)
    return curve(run, "loss")[0], loss, files["model/model.safetensors"]


@pytest.mark.parametrize("option", OPTIONS)
def test_the_loss_of_a_step_is_that_of_plain_torch(option, tiny, tmp_path):
    found, loss, _ = once(option, tiny, tmp_path)
    assert found == pytest.approx(expected(tiny, pairs(loss), loss), rel=1e-5)


def test_no_reward_is_read_at_padding_or_before_the_end_although_the_base_pads_with_the_end(tiny, tmp_path):
    """In batches of 3 pairs of unlike lengths; whoever skips the base's padding reads one token too early."""
    assert AutoConfig.from_pretrained(tiny).pad_token_id == END
    found, _, _ = once("plain", tiny, tmp_path)
    sides = [rows("reward")[f"{side}_ids"] for side in ("chosen", "rejected")]
    right, wrong = (rewards(tiny, sides[0], pad) - rewards(tiny, sides[1], pad) for pad in (None, END))
    assert found == pytest.approx(-logsigmoid(right).mean().item(), rel=1e-5)
    assert abs(found + logsigmoid(wrong).mean().item()) > 0.1


@pytest.mark.parametrize("lora", [None, LORA])
def test_one_loss_that_is_no_number_stops_a_long_run_at_the_next_point_of_its_curve(lora, tiny, tmp_path):
    """405 steps of a pair, every third one logged; nothing is written."""
    broken = rows("reward").with_columns(
        margin=pl.when(pl.int_range(pl.len()) == 7).then(math.nan).otherwise(0.0)
    )
    run = run_in(tmp_path, micro_batch=1)
    settings = params(global_batch=1, epochs=20.25, lora=lora)
    told = r"diverged at step \d\d? of 405: .*found loss nan.*lower the learning_rate of section"
    with pytest.raises(UserError, match=told):
        train("reward", tiny, run, settings, broken)
    assert not run.out.exists()


def test_every_option_changes_the_loss_and_the_weights(tiny, tmp_path):
    seen = [once(option, tiny, tmp_path) for option in OPTIONS]
    assert len({loss for loss, _, _ in seen}) == len({weights for _, _, weights in seen}) == len(OPTIONS)


def test_smoothing_keeps_a_reward_model_from_certainty(tiny, tmp_path):
    """With a part of 0.3 wrong labels, the best distance is log(0.7 / 0.3) = 0.85."""
    run, loss = run_in(tmp_path), REWARD.model_copy(update={"label_smoothing": 0.3})
    long = params(epochs=30.0, learning_rate=1e-2)
    train("reward", tiny, run, long, rows("reward", bias=77), loss)
    assert curve(run, "margin")[-1] == pytest.approx(0.85, abs=0.2)
    train("reward", tiny, run, long, rows("reward", bias=77))
    assert curve(run, "margin")[-1] > 3
