import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipeline.engines.tiny_models import tiny_random
from pipeline.engines.trainers import reference_logps, train_dpo, train_reward, train_sft
from pipeline.errors import UserError
from pipeline.packing import TOKENS
from pipeline.training import DpoLoss, LossTerm, RewardLoss, Run, TrainingParams

ROOT = Path(__file__).parents[2]
END = 2  # <|im_end|> of the tiny ChatML model: its EOS and its pad token
DPO = DpoLoss(beta=0.1, loss=(LossTerm(name="sigmoid", weight=1.0),), label_smoothing=0.0)
REWARD = RewardLoss(center=None)
KINDS = ("sft", "reward", "dpo")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_random(folder, "smollm2")
    return folder


def params(**changes) -> TrainingParams:
    values = {
        "learning_rate": 5e-3,
        "epochs": 2.0,
        "global_batch": 8,
        "schedule": "cosine",
        "warmup_ratio": 0.2,
        "weight_decay": 0.01,
        "max_grad_norm": 1.0,
        "precision": "float32",
        "seed": 1,
        "max_length": 64,
        "optimizer": "adamw_torch",
        "train_layers": "all",
    }
    return TrainingParams(**(values | changes))


def rows(kind: str, count: int = 20, bias: int = 0) -> pl.DataFrame:
    """Random tokens; with `bias`, that token fills every chosen answer."""
    rng = np.random.default_rng(count)

    def text(low: int, high: int) -> list[int]:
        return rng.integers(10, 500, rng.integers(low, high)).tolist()

    prompts = [text(3, 20) for _ in range(count)]
    chosen = [[*([bias] * 6 if bias else text(3, 20)), END] for _ in range(count)]
    rejected = [[*text(3, 20), END] for _ in range(count)]
    whole = [p + c for p, c in zip(prompts, chosen, strict=True)]
    columns = {
        "sft": {
            "input_ids": whole,
            "labels": [[-100] * len(p) + c for p, c in zip(prompts, chosen, strict=True)],
            "seq_lengths": [[len(p), len(c)] for p, c in zip(prompts, chosen, strict=True)],
        },
        "reward": {"chosen_ids": whole, "rejected_ids": [p + r for p, r in zip(prompts, rejected, strict=True)]},
        "dpo": {"prompt_ids": prompts, "chosen_ids": chosen, "rejected_ids": rejected},
    }[kind]
    return pl.DataFrame(columns, dict.fromkeys(columns, TOKENS))


def run_in(folder: Path, **changes) -> Run:
    values = {"micro_batch": 4, "title": "section", "save_every_seconds": 600}
    return Run(folder / "model", folder / "curves", folder / "checkpoints", **(values | changes))


def train(kind: str, base: Path, run: Run, settings: TrainingParams | None = None, data=None) -> dict[str, bytes]:
    """Train on `rows(kind)` and give back every output file."""
    data = rows(kind) if data is None else data
    settings = settings or params()
    if kind == "sft":
        train_sft(base, data, settings, run)
    elif kind == "reward":
        train_reward(base, data, settings, REWARD, run)
    else:
        train_dpo(base, base, data, settings, DPO, run)
    return outputs(run)


def outputs(run: Run) -> dict[str, bytes]:
    files = [*run.out.rglob("*"), *run.curves.rglob("*")]
    return {path.relative_to(run.out.parent).as_posix(): path.read_bytes() for path in files if path.is_file()}


def curve(run: Run, name: str) -> list[float]:
    return pl.read_csv(run.curves / f"{name}.tsv", separator="\t")[name].to_list()


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_call_gives_the_same_bytes(kind, tiny, tmp_path):
    first, second = (train(kind, tiny, run_in(tmp_path / name)) for name in ("a", "b"))
    assert "model/model.safetensors" in first
    assert first == second
    other = train(kind, tiny, run_in(tmp_path / "c"), params(seed=2))
    assert other["model/model.safetensors"] != first["model/model.safetensors"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_folder_loads_plainly_and_holds_nothing_of_the_run(kind, tiny, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    run = run_in(tmp_path)
    files = train(kind, tiny, run)
    model = (AutoModelForSequenceClassification if kind == "reward" else AutoModelForCausalLM).from_pretrained(run.out)
    assert model.dtype == torch.float32
    assert model.config.use_cache
    assert AutoTokenizer.from_pretrained(run.out).chat_template == (tiny / "chat_template.jinja").read_text()
    expected = {"chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
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
    series = {"loss", "grad_norm", "learning_rate"} | (set() if kind == "sft" else {"accuracy", "margin"})
    assert {path.stem for path in run.curves.iterdir()} == series
    for name in series:
        frame = pl.read_csv(run.curves / f"{name}.tsv", separator="\t")
        assert frame.columns == ["step", name]
        assert frame["step"].to_list() == [1, 2, 3, 4, 5, 6]
    rate = curve(run, "learning_rate")
    assert rate[0] == 0 < rate[1] < rate[2] == pytest.approx(5e-3)
    assert rate[5] < rate[4] < rate[3] <= rate[2]


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
    """20 rows in steps of 8 leave a short last step, where a plain mean over micro batches of 8 and 3 differs."""
    losses = []
    for size in (1, 8):
        run = run_in(tmp_path / str(size), micro_batch=size)
        train(kind, tiny, run, params(global_batch=8, max_grad_norm=0.0))
        losses.append(curve(run, "grad_norm"))
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_autocast_trains_float32_weights(kind, tiny, tmp_path):
    from safetensors.torch import load_file

    run = run_in(tmp_path)
    exact = train(kind, tiny, run_in(tmp_path / "exact"))
    assert train(kind, tiny, run, params(precision="bfloat16")) != exact
    weights = load_file(run.out / "model.safetensors")
    assert {str(tensor.dtype) for tensor in weights.values()} == {"torch.float32"}
    fresh = (t for name, t in weights.items() if name.endswith("q_proj.weight"))
    assert all((t != t.bfloat16().float()).any() for t in fresh)


def test_head_training_leaves_the_backbone_of_a_reward_model(tiny, tmp_path):
    from safetensors.torch import load_file

    run = run_in(tmp_path)
    train("reward", tiny, run, params(train_layers="head"))
    before, after = load_file(tiny / "model.safetensors"), load_file(run.out / "model.safetensors")
    assert all(after[name].equal(before[name]) for name in before)
    assert set(after) - set(before) == {"score.weight"}
    assert len(set(curve(run, "loss"))) > 1


def test_head_training_of_tied_weights_is_refused_and_of_untied_ones_trains_the_output_layer(tiny, tmp_path):
    from safetensors.torch import load_file

    with pytest.raises(UserError, match=r"section\.train_layers.*tied"):
        train("dpo", tiny, run_in(tmp_path / "tied"), params(train_layers="head"))
    untied = tmp_path / "llama3"
    tiny_random(untied, "llama3")
    run = run_in(tmp_path)
    train("sft", untied, run, params(train_layers="head"))
    before, after = load_file(untied / "model.safetensors"), load_file(run.out / "model.safetensors")
    assert [name for name in before if not before[name].equal(after[name])] == ["lm_head.weight"]


def test_a_reward_model_reads_the_end_of_turn_although_pad_is_eos(tiny, tmp_path):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

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
    train_dpo(tiny, tiny, rows("dpo"), params(), DPO, same)
    train_dpo(tiny, other, rows("dpo"), params(), DPO, apart)
    assert curve(same, "loss")[0] == pytest.approx(math.log(2), abs=1e-6)
    assert curve(same, "margin")[0] == pytest.approx(0, abs=1e-6)
    assert abs(curve(apart, "margin")[0]) > 1e-4


def test_reference_logps_are_those_of_the_model_whatever_shares_the_batch(tiny):
    import torch
    from transformers import AutoModelForCausalLM

    data = rows("dpo")
    model = AutoModelForCausalLM.from_pretrained(tiny).eval()
    together = reference_logps(tiny, data, 4096, "float32")
    alone = reference_logps(tiny, data, 1, "float32")
    for name, answers in (("ref_chosen_logps", "chosen_ids"), ("ref_rejected_logps", "rejected_ids")):
        assert together[name].to_list() == pytest.approx(alone[name].to_list(), abs=1e-4)
        expected = []
        for prompt, answer in data.select("prompt_ids", answers).rows():
            logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
            picked = logits.log_softmax(-1).gather(-1, torch.tensor(answer)[:, None])
            expected.append(picked.sum().item())
        assert alone[name].to_list() == pytest.approx(expected, abs=1e-4)


def test_documents_of_a_packed_row_do_not_see_each_other(tiny):
    """Through TRL's own collator, as `train_sft` uses it."""
    import torch
    from transformers import AutoModelForCausalLM
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    documents = [[11, 12, 13, 14], [21, 22, 23], [31, 32, 33, 34, 35]]
    row = {"input_ids": sum(documents, []), "labels": sum(documents, []), "seq_lengths": [4, 3, 5]}
    batch = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)([row, row])
    assert batch["position_ids"].tolist()[0][:12] == [0, 1, 2, 3, 0, 1, 2, 0, 1, 2, 3, 4]
    model = AutoModelForCausalLM.from_pretrained(tiny).eval()
    batch.pop("labels")
    with torch.no_grad():
        packed = model(**batch, use_cache=False).logits[0]
        separate = torch.cat([model(torch.tensor([d])).logits[0] for d in documents * 2])
    assert torch.allclose(packed, separate, atol=1e-5)


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
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    tiny_random(broken, "smollm2")
    weights = load_file(broken / "model.safetensors")
    save_file({name: tensor * 1e4 for name, tensor in weights.items()}, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"diverged at step \d+.*lower section\.learning_rate"):
        train(kind, broken, run_in(tmp_path), settings)


PROGRAM = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[4], sys.argv[5]]
from test_trainers import params, run_in, train
train(sys.argv[1], Path(sys.argv[2]), run_in(Path(sys.argv[3]), save_every_seconds=0), params(epochs=40.5))
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(kind, tiny, tmp_path, caplog):
    settings = params(epochs=40.5)
    undisturbed = train(kind, tiny, run_in(tmp_path / "undisturbed"), settings)
    run = run_in(tmp_path / "killed", save_every_seconds=0)
    command = [sys.executable, "-c", PROGRAM, kind, str(tiny), str(tmp_path / "killed"), str(ROOT), str(ROOT / "tests/engines")]
    with subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}) as process:
        deadline = time.monotonic() + 120
        while not list(run.checkpoints.glob("checkpoint-*/complete.json")):
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.3)
        process.send_signal(signal.SIGKILL)
    assert not run.out.exists()
    caplog.set_level("INFO")
    assert train(kind, tiny, run, settings) == undisturbed
    assert "going on after step" in caplog.text
    assert not run.checkpoints.exists()
