"""What a training process tells the trainer: one GPU each, the recipe's precision, room for activations."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers import TrainingArguments

from pipeline.engines import fitting
from pipeline.engines.fitting import Job, same_precision
from pipeline.engines.tiny_models import tiny_random
from tests.engines.tiny_runs import KINDS, params, rows, run_in, train


@pytest.mark.parametrize("kind", KINDS)
def test_one_process_trains_on_one_of_several_gpus(kind, tmp_path, monkeypatch):
    """Two GPUs as the trainer counts them; more than one for a process would be nn.DataParallel."""
    tiny_random(tmp_path / "tiny", "smollm2")
    finished = TrainingArguments.__post_init__

    def with_two(arguments):
        finished(arguments)
        arguments._n_gpu = 2

    monkeypatch.setattr(TrainingArguments, "__post_init__", with_two)
    run = run_in(tmp_path)
    train(kind, tmp_path / "tiny", run, params(epochs=0.5), rows(kind, 8))
    assert (run.out / "model.safetensors").exists()


def plugins(**given):
    """A trainer of which nothing but accelerate's plugins is there."""
    return SimpleNamespace(accelerator=SimpleNamespace(state=SimpleNamespace(**given)))


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_deepspeed_is_told_of_autocast_where_the_recipe_says_bfloat16(precision):
    config: dict[str, object] = {"zero_optimization": {"stage": 3}}
    same_precision(plugins(deepspeed_plugin=SimpleNamespace(deepspeed_config=config)), precision)
    autocast = {"enabled": True, "dtype": "bfloat16"}
    assert config.pop("zero_optimization") == {"stage": 3}
    assert config == ({"torch_autocast": autocast} if precision == "bfloat16" else {})


def test_layers_are_computed_twice_under_deepspeed_alone(monkeypatch):
    job = Job(params(precision="bfloat16"), run_in(Path("nowhere")), 8, 1, 4, 1, None)
    assert job.arguments()["gradient_checkpointing"] is False
    assert job.arguments()["bf16"] is True
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    assert job.arguments()["gradient_checkpointing"] is True
    assert job.arguments()["bf16"] is False


def test_a_checkpoint_of_another_configuration_is_not_gone_on_from(tmp_path, monkeypatch):
    """The name of the file stays; its content is what spreads the work."""
    claimed = []
    monkeypatch.setattr(fitting, "claim", lambda folder, identity: claimed.append(identity))
    config = tmp_path / "config.yaml"
    run = run_in(tmp_path, processes=2, accelerate=str(config))
    for machines in ("", "machine_rank: 0\n", ""):
        config.write_text(f"distributed_type: MULTI_GPU\nnum_processes: 2\nnum_machines: 1\n{machines}")
        Job.start("sft", rows("sft"), params(), run)
    assert claimed[0] == claimed[2] != claimed[1]
