import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.engines import curves
from pipeline.engines.checkpoints import claim, intact, newest, seal
from pipeline.engines.tiny_models import tiny_random
from tests.engines.tiny_runs import KINDS, LORA, curve, params, run_in, train

ROOT = Path(__file__).parents[2]


class Cut(BaseException):
    """Stands for a kill between two steps."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_random(folder, "smollm2")
    return folder


def train_until(step: int, monkeypatch, kind, tiny, run, settings) -> None:
    """Train, but stop dead after `step`, once its checkpoint would be written."""
    advance = curves.Progress.advance

    def cut(self: curves.Progress, done: int, loss: float | None) -> None:
        if done > step:
            raise Cut
        advance(self, done, loss)

    with monkeypatch.context() as patch, pytest.raises(Cut):
        patch.setattr(curves.Progress, "advance", cut)
        train(kind, tiny, run, settings)


def steps_kept(run) -> list[int]:
    return sorted(int(path.name.rpartition("-")[2]) for path in run.checkpoints.glob("checkpoint-*"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [2, 3, 5])
def test_a_run_cut_anywhere_in_an_epoch_ends_with_the_same_bytes(
    kind, step, tiny, tmp_path, monkeypatch, caplog
):
    """Three steps an epoch: cut within the first, between the two, and within the second."""
    whole = train(kind, tiny, run_in(tmp_path / "whole"))
    run = run_in(tmp_path / "cut", save_every_seconds=0)
    train_until(step, monkeypatch, kind, tiny, run, params())
    assert steps_kept(run) == [step - 1, step]
    caplog.set_level("INFO")
    assert train(kind, tiny, run) == whole
    assert f"going on after step {step}" in caplog.text
    assert not run.checkpoints.exists()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [2, 4])
def test_a_cut_run_of_adapters_ends_with_the_same_bytes(kind, step, tiny, tmp_path, monkeypatch, caplog):
    """A checkpoint holds the adapters and the score head; their dropout goes on where it was."""
    settings = params(lora=LORA)
    whole = train(kind, tiny, run_in(tmp_path / "whole"), settings)
    run = run_in(tmp_path / "cut", save_every_seconds=0)
    train_until(step, monkeypatch, kind, tiny, run, settings)
    caplog.set_level("INFO")
    assert train(kind, tiny, run, settings) == whole
    assert f"going on after step {step}" in caplog.text


def test_a_run_that_logs_now_and_then_is_cut_without_a_trace_in_its_curves(tiny, tmp_path, monkeypatch):
    """405 steps, logged every third: the mean loss since the last point is in no checkpoint."""
    settings = params(global_batch=1, epochs=20.25)
    whole = train("reward", tiny, run_in(tmp_path / "whole"), settings)
    run = run_in(tmp_path / "cut", save_every_seconds=0)
    train_until(50, monkeypatch, "reward", tiny, run, settings)
    assert steps_kept(run) == [45, 48]
    assert train("reward", tiny, run, settings) == whole


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "unsealed"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(damage, tiny, tmp_path, monkeypatch, caplog):
    whole = train("reward", tiny, run_in(tmp_path / "whole"))
    run = run_in(tmp_path / "cut", save_every_seconds=0)
    train_until(4, monkeypatch, "reward", tiny, run, params())
    folder = run.checkpoints / "checkpoint-4"
    weights = folder / "model.safetensors"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "flipped":
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    elif damage == "missing":
        (folder / "optimizer.pt").unlink()
    else:
        (folder / "complete.json").unlink()
    caplog.set_level("INFO")
    assert train("reward", tiny, run) == whole
    assert "the checkpoint of step 4 is damaged or incomplete" in caplog.text
    assert "going on after step 3" in caplog.text


def test_with_all_checkpoints_damaged_the_run_starts_anew(tiny, tmp_path, monkeypatch, caplog):
    whole = train("sft", tiny, run_in(tmp_path / "whole"))
    run = run_in(tmp_path / "cut", save_every_seconds=0)
    train_until(4, monkeypatch, "sft", tiny, run, params())
    for path in run.checkpoints.glob("checkpoint-*/trainer_state.json"):
        path.write_text("{")
    assert train("sft", tiny, run) == whole
    assert "no checkpoint is intact; starting anew" in caplog.text


def test_checkpoints_of_other_settings_are_not_used(tiny, tmp_path, monkeypatch, caplog):
    whole = train("sft", tiny, run_in(tmp_path / "whole"), params(seed=5))
    run = run_in(tmp_path / "cut", save_every_seconds=0)
    train_until(4, monkeypatch, "sft", tiny, run, params())
    assert train("sft", tiny, run, params(seed=5)) == whole
    assert "belong to other settings or rows" in caplog.text


def test_no_checkpoint_is_written_before_the_time_is_due(tiny, tmp_path, monkeypatch):
    run = run_in(tmp_path, save_every_seconds=600)
    train_until(4, monkeypatch, "sft", tiny, run, params())
    assert steps_kept(run) == []


PROGRAM = """
import sys
from pathlib import Path
from tests.engines.tiny_runs import LORA, params, run_in, train
lora = LORA if sys.argv[3] == "lora" else None
run = run_in(Path(sys.argv[2]), save_every_seconds=0)
train("dpo", Path(sys.argv[1]), run, params(epochs=40.5, lora=lora))
"""


@pytest.mark.parametrize("way", ["whole", "lora"])
def test_a_killed_process_goes_on_and_ends_with_the_same_bytes(way, tiny, tmp_path, caplog):
    settings = params(epochs=40.5, lora=LORA if way == "lora" else None)
    undisturbed = train("dpo", tiny, run_in(tmp_path / "undisturbed"), settings)
    run = run_in(tmp_path / "killed", save_every_seconds=0)
    command = [sys.executable, "-c", PROGRAM, str(tiny), str(run.out.parent), way]
    with subprocess.Popen(command, cwd=ROOT) as process:
        deadline = time.monotonic() + 300
        while not list(run.checkpoints.glob("checkpoint-*/complete.json")):
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert not run.out.exists()
    caplog.set_level("INFO")
    assert train("dpo", tiny, run, settings) == undisturbed
    assert "going on after step" in caplog.text
    assert curve(run, "learning_rate")[0] == 0


def test_a_seal_covers_every_file(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    assert not intact(tmp_path)
    seal(tmp_path)
    assert intact(tmp_path)
    (tmp_path / "a").write_bytes(b"2")
    assert not intact(tmp_path)


def test_the_newest_checkpoint_is_the_one_of_the_highest_step_not_the_last_name(tmp_path):
    for step in (9, 10):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        seal(folder)
    (tmp_path / "checkpoint-best").mkdir()
    assert newest(tmp_path) == tmp_path / "checkpoint-10"


def test_claiming_the_same_folder_twice_keeps_what_is_in_it(tmp_path):
    claim(tmp_path / "run", "one")
    (tmp_path / "run" / "file").touch()
    claim(tmp_path / "run", "one")
    assert (tmp_path / "run" / "file").exists()
    claim(tmp_path / "run", "two")
    assert not (tmp_path / "run" / "file").exists()
