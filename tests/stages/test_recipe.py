"""A recipe is checked whole: a mistake is one error that names the key, what it may be and what it is."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.errors import UserError
from pipeline.loop_rules import imported
from pipeline.stages.recipe import SECTIONS, TABLES, check
from tests.judge_recipes import in_words
from tests.smoke_project import found

ROOT = Path(__file__).parents[2]
GOOD = YAML(typ="safe").load((ROOT / "recipes" / "quickstart.yaml").read_text(encoding="utf-8"))
REMOVED = object()


def changed(dotted: str, value: Any) -> dict[str, Any]:
    recipe = json.loads(json.dumps(GOOD))  # a copy in which aliases are no longer one object
    section, last = found(recipe, dotted)
    if value is REMOVED:
        del section[last]
    else:
        section[last] = value
    return recipe


def told(recipe: dict[str, Any]) -> str:
    with pytest.raises(UserError) as error:
        check(recipe)
    return str(error.value)


@pytest.mark.parametrize(
    ("dotted", "value", "said"),
    [
        ("generate.top_p", 0.9, "unknown key generate.top_p"),
        ("train.objective.loss.0.wieght", 1.0, "unknown key train.objective.loss.0.wieght"),
        ("mixes.quickstart.max_pairs_per_promt", 4, "unknown key mixes.quickstart.max_pairs_per_promt"),
        ("selct", {}, "unknown section selct"),
        ("pair", REMOVED, "missing section pair"),
        ("pair.seed", REMOVED, "pair.seed is missing"),
        ("pack.block", "many", "pack.block: input should be a valid integer, found 'many'"),
        ("pack.block", 256.5, "pack.block: input should be a valid integer"),
        ("sft.learning_rate", -1.0, "sft.learning_rate: input should be greater than 0, found -1.0"),
        ("sft.learning_rate", 5, "sft.learning_rate: input should be less than 1, found 5"),
        ("evaluate.temperature", -0.1, "evaluate.temperature: expected 0 or at least 0.01, found -0.1"),
        ("generate.samples", [], "generate.samples: tuple should have at least 1 item"),
        ("generate.engine", "vllm2", "generate.engine: input should be"),
        ("train.reference", "t0", "train.reference: input should be 'pi0' or 'previous', found 't0'"),
        ("mixes.quickstart.split.test_fraction", 1.5, "mixes.quickstart.split.test_fraction"),
        ("sources.shp.rules.min_ratio", "two", "sources.shp.rules.min_ratio"),
        ("sources.shp.rules.ratio", 2.0, "unknown key sources.shp.rules.ratio"),
        ("sources.shp.adapter", "shpp", "sources.shp.adapter: expected one of ["),
        (
            "sources.shp.kind",
            "prompts",
            "sources.shp.kind: expected preferences, which is what the adapter shp makes",
        ),
        (
            "sources.dibt_10k",
            REMOVED,
            "sources: expected at least one source of each kind, found none of ['prompts']",
        ),
        ("base_model.source", "llama", "base_model.source: expected a model source hub:org/name@revision"),
        ("base_model.source", "hub:org/name@main", "a branch moves"),
        ("iterations", {}, "iterations: expected at least one entry, found {}"),
        (
            "iterations.t2.prev",
            "t7",
            "iterations.t2.prev: expected an earlier policy, one of ['t0', 't1'], found 't7'",
        ),
        ("iterations.t2.prev", "t2", "one of ['t0', 't1'], found 't2'"),
        ("iterations.t2.prev", "sft", "iterations.t2.prev: string should match pattern"),
        ("iterations.t2.variant", REMOVED, "iterations.t2.variant is missing"),
        (
            "iterations.t2.variant",
            "policies/t1",
            "iterations.t2.variant: expected a model other than prev that is there before, one of "
            "['base', 'offline_dpo', 'policies/t0'] (train.checkpoints adds some), found 'policies/t1'",
        ),
        ("iterations.t2.variant", "policies/t2", "found 'policies/t2'"),
        ("iterations.t1.variant", "checkpoints/t1/0.5", "found 'checkpoints/t1/0.5'"),
        ("generate.samples.0.policy", "base", "generate.samples.0.policy: input should be 'current'"),
        ("generate.samples.1.temperature", 1.0, "expected each policy and temperature once"),
        ("generate.unfinished", True, "generate.unfinished: input should be 'keep' or 'drop', found True"),
        ("train.checkpoints", [0.5, 0.2], "checkpoints: expected rising parts of the run"),
        ("train.checkpoints", [1.0], "train.checkpoints.0: input should be less than 1, found 1.0"),
        ("iterations.t4", {"prev": "t1"}, "iterations: expected the keys ['t1', 't2', 't3'] in order"),
        ("prompts.slices", 1, "prompts.slices: expected at least 2, one per iteration, found 1"),
        ("mixes.offline.sources.0.name", "nektar", "mixes.offline.sources: expected one of ["),
        ("mixes.offline.sources.0.name", "dibt_10k", "found 'dibt_10k'"),
        ("mixes.offline.decontaminate.benchmarks.0", "shp", "mixes.offline.decontaminate.benchmarks"),
        ("prompts.sources.0", "gsm8k", "prompts.sources: expected one of ["),
        (
            "sft_mix.sources.0.name",
            "shp",
            "sft_mix.sources: expected one of ['gpt4_llm', 'sharegpt'], found 'shp'",
        ),
        (
            "rewards.reward.mix",
            "ofline",
            "rewards.reward.mix: expected one of ['offline', 'quickstart'], found 'ofline'",
        ),
        (
            "evaluate_judges.sets.0",
            "gsm8k",
            "evaluate_judges.sets: expected one of ['reward_bench'], found 'gsm8k'",
        ),
        (
            "profile.gates.quickstart",
            REMOVED,
            "profile.gates: expected one gate for each mix, found none for ['quickstart']",
        ),
        ("profile.gates.nectar", 0.7, "one for the unknown ['nectar']"),
        ("profile.gates.offline", 0.5, "profile.gates.offline: input should be greater than 0.5, found 0.5"),
        ("profile.tokenizer", "models/reward", "profile.tokenizer: expected models/base or a folder outside"),
        (
            "judge.kind",
            "pairwise",
            "judge.model: expected models/pairwise, which judge.kind pairwise asks, found 'models/reward'",
        ),
        ("judge.kind", "prompted", "judge.model: expected models/base, which judge.kind prompted asks"),
        ("judge.model", "models/best", "judge.model: expected models/reward, which judge.kind bt asks"),
        ("judge.referee", "models/pairwise", "judge.referee: expected models/reward with judge.kind bt"),
        (
            "judge.kind",
            "cascade",
            "judge.referee: expected models/base or models/pairwise with judge.kind cascade (a judge of two "
            "answers), found 'models/reward'",
        ),
        ("judge.referee_margin", -0.1, "judge.referee_margin: input should be greater than or equal to 0"),
        ("judge.ranking", "swiss", "judge.ranking: input should be 'knockout' or 'round_robin'"),
        (
            "judge.also",
            ["pairwise"],
            "judge.referee: expected models/pairwise with judge.kind bt (the model of judge.also), found",
        ),
        ("judge.also", ["bt"], "judge.also: expected each of [] at most once"),
        ("pair.judges", {"rule": "mean"}, "pair.judges: expected one or named with the judges ['bt']"),
        (
            "pair.judges",
            {"rule": "named", "judge": "x"},
            "pair.judges.judge: expected one of ['bt'], found 'x'",
        ),
        (
            "pair.noise",
            {"pairwise": 0.1},
            "pair.noise: expected the noise of each judge that decides, ['bt']",
        ),
        ("pair.strategy", {"name": "best_worst", "k": 2}, "unknown key pair.strategy.k"),
        (
            "pair.strategy",
            {
                **{"name": "uncertainty", "ridge": 1.0, "eta": 0.1, "budget": 20.0},
                **{"max_length": 512, "dtype": "bfloat16"},
            },
            "gather.pairs: expected cumulative with pair.strategy uncertainty",
        ),
        ("counterfactual.lengths", [{"rule": "penalty"}], "lengths.0.per_character is missing"),
        ("pack.block", 512, "pack.block: expected at most sft.max_length = 256, found 512"),
        ("pairwise.max_example", 1000, "pairwise: max_example: expected at most training.max_length = 640"),
        ("train.objective.label_smoothing", 0.5, "train.objective.label_smoothing"),
    ],
)
def test_a_mistake_is_told_by_its_key(dotted, value, said):
    message = told(changed(dotted, value))
    assert said in message
    assert message.startswith("params.yaml: ")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("kind", "model", "referee"),
    [
        ("bt", "models/reward", "models/reward"),
        ("pairwise", "models/pairwise", "models/pairwise"),
        ("prompted", "models/base", "models/base"),
        ("cascade", "models/reward", "models/pairwise"),
        ("cascade", "models/reward", "models/base"),
    ],
)
def test_every_judge_can_be_that_of_the_loop(kind, model, referee):
    recipe = changed("judge.kind", kind)
    recipe["judge"] |= {"model": model, "referee": referee}
    check(recipe)


def test_several_judges_take_the_models_of_two_folders_and_a_rule_that_joins_them():
    recipe = changed("judge.also", ["pairwise"])
    recipe["judge"]["referee"] = "models/pairwise"
    assert "pair.judges: expected named, mean or agreement with the judges ['bt', 'pairwise']" in told(recipe)
    for rule in ({"rule": "mean"}, {"rule": "agreement"}, {"rule": "named", "judge": "pairwise"}):
        recipe["pair"]["judges"] = rule
        check(recipe)
    recipe["judge"]["also"] = ["pairwise", "prompted"]
    assert "judge.also: expected each of ['pairwise'] at most once" in told(recipe)
    recipe["judge"] |= {"kind": "cascade", "also": ["bt", "pairwise"]}
    check(recipe | {"pair": recipe["pair"] | {"judges": {"rule": "named", "judge": "cascade"}}})


@pytest.mark.parametrize("section", ["judge", "evaluate_judges"])
def test_a_broken_template_is_told_before_anything_runs(section, tmp_path, monkeypatch):
    template = Path("recipes", "templates", "own.txt")
    recipe = changed(f"{section}.prompted", in_words(template=str(template)))
    monkeypatch.chdir(tmp_path)
    template.parent.mkdir(parents=True)
    good = (ROOT / "recipes" / "templates" / "pair.txt").read_text(encoding="utf-8")
    template.write_text(good.replace("{answer_b}", ""), encoding="utf-8")
    assert re.fullmatch(f"{template}: expected .*{{answer_b}} is missing; edit that file", told(recipe))
    template.write_text(good, encoding="utf-8")
    check(recipe)


@pytest.mark.parametrize("path", ["own.txt", "/tmp/pair.txt", "recipes/templates/../../pair.txt"])
def test_a_template_stands_where_the_pipeline_sees_its_changes(path):
    message = told(changed("judge.prompted", in_words(template=path)))
    assert message.startswith("params.yaml: judge.prompted.template: expected a file below recipes/templates")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("strategy", "best"),
    [
        ({"name": "best_worst"}, True),
        ({"name": "best_random"}, True),
        ({"name": "best_second"}, True),
        ({"name": "top_k_pairs", "k": 2}, False),
        ({"name": "random"}, False),
        ({"name": "margin_band", "low": 0.5, "high": 2.0}, False),
        ({"name": "length_matched", "max_ratio": 1.25}, False),
    ],
)
def test_rejection_sampling_is_on_the_best_answers(strategy, best):
    recipe = changed("pair.strategy", strategy)
    check(recipe)
    recipe["train"]["objective"] = {"kind": "raft"}
    if best:
        check(recipe)
    else:
        assert "pair.strategy: expected one whose chosen answer is the best" in told(recipe)


def test_a_kept_checkpoint_of_an_earlier_iteration_may_answer():
    recipe = changed("train.checkpoints", [0.25, 0.5])
    recipe["iterations"]["t2"]["variant"] = "checkpoints/t1/0.25"
    check(recipe)
    recipe["iterations"]["t2"]["variant"] = "checkpoints/t1/0.75"
    assert "'checkpoints/t1/0.25', 'checkpoints/t1/0.5'] (train.checkpoints adds some)" in told(recipe)


def test_several_wrong_keys_of_a_section_are_told_at_once():
    recipe = changed("pack.block", "many")
    recipe["pack"]["overflow"] = "cut"
    message = told(recipe)
    assert "pack.block" in message
    assert "pack.overflow" in message


def test_a_good_recipe_passes_and_every_section_has_a_class_that_needs_it():
    check(GOOD)
    for name in [*SECTIONS, *TABLES]:
        assert name in told(changed(name, REMOVED))
    for path in SECTIONS.values():
        assert imported(path).model_config["extra"] == "forbid"


def test_every_parameter_of_dvc_yaml_is_a_checked_section():
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    groups = YAML(typ="safe").load(text)["stages"].values()
    named = {name.split(".")[0] for group in groups for name in group.get("do", group).get("params", [])}
    assert named <= {*SECTIONS, *TABLES}
    used = set(re.findall(r"\$\{(\w+)", text)) - {"key", "item"}
    assert used <= {*SECTIONS, *TABLES}
    assert named | used == {*SECTIONS, *TABLES}, "a section that no stage reads"
