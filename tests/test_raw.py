"""Reading raw files: every format gives the same rows, bad lines are named, bad files are refused."""

import gzip
import json
import zipfile
from pathlib import Path

import polars as pl
import pytest
import zstandard

from pipeline.errors import UserError
from pipeline.raw import INVALID_UTF8, MALFORMED_CSV, MALFORMED_JSON, read

ROWS = [{"a": "x", "b": "1"}, {"a": "é\nü", "b": "2"}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
ARRAY = json.dumps(ROWS).encode()
CSV = b'a,b\nx,1\n"\xc3\xa9\n\xc3\xbc",2\n'


def put(folder: Path, name: str, content: bytes) -> str:
    (folder / name).write_bytes(content)
    return name


def values(folder: Path, name: str, **options: object) -> list[object]:
    rows = list(read(folder, [name], **options))
    assert [row.bad for row in rows] == [None] * len(rows)
    assert [row.row for row in rows] == list(range(len(rows)))
    return [row.value for row in rows]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("f.jsonl", LINES),
        ("f.jsonl", b"\xef\xbb\xbf" + LINES),
        ("f.jsonl", LINES.replace(b"\n", b"\r\n").rstrip()),
        ("f.json", ARRAY),
        ("f.json", LINES),
        ("f.json", json.dumps(ROWS, indent=2).encode()),
        ("f.jsonl.gz", gzip.compress(LINES)),
        ("f.json.gz", gzip.compress(ARRAY)),
        ("f.jsonl.zst", zstandard.compress(LINES[:20]) + zstandard.compress(LINES[20:])),
        ("f.csv", CSV),
        ("f.csv.gz", gzip.compress(CSV)),
    ],
)
def test_every_format_gives_the_same_rows(tmp_path, name, content):
    assert values(tmp_path, put(tmp_path, name, content)) == ROWS


def test_parquet_gives_the_same_rows(tmp_path):
    pl.DataFrame(ROWS).write_parquet(tmp_path / "f.parquet")
    assert values(tmp_path, "f.parquet") == ROWS


def test_a_csv_without_a_header_takes_its_column_names_from_the_adapter(tmp_path):
    name = put(tmp_path, "f.csv", CSV.removeprefix(b"a,b\n"))
    assert values(tmp_path, name, csv_columns=("a", "b")) == ROWS


def test_members_of_an_archive_keep_their_own_names(tmp_path):
    with zipfile.ZipFile(tmp_path / "f.zip", "w") as archive:
        archive.writestr("z/two.csv", CSV)
        archive.writestr("z/one.jsonl", LINES)
        archive.writestr("z/LICENSE", "text")
        archive.writestr("__MACOSX/z/one.jsonl", b"\x00")
    rows = list(read(tmp_path, ["f.zip"]))
    assert [(row.file, row.row) for row in rows] == [
        ("f.zip/z/one.jsonl", 0),
        ("f.zip/z/one.jsonl", 1),
        ("f.zip/z/two.csv", 0),
        ("f.zip/z/two.csv", 1),
    ]


def test_one_object_in_a_json_file_is_one_row(tmp_path):
    assert values(tmp_path, put(tmp_path, "f.json", json.dumps(ROWS[0], indent=1).encode())) == [ROWS[0]]


def test_a_bad_line_is_a_row_with_its_line_number_and_the_rest_is_read(tmp_path):
    content = b'{"a": 1}\n{"a": \n\n{"a": "\xff"}\n' + b"[" * 100_000 + b'\n{"a": 2}\n'
    rows = list(read(tmp_path, [put(tmp_path, "f.jsonl", content)]))
    assert [(row.row, row.bad) for row in rows] == [
        (0, None),
        (1, MALFORMED_JSON),
        (3, INVALID_UTF8),
        (4, MALFORMED_JSON),
        (5, None),
    ]
    assert rows[-1].value == {"a": 2}


def test_a_bad_csv_record_is_a_row_and_the_rest_is_read(tmp_path):
    rows = list(read(tmp_path, [put(tmp_path, "f.csv", b'a,b\nx\n"x"y,1\n\xff,2\nx,3\n')]))
    assert [row.bad for row in rows] == [MALFORMED_CSV, MALFORMED_CSV, INVALID_UTF8, None]
    assert rows[-1].value == {"a": "x", "b": "3"}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("f.jsonl", b"", "empty"),
        ("f.jsonl", b"\n \n", "empty"),
        ("f.json", b"[]", "empty"),
        ("f.csv", b"a,b\n", "empty"),
        ("f.jsonl.gz", gzip.compress(LINES * 50)[:-12], "cut-off"),
        ("f.jsonl.gz", LINES, "cut-off"),
        ("f.jsonl.zst", zstandard.compress(LINES)[:-3], "cut-off"),
        ("f.jsonl.zst", LINES, "cut-off"),
        ("f.zip", LINES, "cut-off"),
        ("f.jsonl", gzip.compress(LINES), "should end in .gz"),
        ("f.jsonl", ARRAY[:-1] + b"\n]", "should end in .json"),
        ("f.json", ARRAY[:-9], "a broken one"),
        ("f.json", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        ("f.csv", b"<!DOCTYPE html><html></html>", "an HTML page"),
        ("f.parquet", LINES, "a Parquet table"),
        ("f.parquet", b"", "a Parquet table"),
        ("f.txt", LINES, "a name that ends in"),
    ],
)
def test_a_bad_file_is_one_error_that_names_it(tmp_path, name, content, said):
    put(tmp_path, name, content)
    with pytest.raises(UserError, match=said) as error:
        list(read(tmp_path, [name]))
    assert name in str(error.value)


def test_a_missing_file_is_one_error_that_names_it(tmp_path):
    with pytest.raises(UserError, match=r"gone\.jsonl"):
        list(read(tmp_path, ["gone.jsonl"]))
