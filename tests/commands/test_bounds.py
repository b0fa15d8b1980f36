"""Bounds of the rows that a stage can ask, from the recipe and from the tables that stay as they are."""

import shutil

import polars as pl
import pytest

from pipeline.commands.bounds import Bounds
from pipeline.commands.graph import Outlook
from tests.smoke_project import ROOT, change

GENERATE = ("t1", "data/prompts/t1.parquet", "models/policies/t0", "models/base")
MIX = "data/mixes/offline"
JUDGE = ("t1", "data/iterations/t1/generate", "models/reward")


@pytest.fixture
def project(own_state, tmp_path):
    shutil.copyfile(ROOT / "recipes" / "smoke.yaml", tmp_path / "params.yaml")
    change(tmp_path, "prompts.per_slice", 10)
    change(tmp_path, "generate.samples", [{"policy": "current", "temperature": 1.0, "count": 3}])
    return tmp_path


def stage(name, words, *stale) -> Outlook:
    return Outlook(name, words, (), "may run", "", waits_for=("x",), stale=stale, absent=())


def most(*stages: Outlook):
    """The bound of the last of some stages."""
    bounds = Bounds()
    for one in stages:
        bounds.note(one)
    found = bounds.most(stages[-1])
    return found and [(kind, rows) for kind, _, rows in found]


def prompts_stale():
    return stage("generate@t1", GENERATE, GENERATE[1])


def test_a_slice_that_is_still_to_be_dealt_has_as_many_prompts_as_the_recipe_says(project):
    assert most(prompts_stale()) == [("sample", 30)]


def test_a_slice_that_stays_counts_for_itself(project):
    path = project / GENERATE[1]
    path.parent.mkdir(parents=True)
    pl.DataFrame({"prompt_id": list("abcd")}).write_parquet(path)
    assert most(stage("generate@t1", GENERATE, GENERATE[2])) == [("sample", 12)]


def test_a_reward_judges_each_answer_a_preference_model_each_ordered_pair(project):
    judge = stage("judge@t1", JUDGE, JUDGE[1])
    assert most(prompts_stale(), judge) == [("score", 30)]
    change(project, "judge.kind", "pairwise")
    assert most(prompts_stale(), judge) == [("prefer", 10 * 3 * 2)]


def test_answers_that_stay_are_counted_prompt_by_prompt(project):
    change(project, "judge.kind", "pairwise")
    folder = project / JUDGE[1]
    folder.mkdir(parents=True)
    pl.DataFrame({"prompt_id": list("aaabbc")}).write_parquet(folder / "candidates.parquet")
    assert most(stage("judge@t1", JUDGE, JUDGE[2])) == [("prefer", 3 * 2 + 2 * 1)]


def test_an_evaluation_asks_both_orders_the_judge_and_two_policies(project):
    words = ("t1", "data/prompts/validation.parquet", "models/policies/t1")
    evaluate = stage("evaluate@t1", words, words[1])
    assert most(evaluate) == [("sample", 20), ("prefer", 40), ("score", 20), ("log_probs", 40)]
    baselines = stage("evaluate_baselines", words[1:], words[1])
    assert most(baselines) == [("sample", 40), ("prefer", 80), ("score", 40), ("log_probs", 40)]


def test_judges_and_references_are_bounded_by_their_caps(project):
    # Two sets of at most 40 pairs; a judge reads both answers, or the pair in both orders.
    assert most(stage("evaluate_judges", ())) == [("score", 160), ("prefer", 160), ("prefer", 160)]
    assert most(stage("offline_dpo", (MIX,), MIX)) == [("log_probs", 48)]
    train = stage("train@t1", ("t1", "data/iterations/t1/pair"), "data/iterations/t1/pair")
    assert most(prompts_stale(), train) == [("log_probs", 20)]


def test_a_baseline_without_a_cap_is_bounded_by_a_mix_that_stays_and_by_nothing_else(project):
    change(project, "offline_dpo.max_pairs", None)
    assert most(stage("offline_dpo", (MIX,), MIX)) is None
    (project / MIX).mkdir(parents=True)
    pl.DataFrame({"pair_id": list("abc")}).write_parquet(project / MIX / "train.parquet")
    assert most(stage("offline_dpo", (MIX,), "models/policies/t0")) == [("log_probs", 6)]
