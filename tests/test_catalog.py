"""Facts of every row and the rows again, without holding the tables."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import tables
from pipeline.catalog import Inputs, content, digits, find, number, read_benchmarks, table_path
from pipeline.errors import UserError
from pipeline.schemas import BENCHMARKS, PREFERENCES
from tests.stages.preference_rows import benchmark, inputs, preference, preferences

ROWS = preferences(
    *(preference(i, f"prompt {i}", f"yes {i}", f"no {i}", source="ba"[i % 2]) for i in range(20))
)


@pytest.fixture
def both(tmp_path) -> Inputs:
    """Two sources, the later name first."""
    return inputs("preferences", ROWS, ["b", "a"], tmp_path)


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_an_id_is_read_as_a_number_and_written_as_it_was(values):
    ids = pl.DataFrame({"id": [f"{value:016x}" for value in values]}, schema={"id": pl.String})
    numbers = ids.select(number("id"))["id"]
    assert numbers.to_list() == values
    assert digits(numbers).to_list() == ids["id"].to_list()


def test_places_follow_the_recipe_and_then_the_origin(both):
    catalog = both.catalog({"pair_id": number("pair_id")}, "reading")
    assert catalog["place"].to_list() == list(range(20))
    assert catalog["source"].cast(pl.String).to_list() == ["b"] * 10 + ["a"] * 10
    assert catalog["row"].to_list() == [*range(0, 20, 2), *range(1, 20, 2)]
    expected = dict(ROWS.select("row", "pair_id").iter_rows())
    assert digits(catalog["pair_id"]).to_list() == [expected[row] for row in catalog["row"]]


def test_rows_come_back_by_place_with_the_columns_of_the_pick(both):
    kept = pl.DataFrame(
        {"place": [1, 9, 10, 19], "side": list("wxyz")}, schema_overrides={"place": pl.UInt32}
    )
    rows = pl.concat(both.rows(kept, ["source", "row", "prompt"]))
    assert rows.select("source", "row", "side").rows() == [
        ("a", 1, "y"),
        ("a", 19, "z"),
        ("b", 2, "w"),
        ("b", 18, "x"),
    ]
    assert [prompt[0]["content"] for prompt in rows["prompt"]] == [f"prompt {row}" for row in rows["row"]]


def test_texts_come_in_the_order_of_their_places_several_columns_from_one_reading(both):
    places = pl.Series([0, 10, 11], dtype=pl.UInt32)
    wanted = {
        "prompt": (places, content(pl.col("prompt"))),
        "chosen": (places[1:], content(pl.col("chosen"))),
        "rejected": (places[:0], content(pl.col("rejected"))),
    }
    found = both.columns(wanted, "reading")
    assert {name: texts.to_list() for name, texts in found.items()} == {
        "prompt": ["prompt 0", "prompt 1", "prompt 3"],
        "chosen": ["yes 1", "yes 3"],
        "rejected": [],
    }


def test_sources_without_a_wanted_row_are_not_read(both):
    first = pl.DataFrame({"place": [3]}, schema={"place": pl.UInt32})
    wanted = list(both.pick({"some": first}, ["row"], "reading"))
    assert [(name, rows["row"].to_list()) for name, rows in wanted] == [("some", [6])]
    assert [one.source for one in both.tables if both.holds(one, {"some": first})] == ["b"]


def test_a_source_that_is_not_there_names_who_wants_it_and_the_command(tmp_path):
    with pytest.raises(UserError, match=r"sft_mix: .*source 'x'.*dvc repro standardize@x"):
        find("demonstrations", tmp_path, "x", "sft_mix")


def test_benchmarks_are_read_one_after_the_other_and_none_is_an_empty_table(tmp_path):
    tables.write(BENCHMARKS, benchmark("one", "two"), table_path("benchmarks", tmp_path, "bench"))
    assert read_benchmarks(tmp_path, ["bench"], "a test")["text"].to_list() == ["one", "two"]
    assert read_benchmarks(Path("nowhere"), [], "a test").is_empty()


def test_a_conversation_is_one_text_with_all_its_messages():
    turns = [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Why?\nHow?"}]
    frame = pl.DataFrame({"prompt": [turns]}, schema={"prompt": PREFERENCES.columns["prompt"]})
    assert frame.select(content(pl.col("prompt")))["prompt"].to_list() == ["Be brief\nWhy?\nHow?"]
