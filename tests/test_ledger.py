"""In = kept + dropped, or the stage does not end."""

import json

import polars as pl
import pytest

from pipeline import tables
from pipeline.ledger import Ledger, LedgerStream
from pipeline.schemas import LEDGER


def dropped(n: int, reason: str, source: str = "s") -> pl.DataFrame:
    origin = {"source": source, "file": "f", "item": 0, "reason": reason}
    return pl.DataFrame([{**origin, "row": i} for i in range(n)])


def test_the_counts_say_what_happened_by_reason_and_source(tmp_path):
    ledger = Ledger("mix@m", "pairs")
    ledger.drop(dropped(2, "tie"))
    ledger.drop(dropped(1, "empty", source="r").with_columns(value=pl.lit(3), threshold=pl.lit(5)))
    ledger.close(10, 7, tmp_path)
    counts = json.loads((tmp_path / "counts.json").read_text())
    assert counts == {
        "stage": "mix@m",
        "unit": "pairs",
        "in": 10,
        "kept": 7,
        "dropped": {"empty": 1, "tie": 2},
        "by_source": {"r": {"empty": 1}, "s": {"tie": 2}},
    }
    rows = tables.read(LEDGER, tmp_path / "ledger.parquet")
    assert rows.filter(pl.col("reason") == "empty")["threshold"].to_list() == [5.0]


def test_a_row_lost_without_a_word_stops_the_stage(tmp_path):
    ledger = Ledger("mix@m", "pairs")
    ledger.drop(dropped(2, "tie"))
    with pytest.raises(AssertionError, match="10 pairs in, 7 kept, 2 in the ledger"):
        ledger.close(10, 7, tmp_path)
    assert not (tmp_path / "counts.json").exists()


def test_one_item_dropped_twice_stops_the_stage(tmp_path):
    ledger = Ledger("mix@m", "pairs")
    ledger.drop(dropped(1, "tie"))
    ledger.drop(dropped(1, "empty"))
    with pytest.raises(AssertionError, match="share a key"):
        ledger.close(3, 1, tmp_path)


def test_a_ledger_written_in_parts_has_the_bytes_of_one_written_at_once(tmp_path):
    rows = dropped(6, "tie").with_columns(detail=pl.lit("same"))
    whole = Ledger("mix@m", "pairs")
    whole.drop(rows[::-1])
    whole.close(9, 3, tmp_path / "whole")
    with LedgerStream("mix@m", "pairs", tmp_path / "parts") as ledger:
        for part in (rows[:1], rows[1:5], rows[5:]):
            ledger.drop(part)
        assert ledger.close(9, 3)["dropped"] == {"tie": 6}
    for name in ("ledger.parquet", "counts.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def test_a_ledger_in_parts_that_does_not_add_up_leaves_nothing(tmp_path):
    with (
        pytest.raises(AssertionError, match="10 pairs in, 7 kept, 2 in the ledger"),
        LedgerStream("mix@m", "pairs", tmp_path / "out") as ledger,
    ):
        ledger.drop(dropped(2, "tie"))
        ledger.close(10, 7)
    assert not (tmp_path / "out").exists()


def test_a_ledger_in_parts_takes_drops_in_the_order_of_their_origin(tmp_path):
    rows = dropped(2, "tie")
    with (
        pytest.raises(AssertionError, match="in the order of"),
        LedgerStream("mix@m", "pairs", tmp_path / "out") as ledger,
    ):
        ledger.drop(rows[1:])
        ledger.drop(rows[:1])
