"""Texts on disk read back as they were."""

import gc

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from pipeline.spill import Spill, let_go

TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)


@given(st.lists(st.lists(TEXTS, max_size=5), max_size=5))
def test_texts_come_back_in_order_whatever_they_are(tmp_path_factory, blocks):
    spill = Spill(tmp_path_factory.getbasetemp())
    for block in blocks:
        spill.add(pl.Series(block, dtype=pl.String))
    column = spill.column()
    assert column.to_list() == [text for block in blocks for text in block]
    assert column.n_chunks() == 1


def test_only_the_given_rows_are_written_and_nothing_is_left_on_disk(tmp_path):
    spill = Spill(tmp_path / "deep")
    spill.add(pl.Series(["x" * 100_000, "a text beyond twelve bytes", "y" * 100_000])[1:2])
    column = spill.column()
    assert list((tmp_path / "deep").iterdir()) == []
    assert column.to_list() == ["a text beyond twelve bytes"]
    assert column.to_frame().estimated_size() < 10_000
    slices = column[:1]
    del column, spill
    gc.collect()
    assert slices.to_list() == ["a text beyond twelve bytes"]


def test_texts_are_still_there_after_their_memory_was_given_back(tmp_path):
    spill = Spill(tmp_path)
    spill.add(pl.Series([f"a text of some length, number {i}" for i in range(1000)]))
    column = spill.column()
    before = column.to_list()
    let_go()
    assert column.to_list() == before
