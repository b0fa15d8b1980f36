"""The curve: nested parts, a verdict per held-out pair and run, nothing where no head is trained alone."""

import json
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from ruamel.yaml import YAML

from pipeline import tables
from pipeline.planning import planning
from pipeline.schemas import LEARNING_CURVE, MIX
from pipeline.stages import learning_curve
from pipeline.stages.learning_curve import nested
from tests.stages.preference_rows import preference, preferences

ROOT = Path(__file__).parents[2]
LONG = "and on " * 900


def side(first: int, count: int, *more) -> pl.DataFrame:
    """Pairs of one word answers: the chosen one is always the same, so that a head can learn it."""
    pairs = [preference(i, f"Question {i}?", "yes", f"no {i}") for i in range(first, first + count)]
    found = preferences(*pairs, *more).with_columns(cluster_id=pl.col("prompt_id"))
    return found.select(list(MIX.columns))


@pytest.fixture
def measured(own_state, tmp_path, tiny_model, monkeypatch):
    """Runs the stage on 24 train and 9 test pairs, one of them too long; gives the curve and the folder."""
    monkeypatch.chdir(tmp_path)

    def run(layers="head", parts=(0.25, 0.5, 1.0), seeds=(1, 2)):
        recipe = YAML(typ="safe").load((ROOT / "recipes" / "smoke.yaml").read_text())
        reward = recipe["rewards"]["reward"]
        reward |= {"max_pairs": None}
        reward["training"] |= {"train_layers": layers, "learning_rate": 0.05, "epochs": 8, "max_length": 256}
        recipe["learning_curve"] = {"parts": list(parts), "seeds": list(seeds)}
        with (tmp_path / "params.yaml").open("w") as file:
            YAML().dump(recipe, file)
        tables.write(MIX, side(0, 24), tmp_path / "mix" / "train.parquet")
        long = preference(99, "long?", LONG, "short")
        tables.write(MIX, side(50, 8, long), tmp_path / "mix" / "test.parquet")
        (tmp_path / "passed.json").touch()
        words = ["reward", "mix", "passed.json", str(tiny_model), "out"]
        monkeypatch.setattr(sys, "argv", ["learning_curve", *words])
        learning_curve.main()
        return tables.read(LEARNING_CURVE, tmp_path / "out" / "curve.parquet"), tmp_path / "out"

    return run


def test_accuracy_is_told_for_each_part_with_its_interval(measured):
    curve, out = measured()
    whole = curve.filter(pl.col("subset") == "")
    assert whole["part"].to_list() == [0.25, 0.5, 1.0]
    assert whole["pairs"].to_list() == [6, 12, 24]
    assert set(curve["subset"]) == {"", "a"}
    assert set(curve["held_out"]) == {8} and set(curve["seeds"]) == {2}
    assert whole["accuracy"][-1] > 0.9, "yes is always right"
    assert (curve["least"] <= curve["accuracy"]).all() and (curve["accuracy"] <= curve["most"]).all()
    assert curve["longer"].unique().to_list() == [0.0], "yes is shorter than no and a number"
    counts = json.loads((out / "counts.json").read_text())
    assert (counts["in"], counts["kept"], counts["dropped"]) == (9, 8, {"answer longer than the window": 1})


def test_the_same_inputs_give_the_same_bytes(measured):
    first = (measured()[1] / "curve.parquet").read_bytes()
    assert (measured()[1] / "curve.parquet").read_bytes() == first


def test_a_model_that_is_trained_whole_has_no_curve(measured, monkeypatch):
    monkeypatch.setattr(learning_curve, "sides", None)
    assert measured(layers="all")[0].is_empty()


def test_a_plan_asks_both_sides_and_computes_nothing(measured, tmp_path, tiny_model):
    measured(parts=(1.0,), seeds=(1,))
    asked = ("reward", tmp_path / "mix", tmp_path / "passed.json", tiny_model)
    with planning() as plan:
        learning_curve.stated(*asked)
    assert [(fill.cells.kind, len(fill.asked), len(fill.missing)) for fill in plan.fills] == [
        ("state", 48, 0),
        ("state", 16, 0),
    ]


def test_a_larger_part_has_all_pairs_of_a_smaller_one_and_a_seed_draws_its_own():
    pairs = pl.DataFrame({"pair_id": [f"p{i}" for i in range(40)]})
    few, more, all_of_them = (nested(pairs, part, 3) for part in (0.1, 0.5, 1.0))
    assert (len(few), len(more), len(all_of_them)) == (4, 20, 40)
    assert few.tolist() == more[:4].tolist() and more.tolist() == all_of_them[:20].tolist()
    assert set(nested(pairs, 0.5, 4)) != set(more)
    assert len(nested(pairs, 0.001, 3)) == 1
    shuffled = pairs[np.random.default_rng(0).permutation(40)]
    assert set(shuffled["pair_id"].gather(nested(shuffled, 0.1, 3))) == set(pairs["pair_id"].gather(few))
