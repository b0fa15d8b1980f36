"""`pairmill store`: what is in it, who asks it; and `gc`, after which nothing that is asked is missing."""

import json

import pytest

from pipeline.commands.asks import ASKING as ASKS
from tests.commands.planned_project import PAIRMILL, computed, launches, plan
from tests.smoke_project import change, copy, must, run

pytestmark = pytest.mark.timeout(900)

ASKING = (
    *("evaluate_baselines", "generate@t1", "judge@t1", "generate@t2", "judge@t2"),
    *("evaluate@t1", "evaluate@t2"),
)


def files(project) -> dict[str, bytes]:
    """Every file of the store."""
    root = project / ".pairmill" / "store"
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def stats(project) -> dict:
    return json.loads(must(project, *PAIRMILL, "store", "stats", "--json"))


def asking(said: dict) -> set[str]:
    """The stages that ask something; each asks no kind of cells but those that `gc` expects of it."""
    for one in said["sets"]:
        for stage in one["stages"]:
            assert one["identity"]["kind"] in ASKS[stage.partition("@")[0]].kinds, stage
    return {stage for one in said["sets"] for stage in one["stages"]}


def gc(project, *words: str) -> str:
    return must(project, *PAIRMILL, "store", "gc", "--older-than", "0", *words).splitlines()[-1]


def tried_another_temperature(project) -> None:
    """The state after an evaluation at another temperature: the answers of before are asked no more."""
    change(project, "evaluate.temperature", 0.5)
    must(project, "dvc", "repro", "evaluate_baselines", "evaluate@t1", "evaluate@t2")


def test_every_set_of_a_fresh_build_is_asked_by_a_stage_and_every_row_counted(project):
    said = stats(project)
    assert asking(said) == set(ASKING)
    assert all(one["stages"] for one in said["sets"])
    assert said["total"]["rows"] == sum(line["rows"] for line in launches(project))
    assert said["unknown"] == {}
    table = must(project, *PAIRMILL, "store", "stats")
    assert "not known" not in table and "no stage asks" not in table


def test_a_fresh_build_has_nothing_to_remove(project):
    before = files(project)
    assert gc(project).startswith("removed 0 rows, 0 files")
    assert files(project) == before


def test_what_is_not_asked_goes_and_what_is_asked_stays(project):
    tried_another_temperature(project)
    before = files(project)
    would = gc(project, "--dry-run")
    assert files(project) == before, "a dry run changed the store"
    # Answers of t0, offline_dpo, t1 and t2 to 6 prompts, and what was asked about them.
    assert int(would.split()[2]) > 4 * 6
    assert gc(project).removeprefix("removed") == would.removeprefix("would remove")
    assert sum(map(len, files(project).values())) < sum(map(len, before.values()))
    assert not computed(project, "dvc", "repro", "--force", "--single-item", "--no-run-cache", *ASKING)
    assert gc(project).startswith("removed 0 rows, 0 files")


def test_rows_of_a_day_are_young(project):
    tried_another_temperature(project)
    said = must(project, *PAIRMILL, "store", "gc").splitlines()
    assert said[-1].startswith("removed 0 rows, 0 files")


@pytest.mark.parametrize("days", ["-1", "nan", "inf"])
def test_an_age_that_is_none_is_one_line(project, days):
    before = files(project)
    done = run(project, *PAIRMILL, "store", "gc", "--older-than", days)
    assert done.returncode == 2
    assert done.stderr.startswith("error: store gc: ") and done.stderr.count("\n") == 1
    assert files(project) == before


def test_a_stage_whose_inputs_are_out_of_date_is_not_guessed(project):
    change(project, "generate.samples.0.count", 3)
    before = files(project)
    done = run(project, *PAIRMILL, "store", "gc", "--older-than", "0")
    assert done.returncode == 2
    assert done.stderr.startswith("error: store gc: ") and done.stderr.count("\n") == 1
    assert "judge@t1" in done.stderr and "dvc repro" in done.stderr and "--force" in done.stderr
    assert files(project) == before
    # Scores that judge may ask, answers and log-probabilities that evaluate may ask: all kinds stay.
    assert gc(project, "--force").startswith("removed 0 rows, 0 files")
    assert "not known what these stages ask: judge@t1" in must(project, *PAIRMILL, "store", "stats")


def test_scores_of_answers_that_the_store_lost_are_not_guessed(project):
    for shard in (project / ".pairmill" / "store" / "sample").rglob("*.parquet"):
        shard.unlink()
    done = run(project, *PAIRMILL, "store", "gc", "--older-than", "0")
    assert done.returncode == 2
    assert "dvc repro --force --single-item evaluate_baselines" in done.stderr


def test_damaged_shards_are_told_and_removed(project):
    shard = next((project / ".pairmill" / "store" / "score").rglob("*.parquet"))
    shard.write_bytes(b"")
    assert stats(project)["total"]["damaged"] == 1
    before = files(project)
    assert gc(project, "--dry-run").startswith("would remove 0 rows, 1 files")
    assert files(project) == before
    assert gc(project).startswith("removed 0 rows, 1 files")
    assert stats(project)["total"]["damaged"] == 0


def test_lines_that_a_crash_cut_keep_nobody_from_the_plan_and_the_costs(project):
    for name in ("cells.jsonl", "runs.jsonl"):
        with (project / ".pairmill" / name).open("ab") as file:
            file.write(b'{"stage": "cut {}\n{"stage": "\xc3')
    assert plan(project)["total"]["compute"] == 0
    assert "evaluate@t1" in must(project, *PAIRMILL, "costs")


def test_the_store_may_be_elsewhere(project, tmp_path):
    moved = tmp_path / "shared"
    (project / ".pairmill" / "store").rename(moved)
    (project / "exec.yaml").write_text(f"store: {moved}\n")
    assert stats(project)["url"] == str(moved)
    said = plan(project)
    assert said["store"]["url"] == str(moved)
    assert said["store"]["rows"] == stats(project)["total"]["rows"] > 0


@pytest.mark.slow
def test_what_the_whole_pipeline_computed_is_asked_to_the_last_row(smoke, tmp_path):
    project = copy(smoke, tmp_path / "project")
    asked = asking(stats(project))
    heads = ("reward@control", "learning_curve@control")
    assert asked == {*ASKING, *heads, "control", "evaluate_judges", "offline_dpo", "train@t1", "train@t2"}
    assert gc(project).startswith("removed 0 rows, 0 files")
