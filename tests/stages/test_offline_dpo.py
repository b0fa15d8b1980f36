"""The offline baseline: DPO from pi_0 on a mix, on nothing of the loop, and on no validation prompt."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from pipeline.engines import policy
from pipeline.errors import UserError
from pipeline.stages import offline_dpo
from tests.stages.mix_folders import write_mix, write_validation
from tests.stages.preference_rows import preference

ROOT = Path(__file__).parents[2]
ROWS = [
    preference(i, f"{word}?", f"good {i}", f"bad {i}") for i, word in enumerate(["owl", "oak", "elm", "fir"])
]
WORDS = ["mix", "passed.json", "validation.parquet"]
OUTS = ["models/offline_dpo", "curves", "training"]


@pytest.fixture
def trained(own_state, tmp_path, tiny_model, monkeypatch) -> Callable:
    """Runs the stage up to the trainer; gives the model it starts from, its rows, and the counts."""

    def run(max_pairs: int | None = None, validation: tuple[str, ...] = ("wren?",)) -> tuple:
        recipe = YAML(typ="safe").load((ROOT / "recipes" / "smoke.yaml").read_text())
        recipe["offline_dpo"]["max_pairs"] = max_pairs
        with (tmp_path / "params.yaml").open("w") as file:
            YAML().dump(recipe, file)
        write_mix(tmp_path / "mix", ROWS)
        (tmp_path / "passed.json").touch()
        write_validation(tmp_path / "validation.parquet", *validation)
        monkeypatch.setattr(sys, "argv", ["offline_dpo", *WORDS, str(tiny_model), *OUTS])
        handed: list = []
        monkeypatch.setattr(policy, "train_dpo", lambda *given: handed.append(given))
        offline_dpo.main()
        ((start, rows, *_),) = handed
        return start, rows, json.loads((tmp_path / "training" / "counts.json").read_text())

    return run


def test_it_trains_pi0_on_the_mix_with_pi0_as_the_reference(trained, tiny_model):
    start, rows, counts = trained()
    assert start == tiny_model
    assert (rows.height, counts["in"], counts["kept"], counts["dropped"]) == (4, 4, 4, {})
    run = offline_dpo.start(Path("mix"), Path("passed.json"), Path("validation.parquet"), tiny_model)
    assert (run.policy, run.reference) == (tiny_model, tiny_model)
    assert rows["ref_chosen_logps"].is_finite().all()


def test_a_cap_takes_the_lowest_pair_ids(trained, tiny_model):
    _, rows, counts = trained(max_pairs=3)
    assert (rows.height, counts["in"]) == (3, 3)
    run = offline_dpo.start(Path("mix"), Path("passed.json"), Path("validation.parquet"), tiny_model)
    assert run.pairs["pair_id"].to_list() == sorted(row["pair_id"] for row in ROWS)[:3]


def test_a_pair_that_asks_a_validation_prompt_is_in_the_ledger_and_not_trained_on(trained, tmp_path):
    _, rows, counts = trained(validation=("oak?", "wren?"))
    assert (rows.height, counts["kept"], counts["dropped"]) == (3, 3, {"validation prompt": 1})
    ledger = pl.read_parquet(tmp_path / "training" / "ledger.parquet")
    assert ledger["id"].to_list() == [ROWS[1]["pair_id"]]


def test_a_mix_of_validation_prompts_alone_is_told_with_what_mends_it(trained):
    with pytest.raises(UserError, match=r"ask no validation prompt, found none among 4; .*offline_dpo\.mix"):
        trained(validation=("owl?", "oak?", "elm?", "fir?"))


def test_one_command_makes_it_and_nothing_of_the_loop():
    """What `dvc repro offline_dpo` runs: the stages whose outputs it reads, and theirs."""
    stages = {stage.addressing: stage for stage in Repo(str(ROOT)).index.stages}
    outs = {Path(out.def_path): name for name, stage in stages.items() for out in stage.outs}
    needed, left = set(), ["offline_dpo"]
    while left:
        needed.add(left[-1])
        read = [Path(dep.def_path) for dep in stages[left.pop()].deps if dep.def_path]
        makers = {name for out, name in outs.items() for path in read if inside(out, path)}
        left += makers - needed
    groups = {name.partition("@")[0] for name in needed}
    assert {"standardize", "mix", "profile", "prompts", "sft", "base_model"} <= groups
    assert not groups & {"generate", "judge", "pair", "train", "evaluate", "reward", "pairwise", "select"}


def inside(one: Path, other: Path) -> bool:
    """Whether one of the two paths is the other or lies below it."""
    return one.is_relative_to(other) or other.is_relative_to(one)
