import json
import sys

import datasets
import polars as pl
import pytest

from pipeline import tables
from pipeline.errors import UserError
from pipeline.pair_texts import with_texts
from pipeline.released import RELEASED, with_origin
from pipeline.schemas import ORIGIN_KEY, SLICE
from pipeline.stages import release
from tests.published_project import candidates_of, make_iterations, pairs_of, slice_of


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Two iterations in made/, and params.yaml that names them."""
    monkeypatch.chdir(tmp_path)
    make_iterations(tmp_path / "made")
    (tmp_path / "params.yaml").write_text("iterations: {t1: {prev: t0}, t2: {prev: t1}}\n")
    return tmp_path


def run(folder, monkeypatch, out="out"):
    words = [folder / "made" / "iterations", folder / "made" / "prompts", folder / out]
    monkeypatch.setattr(sys, "argv", ["release", *map(str, words)])
    release.main()
    return folder / out


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_every_pair_is_there_with_the_origin_of_its_prompt(made, monkeypatch):
    out = run(made, monkeypatch)
    for name in ("t1", "t2"):
        rows = tables.read(RELEASED, out / name / "train.parquet")
        assert sorted(rows["pair_id"]) == sorted(pairs_of(name)["pair_id"])
        origins = rows.join(slice_of(name), on=["prompt_id", *ORIGIN_KEY], how="inner")
        assert origins.height == rows.height


def test_the_folder_loads_as_one_set_and_each_iteration_as_its_own(made, monkeypatch, tmp_path):
    out = run(made, monkeypatch)
    cache = str(tmp_path / "cache")
    assert datasets.load_dataset(str(out), split="train", cache_dir=cache).num_rows == 12
    assert datasets.load_dataset(str(out / "t2"), split="train", cache_dir=cache).num_rows == 6


def test_a_trainer_finds_no_column_that_would_change_its_loss():
    """TRL's RewardTrainer subtracts a column named `margin` wherever it finds one."""
    assert "margin" not in RELEASED.columns
    assert "score_margin" in RELEASED.columns


def test_facts_count_by_iteration_and_judge(made, monkeypatch):
    facts = json.loads((run(made, monkeypatch) / "facts.json").read_text())
    assert {name: part["rows"] for name, part in facts["iterations"].items()} == {"t1": 6, "t2": 6}
    assert facts["all"]["judges"] == {"reward": 12}
    assert facts["all"]["margins"]["reward"]["1.00"] == pairs_of("t2")["margin"].max()
    assert facts["all"]["gap_chars"] == 16.0
    assert facts["all"]["longer_wins_chars"] == 1.0


def test_shuffled_inputs_give_the_same_bytes(made, monkeypatch):
    before = contents(run(made, monkeypatch))
    path = made / "made" / "iterations" / "t1" / "pair" / "pairs.parquet"
    pl.read_parquet(path).sample(fraction=1.0, shuffle=True, seed=1).write_parquet(path)
    assert contents(run(made, monkeypatch, "again")) == before


def test_another_iteration_leaves_the_files_of_the_earlier_ones(made, monkeypatch):
    (made / "params.yaml").write_text("iterations: {t1: {prev: t0}}\n")
    one = contents(run(made, monkeypatch, "one"))
    (made / "params.yaml").write_text("iterations: {t1: {prev: t0}, t2: {prev: t1}}\n")
    two = contents(run(made, monkeypatch, "two"))
    assert one["t1/train.parquet"] == two["t1/train.parquet"]
    assert set(two) - set(one) == {"t2/train.parquet"}


def test_no_iterations_is_a_users_mistake(made, monkeypatch):
    (made / "params.yaml").write_text("iterations: {}\n")
    with pytest.raises(UserError, match="iterations"):
        run(made, monkeypatch)


def test_a_pair_whose_prompt_is_not_in_the_slice_is_a_bug():
    stranger = with_texts(pairs_of("t1").head(1), candidates_of("t1"))
    with pytest.raises(AssertionError, match="not in the slice"):
        with_origin(stranger, SLICE.empty())
