"""Every row is kept or has a line in the ledger that says why, and where the other row stands."""

import json

import polars as pl
import pytest

from pipeline import tables
from pipeline.catalog import number
from pipeline.errors import UserError
from pipeline.schemas import LEDGER
from pipeline.verdicts import Verdicts
from tests.stages.preference_rows import inputs, preference, preferences

ROWS = [preference(i, f"prompt {i}", "yes", "no", source="ba"[i % 2]) for i in range(6)]


@pytest.fixture
def verdicts(tmp_path) -> Verdicts:
    found = inputs("preferences", preferences(*ROWS), ["b", "a"], tmp_path / "standard")
    return Verdicts("mix@m", "pairs", found.catalog({"id": number("pair_id")}, "reading"), id_column="id")


def test_drops_are_written_in_the_order_of_the_ledger_with_value_threshold_and_the_other_row(
    verdicts, tmp_path
):
    left = verdicts.drop(verdicts.catalog, "long", pl.col("row") == 4, value=pl.col("row"), threshold=3)
    left = verdicts.drop(left, "same", pl.col("row") == 1, says="same as", other=pl.lit(0))
    left = verdicts.drop(left, "noted", pl.col("row") == 3, note=pl.lit("because"))
    verdicts.close(left.height, tmp_path, margins={"a": 1.0})
    lines = tables.read(LEDGER, tmp_path / "ledger.parquet")
    assert lines.select("source", "row", "reason", "value", "threshold", "detail").rows() == [
        ("a", 1, "same", None, None, "same as b/f.jsonl row 0 item 0"),
        ("a", 3, "noted", None, None, "because"),
        ("b", 4, "long", 4.0, 3.0, None),
    ]
    assert lines["id"].to_list() == [ROWS[row]["pair_id"] for row in (1, 3, 4)]
    assert json.loads((tmp_path / "counts.json").read_text()) == {
        "stage": "mix@m",
        "unit": "pairs",
        "in": 6,
        "kept": 3,
        "dropped": {"long": 1, "noted": 1, "same": 1},
        "by_source": {"a": {"noted": 1, "same": 1}, "b": {"long": 1}},
        "margins": {"a": 1.0},
    }


def test_a_null_condition_keeps_the_row(verdicts):
    assert verdicts.drop(verdicts.catalog, "x", pl.lit(None, pl.Boolean)).height == 6


def test_a_row_lost_without_a_word_stops_the_stage_and_leaves_no_ledger(verdicts, tmp_path):
    verdicts.drop(verdicts.catalog, "long", pl.col("row") == 4)
    with pytest.raises(AssertionError, match="6 pairs in, 4 kept, 1 in the ledger"):
        verdicts.close(4, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*"))


def test_nothing_left_is_told_with_the_reasons(verdicts):
    left = verdicts.drop(verdicts.catalog, "long", pl.lit(value=True))
    with pytest.raises(
        UserError, match=r"mix@m: .*6 pairs to be left for the mix.*'long': 6.*dvc repro mix@m"
    ):
        verdicts.refuse_empty(left, "the mix")


def test_sources_without_rows_are_told_as_such(tmp_path):
    found = inputs("preferences", preferences(), ["a"], tmp_path)
    verdicts = Verdicts("mix@m", "pairs", found.catalog({"id": number("pair_id")}, "reading"), id_column="id")
    with pytest.raises(UserError, match=r"mix@m: expected pairs in its sources, found no rows"):
        verdicts.refuse_empty(verdicts.catalog, "the mix")
