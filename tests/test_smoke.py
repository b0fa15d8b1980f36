"""The whole pipeline on fake engines and a tiny model: it runs, once, and its bytes repeat."""

import json
from pathlib import Path

import polars as pl
from dvc.repo import Repo

from pipeline.ids import digest_folder
from tests.smoke_project import change, copy, executed, must

#: Stages that must not load torch when engines are fake: 3 seconds each, and 400 MiB.
LIGHT = (
    "generate",
    "judge",
    "evaluate",
    "evaluate_judges",
    "evaluate_baselines",
    "pack",
    "mix",
    "profile",
    "report",
)

EXPLORATION = {"name": "uncertainty", "ridge": 1.0, "eta": 0.1, "budget": 20.0}
EXPLORATION |= {"max_length": 512, "dtype": "float32"}


def read(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_every_stage_runs_once_and_makes_its_outs(smoke):
    stages = Repo(str(smoke.folder)).index.stages
    assert sorted(executed(smoke.output)) == sorted(stage.name for stage in stages)
    assert executed(smoke.output)[0] == "recipe"
    for stage in stages:
        for out in stage.outs:
            path = Path(out.fs_path)
            assert path.is_file() or any(path.iterdir()), f"{stage.name} made no {out.def_path}"


def test_a_second_run_does_nothing(smoke, tmp_path):
    output = must(copy(smoke, tmp_path / "project"), "dvc", "repro")
    assert executed(output) == []
    assert "Data and pipelines are up to date." in output


def test_a_run_adds_nothing_to_git_but_the_lock_and_the_reports(smoke):
    added = set(must(smoke.folder, "git", "diff", "--name-only", "HEAD~1", "HEAD").split())
    reports = {"index.html", "metrics.json", "iterations.csv", "ledger.csv"}
    assert added == {"dvc.lock", *(f"reports/{name}" for name in reports)}
    assert not must(smoke.folder, "git", "status", "--porcelain")


def test_every_ledger_adds_up(smoke):
    files = sorted((smoke.folder / "data").rglob("counts.json"))
    stages = {read(file)["stage"].partition("@")[0] for file in files}
    assert stages >= {
        "standardize",
        "mix",
        "prompts",
        "sft_mix",
        "pack",
        "reward",
        "evaluate_judges",
        "generate",
        "judge",
        "pair",
        "train",
    }
    for file in files:
        counts = read(file)
        assert counts["in"] == counts["kept"] + sum(counts["dropped"].values()), file


def test_the_best_policy_is_a_copy_of_the_one_that_the_verdict_names(smoke):
    verdict = read(smoke.folder / "data" / "select" / "verdict.json")
    policies = smoke.folder / "models" / "policies"
    digests = {folder.name: digest_folder(folder) for folder in policies.iterdir()}
    assert set(digests) == {"t0", "t1", "t2"}
    assert len(set(digests.values())) == 3, "a policy is the same as another: an iteration trained nothing"
    assert digest_folder(smoke.folder / "models" / "best") == digests[verdict["best"]]


def test_the_report_names_every_policy(smoke):
    page = (smoke.folder / "reports" / "index.html").read_text(encoding="utf-8")
    table = (smoke.folder / "reports" / "iterations.csv").read_text(encoding="utf-8")
    for policy in ("t0", "t1", "t2"):
        assert policy in page
        assert policy in table
    assert read(smoke.folder / "reports" / "metrics.json")


def test_the_cost_of_each_stage_is_recorded_and_light_stages_are_light(smoke):
    lines = (smoke.folder / ".pairmill" / "runs.jsonl").read_text(encoding="utf-8").splitlines()
    costs = {record["stage"]: record["peak_mib"] for record in map(json.loads, lines)}
    assert sorted(costs) == sorted(executed(smoke.output))
    heavy = {stage: peak for stage, peak in costs.items() if stage.partition("@")[0] in LIGHT and peak > 300}
    assert heavy == {}


def test_made_again_without_the_row_store_everything_has_the_same_bytes(smoke, tmp_path):
    project = copy(smoke, tmp_path / "project")
    for shard in (project / ".pairmill" / "store").rglob("*.parquet"):
        shard.unlink()
    again = (
        *("standardize@ultrafeedback", "mix@quickstart", "prompts", "sft_mix", "pack", "generate@t1"),
        *("judge@t1", "pair@t1", "gather@t1", "train@t1", "evaluate@t1", "release", "report"),
    )
    output = must(project, "dvc", "repro", "--force", "--single-item", "--no-run-cache", *again)
    assert executed(output) == list(again)
    assert must(project, "git", "diff", "--stat") == ""


def test_exploration_pairs_what_the_pairs_before_tell_least_of_and_trains_on_it(smoke, tmp_path):
    project = copy(smoke, tmp_path / "project")
    change(project, "pair.strategy", EXPLORATION)
    change(project, "gather.pairs", "cumulative")
    ran = executed(must(project, "dvc", "repro", "train@t2"))
    assert {"pair@t1", "train@t1", "generate@t2", "pair@t2", "train@t2"} <= set(ran)
    for iteration in ("t1", "t2"):
        counts = read(project / "data" / "iterations" / iteration / "pair" / "counts.json")
        assert counts["kept"] > 0, counts
    first, second = (
        pl.read_parquet(project / "data" / "iterations" / iteration / "pair" / "pairs.parquet")
        for iteration in ("t1", "t2")
    )
    known = pl.read_parquet(project / "data" / "history" / "t2" / "history.parquet")
    assert set(first["pair_id"]) | set(second["pair_id"]) <= set(known["pair_id"])
    margins = pl.read_parquet(smoke.folder / "data" / "iterations" / "t1" / "pair" / "pairs.parquet")
    assert first["margin"].mean() < margins["margin"].mean(), (
        "the rule was not used: no pair can beat best_worst"
    )
