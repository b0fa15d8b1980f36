"""The recipes in recipes/: each is whole and gives a pipeline; the paper's has the paper's values."""

import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from pipeline.pair_rules import Plain
from pipeline.params import read_file
from pipeline.stages.recipe import SECTIONS, TABLES, check

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
HERE = ("quickstart", "smoke")
"""Recipes whose data are in this repository."""


def named(value: Any) -> Any:
    """Nested mappings as attributes, for reading them aloud."""
    if isinstance(value, dict):
        return SimpleNamespace(**{key: named(inner) for key, inner in value.items()})
    return [named(inner) for inner in value] if isinstance(value, list) else value


def stages_of(recipe: Path, folder: Path) -> dict[str, Any]:
    """The stages that dvc.yaml becomes with this recipe."""
    (folder / ".dvc").mkdir()
    shutil.copyfile(ROOT / "dvc.yaml", folder / "dvc.yaml")
    shutil.copyfile(recipe, folder / "params.yaml")
    index = Repo(str(folder), uninitialized=True).index
    assert index.graph is not None
    index.check_graph()
    return {stage.name: stage for stage in index.stages}


def paths(entries: Any) -> set[str]:
    return {entry.def_path for entry in entries}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_passes_the_check(recipe):
    check(read_file(recipe))


@pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # of a library of DVC's
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_gives_a_graph_without_cycles_and_a_chain_of_policies(recipe, tmp_path):
    content, stages = read_file(recipe), stages_of(recipe, tmp_path)
    assert {name for name in stages if name.startswith("fetch@")} == {
        f"fetch@{name}" for name in content["sources"]
    }
    for key, row in content["iterations"].items():
        models = [f"models/policies/{row['prev']}", f"models/{row['variant']}"]
        asked = [dep.def_path for dep in stages[f"generate@{key}"].deps if dep.def_path.startswith("models/")]
        assert asked == models
        assert models[0] in paths(stages[f"train@{key}"].deps)
        assert f"data/history/{row['prev']}" in paths(stages[f"gather@{key}"].deps)
        assert f"data/history/{key}" in paths(stages[f"train@{key}"].deps)
        assert {f"models/policies/{key}", f"models/checkpoints/{key}"} <= paths(stages[f"train@{key}"].outs)
    made = {path for stage in stages.values() for path in paths(stage.outs)}
    needed = {
        path
        for stage in stages.values()
        for path in paths(stage.deps)
        if path.startswith(("data/", "models/"))
    }
    for path in needed:
        # A file inside an out, an out, or a folder that holds outs.
        assert any(path == out or path.startswith(f"{out}/") or out.startswith(f"{path}/") for out in made), (
            path
        )


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_opens_with_what_it_is_and_keeps_the_order_of_the_run(recipe):
    assert recipe.read_text(encoding="utf-8").startswith("# ")
    content = read_file(recipe)
    assert list(content) == [key for key in read_file(ROOT / "recipes" / "quickstart.yaml") if key in content]
    assert set(content) == {*SECTIONS, *TABLES}
    keys = list(content["iterations"])
    assert keys == [f"t{number}" for number in range(1, len(keys) + 1)]


def test_the_project_starts_with_the_quickstart_recipe():
    assert (ROOT / "params.yaml").read_bytes() == (ROOT / "recipes" / "quickstart.yaml").read_bytes()


@pytest.mark.parametrize("name", HERE)
def test_the_data_of_a_small_recipe_are_in_this_repository(name):
    for source in read_file(ROOT / "recipes" / f"{name}.yaml")["sources"].values():
        folder = source["origin"].removeprefix("path:")
        assert folder.startswith("data/samples/")
        for file in source["files"]:
            assert (ROOT / folder / file["path"]).is_file()


def test_the_smoke_recipe_is_the_quickstart_recipe_on_fake_engines():
    smoke, quickstart = (read_file(ROOT / "recipes" / f"{name}.yaml") for name in ("smoke", "quickstart"))
    for section in ("sources", "mixes", "sft_mix", "prompts", "pair", "select"):
        assert smoke[section] == quickstart[section], section
    chains = [[row["prev"] for row in recipe["iterations"].values()] for recipe in (smoke, quickstart)]
    assert chains[0] == chains[1]
    engines = {section["engine"] for section in smoke.values() if "engine" in section}
    assert engines == {"fake"}
    assert smoke["base_model"]["source"].startswith("random:")


@pytest.fixture(scope="module")
def paper() -> Any:
    return named(read_file(ROOT / "recipes" / "paper.yaml"))


def test_the_paper_judges(paper):
    # arXiv 2405.07863: section 2.1 (Bradley-Terry), 2.2 (pairwise), appendix B.
    assert (paper.rewards.reward.training.learning_rate, paper.rewards.reward.training.epochs) == (2e-6, 1)
    assert paper.rewards.reward.training.global_batch == 512
    assert (paper.pairwise.training.learning_rate, paper.pairwise.training.epochs) == (5e-6, 1)
    assert paper.pairwise.training.max_length == paper.pairwise.max_example == 3072
    assert paper.pairwise.training.global_batch == 128
    assert paper.rewards.reward.mix == paper.pairwise.mix == "mix2"
    assert paper.judge.kind == "bt"


def test_the_paper_sft(paper):
    assert (paper.sft.learning_rate, paper.sft.epochs, paper.sft.global_batch) == (2e-5, 1, 32)
    assert paper.pack.block == paper.sft.max_length == 8192


def test_the_paper_loop(paper):
    assert list(vars(paper.iterations)) == ["t1", "t2", "t3"]
    assert [row.prev for row in vars(paper.iterations).values()] == ["t0", "t1", "t2"]
    assert paper.prompts.per_slice == 20_000
    assert paper.prompts.slices >= 3
    samples = {(part.policy, part.temperature, part.count) for part in paper.generate.samples}
    assert samples == {("current", 1.0, 4), ("current", 0.7, 4)}
    assert (paper.generate.max_new_tokens, paper.generate.unfinished) == (2048, "keep")
    assert paper.generate.engine == "vllm"
    # Algorithm 2: best and worst by the reward; the length penalty of equation 9 is another model's.
    assert (paper.pair.strategy.name, paper.pair.length.rule) == ("best_worst", "none")
    assert (paper.pair.judges.rule, paper.pair.min_margin, vars(paper.pair.noise)) == ("one", 0.0, {})
    assert paper.judge.also == []
    assert (paper.train.start, paper.train.reference) == ("previous", "pi0")
    training = paper.train.training
    assert (training.learning_rate, training.epochs, training.global_batch) == (5e-7, 2, 128)
    assert training.schedule == "cosine"
    assert training.warmup_ratio == 0.03
    assert paper.gather.pairs == "cumulative"
    assert paper.offline_pairs.max_pairs == 0
    objective = paper.train.objective
    assert (objective.kind, objective.beta, objective.divergence) == ("dpo", 0.1, "reverse_kl")
    assert objective.label_smoothing == 0
    assert [(term.name, term.weight) for term in paper.train.objective.loss] == [("sigmoid", 1.0)]


def test_the_concise_recipe_of_the_guide_is_the_papers_with_equation_9():
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\npair:(.*?)```", page, re.DOTALL)
    own = YAML(typ="safe").load(f"pair:{example}")["pair"]
    recipe = read_file(ROOT / "recipes" / "paper.yaml")
    others = {key: value for key, value in recipe["pair"].items() if key not in ("length", "seed")}
    assert {key: own[key] for key in others} == others
    assert own["length"] == {"rule": "penalty", "per_character": 0.001}
    check(recipe | {"pair": own})


def test_the_counterfactuals_of_every_recipe_name_all_strategies_and_the_papers_penalty():
    for recipe in RECIPES:
        others = read_file(recipe)["counterfactual"]
        names = [union.model_fields["name"].annotation for union in get_args(Plain)]
        assert [one["name"] for one in others["strategies"]] == [get_args(name)[0] for name in names]
        assert {"rule": "penalty", "per_character": 0.001} in others["lengths"]


def test_the_paper_offline_baseline_is_dpo_on_nectar(paper):
    assert [source.name for source in vars(paper.mixes)[paper.offline_dpo.mix].sources] == ["nectar"]
    assert (paper.offline_dpo.objective.kind, paper.offline_dpo.objective.beta) == ("dpo", 0.1)
    assert [(term.name, term.weight) for term in paper.offline_dpo.objective.loss] == [("sigmoid", 1.0)]
    training = paper.offline_dpo.training
    assert (training.learning_rate, training.epochs, training.global_batch) == (5e-7, 1, 128)


def examples() -> list[dict[str, Any]]:
    """The small recipes of docs/recipes.md: keys that replace those of a whole one."""
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    return [YAML(typ="safe").load(body) for body in re.findall(r"^```yaml\n(.*?)^```$", page, re.M | re.S)]


def changed(recipe: Any, example: Any) -> Any:
    """The recipe with the keys of an example; what has a kind or a rule is replaced as a whole."""
    if not isinstance(example, dict) or {"kind", "rule"} & set(example):
        return example
    return recipe | {key: changed(recipe[key], value) for key, value in example.items()}


@pytest.mark.parametrize("name", ["paper", "quickstart"])
def test_the_small_recipes_of_the_page_fit_into_whole_ones(name):
    whole, kinds = read_file(ROOT / "recipes" / f"{name}.yaml"), []
    for example in examples():
        if "offline_pairs" in example and name != "paper":
            continue
        recipe = changed(whole, example)
        assert recipe != whole
        objective = recipe["train"]["objective"]
        kinds += [objective["kind"], *(term["name"] for term in objective.get("loss", ()))]
        check(changed(recipe, {"train": {"training": {"global_batch": 8}}}))
    assert {"raft", "simpo", "orpo", "nca_pair", "sft", "aot"} <= set(kinds)


def test_the_paper_mixes(paper):
    # Table 5 of the paper for mix2; the other mixtures as its authors' pages name them.
    mixes = {name: mix.sources for name, mix in vars(paper.mixes).items()}
    names = {name: [source.name for source in sources] for name, sources in mixes.items()}
    assert names["mix1"] == ["hh_rlhf", "shp", "ultrafeedback", "summarize_from_feedback"]
    assert len(names["mix2"]) == 10
    assert names["mix700k"] == names["mix2"]
    assert sum(source.cap for source in mixes["mix700k"]) == 700_000
    calibrated = {source.name for source in mixes["mix2"] if source.min_margin is not None}
    assert {"helpsteer", "ultrafeedback", "codeultrafeedback"} <= calibrated
    assert not {"hh_rlhf", "shp", "pku_saferlhf", "ultrainteract"} & calibrated


def test_the_smoke_recipe_asks_a_variant_and_a_kept_checkpoint():
    smoke = read_file(ROOT / "recipes" / "smoke.yaml")
    assert {part["policy"] for part in smoke["generate"]["samples"]} == {"current", "variant"}
    (part,) = smoke["train"]["checkpoints"]
    assert smoke["iterations"]["t2"]["variant"] == f"checkpoints/t1/{part}"


@pytest.mark.parametrize("name", ["local", "paper"])
def test_no_mix_may_hold_prompts_of_what_judges_are_measured_on(name):
    recipe = read_file(ROOT / "recipes" / f"{name}.yaml")
    asked = {file for one in recipe["evaluate_judges"]["sets"] for file in files(recipe["sources"][one])}
    for mix in recipe["mixes"].values():
        kept_out = (recipe["sources"][one] for one in mix["decontaminate"]["benchmarks"])
        assert asked <= {file for source in kept_out for file in files(source)}


def files(source: dict[str, Any]) -> list[tuple[str, str]]:
    """The raw files of a source."""
    return [(source["origin"], file["path"]) for file in source["files"]]


def test_larger_recipes_name_their_hub_data_by_commit():
    for name in ("paper", "local"):
        for source in read_file(ROOT / "recipes" / f"{name}.yaml")["sources"].values():
            form, _, rest = source["origin"].partition(":")
            if form == "hub":
                assert len(rest.partition("@")[2]) == 40, source["origin"]
            else:
                assert all(file["sha256"] for file in source["files"])
