"""The index of benchmark items against plain Python."""

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.benchmark_items import BenchmarkItems
from pipeline.schemas import BENCHMARKS


def items(*texts: str, max_items: int = 2) -> BenchmarkItems:
    rows = [
        {"source": "s", "file": "f", "row": i, "item": 0, "id": str(i), "text": text}
        for i, text in enumerate(texts)
    ]
    table = pl.DataFrame(rows, schema=BENCHMARKS.schema)
    return BenchmarkItems.of(table, ngram=4, min_words=2, max_items=max_items)


def lengths(index: BenchmarkItems) -> tuple[int, int, int]:
    return index.long.hashes.size, index.short.hashes.size, index.tiny.hashes.size


def test_an_item_is_indexed_by_its_length():
    assert lengths(items("a b c d e", "f g h", "i j", "k", "")) == (2, 2, 1)


def test_equal_items_are_one_with_both_names():
    rows = [
        {"source": source, "file": "f", "row": 0, "item": 0, "id": "x", "text": text}
        for source, text in (("s", "A, b; c d"), ("t", "a b c d!"))
    ]
    table = pl.DataFrame(rows, schema=BENCHMARKS.schema)
    index = BenchmarkItems.of(table, ngram=4, min_words=2, max_items=2)
    assert lengths(index) == (1, 0, 0)
    assert index.names[0] == "s/x, t/x"
    assert index.span(0, 1, 3) == "b c"


def test_a_short_item_inside_too_many_rows_is_left_out():
    assert lengths(items("a b", "a b c d", "x a b y")) == (2, 0, 0)
    assert lengths(items("a b", "a b c d", "x a b y", max_items=3)) == (2, 1, 0)


def test_words_of_a_phrase_that_many_rows_share_tell_nothing():
    index = items("a b c d x", "a b c d y", "a b c d z")
    assert index.long.hashes.size == 3
    assert index.telling.tolist() == [False, False, False, False, True] * 3
    assert index.findable.tolist() == [False, True, True, True, True] * 3


def test_several_texts_of_one_row_count_as_one_row():
    rows = [
        {"source": "s", "file": "f", "row": 0, "item": i, "id": str(i), "text": f"a b c d {end}"}
        for i, end in enumerate("xyz")
    ]
    index = BenchmarkItems.of(pl.DataFrame(rows, schema=BENCHMARKS.schema), ngram=4, min_words=2, max_items=2)
    assert index.telling.all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abc"), max_size=8), max_size=6))
def test_a_gram_is_usable_where_few_rows_hold_it(texts):
    index = items(*(" ".join(text) for text in texts))

    def holders(gram: list[str]) -> int:
        return sum(any(text[i : i + len(gram)] == gram for i in range(len(text))) for text in texts)

    whole = {tuple(text) for text in texts if text}
    expected = {
        gram[i : i + 4]
        for gram in whole
        for i in range(max(1, len(gram) - 3))
        if holders(list(gram[i : i + 4])) <= 2
    }
    assert sum(lengths(index)) == len(expected)
