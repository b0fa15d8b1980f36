"""dvc.yaml tells the truth: names, code deps, paths, params and the chain of iterations match the modules."""

import shlex
from pathlib import Path

import pytest
from dvc.repo import Repo

from pipeline.params import read_file
from tests.closure import ROOT, adapters, closure, code_deps, stage_module

STAGES = {stage.addressing: stage for stage in Repo(str(ROOT)).index.stages}


def paths_of(entries) -> set[str]:
    return {Path(entry.def_path).as_posix() for entry in entries if entry.def_path}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_the_module_of_its_name(name):
    module = f"pipeline.stages.{name.partition('@')[0]}"
    assert stage_module(name.partition("@")[0]).exists()
    assert STAGES[name].cmd.startswith(f"python -m {module} ")


@pytest.mark.parametrize("name", STAGES)
def test_code_deps_are_the_import_closure(name):
    listed = {path for path in paths_of(STAGES[name].deps) if path.startswith("pipeline/")}
    expected = set(code_deps(name.partition("@")[0]))
    if name.startswith("standardize@"):
        adapter = read_file(ROOT / "params.yaml")["sources"][name.partition("@")[2]]["adapter"]
        expected.add(f"pipeline/sources/{adapter}.py")
    assert listed == expected, "run: make deps"


@pytest.mark.parametrize("adapter", adapters(), ids=lambda path: path.stem)
def test_standardize_lists_what_its_adapters_import(adapter):
    listed = {ROOT / path for path in code_deps("standardize")} | {adapter}
    assert closure(adapter) <= listed | set(adapters())


@pytest.mark.parametrize("name", STAGES)
def test_the_paths_of_a_command_are_its_deps_and_outs(name):
    stage = STAGES[name]
    words = shlex.split(stage.cmd)[3:]
    in_command = {
        word for word in words if word.startswith(("data/", "models/", "reports/")) or word == "params.yaml"
    }
    declared = {
        path
        for path in paths_of(stage.deps) | paths_of(stage.outs)
        # Which template is read says the recipe, as it says what code is used.
        if not path.startswith(("pipeline/", "recipes/templates"))
    }
    if name != "recipe":
        declared.discard("params.yaml")
    assert in_command == declared


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_says_what_it_is_for(name):
    assert STAGES[name].desc


@pytest.mark.parametrize("name", STAGES)
def test_only_the_report_is_kept_out_of_the_cache(name):
    # One uncached out switches off the run cache of its whole stage.
    assert name == "report" or all(out.use_cache for out in STAGES[name].outs)


def test_every_stage_module_is_a_stage():
    modules = {path.stem for path in (ROOT / "pipeline" / "stages").glob("*.py")} - {"__init__"}
    assert modules == {name.partition("@")[0] for name in STAGES}


def test_training_only_reads_models_of_earlier_policies():
    for key, row in read_file(ROOT / "params.yaml")["iterations"].items():
        assert f"models/policies/{row['prev']}" in paths_of(STAGES[f"train@{key}"].deps)
        answering = {f"models/policies/{row['prev']}", f"models/{row['variant']}"}
        assert answering <= paths_of(STAGES[f"generate@{key}"].deps)
