import pytest

from pipeline.errors import UserError
from pipeline.params import parse
from pipeline.training import RewardLoss, Run, TrainingParams

VALID = {
    "learning_rate": 1e-3,
    "epochs": 1,
    "global_batch": 8,
    "schedule": "cosine",
    "warmup_ratio": 0.1,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "precision": "float32",
    "seed": 1,
    "max_length": 64,
    "optimizer": "adamw_torch",
    "train_layers": "all",
    "lora": None,
}


def test_a_complete_section_is_read():
    assert parse("reward", TrainingParams, VALID).epochs == 1.0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("learning_rate", 0.0),
        ("learning_rate", "1e-3"),
        ("epochs", 0),
        ("global_batch", 0),
        ("schedule", "cosine_with_restarts"),
        ("warmup_ratio", 1.0),
        ("weight_decay", -0.1),
        ("max_grad_norm", -1.0),
        ("precision", "float16"),
        ("seed", -1),
        ("max_length", 1),
        ("train_layers", "half"),
    ],
)
def test_a_wrong_value_is_named_by_its_key(key, value):
    with pytest.raises(UserError, match=rf"reward\.{key}"):
        parse("reward", TrainingParams, VALID | {key: value})


ADAPTERS = {"rank": 8, "alpha": 16, "dropout": 0.05, "targets": "all-linear"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rank", 0),
        ("alpha", 0),
        ("dropout", 1.0),
        ("targets", "everything"),
        ("targets", []),
        ("bias", "all"),
    ],
)
def test_a_wrong_setting_of_the_adapters_is_named(key, value):
    assert parse("sft", TrainingParams, VALID | {"lora": ADAPTERS}).lora.rank == 8
    with pytest.raises(UserError, match=rf"sft\.lora\.{key}"):
        parse("sft", TrainingParams, VALID | {"lora": ADAPTERS | {key: value}})


def test_adapters_beside_a_backbone_that_is_left_as_it_is_are_refused():
    with pytest.raises(UserError, match="sft: lora: expected null with train_layers: head"):
        parse("sft", TrainingParams, VALID | {"lora": ADAPTERS, "train_layers": "head"})


@pytest.mark.parametrize("key", sorted(VALID))
def test_no_key_has_a_default(key):
    with pytest.raises(UserError, match=rf"reward\.{key} is missing"):
        parse("reward", TrainingParams, {name: value for name, value in VALID.items() if name != key})


@pytest.mark.parametrize(
    ("key", "value"), [("center", -0.1), ("margin", 0.0), ("label_smoothing", 0.5), ("label_smoothing", -0.1)]
)
def test_a_wrong_option_of_the_reward_loss_is_named(key, value):
    section = {"center": None, "margin": None, "label_smoothing": 0.0}
    assert parse("reward.loss", RewardLoss, section).margin is None
    with pytest.raises(UserError, match=rf"reward\.loss\.{key}"):
        parse("reward.loss", RewardLoss, section | {key: value})


def test_a_run_without_micro_batch_is_refused(tmp_path):
    with pytest.raises(ValueError, match="micro_batch"):
        Run(tmp_path, tmp_path, tmp_path, 0, "dpo", 60)
