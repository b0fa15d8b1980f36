"""Execution settings: where they come from, and that they are no part of any result."""

import json
from pathlib import Path

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from pipeline.engines.cached import sample
from pipeline.errors import UserError
from pipeline.execution import EXEC_FILE, Execution, execution
from pipeline.ids import digest_folder
from pipeline.models import SampleRequest
from pipeline.params import read_file
from tests.smoke_project import ROOT, copy, must, run

NUMBERS = [name for name, field in Execution.model_fields.items() if field.annotation is int]
OTHERS = {
    "state": Path("/from/there"),
    "data": Path("/from/there"),
    "store": "s3://from/there",
    "launcher": "ray",
    "ray_address": "auto",
    "vllm": {"max_num_seqs": 8, "enforce_eager": True},
    "openai_url": "http://there:1/v1",
    "openai_model": "served",
    "judge_url": "https://there/v1",
    "accelerate": "fsdp",
}
REQUESTS = [SampleRequest((1, 2, i), 1.0, i) for i in range(9)]


def in_file(folder, **settings) -> None:
    with (folder / EXEC_FILE).open("w") as file:
        YAML().dump(settings, file)
    execution.cache_clear()


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_comes_from_the_environment_then_the_file_then_the_default(
    own_state, tmp_path, monkeypatch, name
):
    assert getattr(execution(), name) == Execution.model_fields[name].default
    in_file(tmp_path, **{name: 7})
    assert getattr(execution(), name) == 7
    monkeypatch.setenv(f"PAIRMILL_{name.upper()}", "9")
    execution.cache_clear()
    assert getattr(execution(), name) == 9


def test_each_setting_is_tested_here():
    assert {*NUMBERS, *OTHERS} == set(Execution.model_fields)


@pytest.mark.parametrize("name", OTHERS)
def test_any_other_setting_comes_from_the_environment_then_the_file_then_the_default(
    own_state, tmp_path, monkeypatch, name
):
    value = OTHERS[name]
    plain = str(value) if isinstance(value, Path) else value
    assert getattr(execution(), name) == Execution.model_fields[name].get_default(call_default_factory=True)
    in_file(tmp_path, **{name: plain})
    assert getattr(execution(), name) == value
    in_file(tmp_path)
    monkeypatch.setenv(f"PAIRMILL_{name.upper()}", json.dumps(plain) if isinstance(plain, dict) else plain)
    execution.cache_clear()
    assert getattr(execution(), name) == value


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"batch": 3}, "unknown key exec.batch"),
        ({"sample_batch": 0}, "exec.sample_batch: input should be greater than 0, found 0"),
        ({"shard_rows": 4000}, "exec.shard_rows: input should be less than or equal to 2048, found 4000"),
        ({"threads": "all"}, "exec.threads: input should be a valid integer, found 'all'"),
        ({"micro_batch": 2.5}, "exec.micro_batch: input should be a valid integer"),
        ({"launcher": "slurm"}, "exec.launcher: input should be 'local' or 'ray', found 'slurm'"),
        ({"vllm": "eager"}, "exec.vllm: input should be an object, found 'eager'"),
    ],
)
def test_a_wrong_setting_is_told_by_its_key_and_its_file(own_state, tmp_path, settings, said):
    in_file(tmp_path, **settings)
    with pytest.raises(UserError) as error:
        execution()
    assert said in str(error.value)
    assert str(error.value).startswith("exec.yaml")
    assert "params.yaml" not in str(error.value)


def test_a_wrong_variable_stops_a_stage_before_it_computes_anything(smoke, tmp_path):
    words = ("python", "-m", "pipeline.stages.recipe", "params.yaml", str(tmp_path / "recipe.json"))
    done = run(smoke.folder, *words, env={"PAIRMILL_THREADS": "many"})
    assert done.returncode == 2
    assert "exec.threads: input should be a valid integer, found 'many'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "recipe.json").exists()


def test_no_setting_is_a_parameter_and_no_stage_depends_on_the_file():
    sections = read_file(ROOT / "params.yaml")
    keys = {key for section in sections.values() if isinstance(section, dict) for key in section} | set(
        sections
    )
    assert not keys & set(Execution.model_fields)
    for stage in Repo(str(ROOT)).index.stages:
        assert EXEC_FILE.name not in {dep.def_path for dep in stage.deps}, stage.name
    assert EXEC_FILE.name in (ROOT / ".gitignore").read_text()


def test_a_stored_row_is_found_under_any_settings(own_state, tmp_path, tiny_model, monkeypatch):
    settings = {"engine": "fake", "dtype": "float32", "max_new_tokens": 9}
    before = sample(tiny_model, REQUESTS, **settings)
    stored = digest_folder(own_state / "store")
    in_file(tmp_path, **dict.fromkeys(NUMBERS, 1))
    assert sample(tiny_model, REQUESTS, **settings).equals(before)
    assert digest_folder(own_state / "store") == stored, "something was computed again"


def test_stages_give_the_same_bytes_under_other_settings(smoke, tmp_path):
    project = copy(smoke, tmp_path / "project", light=True)
    in_file(project, shard_rows=3, sample_batch=2, score_batch_tokens=300, state="elsewhere")
    for stage, *inputs in (
        ("generate", "t1", "data/prompts/t1.parquet", "models/policies/t0", "models/base"),
        ("judge", "t1", "data/iterations/t1/generate", "models/reward", "models/reward"),
    ):
        out = f"data/iterations/t1/{stage}"
        before = digest_folder(project / out)
        must(project, "python", "-m", f"pipeline.stages.{stage}", *inputs, f"again/{stage}")
        assert digest_folder(project / "again" / stage) == before
    assert (project / "elsewhere" / "store" / "sample").is_dir()
    records = (project / "elsewhere" / "runs.jsonl").read_text().splitlines()
    assert [json.loads(line)["stage"] for line in records] == ["generate@t1", "judge@t1"]
