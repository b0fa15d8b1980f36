"""A plan of fills: everything is noted, nothing is computed, and what is missing has a stand-in."""

import math
from pathlib import Path

import polars as pl
import pytest

from pipeline.cells import Cells
from pipeline.planning import PLAN, Plan, planning, stand_ins
from pipeline.store import RowStore, shard_frame

TEXTS = Cells("sample", (("engine", "fake"),))
NUMBERS = Cells("score", (("engine", "fake"),))
MODEL = Path("models/x")


@pytest.fixture
def store(tmp_path):
    store = RowStore(tmp_path / "store")
    store.append(TEXTS, shard_frame(TEXTS, [("a", "stored", 2, "length")]))
    return store


def note(plan: Plan, store: RowStore, cells: Cells, *keys: str) -> dict[str, tuple]:
    column = pl.Series("key", keys, pl.String)
    rows = plan.note(store, cells, column, MODEL)
    return {key: tuple(values) for key, *values in rows.iter_rows()}


def test_what_is_stored_keeps_its_value_and_the_rest_gets_texts_of_its_own(store):
    found = note(Plan(), store, TEXTS, "a", "b", "c", "b")
    assert found["a"] == ("stored", 2, "length")
    assert len({text for text, _, _ in found.values()}) == len(found) == 3


@pytest.mark.parametrize("place", [9, -9])
def test_a_damaged_shard_is_planned_as_missing_and_stays(store, tmp_path, place):
    (shard,) = tmp_path.rglob("*.parquet")
    content = bytearray(shard.read_bytes())
    content[place] ^= 1
    shard.write_bytes(content)
    plan = Plan()
    assert note(plan, store, TEXTS, "a")["a"][0].startswith("pending")
    assert plan.fills[0].missing.to_list() == ["a"]
    assert shard.read_bytes() == content


def test_a_missing_number_is_no_number(store):
    ((value,),) = note(Plan(), store, NUMBERS, "k").values()
    assert math.isnan(value)


def test_each_key_counts_once(store):
    plan = Plan()
    note(plan, store, TEXTS, "b", "a", "b")
    (fill,) = plan.fills
    assert (fill.asked.to_list(), fill.missing.to_list(), fill.model) == (["b", "a"], ["b"], MODEL)


def test_scores_of_texts_that_are_not_there_are_no_exact_count(store):
    plan = Plan()
    note(plan, store, TEXTS, "a")
    note(plan, store, NUMBERS, "x")
    note(plan, store, TEXTS, "b")
    note(plan, store, NUMBERS, "y")
    note(plan, store, TEXTS, "c")
    assert [fill.exact for fill in plan.fills] == [True, True, True, False, True]


def test_two_models_asked_the_same_give_texts_of_their_own(store):
    other = Cells("sample", (("engine", "fake"), ("weights", "others")))
    texts = [note(Plan(), store, cells, "b")["b"] for cells in (TEXTS, other)]
    assert texts[0] != texts[1]


def test_stand_ins_have_the_columns_of_a_shard():
    for cells in (TEXTS, NUMBERS):
        assert stand_ins(cells, pl.Series("key", ["k"])).schema == cells.schema
        assert stand_ins(cells, pl.Series("key", [], pl.String)).schema == cells.schema


def test_a_plan_ends_with_its_block_even_after_an_error():
    with pytest.raises(RuntimeError), planning():
        raise RuntimeError
    assert PLAN.get() is None
