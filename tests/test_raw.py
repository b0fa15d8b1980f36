"""Reading raw files: every format gives the same rows, bad lines are named, bad files are refused."""

import gzip
import io
import json
import zipfile
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from pipeline import byte_streams, json_files
from pipeline.errors import UserError
from pipeline.raw import INVALID_UTF8, LONG_LINE, MALFORMED_CSV, MALFORMED_JSON, RawRows, in_order, read

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


@pytest.mark.parametrize("size", [1, 7, 40])
@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("f.jsonl", bytes),
        ("f.jsonl.gz", gzip.compress),
        ("f.jsonl.zst", lambda lines: zstandard.compress(lines[:9]) + zstandard.compress(lines[9:])),
        ("f.json", bytes),
    ],
)
def test_the_size_of_what_is_read_at_once_does_not_matter(tmp_path, monkeypatch, name, pack, size):
    monkeypatch.setattr(byte_streams, "BLOCK_BYTES", size)
    monkeypatch.setattr(byte_streams, "PACKED_BYTES", size)
    content = b"\xef\xbb\xbf" + LINES + b"\n{broken\n\n" + LINES.rstrip()
    rows = list(read(tmp_path, [put(tmp_path, name, pack(content))]))
    assert [row.row for row in rows] == [0, 1, 3, 5, 6]
    assert [row.value for row in rows] == [*ROWS, None, *ROWS]


def test_a_line_of_50_megabytes_is_a_bad_row_and_the_rest_is_read(tmp_path):
    content = LINES + b'{"a": "' + b"x" * (50 << 20) + b'"}\n' + LINES
    rows = list(read(tmp_path, [put(tmp_path, "f.jsonl.gz", gzip.compress(content, 1))]))
    assert [(row.row, row.bad) for row in rows] == [
        (0, None),
        (1, None),
        (2, LONG_LINE),
        (3, None),
        (4, None),
    ]


def test_lines_without_an_end_do_not_fill_the_memory():
    endless = iter([b"x" * byte_streams.BLOCK_BYTES] * 20)

    class Stream:
        def read(self, size: int) -> bytes:
            return next(endless, b"")

    (lines,) = byte_streams.line_runs(Stream(), "f.jsonl")
    assert len(lines.content) <= byte_streams.LONGEST_LINE + byte_streams.BLOCK_BYTES


def test_rows_may_be_read_twice(tmp_path):
    rows = RawRows(tmp_path, [put(tmp_path, "f.jsonl", LINES)], None)
    assert [row.value for row in rows] == [row.value for row in rows] == ROWS
    assert rows.given == 2


def test_files_are_ordered_as_the_names_of_their_rows():
    assert in_order(["b.jsonl", "a.zip", "a.zip-2.jsonl", "a"]) == ["a", "a.zip-2.jsonl", "a.zip", "b.jsonl"]


def test_of_a_key_that_is_there_twice_the_last_value_counts(tmp_path):
    assert values(tmp_path, put(tmp_path, "f.jsonl", b'{"a": 1, "a": 2}\n')) == [{"a": 2}]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b'{"a": 1}\n{"a": \n{"a": 3}', [{"a": 1}, None, {"a": 3}]),
        (b'{"a": \n{"a": 2}\n', [None, {"a": 2}]),
        (b"[1]\n[2]\n", [[1], [2]]),
        (b"[1, [2], null]", [1, [2], None]),
        (b"\xef\xbb\xbf \n[\n1\n,\n 2 ]\n\n", [1, 2]),
        (b'\n{"a":\n 1}\n', [{"a": 1}]),
        (b"[ ]\n[1]", [[], [1]]),
    ],
)
def test_a_json_file_is_an_array_or_an_object_or_lines(tmp_path, content, found):
    rows = list(read(tmp_path, [put(tmp_path, "f.json", content)]))
    assert [row.value for row in rows] == found


ELEMENTS = [1, 2.5, -3e2, "é😀\\", "", {"a": [1, {"b": None}]}, [], True, "x" * 40, 12345]


def array(folder: Path, text: str) -> list[object]:
    """The rows of an array, or the words of the error."""
    try:
        return [row.value for row in read(folder, [put(folder, "f.json", text.encode())])]
    except UserError as error:
        return [str(error)]


@pytest.mark.parametrize("size", [1, 2, 7, 64])
@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_is_read_in_parts_of_any_size(tmp_path, monkeypatch, size, indent):
    monkeypatch.setattr(json_files, "ARRAY_BYTES", size)
    text = "[\n" + json.dumps(ELEMENTS, indent=indent, ensure_ascii=False)[1:] + " \n\n"
    assert array(tmp_path, text) == ELEMENTS
    ends = range(3, len(text.rstrip()), 3)
    cut = [array(tmp_path, text[:end]) for end in ends]
    assert all("found a broken one" in str(found) for found in cut)
    monkeypatch.setattr(json_files, "ARRAY_BYTES", 1 << 20)
    assert cut == [array(tmp_path, text[:end]) for end in ends]


@pytest.mark.parametrize("text", ["[" + "1," * 30 + "2]", "[" + "1," * 30 + "2]\n\n"])
def test_an_array_on_one_long_line_is_read_in_parts(tmp_path, monkeypatch, text):
    monkeypatch.setattr(json_files, "FIRST_LINE", 8)
    monkeypatch.setattr(json_files, "ARRAY_BYTES", 8)
    assert array(tmp_path, text) == [1] * 30 + [2]
    assert "more content after it" in str(array(tmp_path, text + "x"))


def test_the_tries_at_a_long_element_grow(tmp_path, monkeypatch):
    monkeypatch.setattr(json_files, "ARRAY_BYTES", 16)
    tries = []
    decoder = json.JSONDecoder()

    class Counted:
        def raw_decode(self, text: str, place: int) -> object:
            tries.append(len(text))
            return decoder.raw_decode(text, place)

    monkeypatch.setattr(json_files, "DECODER", Counted())
    assert array(tmp_path, '[\n"' + "x" * 100_000 + '"]') == ["x" * 100_000]
    assert len(tries) < 20


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
    content = b'{"a": 1}\n{"a": \n\n{"a": "\xff"}\n' + b"[" * 100_000 + b'\n{"a": "\0"}\n{"a": 2}\n'
    rows = list(read(tmp_path, [put(tmp_path, "f.jsonl", content)]))
    assert [(row.row, row.bad) for row in rows] == [
        (0, None),
        (1, MALFORMED_JSON),
        (3, INVALID_UTF8),
        (4, MALFORMED_JSON),
        (5, MALFORMED_JSON),
        (6, None),
    ]
    assert rows[-1].value == {"a": 2}


def test_a_bad_csv_record_says_how_many_lines_went_with_it(tmp_path):
    rows = list(read(tmp_path, [put(tmp_path, "f.csv", b'a,b\n"x,1\ny,2\nz,"3"\nx,3\n')]))
    assert [(row.row, row.bad) for row in rows] == [(0, MALFORMED_CSV), (1, None)]
    assert "lines lost: 3" in str(rows[0].detail)


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
        ("f.json", b"[\n1,\n]", "a broken one"),
        ("f.json", b"[\n1\n2]", "no comma or bracket"),
        ("f.json", b"[\n1]\n[2]", "more content after it"),
        ("f.json", b'[\n"\xff"]', "invalid utf-8"),
        ("f.json", b"[\n" + b"[" * 100_000, "a broken one"),
        ("f.jsonl.zst", zstandard.compress(LINES * 50) + zstandard.compress(LINES * 50)[:-3], "cut-off"),
        ("f.jsonl.zst", zstandard.compress(LINES) + b"rest", "cut-off"),
        ("f.json", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        ("f.csv", b"<!DOCTYPE html><html></html>", "an HTML page"),
        ("f.csv", b'a,b\n1,2\n3,"4\n5,6\n7,8\n', r"begun in row 1 \(the last 3 lines\)"),
        ("f.csv", b'"a"x,b\n1,2\n', "expected a CSV header line"),
        ("f.csv", b"a,b,a\n1,2,3\n", "each column once, found several named 'a'"),
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


def zipped(name: str, content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.jsonl", LINES)
        archive.writestr(name, content)
    return packed.getvalue()


def with_header(place: int, value: int) -> bytes:
    """An archive whose first member has another byte at `place` of its header, and in the directory."""
    content = bytearray(zipped("b.jsonl", LINES))
    for magic, offset in ((b"PK\3\4", place), (b"PK\1\2", place + 2)):
        content[content.find(magic) + offset] = value
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (zipped("b.parquet", b""), r"found b\.parquet \(unpack the archive"),
        (zipped("b.zip", b""), r"found b\.zip \(unpack the archive"),
        (with_header(6, 1), r"a\.jsonl, which cannot \(.*encrypted"),
        (with_header(8, 9), r"a\.jsonl, which cannot \(.*compression"),
    ],
)
def test_an_archive_that_cannot_be_read_whole_is_one_error(tmp_path, content, said):
    with pytest.raises(UserError, match=said):
        list(read(tmp_path, [put(tmp_path, "f.zip", content)]))


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (pa.table({"a": pa.array([2**62], pa.timestamp("us"))}), "values that Python can hold"),
        (pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), "each column once"),
    ],
)
def test_a_parquet_table_that_is_no_rows_of_python_is_one_error(tmp_path, table, said):
    pq.write_table(table, tmp_path / "f.parquet")
    with pytest.raises(UserError, match=said):
        list(read(tmp_path, ["f.parquet"]))


def test_a_missing_file_is_one_error_that_names_it(tmp_path):
    with pytest.raises(UserError, match=r"gone\.jsonl"):
        list(read(tmp_path, ["gone.jsonl"]))


def test_a_damaged_parquet_page_stops_the_file_and_never_loses_rows_silently(tmp_path):
    """A reader may notice a changed byte or not; what it must not do is to end early without a word."""
    path = tmp_path / "f.parquet"
    rows = pl.DataFrame([{"prompt": f"{n} x", "n": n % 5} for n in range(400)])
    rows.write_parquet(path, row_group_size=100, compression="uncompressed")
    sound, page = path.read_bytes(), pq.ParquetFile(path).metadata.row_group(2).column(1)
    start = page.dictionary_page_offset or page.data_page_offset
    stopped = 0
    for place in range(start, start + 120):
        damaged = bytearray(sound)
        damaged[place] ^= 0x55
        path.write_bytes(damaged)
        try:
            assert len(list(read(tmp_path, ["f.parquet"]))) == 400
        except UserError as error:
            assert "expected a Parquet table" in str(error)
            stopped += 1
    assert stopped > 40
