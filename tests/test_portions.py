"""Whole runs of lines give what the lines give one by one; every raw row ends in a portion."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pipeline import json_columns, json_files, portions
from pipeline.byte_streams import Lines
from pipeline.json_columns import scanned, text_columns
from pipeline.json_files import line_rows
from pipeline.portions import Portion, RowMapper
from pipeline.raw import RawRow
from pipeline.sources import hh_rlhf

SAMPLES = Path(__file__).parents[1] / "data" / "samples" / "hh_rlhf"
HH = RowMapper("hh", "preferences", hh_rlhf, hh_rlhf.Rules())

CONTENT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12) | st.sampled_from(
    ["Hi", " yes ", "", "\x1e", "\x1c", "\x85", "\0", "\\", '"', "\n\n", "Human:", "\u2028", "5", "\n\nHuman"]
)
MARKER = st.sampled_from(["\n\nHuman:", "\n\nAssistant:", "\n\nHuman: ", "\n\nAssistant: "])
TURN = st.tuples(MARKER, CONTENT).map("".join)
WILD = st.tuples(CONTENT, st.lists(TURN, max_size=4).map("".join)).map("".join)


def exchanges(first: list[tuple[str, str]], last: tuple[str, str, str]) -> dict[str, str]:
    """A row in the usual form."""
    asks = "".join(f"\n\nHuman: {ask}\n\nAssistant: {answer}" for ask, answer in first)
    context = f"{asks}\n\nHuman: {last[0]}\n\nAssistant:"
    return {"chosen": f"{context} {last[1]}", "rejected": f"{context} {last[2]}"}


USUAL = st.builds(
    exchanges,
    st.lists(st.tuples(CONTENT, CONTENT), max_size=2),
    st.tuples(CONTENT, CONTENT, CONTENT),
)
VALUE = WILD | st.none() | st.integers() | st.floats() | st.booleans() | st.lists(WILD, max_size=1)
ROW = (
    USUAL
    | st.fixed_dictionaries({"chosen": VALUE, "rejected": VALUE})
    | st.tuples(USUAL, st.dictionaries(CONTENT, VALUE, max_size=2)).map(lambda two: two[0] | two[1])
    | VALUE
)


def spelled(row: Any, ascii_only: bool, compact: bool) -> bytes:
    """A JSON line, as different writers write it."""
    separators = (",", ":") if compact else None
    return json.dumps(row, ensure_ascii=ascii_only, separators=separators).encode()


LINE = st.builds(spelled, ROW, st.booleans(), st.booleans())


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A line with some bytes replaced by others."""
    line = draw(LINE)
    start = draw(st.integers(0, len(line)))
    new = draw(
        st.binary(max_size=3)
        | st.sampled_from(
            [b'"', b"\\", b"}{", b'": "', b'"chosen": "x", ', b"\\ud800", b"\\u0041", b"\r", b"[" * 2000]
        )
    )
    return line[:start] + new + line[start + draw(st.integers(0, 3)) :]


def by_rows(lines: Lines) -> Portion:
    """The truth: every line by itself."""
    return HH.of_few(list(line_rows(lines)))


def assert_same(content: bytes, first: int = 0) -> Portion:
    lines = Lines("f.jsonl", first, content)
    fast, slow = HH.of_group(lines), by_rows(lines)
    assert_frame_equal(fast.kept, slow.kept)
    assert_frame_equal(fast.drops, slow.drops)
    assert fast.rows == slow.rows
    return fast


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(LINE | damaged() | st.sampled_from([b"", b"  ", b"\x0b"]), min_size=1, max_size=6), st.booleans()
)
def test_whole_runs_of_lines_give_what_their_rows_give(lines, ends):
    # an array in the first line is a defect of the file, whichever way it is read
    assert_same(b"\n".join(lines) + b"\n" * ends, first=3)


@settings(max_examples=100, deadline=None)
@given(st.lists(USUAL, min_size=1, max_size=8))
def test_usual_rows_are_the_same_both_ways_and_most_go_the_fast_way(rows):
    assert_same(b"\n".join(spelled(row, False, False) for row in rows))


@pytest.mark.parametrize("file", sorted(SAMPLES.rglob("*.jsonl.gz")), ids=lambda file: file.parent.name)
def test_real_rows_are_the_same_both_ways(file):
    content = gzip.decompress(file.read_bytes())
    portion = assert_same(content)
    sure = hh_rlhf.certain(text_columns(scanned(Lines("f", 0, content)), hh_rlhf.COLUMNS), hh_rlhf.Rules())
    assert sure.height > 0.8 * portion.rows


def twice(chosen: str, rejected: str, more: str) -> bytes:
    return f'{{"chosen": {json.dumps(chosen)}, "rejected": {json.dumps(rejected)}, {more}}}'.encode()


GOOD = exchanges([], ("Name a colour.", "Blue.", "No."))


@pytest.mark.parametrize(
    "line",
    [
        twice(GOOD["chosen"], GOOD["rejected"], '"chosen": 5'),
        twice(GOOD["chosen"], GOOD["rejected"], '"chosen": "\\n\\nHuman: Q\\n\\nAssistant: other"'),
        twice(GOOD["chosen"] + "\\", GOOD["rejected"] + "\\", '"chosen": 5'),
        twice(GOOD["chosen"] + "\\", GOOD["rejected"] + "\\", '"z\\\\": "q\\\\"'),
        twice(GOOD["chosen"], GOOD["rejected"], '"x": ' + "[" * 1000 + "]" * 1000),
        json.dumps(GOOD).encode().replace(b"Blue.", b"\\ud800"),
        json.dumps(GOOD).encode().replace(b"Blue.", b"B\x01"),
        json.dumps(GOOD).encode().replace(b"Blue.", b"\xff"),
        json.dumps(GOOD).encode().replace(b"\\n\\nAssistant: Blue.", b"\\u000a\\n\\u0041ssistant: Blue."),
        json.dumps(GOOD).encode().replace(b"Name", b"C:\\\\n\\nHuman: Name"),
        json.dumps({"chosen": [GOOD["chosen"]], "rejected": GOOD["rejected"]}).encode(),
        json.dumps(GOOD | {"source": "x"}).encode(),
        b" \t" + json.dumps(GOOD).encode() + b"\r",
    ],
)
def test_lines_that_parsers_read_differently_go_by_rows(line):
    usual = json.dumps(GOOD).encode()
    portion = assert_same(b"\n".join([usual, line, usual]))
    assert portion.rows == 3


def test_a_line_that_is_too_long_is_dropped_both_ways(monkeypatch):
    monkeypatch.setattr(json_columns, "LONGEST_LINE", 120)
    monkeypatch.setattr(json_files, "LONGEST_LINE", 120)
    long = json.dumps(exchanges([], ("Name a colour that is not so often named.", "Blue.", "No."))).encode()
    portion = assert_same(b"\n".join([json.dumps(GOOD).encode(), long]))
    assert portion.drops["reason"].to_list() == ["line too long"]


def test_one_bad_line_does_not_send_the_others_by_rows():
    usual = json.dumps(GOOD).encode()
    bad = usual.replace(b"Blue", b"\\q")
    sure = hh_rlhf.certain(
        text_columns(scanned(Lines("f", 5, b"\n".join([usual, usual, bad, usual]))), hh_rlhf.COLUMNS),
        hh_rlhf.Rules(),
    )
    assert sure["row"].to_list() == [5, 6, 8]


def test_rows_of_other_formats_go_by_rows_and_keep_their_files_apart(monkeypatch):
    monkeypatch.setattr(portions, "CHUNK_ITEMS", 2)
    rows = [RawRow(file, n, GOOD) for file in ("a.json", "b.json") for n in range(3)]
    groups = list(portions.grouped(rows))
    assert [len(group) for group in groups] == [2, 1, 2, 1]
    assert sum(HH.of_group(group).kept.height for group in groups) == 6


def test_results_come_in_the_order_of_what_is_given():
    assert list(portions.in_turn(lambda n: n * n, iter(range(20)), 3)) == [n * n for n in range(20)]


@pytest.mark.parametrize(
    "split", ["helpful-base", "helpful-online", "helpful-rejection-sampled", "harmless-base"]
)
def test_released_rows_are_the_same_both_ways(shared_data, split):
    content = gzip.decompress((shared_data / "hh-rlhf" / split / "test.jsonl.gz").read_bytes())
    portion = assert_same(content)
    sure = hh_rlhf.certain(text_columns(scanned(Lines("f", 0, content)), hh_rlhf.COLUMNS), hh_rlhf.Rules())
    assert sure.height > 0.98 * portion.rows
