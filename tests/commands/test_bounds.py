"""Bounds of the rows that a stage can ask, from the recipe and from the tables that stay as they are."""

import shutil
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from pipeline import edge, tables
from pipeline.commands import asks
from pipeline.commands.bounds import Bounds
from pipeline.commands.estimates import Estimates
from pipeline.commands.graph import Outlook, paths
from pipeline.schemas import SLICE
from tests.commands.conftest import write_model
from tests.judge_recipes import in_words
from tests.smoke_project import ROOT, change
from tests.stages.answers import slice_of

GENERATE = ("t1", "data/prompts/t1.parquet", "models/policies/t0", "models/base")
MIX = "data/mixes/offline"
JUDGE = ("t1", "data/iterations/t1/generate", "models/reward", "models/pairwise")
GATHER = ("t1", "data/iterations/t1/generate", "data/iterations/t1/pair", "data/history/t0")
TRAIN = ("t1", "data/history/t1", *["models/policies/t0"] * 2)
VALIDATION, BASELINES = "data/prompts/validation.parquet", "data/baselines"
JUDGES = ("models/reward", "models/pairwise")
STAGES = {
    "generate@t1": (GENERATE, "data/iterations/t1/generate"),
    "judge@t1": (JUDGE, "data/iterations/t1/judge"),
    "evaluate_baselines": ((VALIDATION, "models/policies/t0", "models/offline_dpo", *JUDGES), BASELINES),
    "evaluate@t1": (
        ("t1", VALIDATION, "models/policies/t1", "models/policies/t0", BASELINES, *JUDGES),
        "data/evaluations/t1",
    ),
}
"""The inputs and the output of stages, each after those whose output it reads."""


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
    change(project, "judge.ranking", "round_robin")
    assert most(prompts_stale(), judge) == [("prefer", 10 * 3 * 2)]


def test_a_knock_out_asks_three_halves_of_the_answers_and_a_cascade_scores_them_before(project):
    change(project, "generate.samples.0.count", 8)
    judge = stage("judge@t1", JUDGE, JUDGE[1])
    for kind in ("pairwise", "prompted"):
        change(project, "judge.kind", kind)
        assert most(prompts_stale(), judge) == [("prefer", 10 * 2 * 10)]
    change(project, "judge.kind", "cascade")
    change(project, "judge.referee", "models/pairwise")
    assert most(prompts_stale(), judge) == [("score", 80), ("prefer", 10 * 2 * 10)]


def test_several_judges_ask_each_for_itself(project):
    change(project, "judge.also", ["pairwise"])
    judge = stage("judge@t1", JUDGE, JUDGE[1])
    assert most(prompts_stale(), judge) == [("score", 30), ("prefer", 10 * 2 * 3)]


def test_answers_that_stay_are_counted_prompt_by_prompt(project):
    change(project, "judge.kind", "pairwise")
    change(project, "judge.ranking", "round_robin")
    folder = project / JUDGE[1]
    folder.mkdir(parents=True)
    pl.DataFrame({"prompt_id": list("aaabbc")}).write_parquet(folder / "candidates.parquet")
    assert most(stage("judge@t1", JUDGE, JUDGE[2])) == [("prefer", 3 * 2 + 2 * 1)]


@pytest.mark.parametrize("words", [None, in_words()])
@pytest.mark.parametrize("judge", ["bt", "pairwise", "prompted", "cascade"])
def test_a_bound_is_what_a_stage_asks_of_an_empty_store_when_no_two_texts_are_alike(
    project, own_state, tiny_model, judge, words
):
    change(project, "judge.kind", judge)
    change(project, "judge.referee", "models/base" if words else "models/pairwise")
    change(project, "judge.prompted", words)
    change(project, "judge.referee_margin", 1000.0)
    change(project, "prompts.validation", 10)
    prompts = slice_of(*(f"What is number {i}?" for i in range(10)))
    for path in (GENERATE[1], VALIDATION):
        tables.write(SLICE, prompts, project / path)
    for name in ("base", "reward", "pairwise", "offline_dpo", "policies/t0", "policies/t1"):
        write_model(tiny_model, project / "models" / name)
    for name, (words, out) in STAGES.items():
        # Nothing that the recipe bounds is there yet, as far as the bound can tell.
        bound: Counter[str] = Counter()
        for kind, rows in most(prompts_stale(), stage(name, words, *words)):
            bound[kind] += rows
        asked, filled = filled_from_nothing(own_state, stage(name, words), Path(out))
        assert filled <= bound, name
        if name != "judge@t1":  # reads real answers, some of which are alike or empty
            assert asked == bound, name


def filled_from_nothing(state, one: Outlook, out: Path) -> tuple[Counter[str], Counter[str]]:
    """Rows by kind that a stage is planned to compute with an empty store, and those that it then does."""
    shutil.rmtree(state, ignore_errors=True)
    asked: Counter[str] = Counter()
    for rows in asks.Counter(Estimates([], {})).exact(asks.planned(one)[0]):
        asked[rows.kind] += rows.compute
    module = asks.stage_module(one)
    module.write(module.made(*paths(one.words)), out)
    filled: Counter[str] = Counter()
    for line in edge.records("cells.jsonl"):
        filled[line["kind"]] += line["rows"]
    kinds = asks.ASKING[one.name.partition("@")[0]].kinds
    assert set(asked) | set(filled) <= set(kinds)
    return asked, filled


def test_a_slice_or_mix_that_is_missing_and_that_nothing_makes_bounds_nothing(project):
    # DVC does not ask for the inputs of a frozen stage.
    generate = stage("generate@t1", GENERATE)
    assert most(generate) is None
    assert most(generate, stage("judge@t1", JUDGE, JUDGE[1])) is None
    assert most(generate, stage("judge@t1", JUDGE)) is None
    assert most(generate, stage("train@t1", TRAIN)) is None
    assert most(stage("evaluate@t1", ("t1", VALIDATION, "models/policies/t1"))) is None
    change(project, "offline_dpo.max_pairs", None)
    assert most(stage("offline_dpo", (MIX,))) is None


def test_judges_and_references_are_bounded_by_their_caps(project):
    # Two sets of at most 40 pairs; a judge reads both answers, or the pair in both orders.
    assert most(stage("evaluate_judges", ())) == [("score", 160), ("prefer", 160), ("prefer", 160)]
    change(project, "evaluate_judges.prompted", in_words())
    assert most(stage("evaluate_judges", ())) == [("score", 160), ("prefer", 160), ("reply", 160)]
    change(project, "evaluate_judges.prompted", in_words(engine="vllm"))
    assert most(stage("evaluate_judges", ()))[2] == ("sample", 160)
    assert most(stage("offline_dpo", (MIX,), MIX)) == [("log_probs", 48)]
    own = prompts_stale(), stage("gather@t1", GATHER, *GATHER[1:]), stage("train@t1", TRAIN, TRAIN[1])
    assert most(*own) == [("log_probs", 20)]
    change(project, "pair.strategy", {"name": "top_k_pairs", "k": 3})
    assert most(*own) == [("log_probs", 60)]


def test_a_control_reads_the_new_answers_and_a_new_one_those_of_all_policies(project):
    folders = ("data/baselines", "data/iterations")
    same = stage("control", (*folders, "models/control"), "data/iterations")
    another = stage("control", (*folders, "models/control"), "models/control")
    fresh = stage("evaluate@t1", ("t1", VALIDATION, "models/policies/t1"))
    assert most(fresh, same) == [("score", 20)]
    assert most(stage("evaluate_baselines", (VALIDATION,)), fresh, same) == [("score", 60)]
    assert most(another) == [("score", 80)]  # t0, offline_dpo, t1 and t2


def test_a_baseline_without_a_cap_is_bounded_by_a_mix_that_stays_and_by_nothing_else(project):
    change(project, "offline_dpo.max_pairs", None)
    assert most(stage("offline_dpo", (MIX,), MIX)) is None
    (project / MIX).mkdir(parents=True)
    pl.DataFrame({"pair_id": list("abc")}).write_parquet(project / MIX / "train.parquet")
    assert most(stage("offline_dpo", (MIX,), "models/policies/t0")) == [("log_probs", 6)]


REWARD = ("control", "data/mixes/others", "data/profiles/others/passed.json", "models/base")


def test_states_are_bounded_by_the_pairs_of_a_head_and_there_are_none_for_a_whole_model(project):
    change(project, "rewards.control.max_pairs", 7)
    assert most(stage("reward@control", REWARD, REWARD[1])) == [("state", 14)]
    assert most(stage("reward@reward", ("reward", MIX), MIX)) == []
    assert most(stage("learning_curve@control", REWARD, REWARD[1])) is None, "nothing bounds the test side"
    (project / REWARD[1]).mkdir(parents=True)
    for name, pairs in (("train", "abcdefghi"), ("test", "jk")):
        pl.DataFrame({"pair_id": list(pairs)}).write_parquet(project / REWARD[1] / f"{name}.parquet")
    assert most(stage("learning_curve@control", REWARD)) == [("state", 2 * (7 + 2))]
    change(project, "rewards.control.max_pairs", None)
    assert most(stage("reward@control", REWARD)) == [("state", 18)]


def test_a_policy_asks_for_its_own_pairs_and_for_those_before_it_as_far_as_the_recipe_takes_them(project):
    generate = [stage(f"generate@{t}", (t, f"data/prompts/{t}.parquet"), GENERATE[1]) for t in ("t1", "t2")]
    for one in generate:
        one.stale = (one.words[1],)
    later = ("t2", "data/iterations/t2/generate", "data/iterations/t2/pair", "data/history/t1")
    gather = stage("gather@t1", GATHER, *GATHER[1:]), stage("gather@t2", later, *later[1:])
    before = *generate, *gather
    first = stage("train@t1", TRAIN, TRAIN[1])
    second = stage("train@t2", ("t2", "data/history/t2", *TRAIN[2:]), "data/history/t2")
    assert most(*before, second) == most(*before, first) == [("log_probs", 20)]
    change(project, "gather.pairs", "cumulative")
    assert most(*before, first) == [("log_probs", 20)]
    assert most(*before, second) == [("log_probs", 40)]
    change(project, "offline_pairs.max_pairs", 3)
    assert most(*before, first) == [("log_probs", 26)]
    assert most(*before, second) == [("log_probs", 46)]
    change(project, "offline_pairs.max_pairs", None)
    assert most(*before, second) is None


@pytest.mark.parametrize(("data", "expected"), [("current", 2 * (10 + 1)), ("cumulative", 2 * (10 + 4))])
def test_what_has_been_gathered_counts_for_itself(project, data, expected):
    change(project, "gather.pairs", data)
    gathered = pl.DataFrame({"pair_id": list("abcd"), "since": ["offline", "t1", "t1", "t1"]})
    for name in ("t1", "t2"):
        (project / "data" / "history" / name).mkdir(parents=True)
        gathered.write_parquet(project / "data" / "history" / name / "history.parquet")
    generate = stage("generate@t2", ("t2", "data/prompts/t2.parquet"), "data/prompts/t2.parquet")
    words = ("t2", "data/iterations/t2/generate", "data/iterations/t2/pair", "data/history/t1")
    gather = stage("gather@t2", words, *words[1:3])
    train = ("t2", "data/history/t2", *TRAIN[2:])
    assert most(generate, gather, stage("train@t2", train, train[1])) == [("log_probs", expected)]
    assert most(generate, gather, stage("train@t2", train)) == [("log_probs", 8)]


def test_a_policy_without_a_reference_model_asks_nothing(project):
    change(project, "train.objective", {"kind": "raft"})
    assert most(prompts_stale(), stage("train@t1", TRAIN, TRAIN[1])) == []


def test_uncertainty_asks_for_the_states_of_all_answers_and_of_both_sides_of_earlier_pairs(project):
    words = (
        "t1",
        "data/iterations/t1/generate",
        "data/iterations/t1/judge",
        "data/history/t0",
        "models/reward",
    )
    one = stage("pair@t1", words, words[3])
    assert most(prompts_stale(), one) == []
    keys = {"ridge": 1.0, "eta": 0.1, "budget": 20.0, "max_length": 512, "dtype": "bfloat16"}
    change(project, "pair.strategy", {"name": "uncertainty", **keys})
    change(project, "offline_pairs.max_pairs", 7)
    assert most(prompts_stale(), one) == [("state", 10 * 3 + 2 * 7)]
