"""Runs and the pairs made of them, against plain Python."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.benchmark_items import BenchmarkItems
from pipeline.overlaps import RUNS, Pairs, per_item, runs
from pipeline.schemas import BENCHMARKS


def items(*texts: str) -> BenchmarkItems:
    rows = [
        {"source": "s", "file": "f", "row": i, "item": 0, "id": str(i), "text": text}
        for i, text in enumerate(texts)
    ]
    table = pl.DataFrame(rows, schema=BENCHMARKS.schema)
    return BenchmarkItems.of(table, ngram=4, min_words=2, max_items=99)


def found(text: str, *texts: str) -> list[tuple[int, int, int, bool]]:
    frame = runs(pl.Series([text]), items(*texts))
    return [row[1:] for row in frame.iter_rows()]


def test_a_run_goes_on_as_long_as_word_follows_word():
    assert found("z a b c d e z c d e f", "a b c d e f") == [(0, 0, 2, False), (0, 2, 3, False)]


@pytest.mark.parametrize(
    ("text", "alone"),
    [
        ("x b c", None),
        ("x b c y", None),
        ("x. b c", True),
        ("b c", True),
        ("B, c!", True),
        ("x\uff1a\uff42 c\uff1fy", True),
        ("x b c.", False),
    ],
)
def test_a_short_item_that_ends_a_sentence_must_end_one(text, alone):
    expected = {None: [(0, 0, 1, False)] if text == "x b c" else []}.get(alone, [(0, 0, 1, alone)])
    assert found(text, "b c.") == expected


def test_a_tiny_item_is_a_sentence():
    assert found("b. x b. x: b\n", "b") == [(0, 0, 1, True), (0, 0, 1, True)]


STRETCHES = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 5), st.integers(1, 4)), max_size=12
)


@settings(max_examples=100, deadline=None)
@given(STRETCHES)
def test_pairs_have_each_word_once(stretches):
    index = items("a b c d e f g h i j k l", "m n o p q r s t u v w x")
    rows = [(text, item, start, start + length, False) for text, item, start, length in stretches]
    pairs = Pairs.of(pl.DataFrame(rows, schema=RUNS, orient="row"), index)
    have: dict[tuple[int, int], set[int]] = {}
    for text, item, start, length in stretches:
        words = range(12 * item + start, 12 * item + start + length + 3)
        have.setdefault((text, item), set()).update(words)
    ordered = [have[key] for key in sorted(have)]
    every, even = np.ones(24, dtype=bool), np.arange(24) % 2 == 0
    assert pairs.number(every).tolist() == [len(words) for words in ordered]
    assert pairs.number(even).tolist() == [sum(word % 2 == 0 for word in words) for words in ordered]
    chosen = np.array([i % 2 == 0 for i in range(len(ordered))], dtype=bool)
    shared = pairs.sharing(chosen)
    for word in range(24):
        expected = sum(word in words for words in ordered[::2])
        assert (shared[word] if word < shared.size else 0) == expected


def test_words_are_counted_per_item():
    index = items("a b c", "d e", "d e", "f")
    assert per_item(np.array([True, False, True, True, True, False]), index).tolist() == [2, 2, 0, 0]
