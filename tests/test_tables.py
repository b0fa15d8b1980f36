"""Equal rows give equal bytes, and nothing outside the data dictionary is read or written."""

import random
from itertools import pairwise
from pathlib import Path

import datasets
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pipeline import tables
from pipeline.errors import UserError
from pipeline.schemas import JUDGMENTS, LEDGER, PREFERENCES
from pipeline.tables import Table, sift

SMALL = Table(name="small", made_by="somewhere", columns={"key": pl.Int64, "text": pl.String}, key=("key",))


def judgments(n: int) -> pl.DataFrame:
    rows = [(f"c{i}", f"p{i // 4}", "bt", i / 7, None, 0) for i in range(n)]
    return pl.DataFrame(rows, schema=JUDGMENTS.schema, orient="row")


def preferences(n: int) -> pl.DataFrame:
    """Rows that fill more than two row groups, with multi-byte text and nulls."""
    turn = [{"role": "user", "content": "Wie heißt „Fluss“ auf Englisch?"}]
    answers = [[{"role": "assistant", "content": text}] for text in ("river", "")]
    every = pl.DataFrame({"row": range(n)}).with_columns(
        source=pl.lit("s"),
        file=pl.lit("f"),
        item=pl.lit(0, pl.Int64),
        **{name: pl.col("row").cast(pl.String) for name in PREFERENCES.columns if name.endswith("_id")},
        prompt=pl.lit(pl.Series([turn])).first(),
        chosen=pl.lit(pl.Series([answers[0]])).first(),
        rejected=pl.lit(pl.Series([answers[1]])).first(),
        chosen_score=pl.when(pl.col("row") % 3 > 0).then(pl.col("row") / 7),
        rejected_score=pl.lit(None, pl.Float64),
        chosen_by=pl.lit(None, pl.String),
        rejected_by=pl.lit(None, pl.String),
    )
    return every.select(list(PREFERENCES.columns))


def put(path: Path, frame: pl.DataFrame, cuts: list[int]) -> None:
    """Write `frame` in the parts between `cuts`."""
    with tables.Writer(PREFERENCES, path) as writer:
        for start, end in pairwise([0, *sorted(cuts), frame.height]):
            writer.write(frame[start:end])


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
        tables.read(JUDGMENTS, tmp_path / "deep" / "j.parquet"),
        judgments(20).sort("prompt_id", "candidate_id"),
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


@given(st.lists(st.integers(0, 20_000), max_size=6))
@settings(max_examples=15, deadline=None)
def test_a_table_written_part_by_part_has_the_bytes_of_one_written_at_once(tmp_path_factory, cuts):
    folder = tmp_path_factory.mktemp("t")
    frame = preferences(20_000)
    tables.write(PREFERENCES, frame[::-1], folder / "a.parquet")
    put(folder / "b.parquet", frame, cuts)
    assert (folder / "a.parquet").read_bytes() == (folder / "b.parquet").read_bytes()
    file = pq.ParquetFile(folder / "a.parquet").metadata
    assert [file.row_group(i).num_rows for i in range(file.num_row_groups)] == [8192, 8192, 3616]


def test_every_reader_finds_the_rows_and_the_schema(tmp_path):
    path, frame = tmp_path / "p.parquet", preferences(10_000)
    tables.write(PREFERENCES, frame, path)
    assert_frame_equal(pl.read_parquet(path), frame)
    told = datasets.load_dataset(
        "parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "c")
    )
    assert told.num_rows == 10_000
    assert told[9_999] == frame.row(9_999, named=True)
    assert told.features["prompt"] == datasets.List(
        {name: datasets.Value("string") for name in ("role", "content")}
    )


def test_batches_are_the_rows_in_order_and_bounded(tmp_path):
    path, frame = tmp_path / "p.parquet", preferences(20_000)
    tables.write(PREFERENCES, frame, path)
    parts = list(tables.batches(PREFERENCES, path))
    assert_frame_equal(pl.concat(parts), frame)
    assert max(part.height for part in parts) <= 8192
    some = pl.concat(tables.batches(PREFERENCES, path, ["row", "chosen"]))
    assert_frame_equal(some, frame.select("row", "chosen"))
    assert tables.rows(PREFERENCES, path) == 20_000


@pytest.mark.parametrize("keys", [[1, 1], [2, 1, 2], [1, 3, 3]])
def test_a_key_that_comes_twice_is_found_in_any_order(keys):
    tables.check(SMALL, pl.DataFrame({"key": [3, 1, 2], "text": "a"}))
    with pytest.raises(AssertionError, match="2 rows share a key"):
        tables.check(SMALL, pl.DataFrame({"key": keys, "text": "a"}))


def test_a_table_may_have_no_rows(tmp_path):
    with tables.Writer(SMALL, tmp_path / "s.parquet"):
        pass
    assert_frame_equal(tables.read(SMALL, tmp_path / "s.parquet"), SMALL.empty())
    assert tables.rows(SMALL, tmp_path / "s.parquet") == 0
    assert sum(part.height for part in tables.batches(SMALL, tmp_path / "s.parquet")) == 0


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ([[1, 2], [2, 3]], r"1 rows share a key; first: \(2,\)"),
        ([[1, 3], [2]], r"in the order of key, found \(2,\) after \(3,\)"),
        ([[2, 1]], r"in the order of key, found \(1,\) after \(2,\)"),
        ([[1], [None]], "1 nulls in 'key'"),
    ],
)
def test_parts_that_break_the_table_leave_no_file(tmp_path, parts, told):
    with pytest.raises(AssertionError, match=told), tables.Writer(SMALL, tmp_path / "x.parquet") as writer:
        for keys in parts:
            writer.write(pl.DataFrame({"key": keys, "text": "a"}, schema_overrides={"key": pl.Int64}))
    assert list(tmp_path.iterdir()) == []


def test_an_error_between_parts_leaves_the_earlier_file(tmp_path):
    tables.write(SMALL, pl.DataFrame({"key": [1], "text": ["a"]}), tmp_path / "x.parquet")
    before = (tmp_path / "x.parquet").read_bytes()
    with pytest.raises(RuntimeError), tables.Writer(SMALL, tmp_path / "x.parquet") as writer:
        writer.write(pl.DataFrame({"key": range(20_000), "text": "a"}))
        raise RuntimeError
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"x.parquet": before}


@pytest.mark.parametrize("ask", [tables.read, tables.rows, lambda *words: list(tables.batches(*words))])
def test_every_way_to_read_names_what_is_wrong(tmp_path, ask):
    path = tmp_path / "j.parquet"
    with pytest.raises(UserError, match="dvc repro judge"):
        ask(JUDGMENTS, path)
    tables.write(JUDGMENTS, judgments(20_000), path)
    with pytest.raises(UserError, match="expected the columns of 'ledger'"):
        ask(LEDGER, path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="damaged"):
        ask(JUDGMENTS, path)


def test_damage_in_the_middle_is_told_while_rows_are_read(tmp_path):
    path = tmp_path / "j.parquet"
    tables.write(JUDGMENTS, judgments(30_000), path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 2000] = b"\xff" * 2000
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        list(tables.batches(JUDGMENTS, path))


def test_sift_gives_each_lost_row_its_first_reason():
    frame = pl.DataFrame({"x": [1, 2, 3, None]})
    kept, dropped = sift(frame, {"small": pl.col("x") < 2, "odd": pl.col("x") % 2 == 1})
    assert kept["x"].to_list() == [2, None]
    assert dropped.rows() == [(1, "small"), (3, "odd")]
