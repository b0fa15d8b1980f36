"""`pairmill plan` against what `dvc repro` then does: which stages run, and which rows they compute."""

import shutil
import sys

import pytest

from pipeline import tables
from pipeline.schemas import SLICE
from tests.commands.conftest import write_model
from tests.commands.planned_project import PAIRMILL, computed, plan, ran, states, to_compute
from tests.judge_recipes import in_words
from tests.smoke_project import change, clone, copy, must, run
from tests.stages.answers import slice_of

pytestmark = pytest.mark.timeout(900)

PROMPTS, ANSWERS = 6, 5
"""Of an iteration, and of a prompt."""


def test_where_nothing_changed_nothing_would_run_and_torch_is_not_loaded(project):
    program = "import sys; from pipeline import cli; cli.main(['plan'])"
    check = f"try:\n {program}\nexcept SystemExit as end:\n print(end.code, 'torch' in sys.modules)"
    said = must(project, sys.executable, "-c", f"import sys\n{check}").splitlines()
    assert said[0] == "8 of 8 stages are up to date"
    assert said[1].startswith("row store .pairmill/store: ")
    assert said[2:] == ["0 False"]
    assert not must(project, "git", "status", "--porcelain")


def test_more_samples_cost_the_new_ones_and_no_scores_of_the_old(project):
    change(project, "generate.samples.0.count", 4)
    said = plan(project)
    assert said["stages"]["generate@t1"]["because"] == "params generate"
    exact = to_compute(said, "generate@t1", "generate@t2")
    assert exact == {"sample": 2 * 2 * PROMPTS}
    most = to_compute(said, "judge@t1", "judge@t2", exact=False)
    assert most == {"score": exact["sample"]}
    assert computed(project, "dvc", "repro", "generate") == exact
    then = to_compute(plan(project), "judge@t1", "judge@t2")
    assert 0 < then["score"] <= most["score"]
    assert computed(project, "dvc", "repro") == then
    assert states(plan(project)) == {}


def test_another_iteration_costs_itself_alone(project):
    change(project, "iterations.t3", {"prev": "t2", "variant": "policies/t1"})
    write_model(project / "models" / "policies" / "t2", project / "models" / "policies" / "t3")
    said = plan(project)
    assert states(said) == dict.fromkeys(("generate@t3", "judge@t3", "evaluate@t3"), "runs")
    exact = to_compute(said, "generate@t3")
    assert exact == {"sample": PROMPTS * ANSWERS}
    # Both what is compared and what KL is measured on is known; what is asked about these answers is not.
    known = [rows for rows in said["stages"]["evaluate@t3"]["rows"] if rows["exact"]]
    assert {rows["kind"] for rows in known} == {"sample"}
    assert sum(rows["compute"] for rows in known) == 2 * PROMPTS
    most = sum(stage["compute"] for stage in said["stages"].values())
    done = computed(project, "dvc", "repro")
    assert done["sample"] == exact["sample"] + 2 * PROMPTS
    assert sum(done.values()) <= most == said["total"]["compute_at_most"]
    # The bound is not a guess: only equal answers can be fewer rows.
    assert sum(done.values()) > 0.8 * most


def test_more_prompts_cost_these_prompts(project):
    prompts = slice_of(*(f"What is t1 number {i}?" for i in range(PROMPTS + 1)))
    tables.write(SLICE, prompts, project / "data" / "prompts" / "t1.parquet")
    said = plan(project, "judge@t1")
    assert states(said) == {"generate@t1": "runs", "judge@t1": "may run"}
    assert to_compute(said, "generate@t1") == {"sample": ANSWERS}
    assert computed(project, "dvc", "repro", "generate@t1") == {"sample": ANSWERS}
    assert to_compute(plan(project, "judge@t1"), "judge@t1") == computed(project, "dvc", "repro", "judge@t1")


def test_another_judge_asks_every_pair_of_answers_in_both_orders_and_nothing_twice(project):
    change(project, "judge.kind", "pairwise")
    change(project, "judge.model", "models/pairwise")
    change(project, "judge.referee", "models/pairwise")
    change(project, "judge.ranking", "round_robin")
    said = plan(project)
    names = ("judge@t1", "judge@t2", "evaluate_baselines")
    exact = to_compute(said, *names)
    assert 0 < exact["prefer"] <= 2 * PROMPTS * ANSWERS * (ANSWERS - 1)
    assert computed(project, "dvc", "repro", *names) == exact
    # The preference of an answer over pi_0's was known before, and the judge now asks just that.
    assert to_compute(said, "evaluate_baselines") == {}


def test_a_cascade_knows_its_rewards_and_bounds_what_it_asks_its_referee(project):
    change(project, "judge.kind", "cascade")
    change(project, "judge.referee", "models/pairwise")
    change(project, "judge.referee_margin", 1000.0)
    names = ("judge@t1", "judge@t2")
    said = plan(project)
    rows = [entry for name in names for entry in said["stages"][name]["rows"]]
    assert not any(entry["compute"] for entry in rows if entry["kind"] == "score"), "they are stored"
    first, later = ([entry for entry in rows if entry["exact"] is exact] for exact in (True, False))
    known, most = (sum(entry["compute"] for entry in part) for part in (first, rows))
    assert later
    done = computed(project, "dvc", "repro", *names)
    assert set(done) == {"prefer"}
    assert known < done["prefer"] <= most
    change(project, "judge.ranking", "round_robin")  # which a cascade has no use for
    assert to_compute(plan(project), *names) == {}
    assert all(plan(project)["stages"][name]["same_bytes"] for name in names)


def test_a_judge_in_words_is_planned_and_a_word_of_its_template_is_an_edit(project):
    template = project / "recipes" / "templates" / "pair.txt"
    words = in_words(template="recipes/templates/pair.txt")
    changes = {"kind": "prompted", "model": "models/base", "referee": "models/base", "prompted": words}
    for key, value in {**changes, "ranking": "round_robin"}.items():
        change(project, f"judge.{key}", value)
    names = ("judge@t1", "judge@t2")
    exact = to_compute(plan(project), *names)
    assert set(exact) == {"reply"}
    assert computed(project, "dvc", "repro", *names) == exact
    assert not {*names} & {*states(plan(project))}
    template.write_text(template.read_text() + "\n")  # reaches no question
    assert {*names} <= {*states(plan(project))}
    assert to_compute(plan(project), *names) == {}
    template.write_text("Listen. " + template.read_text())
    assert to_compute(plan(project), *names) == exact


def test_an_edit_of_code_that_changes_no_row_goes_no_further(project):
    with (project / "pipeline" / "engines" / "fake.py").open("a") as file:
        file.write("\n# another remark\n")
    said = plan(project)
    assert set(states(said).values()) == {"runs"}
    assert {stage["because"] for stage in said["stages"].values() if stage["rows"]} == {"code (1)"}
    assert all(said["stages"][name]["same_bytes"] for name in states(said))
    assert (said["total"]["compute_at_most"], said["total"]["seconds"]) == (0, 0)
    # Only because a stage's bytes will be the same could the next one be asked exactly.
    assert ran(must(project, "dvc", "repro")) == list(states(said))


def test_a_value_tried_before_is_brought_back_with_all_that_follows(project):
    change(project, "generate.max_new_tokens", 9)
    must(project, "dvc", "repro", "judge@t1")
    change(project, "generate.max_new_tokens", 48)
    said = plan(project, "judge@t1")
    assert states(said) == {"generate@t1": "restored", "judge@t1": "restored"}
    assert ran(must(project, "dvc", "repro", "judge@t1")) == []


def test_a_lost_output_is_brought_back_or_made_from_the_store(project):
    shutil.rmtree(project / "data" / "iterations" / "t1" / "judge")
    assert states(plan(project)) == {"judge@t1": "restored"}
    shutil.rmtree(project / ".dvc" / "cache")
    said = plan(project, "judge@t1")
    # Without the cache DVC cannot vouch for the answers either: they are made again, from the store.
    assert states(said) == {"generate@t1": "runs", "judge@t1": "runs"}
    assert said["total"]["compute_at_most"] == 0
    assert not computed(project, "dvc", "repro", "judge@t1")


def test_without_a_lock_file_the_run_cache_remembers(project):
    (project / "dvc.lock").unlink()
    assert set(states(plan(project)).values()) == {"restored"}
    shutil.rmtree(project / ".dvc" / "cache" / "runs")
    said = plan(project, "generate@t1")
    assert said["stages"]["generate@t1"]["because"] == "never run"
    assert to_compute(said, "generate@t1") == {}


def test_a_missing_input_is_told_and_bounded(project):
    shutil.rmtree(project / "models" / "policies" / "t1")
    said = plan(project, "evaluate@t1")
    assert said["stages"]["evaluate@t1"]["because"] == "models/policies/t1 is missing"
    assert to_compute(said, "evaluate@t1", exact=False)["sample"] == 2 * PROMPTS


def test_a_damaged_store_is_planned_as_what_is_left_of_it(project):
    for shard in (project / ".pairmill" / "store" / "sample").rglob("*.parquet"):
        shard.write_bytes(shard.read_bytes()[:-20])
    change(project, "generate.samples.0.count", 3)
    exact = to_compute(plan(project, "generate@t1"), "generate@t1")
    assert exact == {"sample": PROMPTS * (ANSWERS + 1)}
    assert computed(project, "dvc", "repro", "generate@t1") == exact


def test_a_table_for_people_tells_the_same(project):
    change(project, "generate.samples.0.count", 4)
    lines = must(project, *PAIRMILL, "plan").splitlines()
    rows = {line.split()[0]: line.split() for line in lines if "@" in line.split("  ")[0]}
    assert lines[0].split() == [
        *("stage", "would", "because", "rows", "asked", "stored", "to", "compute", "time")
    ]
    assert rows["generate@t1"][:8] == [
        *("generate@t1", "runs", "params", "generate", "sample", "42", "30", "12"),
    ]
    assert rows["judge@t1"][:8] == [*("judge@t1", "may", "run", "generate@t1", "score", "42", "at", "most")]
    assert "rows to compute: 24, at most 48" in lines
    assert "evaluate@t1" in must(project, *PAIRMILL, "plan", "--all")


def test_a_project_that_was_never_built_has_bounds_from_the_recipe_alone(tmp_path):
    project = clone(tmp_path / "project")
    said = plan(project)
    assert set(states(said).values()) == {"runs"}
    assert said["stages"]["generate@t2"]["because"] == "never run"
    assert to_compute(said, "generate@t1", exact=False) == {"sample": 16 * ANSWERS}
    assert to_compute(said, "evaluate@t1", exact=False)["log_probs"] == 40
    assert said["total"]["compute"] == 0 < said["total"]["compute_at_most"]
    assert said["store"]["rows"] == 0
    assert "evaluate@t1" in said["total"]["time_unknown"]


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("judge.kind", "bts", "judge.kind"),
        ("iterations.t2", {"prev": "t7", "variant": "base"}, "iterations.t2.prev"),
        ("generate.max_prompt_tokens", 100_000, "generate@t1: "),
    ],
)
def test_a_mistake_in_the_recipe_is_one_line(project, key, value, complaint):
    change(project, key, value)
    done = run(project, *PAIRMILL, "plan")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert complaint in done.stderr


def test_an_unknown_stage_and_a_folder_without_a_pipeline_are_one_line(project, tmp_path):
    (tmp_path / "empty").mkdir()
    for folder, words in ((project, ["nonsense"]), (tmp_path / "empty", [])):
        done = run(folder, *PAIRMILL, "plan", *words, env={"PYTHONPATH": str(project)})
        assert done.returncode == 2
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_the_plan_of_the_whole_pipeline_bounds_what_another_iteration_computes(smoke, tmp_path):
    project = copy(smoke, tmp_path / "project")
    change(project, "iterations.t3", {"prev": "t2", "variant": "policies/t1"})
    said = plan(project)
    own = ["generate@t3", "judge@t3", "pair@t3", "gather@t3", "train@t3", "evaluate@t3"]
    over_all = ["control", "select", "release", "report"]
    assert sorted(states(said)) == sorted([*own, "counterfactual@t3", *over_all])
    done = computed(project, "dvc", "repro")
    assert to_compute(said, "generate@t3")["sample"] + 2 * 20 == done["sample"]
    assert 0.8 * said["total"]["compute_at_most"] < sum(done.values()) <= said["total"]["compute_at_most"]
    assert states(plan(project)) == {}
