"""The offline pairs of every iteration: none, some or all of a mix that has passed its gate."""

import json
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline import history
from pipeline.errors import UserError
from pipeline.stages import offline_pairs
from tests.stages.mix_folders import write_mix, write_validation
from tests.stages.preference_rows import preference

ROOT = Path(__file__).parents[2]
ROWS = [preference(i, f"Question {i}?", f"good {i}", f"bad {i}") for i in range(5)]


@pytest.fixture
def taken(own_state, tmp_path, monkeypatch):
    """Runs the stage; gives what the first iteration reads, and the counts."""

    def run(max_pairs, rows=ROWS, validation=("wren?",)):
        recipe = YAML(typ="safe").load((ROOT / "recipes" / "smoke.yaml").read_text())
        recipe["offline_pairs"]["max_pairs"] = max_pairs
        with (tmp_path / "params.yaml").open("w") as file:
            YAML().dump(recipe, file)
        write_mix(tmp_path / "mix", rows)
        write_validation(tmp_path / "validation.parquet", *validation)
        monkeypatch.setattr(sys, "argv", ["offline_pairs", "mix", "passed.json", "validation.parquet", "t0"])
        offline_pairs.main()
        return history.read(tmp_path / "t0"), json.loads((tmp_path / "t0" / "counts.json").read_text())

    (tmp_path / "passed.json").touch()
    return run


@pytest.mark.parametrize(("max_pairs", "expected"), [(0, 0), (2, 2), (9, 5), (None, 5)])
def test_as_many_pairs_are_taken_as_the_recipe_says(taken, max_pairs, expected):
    rows, counts = taken(max_pairs)
    assert (rows.height, counts["in"], counts["kept"]) == (expected,) * 3
    lowest = sorted(row["pair_id"] for row in ROWS)[:expected]
    assert rows["pair_id"].to_list() == lowest
    assert set(rows["since"]) <= {history.OFFLINE}


def test_a_pair_that_two_sources_have_is_taken_once(taken):
    rows, counts = taken(None, [*ROWS, preference(0, "Question 0?", "good 0", "bad 0", source="b")])
    assert (rows.height, counts["in"]) == (5, 6)
    assert counts["dropped"] == {"the same pair again": 1}


def test_no_iteration_trains_on_a_validation_prompt(taken):
    rows, counts = taken(None, validation=("Question 3?", "wren?"))
    assert rows["prompt_id"].to_list() == [
        row["prompt_id"] for row in sorted(ROWS, key=lambda row: row["pair_id"]) if row is not ROWS[3]
    ]
    assert (counts["in"], counts["dropped"]) == (5, {"validation prompt": 1})


def test_a_mix_that_has_not_passed_its_gate_gives_no_pairs(taken, tmp_path):
    (tmp_path / "passed.json").unlink()
    assert taken(0)[0].is_empty()
    with pytest.raises(UserError, match="has not passed its gate"):
        taken(2)
