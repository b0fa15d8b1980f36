import math
from itertools import chain
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, LlamaModel
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from pipeline.engines.repeatable import Shuffle
from pipeline.engines.tiny_models import tiny_random
from pipeline.engines.trainers import train_dpo
from pipeline.errors import UserError
from tests.engines.tiny_runs import DPO, END, KINDS, curve, params, rows, run_in, train, with_reference


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_random(folder, "smollm2")
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_call_gives_the_same_bytes(kind, tiny, tmp_path):
    first, second = (train(kind, tiny, run_in(tmp_path / name)) for name in ("a", "b"))
    assert "model/model.safetensors" in first
    assert first == second
    other = train(kind, tiny, run_in(tmp_path / "c"), params(seed=2))
    assert other["model/model.safetensors"] != first["model/model.safetensors"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_folder_loads_plainly_and_holds_nothing_of_the_run(kind, tiny, tmp_path):

    run = run_in(tmp_path)
    files = train(kind, tiny, run)
    model = (
        AutoModelForSequenceClassification if kind == "reward" else AutoModelForCausalLM
    ).from_pretrained(run.out)
    assert model.dtype == torch.float32
    assert model.config.use_cache
    assert AutoTokenizer.from_pretrained(run.out).chat_template == (tiny / "chat_template.jinja").read_text()
    expected = {
        "chat_template.jinja",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    expected |= set() if kind == "reward" else {"generation_config.json"}
    assert {Path(name).name for name in files if name.startswith("model/")} == expected
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in run.out.iterdir())
    assert str(tmp_path).encode() not in b"".join(files.values())
    assert str(tiny).encode() not in b"".join(files.values())
    assert not run.checkpoints.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_curves_hold_stable_series_and_show_the_warm_up(kind, tiny, tmp_path):
    run = run_in(tmp_path)
    train(kind, tiny, run)
    series = {"loss", "grad_norm", "learning_rate"}
    series |= {"token_accuracy"} if kind == "sft" else {"accuracy", "margin"}
    if kind == "dpo":
        series |= {f"{side}_{what}" for side in ("chosen", "rejected") for what in ("reward", "logp")}
    assert {path.stem for path in run.curves.iterdir()} == series
    for name in series:
        frame = pl.read_csv(run.curves / f"{name}.tsv", separator="\t")
        assert frame.columns == ["step", name]
        assert frame["step"].to_list() == [1, 2, 3, 4, 5, 6]
    rate = curve(run, "learning_rate")
    assert rate[0] == 0 < rate[1] < rate[2] == pytest.approx(5e-3)
    assert rate[5] < rate[4] < rate[3] <= rate[2]
    # Two of six steps warm up; on a straight line the last one would have a quarter of the rate.
    assert rate == pytest.approx([0, 0.0025, *(0.0025 * (1 + math.cos(math.pi * i / 4)) for i in range(4))])


def test_each_schedule_has_its_own_rates(tiny, tmp_path):
    rates = {}
    for schedule in ("cosine", "linear", "constant"):
        run = run_in(tmp_path / schedule)
        train("dpo", tiny, run, params(schedule=schedule))
        rates[schedule] = tuple(curve(run, "learning_rate"))
    assert len(set(rates.values())) == len(rates) > 1


def test_a_long_run_has_about_two_hundred_points_and_the_last_one(tiny, tmp_path):
    run = run_in(tmp_path, micro_batch=1)
    train("reward", tiny, run, params(global_batch=1, epochs=20.25))
    steps = pl.read_csv(run.curves / "loss.tsv", separator="\t")["step"].to_list()
    assert steps == [1, *range(3, 405, 3), 405]


@pytest.mark.parametrize("kind", KINDS)
def test_training_learns_what_the_rows_say(kind, tiny, tmp_path):
    run = run_in(tmp_path)
    train(kind, tiny, run, params(epochs=10.0, learning_rate=1e-2), rows(kind, bias=77))
    loss = curve(run, "loss")
    assert loss[-1] < loss[0] / 2
    if kind != "sft":
        assert curve(run, "accuracy")[-1] == 1.0
        assert curve(run, "margin")[-1] > 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_micro_batch_changes_rounding_only(kind, tiny, tmp_path):
    """22 rows in steps of 8 leave 6 for the last step: in micro batches, 4 + 2 do not weigh alike."""
    norms = []
    for size in (1, 3, 4, 8):
        run = run_in(tmp_path / str(size), micro_batch=size)
        train(kind, tiny, run, params(max_grad_norm=0.0), rows(kind, 22))
        norms.append(curve(run, "grad_norm"))
    assert norms[1:] == [pytest.approx(norms[0], rel=1e-3)] * 3


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_autocast_trains_float32_weights(kind, tiny, tmp_path):

    run = run_in(tmp_path)
    exact = train(kind, tiny, run_in(tmp_path / "exact"))
    assert train(kind, tiny, run, params(precision="bfloat16")) != exact
    weights = load_file(run.out / "model.safetensors")
    assert {str(tensor.dtype) for tensor in weights.values()} == {"torch.float32"}
    fresh = (t for name, t in weights.items() if name.endswith("q_proj.weight"))
    assert all((t != t.bfloat16().float()).any() for t in fresh)


def test_head_training_leaves_the_backbone_of_a_reward_model(tiny, tmp_path):

    run = run_in(tmp_path)
    train("reward", tiny, run, params(train_layers="head"))
    before, after = load_file(tiny / "model.safetensors"), load_file(run.out / "model.safetensors")
    assert all(after[name].equal(before[name]) for name in before)
    assert set(after) - set(before) == {"score.weight"}
    assert len(set(curve(run, "loss"))) > 1


@pytest.mark.parametrize(("layers", "expected"), [("head", {False}), ("all", {True})])
def test_head_training_records_nothing_of_the_backbone_for_gradients(
    layers, expected, tiny, tmp_path, monkeypatch
):
    """So a frozen backbone costs one forward pass, without the memory of its layers."""
    forward, seen = LlamaModel.forward, set()

    def watched(*args, **kwargs):
        found = forward(*args, **kwargs)
        seen.add(found.last_hidden_state.requires_grad)
        return found

    monkeypatch.setattr(LlamaModel, "forward", watched)
    train("reward", tiny, run_in(tmp_path), params(train_layers=layers))
    assert seen == expected


def test_head_training_of_tied_weights_is_refused_and_of_untied_ones_trains_the_output_layer(tiny, tmp_path):

    with pytest.raises(UserError, match=r"section\.train_layers.*tied"):
        train("dpo", tiny, run_in(tmp_path / "tied"), params(train_layers="head"))
    untied = tmp_path / "llama3"
    tiny_random(untied, "llama3")
    run = run_in(tmp_path)
    train("sft", untied, run, params(train_layers="head"))
    before, after = load_file(untied / "model.safetensors"), load_file(run.out / "model.safetensors")
    assert [name for name in before if not before[name].equal(after[name])] == ["lm_head.weight"]


def test_a_reward_model_reads_the_end_of_turn_although_pad_is_eos(tiny, tmp_path):

    run = run_in(tmp_path)
    train("reward", tiny, run)
    model = AutoModelForSequenceClassification.from_pretrained(run.out).eval()
    tokenizer = AutoTokenizer.from_pretrained(run.out)
    assert tokenizer.pad_token_id == model.config.pad_token_id != END
    short, long = rows("reward")["chosen_ids"].to_list()[0], [11] * 50 + [END]
    alone = model(torch.tensor([short])).logits.item()
    batch = tokenizer.pad({"input_ids": [short, long]}, return_tensors="pt")
    assert model(**batch).logits[0].item() == pytest.approx(alone, abs=1e-5)
    hidden = model.model(torch.tensor([short])).last_hidden_state[0, -1]
    assert alone == pytest.approx(model.score(hidden).item(), abs=1e-6)


def test_a_margin_changes_the_reward_loss(tiny, tmp_path):
    data = rows("reward")
    plain, wide = run_in(tmp_path / "a"), run_in(tmp_path / "b")
    train("reward", tiny, plain)
    train("reward", tiny, wide, data=data.with_columns(margin=pl.lit(2.0)))
    r, m = curve(plain, "loss")[0], curve(wide, "loss")[0]
    assert r == pytest.approx(math.log(2), abs=0.1)
    assert m == pytest.approx(math.log1p(math.exp(2)), abs=0.1)


def test_the_dpo_reference_is_the_given_model_not_the_policy(tiny, tmp_path):
    other = tmp_path / "other"
    tiny_random(other, "smollm2", seed=9)
    same, apart = run_in(tmp_path / "a"), run_in(tmp_path / "b")
    train_dpo(tiny, with_reference(tiny, rows("dpo")), params(), DPO, same)
    train_dpo(tiny, with_reference(other, rows("dpo")), params(), DPO, apart)
    assert curve(same, "loss")[0] == pytest.approx(math.log(2), abs=1e-6)
    assert curve(same, "margin")[0] == pytest.approx(0, abs=1e-6)
    assert abs(curve(apart, "margin")[0]) > 1e-4


def test_documents_of_a_packed_row_do_not_see_each_other(tiny):
    """Through TRL's own collator, as `train_sft` uses it."""

    documents = [[11, 12, 13, 14], [21, 22, 23], [31, 32, 33, 34, 35]]
    tokens = list(chain.from_iterable(documents))
    row = {"input_ids": tokens, "labels": tokens, "seq_lengths": [4, 3, 5]}
    batch = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)([row, row])
    assert batch["position_ids"].tolist()[0][:12] == [0, 1, 2, 3, 0, 1, 2, 0, 1, 2, 3, 4]
    model = AutoModelForCausalLM.from_pretrained(tiny).eval()
    batch.pop("labels")
    with torch.no_grad():
        packed = model(**batch, use_cache=False).logits[0]
        separate = torch.cat([model(torch.tensor([d])).logits[0] for d in documents * 2])
    assert torch.allclose(packed, separate, atol=1e-5)


def test_packing_does_not_change_the_loss_of_a_step(tiny, tmp_path):
    """The documents of the rows, once two to a row and once alone, all in one step."""
    packed = rows("sft")
    half = packed.with_columns(pl.col("seq_lengths").list.first().alias("cut"))
    documents = pl.concat(
        half.select(part(column) for column in ("input_ids", "labels")).with_columns(
            seq_lengths=pl.concat_list(pl.col("input_ids").list.len().cast(pl.Int32))
        )
        for part in (lambda c: pl.col(c).list.head("cut"), lambda c: pl.col(c).list.slice("cut"))
    )
    losses = []
    for name, blocks in (("packed", packed), ("alone", documents)):
        run = run_in(tmp_path / name)
        train("sft", tiny, run, params(global_batch=64, epochs=1.0), blocks)
        losses.append(curve(run, "loss"))
    assert documents.height == 2 * packed.height
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_no_rows_is_a_mistake_of_the_user(kind, tiny, tmp_path):
    with pytest.raises(UserError, match="section: expected at least one row"):
        train(kind, tiny, run_in(tmp_path), data=rows(kind).clear())


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_over_the_limit_stops_instead_of_vanishing(kind, tiny, tmp_path):
    with pytest.raises(AssertionError, match="longer than max_length 8"):
        train(kind, tiny, run_in(tmp_path), params(max_length=8))


@pytest.mark.parametrize("kind", KINDS)
def test_a_diverging_run_names_the_key_to_lower(kind, tiny, tmp_path):
    settings = params(learning_rate=0.99, optimizer="sgd", max_grad_norm=0.0, warmup_ratio=0.0, epochs=100.0)

    broken = tmp_path / "broken"
    tiny_random(broken, "smollm2")
    weights = load_file(broken / "model.safetensors")
    save_file(
        {name: tensor * 1e4 for name, tensor in weights.items()},
        broken / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(UserError, match=r"diverged at step \d+.*lower the learning_rate of section"):
        train(kind, broken, run_in(tmp_path), settings)


def test_each_epoch_has_its_own_order_and_each_step_the_rows_of_a_plain_shuffle():
    lengths = np.arange(20)[::-1].copy()
    order = Shuffle(lengths, step_rows=8, seed=3)
    first = list(order)
    order.epoch = 1
    second = list(order)
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second
    order.epoch = 0
    assert list(order) == first
    for step in (first[:8], first[8:16], first[16:]):
        assert step == sorted(step, key=lambda row: -lengths[row])
    assert first != sorted(range(20), key=lambda row: -lengths[row])
