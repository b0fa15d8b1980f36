"""Which pairs an iteration trains on: each once, from where the recipe says."""

import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import history, tables
from pipeline.ids import content_id
from pipeline.ledger import Ledger
from pipeline.schemas import HISTORY, ORIGIN_KEY
from tests.stages.preference_rows import assistant, user


def part(since: str, *numbers: int) -> pl.DataFrame:
    """Pairs named by numbers; the same number is the same pair."""
    rows = [
        {
            "source": since,
            "file": "f",
            "row": row,
            "item": 0,
            "since": since,
            **{name: content_id(name, i) for name in ("prompt_id", "pair_id", "chosen_id", "rejected_id")},
            **{"prompt": user(f"{i}?"), "chosen": assistant(f"good {i}"), "rejected": assistant("bad")},
            **{"chosen_ended": True, "rejected_ended": i % 2 == 0},
        }
        for row, i in enumerate(numbers)
    ]
    return pl.DataFrame(rows, schema=HISTORY.schema)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 6), max_size=5), min_size=1, max_size=4))
def test_a_union_has_each_pair_once_and_tells_the_others(parts):
    frames = [part(f"t{t}", *numbers) for t, numbers in enumerate(parts)]
    rows, again = history.united(*frames)
    given_ids = [i for frame in frames for i in frame["pair_id"]]
    assert rows["pair_id"].to_list() == list(dict.fromkeys(given_ids)), "each once, where it came first"
    assert sorted([*rows["pair_id"], *again["pair_id"]]) == sorted(given_ids)
    assert set(again["reason"]) <= {"the same pair again"}
    assert again.select(ORIGIN_KEY).n_unique() == again.height, "the ledger has a place for each"


@pytest.mark.parametrize(
    ("data", "kept"), [("current", ["offline"] * 2), ("cumulative", ["offline"] * 2 + ["t1"] * 3)]
)
def test_what_is_trained_on_again_is_what_the_recipe_lets_grow(data: history.Data, kept, tmp_path):
    rows, _ = history.united(part("offline", 1, 2), part("t1", 3, 4, 5))
    history.write(tmp_path, rows)
    found = history.kept(history.read(tmp_path), data)
    assert sorted(found["since"]) == kept
    assert found.sort("row", "since").equals(rows.filter(pl.col("since").is_in(kept)).sort("row", "since"))
    assert json.loads((tmp_path / "parts.json").read_text()) == {"offline": 2, "t1": 3}


def test_a_chain_of_iterations_adds_up(tmp_path):
    seen = {}
    before = part("offline", 0)
    for t, numbers in {"t1": (1, 2), "t2": (2, 3), "t3": (3, 0, 4)}.items():
        rows, again = history.united(before, part(t, *numbers))
        history.write(tmp_path / t, rows)
        before = history.read(tmp_path / t)
        seen[t] = rows.height, again.height
    assert seen == {"t1": (3, 0), "t2": (4, 1), "t3": (5, 2)}
    parts = json.loads((tmp_path / "t3" / "parts.json").read_text())
    assert parts == {"offline": 1, "t1": 2, "t2": 1, "t3": 1}


def test_a_history_with_a_pair_twice_cannot_be_written(tmp_path):
    with pytest.raises(AssertionError, match="history"):
        tables.write(HISTORY, part("t1", 1, 1), tmp_path / "history.parquet")


def test_repeated_pairs_fit_into_the_ledger(tmp_path):
    rows, again = history.united(part("offline", 1, 2), part("t1", 2, 1, 3))
    ledger = Ledger("gather@t1", "pairs")
    ledger.drop(again, id_column="pair_id")
    counts = ledger.close(5, rows.height, tmp_path)
    assert counts["by_source"] == {"t1": {"the same pair again": 2}}
