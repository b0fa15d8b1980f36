"""Several processes train what one would: on CPUs over gloo, started by accelerate as on GPUs."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
import pytest
import torch
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DeepSpeedPlugin, FullyShardedDataParallelPlugin, patch_environment
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from pipeline.engines import launching
from pipeline.engines.repeatable import MicroBatches, Shuffle
from pipeline.engines.tiny_models import tiny_random
from pipeline.errors import UserError
from pipeline.execution import Execution
from tests.engines import rank_work, sharded_on_cpu
from tests.engines.test_preference_loss import ORPO, SIMPO, summed
from tests.engines.tiny_runs import KINDS, LORA, curve, params, rows, run_in, train

ROOT = Path(__file__).parents[2]
ROWS = 17
"""In steps of 8 and micro batches of 2, the last step has one micro batch: a process has nothing to do."""
CLOSE = {"rtol": 0, "atol": 2e-6}
"""Between sums in another order; training itself moves weights by 1.5e-2."""

DATA_PARALLEL = """\
compute_environment: LOCAL_MACHINE
distributed_type: MULTI_GPU
mixed_precision: bf16
num_machines: 1
num_processes: 8
"""

OBJECTIVES = {
    "simpo": SIMPO,
    "orpo": ORPO,
    "aot": summed("aot", sort=4),
    "rpo": summed("sigmoid", "sft"),
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_random(folder, "smollm2")
    return folder


@pytest.fixture(autouse=True)
def in_project(monkeypatch):
    """Processes import the tests from the working folder."""
    monkeypatch.chdir(ROOT)


def assert_same_model(first: Path, second: Path, **tolerance: float) -> None:
    """The same tensors up to rounding."""
    one, two = (load_file(folder / "model.safetensors") for folder in (first, second))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, **(tolerance or CLOSE))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_train_the_model_of_one(kind, tiny, tmp_path):
    """A configuration that asks for bfloat16 does not get it either: the recipe says float32."""
    config = tmp_path / "config.yaml"
    config.write_text(DATA_PARALLEL)
    one = run_in(tmp_path / "one", micro_batch=2)
    two = run_in(tmp_path / "two", micro_batch=2, processes=2, accelerate=str(config))
    files = train(kind, tiny, one, data=rows(kind, ROWS))
    assert train(kind, tiny, two, data=rows(kind, ROWS)).keys() == files.keys()
    assert_same_model(one.out, two.out)
    for series in ("loss", "grad_norm", "learning_rate", *(["token_accuracy"] if kind == "sft" else [])):
        assert curve(two, series) == pytest.approx(curve(one, series), abs=1e-5)
    assert not two.checkpoints.exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", OBJECTIVES)
def test_two_processes_train_the_policy_of_one_by_any_objective(name, tiny, tmp_path):
    """Also where pairs are sorted together, and where a mean is over the tokens of an answer."""
    objective = OBJECTIVES[name]
    one = run_in(tmp_path / "one", micro_batch=4)
    two = run_in(tmp_path / "two", micro_batch=2, processes=2)
    for run in (one, two):
        train("dpo", tiny, run, data=rows("dpo", 16), objective=objective)
    assert_same_model(one.out, two.out)
    assert curve(two, "loss") == pytest.approx(curve(one, "loss"), abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "spread"), [("reward", None), ("reward", "fsdp"), ("dpo", "fsdp")])
def test_two_processes_train_the_adapters_of_one(kind, spread, tiny, tmp_path, monkeypatch):
    """Without dropout, which each process draws for itself."""
    settings = params(lora=LORA.model_copy(update={"dropout": 0.0}))
    one = run_in(tmp_path / "one", micro_batch=2)
    two = run_in(tmp_path / "two", micro_batch=2, processes=2, accelerate=spread)
    files = train(kind, tiny, one, settings, rows(kind, ROWS))
    if spread:
        sharded(monkeypatch)
    assert train(kind, tiny, two, settings, rows(kind, ROWS)).keys() == files.keys()
    assert_same_model(one.out, two.out)


def sharded(monkeypatch) -> None:
    """Let the processes shard on this machine, which has no GPUs."""
    command = launching.command

    def on_cpu(run, folder):
        words = command(run, folder)
        return [sharded_on_cpu.__name__ if word == launching.__name__ else word for word in words]

    monkeypatch.setattr(launching, "command", on_cpu)
    monkeypatch.setattr(launching, "config_file", lambda run: launching.SHIPPED / f"{run.accelerate}.yaml")


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "precision"), [("dpo", "float32"), ("reward", "bfloat16")])
def test_the_shipped_fsdp_trains_the_model_of_one_process(kind, precision, tiny, tmp_path, monkeypatch):
    """Weights that are tied stay tied; in bfloat16 it computes as autocast does, not with cut weights."""
    one = run_in(tmp_path / "one", micro_batch=2)
    two = run_in(tmp_path / "two", micro_batch=2, processes=2, accelerate="fsdp")
    settings = params(precision=precision)
    train(kind, tiny, one, settings, rows(kind, ROWS))
    sharded(monkeypatch)
    train(kind, tiny, two, settings, rows(kind, ROWS))
    assert_same_model(one.out, two.out, rtol=0, atol=2e-6 if precision == "float32" else 1e-3)
    family: Any = AutoModelForSequenceClassification if kind == "reward" else AutoModelForCausalLM
    model, report = family.from_pretrained(two.out, output_loading_info=True)
    assert model.dtype == torch.float32
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]


PROGRAM = """
import sys
from pathlib import Path
from tests.engines.tiny_runs import params, run_in, train
changes = {"save_every_seconds": 0, "micro_batch": 2, "processes": 2}
train("dpo", Path(sys.argv[1]), run_in(Path(sys.argv[2]), **changes), params(epochs=40.5))
"""


@pytest.mark.slow
def test_a_killed_run_takes_its_processes_with_it_and_goes_on_where_it_was(tiny, tmp_path, caplog):
    settings = params(epochs=40.5)
    whole = run_in(tmp_path / "whole", micro_batch=2)
    train("dpo", tiny, whole, settings)
    run = run_in(tmp_path / "killed", save_every_seconds=0, micro_batch=2, processes=2)
    command = [sys.executable, "-c", PROGRAM, str(tiny), str(run.out.parent)]
    with subprocess.Popen(command, cwd=ROOT) as process:
        deadline = time.monotonic() + 400
        while not list(run.checkpoints.glob("checkpoint-*/complete.json")):
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        started = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
    assert len(started) >= 3
    assert not psutil.wait_procs(started, timeout=60)[1], "processes are left behind"
    assert not run.out.exists()
    caplog.set_level("INFO")
    train("dpo", tiny, run, settings)
    assert "going on after step" in caplog.text
    assert_same_model(whole.out, run.out, rtol=0, atol=2e-5)
    assert curve(run, "loss") == pytest.approx(curve(whole, "loss"), abs=1e-4)


@pytest.mark.slow
def test_every_process_does_the_work_on_the_rows_and_a_failing_one_ends_all_in_one_line(tmp_path):
    run = run_in(tmp_path, processes=2)
    frame = pl.DataFrame({"n": [1, 2, 3]})
    launching.launch(run, rank_work.tell, frame, str(tmp_path))
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["2 6", "2 6"]
    with pytest.raises(UserError) as failed:
        launching.launch(run, rank_work.raise_in_second, frame)
    assert str(failed.value) == (
        "section: training process 1 of 2 failed: ValueError: the disk is full; see "
        f"{run.checkpoints / 'job' / 'log.txt'}"
    )
    assert "Traceback" in (run.checkpoints / "job" / "log.txt").read_text()
    with pytest.raises(UserError, match="found one that was killed"):
        launching.launch(run, rank_work.kill_second, frame)


@pytest.mark.slow
def test_a_diverging_run_says_what_it_says_on_one_process(tiny, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(tiny, broken)
    weights = {name: 1e4 * tensor for name, tensor in load_file(tiny / "model.safetensors").items()}
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    settings = params(learning_rate=0.99, optimizer="sgd", max_grad_norm=0.0, warmup_ratio=0.0, epochs=100.0)
    run = run_in(tmp_path, processes=2)
    with pytest.raises(
        UserError,
        match=r"^training diverged at step \d+ of 300.*the learning_rate of section in params.yaml$",
    ):
        train("reward", broken, run, settings)


@pytest.mark.parametrize("count", [8, 16, 17, 19, 22])
@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("micro", [1, 2])
def test_the_processes_share_the_micro_batches_of_one_and_take_part_in_every_pass(count, world, micro):
    order = Shuffle(np.arange(count) % 5, 8, seed=3)
    alone = list(MicroBatches(order, micro, 1, 0))
    parts = [list(MicroBatches(order, micro, world, rank)) for rank in range(world)]
    assert len({len(part) for part in parts}) == 1
    assert all(len(MicroBatches(order, micro, world, 0)) == len(part) for part in parts)
    together = [batch for turn in zip(*parts, strict=True) for batch in turn]
    assert all(batch for batch in together)
    assert [batch for batch in together if batch[0][1]] == alone
    assert all(len({counts for _, counts in batch}) == 1 for batch in together)
    assert [row for batch in alone for row, _ in batch] == list(order)


def arguments(name: str):
    """What `accelerate launch` makes of a shipped configuration."""
    run = run_in(Path("nowhere"), processes=2, accelerate=name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launching, "config_file", lambda run: launching.SHIPPED / f"{run.accelerate}.yaml")
        words = launching.command(run, Path("nowhere"))
    assert words[1:3] == ["-m", "accelerate.commands.launch"]
    return _validate_launch_command(launch_command_parser().parse_args(words[3:]))[0]


def test_the_shipped_fsdp_shards_everything_and_leaves_precision_to_the_recipe():
    told = arguments("fsdp")
    assert (told.use_fsdp, told.num_processes, told.mixed_precision) == (True, 2, "no")
    with patch_environment(**prepare_multi_gpu_env(told)):
        plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    assert plugin.activation_checkpointing is True
    assert plugin.cpu_ram_efficient_loading is True
    assert plugin.mixed_precision_policy is None
    assert plugin.state_dict_type.name == "SHARDED_STATE_DICT"


def test_the_shipped_zero3_shards_everything_and_leaves_precision_to_the_recipe():
    told = arguments("zero3")
    assert (told.use_deepspeed, told.num_processes, told.mixed_precision) == (True, 2, "no")
    told.deepspeed_fields_from_accelerate_config = ""
    with patch_environment(**prepare_deepspeed_cmd_env(told)[1]):
        plugin = DeepSpeedPlugin()
    config = json.loads(json.dumps(plugin.deepspeed_config))
    assert config["zero_optimization"]["stage"] == 3
    assert config["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] is True
    assert config["zero_optimization"]["offload_param"]["device"] == "none"
    assert not any(config.get(name, {}).get("enabled") for name in ("bf16", "fp16", "torch_autocast"))


def found(monkeypatch, gpus: int) -> None:
    """Pretend that this machine has some GPUs."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)


def test_a_run_that_cannot_be_launched_says_why_before_anything_starts(tmp_path, monkeypatch, tiny):
    def world(**changes) -> int:
        return launching.world_size(run_in(tmp_path, **changes))

    found(monkeypatch, 0)
    assert world(processes=3) == 3
    with pytest.raises(UserError, match=r"at least 2 beside accelerate: fsdp, found 1; .* unset accelerate"):
        world(accelerate="fsdp")
    with pytest.raises(UserError, match=r"expected fsdp, zero3 or the path .* found nonsense"):
        world(processes=2, accelerate="nonsense")
    with pytest.raises(UserError, match=r"fsdp \(FSDP\) needs GPUs, found none"):
        world(processes=2, accelerate="fsdp")
    odd = tmp_path / "odd.yaml"
    odd.write_text("distributed_type: FSDP\nnum_porcesses: 8\n")
    with pytest.raises(UserError, match=r"odd\.yaml: expected a configuration for accelerate.*num_porcesses"):
        world(processes=2, accelerate=str(odd))
    with pytest.raises(UserError, match="divides its global_batch 8, found 3"):
        train("reward", tiny, run_in(tmp_path, processes=3))

    found(monkeypatch, 4)
    assert world(processes=4, accelerate="fsdp") == 4
    with pytest.raises(UserError, match=r"at most one per GPU of this machine \(4\), found 8"):
        world(processes=8)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="package deepspeed"):
        world(processes=4, accelerate="zero3")


def test_on_several_machines_the_world_is_all_of_them_and_the_ranks_are_theirs(tmp_path, monkeypatch):
    found(monkeypatch, 8)
    config = tmp_path / "four.yaml"
    shipped = (launching.SHIPPED / "fsdp.yaml").read_text()
    config.write_text(
        shipped.replace("num_machines: 1", "num_machines: 4")
        + "main_process_ip: 10.0.0.1\nmain_process_port: 29500\n"
    )
    run = run_in(tmp_path, processes=8, accelerate=str(config))
    assert launching.world_size(run) == 32
    words = launching.command(run, tmp_path / "job")
    found(monkeypatch, 0)
    told = _validate_launch_command(launch_command_parser().parse_args(words[3:]))[0]
    assert (told.num_machines, told.num_processes, told.machine_rank) == (4, 32, 0)
    assert (told.main_process_ip, told.main_process_port) == ("10.0.0.1", 29500)


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (
            "print('usage: ...'); print('accelerate: error: bad option'); exit(2)",
            r"word: accelerate: error: bad",
        ),
        (
            "print('ImportError: no such name'); print('====='); exit(1)",
            r"without a word: ImportError: no such",
        ),
        ("print('Stopped'); print('====='); exit(1)", "without a word: Stopped; see"),
        ("exit(3)", "could not be started, or ended without a word: nothing in the log"),
        ("import os; os.kill(os.getpid(), 9)", "found one that was killed"),
    ],
)
def test_a_launcher_that_fails_is_not_called_a_killed_process(program, said, tmp_path, monkeypatch):
    monkeypatch.setattr(launching, "command", lambda run, folder: [sys.executable, "-c", program])
    with pytest.raises(UserError, match=said):
        launching.launch(run_in(tmp_path, processes=2), rank_work.raise_in_second, pl.DataFrame({"n": [1]}))


def test_threads_are_those_of_the_settings_shared_by_the_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")
    monkeypatch.setattr(launching, "execution", lambda: Execution(threads=6))
    words = launching.command(run_in(tmp_path, processes=2), tmp_path)
    assert words[words.index("--num_cpu_threads_per_process") + 1] == "3"


def test_a_configuration_is_known_by_its_content(tmp_path):
    config = tmp_path / "config.yaml"
    run = run_in(tmp_path, processes=2, accelerate=str(config))
    config.write_text(DATA_PARALLEL)
    before = launching.config_digest(run)
    assert launching.config_digest(run) == before
    config.write_text(DATA_PARALLEL.replace("bf16", "fp16"))
    assert launching.config_digest(run) != before
    assert launching.config_digest(run_in(tmp_path, processes=2)) is None


def test_one_process_stays_in_this_one(tmp_path):
    seen = []
    launching.launch(run_in(tmp_path), lambda rows: seen.append((os.getpid(), rows.height)), rows("sft"))
    assert seen == [(os.getpid(), 20)]
    assert not (tmp_path / "checkpoints").exists()
