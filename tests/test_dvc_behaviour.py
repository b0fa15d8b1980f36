"""What DVC does with this pipeline: an edit runs what it changes and no more, and everyday commands work."""

import json

import polars as pl
import pytest
from ruamel.yaml import YAML

from pipeline.execution import Execution
from tests.smoke_project import change, commit, copy, executed, must, run

CLEAN = "Data and pipelines are up to date."


@pytest.fixture
def project(smoke, tmp_path):
    return copy(smoke, tmp_path / "project")


def test_another_iteration_runs_that_iteration_and_what_looks_at_all_of_them(project):
    change(project, "iterations.t3", {"prev": "t2", "variant": "checkpoints/t1/0.5"})
    ran = executed(must(project, "dvc", "repro"))
    iteration = ["generate@t3", "judge@t3", "pair@t3", "gather@t3", "train@t3", "evaluate@t3"]
    over_all = ["select", "control", "release", "report"]
    assert sorted(ran) == sorted(["recipe", *iteration, "counterfactual@t3", *over_all])
    assert [name for name in ran if name in iteration] == iteration
    assert sorted(path.name for path in (project / "models" / "policies").iterdir() if path.is_dir()) == [
        *("t0", "t1", "t2", "t3")
    ]


def test_an_edit_that_changes_no_row_stops_where_the_bytes_are_the_same(project):
    for section in ("mixes.quickstart", "prompts", "sft_mix"):
        change(project, f"{section}.max_characters", 100_000)
    ran = executed(must(project, "dvc", "repro"))
    # The report shows the mixes of the recipe, so it is written anew; no model is asked anything.
    assert sorted(ran) == ["mix@quickstart", "prompts", "recipe", "report", "sft_mix"]


def test_execution_settings_make_nothing_stale(project):
    assert CLEAN in must(project, "dvc", "status")
    settings = {name: 1 for name, field in Execution.model_fields.items() if field.annotation is int}
    settings |= {name: "elsewhere" for name in Execution.model_fields if name not in settings}
    with (project / "exec.yaml").open("w") as file:
        YAML().dump(settings, file)
    variables = {f"PAIRMILL_{name.upper()}": str(value) for name, value in settings.items()}
    assert CLEAN in must(project, "dvc", "status", env=variables)
    assert not must(project, "git", "status", "--porcelain"), "exec.yaml is not ignored"


def test_a_colleague_pulls_everything_and_runs_nothing(project, tmp_path):
    must(project, "dvc", "remote", "add", "--default", "store", str(tmp_path / "remote"))
    commit(project, "remote")
    must(project, "dvc", "push", "-q")
    must(tmp_path, "git", "clone", "-q", str(project), "clone")
    clone = tmp_path / "clone"
    must(clone, "dvc", "pull", "-q")
    assert CLEAN in must(clone, "dvc", "status")
    assert executed(must(clone, "dvc", "repro")) == []
    best = clone / "models" / "best" / "model.safetensors"
    assert best.read_bytes() == (project / "models" / "best" / "model.safetensors").read_bytes()


def test_an_experiment_changes_one_value_and_its_effects_can_be_compared(project):
    output = must(
        project, "dvc", "exp", "run", "--set-param", "select.require_gain=true", "--name", "shorter"
    )
    assert sorted(executed(output)) == ["recipe", "report", "select"]
    assert json.loads((project / "data" / "select" / "verdict.json").read_text())["rule"].endswith(
        "clear of 0"
    )
    changed = json.loads(must(project, "dvc", "params", "diff", "--json"))["params.yaml"]
    assert list(changed) == ["select.require_gain"]
    assert changed["select.require_gain"]["new"] is True
    assert "shorter" in must(project, "dvc", "exp", "list", "--name-only")
    must(project, "dvc", "metrics", "diff")
    must(project, "dvc", "exp", "show", "--csv")


def test_everyday_commands_work(project):
    assert "reports/metrics.json" in must(project, "dvc", "metrics", "show")
    assert "train@t2" in must(project, "dvc", "dag")
    listed = must(project, "dvc", "stage", "list").splitlines()
    assert any(line.startswith("train@t1") and "Train the policy of t1" in line for line in listed)
    assert must(project, "dvc", "plots", "show").strip().endswith("index.html")
    page = (project / "dvc_plots" / "index.html").read_text(encoding="utf-8")
    assert "reward_by_policy" in page or "Mean reward of the validation answers" in page
    assert not must(project, "git", "status", "--porcelain"), "a command left a file that git does not ignore"


def test_a_failed_stage_is_not_locked_and_runs_again(project):
    change(project, "pack.block", 32)
    change(project, "pack.overflow", "drop")
    failed = run(project, "dvc", "repro", "pack")
    assert failed.returncode != 0
    assert "raise pack.block in params.yaml" in failed.stderr
    change(project, "pack.block", 1024)
    # The earlier result comes from DVC's run cache: nothing is computed.
    assert "pack" not in executed(must(project, "dvc", "repro", "pack"))
    assert CLEAN in must(project, "dvc", "status", "pack")


def test_a_mix_that_fails_its_gate_is_not_trained_on(project):
    change(project, "profile.gates.offline", 0.501)
    failed = run(project, "dvc", "repro", "offline_dpo")
    assert failed.returncode != 0
    assert "mix offline fails its gate: expected no content-blind baseline above 50.1%" in failed.stderr
    assert executed(failed.stdout) == ["recipe", "profile@offline"]
    page = (project / ".pairmill" / "profiles" / "offline.md").read_text(encoding="utf-8")
    assert "longer wins" in page and "FAILS" in page


def test_a_raised_gate_trains_nothing_again(project):
    change(project, "profile.gates.quickstart", 0.95)
    assert sorted(executed(must(project, "dvc", "repro"))) == ["profile@quickstart", "recipe", "report"]


def test_other_rules_to_compare_with_train_nothing_again(project):
    change(project, "counterfactual.lengths", [{"rule": "residual"}])
    ran = executed(must(project, "dvc", "repro"))
    assert sorted(ran) == ["counterfactual@t1", "counterfactual@t2", "recipe", "report"]


def test_several_judges_judge_the_candidates_of_one_iteration_and_are_joined(project):
    change(project, "judge.also", ["pairwise"])
    change(project, "judge.referee", "models/pairwise")
    change(project, "pair.judges", {"rule": "mean"})
    ran = executed(must(project, "dvc", "repro", "pair@t1", "counterfactual@t1"))
    assert sorted(ran) == ["counterfactual@t1", "judge@t1", "pair@t1", "recipe"]
    made = project / "data" / "iterations" / "t1"
    judged = pl.read_parquet(made / "judge" / "judgments.parquet")
    assert judged.group_by("judge").len().sort("judge")["judge"].to_list() == ["bt", "pairwise"]
    assert judged["judge"].value_counts()["count"].n_unique() == 1
    assert set(pl.read_parquet(made / "pair" / "pairs.parquet")["judge"]) == {"bt+pairwise"}
    told = json.loads((project / "data" / "counterfactuals" / "t1" / "counterfactual.json").read_text())
    assert [two["judges"] for two in told["rank_agreement"]] == [["bt", "pairwise"]]


@pytest.mark.parametrize(
    ("kind", "model", "referee"),
    [
        ("pairwise", "models/pairwise", "models/pairwise"),
        ("prompted", "models/base", "models/base"),
        ("cascade", "models/reward", "models/pairwise"),
    ],
)
def test_another_judge_judges_the_same_candidates(project, kind, model, referee):
    for key, value in {"kind": kind, "model": model, "referee": referee, "referee_margin": 2.0}.items():
        change(project, f"judge.{key}", value)
    ran = executed(must(project, "dvc", "repro", "pair@t1", "evaluate_baselines"))
    assert sorted(ran) == ["evaluate_baselines", "judge@t1", "pair@t1", "recipe"]
    judged = pl.read_parquet(project / "data" / "iterations" / "t1" / "judge" / "judgments.parquet")
    assert judged["judge"].unique().to_list() == [kind]
    assert judged["comparisons"].max() > 0
    account = json.loads((project / "data" / "iterations" / "t1" / "judge" / "judge.json").read_text())
    assert account["questions"] > 0
    # A judge's model that is also its referee stands twice among the deps, and DVC takes it.
    clean = json.loads(must(project, "dvc", "status", "--json", "judge@t1", "pair@t1"))
    assert clean == {}
    with (project / referee / "config.json").open("a") as file:
        file.write("\n")
    assert "judge@t1" in json.loads(must(project, "dvc", "status", "--json", "judge@t1"))
