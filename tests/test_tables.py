"""Equal rows give equal bytes, and nothing outside the data dictionary is read or written."""

import random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pipeline import tables
from pipeline.errors import UserError
from pipeline.schemas import JUDGMENTS, LEDGER
from pipeline.tables import Table, sift

SMALL = Table(name="small", made_by="somewhere", columns={"key": pl.Int64, "text": pl.String}, key=("key",))


def judgments(n: int) -> pl.DataFrame:
    rows = [(f"c{i}", f"p{i // 4}", "bt", i / 7) for i in range(n)]
    return pl.DataFrame(rows, schema=JUDGMENTS.schema, orient="row")


@given(st.integers(0, 2**32), st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_order_and_chunking_do_not_change_the_bytes(tmp_path_factory, seed, chunks):
    folder = tmp_path_factory.mktemp("t")
    frame = judgments(200)
    order = random.Random(seed).sample(range(200), 200)
    size = -(-200 // chunks)
    shuffled = pl.concat([frame[order[i : i + size]] for i in range(0, 200, size)], rechunk=False)
    tables.write(JUDGMENTS, frame, folder / "a.parquet")
    tables.write(JUDGMENTS, shuffled, folder / "b.parquet")
    assert (folder / "a.parquet").read_bytes() == (folder / "b.parquet").read_bytes()


def test_what_is_written_is_read_back_sorted(tmp_path):
    tables.write(JUDGMENTS, judgments(20)[::-1], tmp_path / "deep" / "j.parquet")
    assert_frame_equal(
        tables.read(JUDGMENTS, tmp_path / "deep" / "j.parquet"), judgments(20).sort("candidate_id")
    )


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        (pl.DataFrame({"key": [1, 1], "text": ["a", "b"]}), "share a key"),
        (pl.DataFrame({"key": [1, None], "text": ["a", "b"]}), "nulls"),
    ],
)
def test_a_broken_table_is_not_written(tmp_path, frame, told):
    with pytest.raises(AssertionError, match=told):
        tables.write(SMALL, frame, tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_rule_that_is_broken_is_named_with_the_first_key(tmp_path):
    frame = judgments(3).with_columns(score=pl.Series([1.0, float("nan"), 2.0]))
    with pytest.raises(AssertionError, match=r"score is a finite number.*'c1'"):
        tables.write(JUDGMENTS, frame, tmp_path / "x.parquet")


def test_a_missing_file_names_the_stage_that_makes_it(tmp_path):
    with pytest.raises(UserError, match="dvc repro judge"):
        tables.read(JUDGMENTS, tmp_path / "none.parquet")


def test_a_truncated_file_is_told_as_damaged(tmp_path):
    path = tmp_path / "j.parquet"
    tables.write(JUDGMENTS, judgments(50), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="damaged"):
        tables.read(JUDGMENTS, path)


def test_a_table_of_other_columns_is_refused(tmp_path):
    tables.write(SMALL, pl.DataFrame({"key": [1], "text": ["a"]}), tmp_path / "s.parquet")
    with pytest.raises(UserError, match="expected the columns of 'ledger'"):
        tables.read(LEDGER, tmp_path / "s.parquet")


def test_sift_gives_each_lost_row_its_first_reason():
    frame = pl.DataFrame({"x": [1, 2, 3, None]})
    kept, dropped = sift(frame, {"small": pl.col("x") < 2, "odd": pl.col("x") % 2 == 1})
    assert kept["x"].to_list() == [2, None]
    assert dropped.rows() == [(1, "small"), (3, "odd")]
