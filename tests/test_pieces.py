"""What is kept of documents: no answer loses its end unless the recipe says so, and none is lost unnamed."""

from itertools import chain

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.pieces import REASONS, cut, offsets

OVERFLOWS = ("drop", "split", "truncate", "truncate_answer")

#: Documents as turns of (tokens without a loss, tokens of the answer).
turns = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 9)), max_size=5)
conversations = st.lists(turns, max_size=12)


def labels_of(documents: list[list[tuple[int, int]]]) -> tuple[np.ndarray, np.ndarray]:
    """Flat labels and starts."""
    own = [[x for silent, answer in turns for x in [-100] * silent + [7] * answer] for turns in documents]
    return np.array(list(chain.from_iterable(own)), np.int32), offsets(
        np.array([len(row) for row in own], np.int64)
    )


def kept(pieces, document: int) -> int:
    return int(pieces.length[pieces.row == document].sum())


@settings(deadline=None)
@given(documents=conversations, block=st.integers(2, 40), overflow=st.sampled_from(OVERFLOWS))
def test_every_document_is_kept_or_dropped_and_pieces_stand_in_order(documents, block, overflow):
    labels, starts = labels_of(documents)
    pieces = cut(labels, starts, block, overflow)
    assert sorted({*pieces.row.tolist(), *pieces.drops["row"].to_list()}) == list(range(len(documents)))
    assert not set(pieces.row.tolist()) & set(pieces.drops["row"].to_list())
    assert ((pieces.length > 0) & (pieces.length <= block)).all()
    ends = pieces.first + pieces.length
    assert (pieces.first[1:] >= ends[:-1]).all()
    assert ((starts[pieces.row] <= pieces.first) & (ends <= starts[pieces.row + 1])).all()
    assert set(pieces.drops["reason"]) <= set(REASONS[1:])


@settings(deadline=None)
@given(documents=conversations, block=st.integers(2, 40))
def test_split_loses_no_token_of_a_document_that_trains(documents, block):
    labels, starts = labels_of(documents)
    pieces = cut(labels, starts, block, "split")
    for row in set(pieces.row.tolist()):
        assert kept(pieces, row) == starts[row + 1] - starts[row]
        assert (pieces.length[pieces.row == row][:-1] == block).all()
    assert set(pieces.drops["reason"]) <= {"no_loss"}


@settings(deadline=None)
@given(documents=conversations, block=st.integers(2, 40))
def test_truncate_keeps_as_many_whole_answers_as_fit(documents, block):
    labels, starts = labels_of(documents)
    pieces = cut(labels, starts, block, "truncate")
    for row, turns in enumerate(documents):
        ends = np.cumsum([silent + answer for silent, answer in turns], dtype=int)
        whole = max((end for end in ends.tolist() if end <= block), default=0)
        if row in set(pieces.row.tolist()):
            assert kept(pieces, row) == whole
        elif turns:
            drop = pieces.drops.row(by_predicate=pl.col("row") == row, named=True)
            assert (drop["reason"], drop["threshold"]) == ("answer_too_long", block)
            assert whole == 0


@pytest.mark.parametrize(
    ("overflow", "length"), [("drop", 0), ("split", 15), ("truncate", 5), ("truncate_answer", 9)]
)
def test_a_recipe_chooses_what_happens_to_a_long_document(overflow, length):
    labels, starts = labels_of([[(2, 3), (3, 7)]])
    assert kept(cut(labels, starts, 9, overflow), 0) == length


def test_a_document_of_the_blocks_length_is_whole_under_every_rule():
    labels, starts = labels_of([[(2, 3), (3, 7)]])
    assert [kept(cut(labels, starts, 15, overflow), 0) for overflow in OVERFLOWS] == [15] * 4


def test_an_answer_that_ends_where_the_block_ends_is_kept():
    labels, starts = labels_of([[(2, 3), (3, 7)]])
    assert kept(cut(labels, starts, 5, "truncate"), 0) == 5
    assert cut(labels, starts, 4, "truncate").drops["reason"].to_list() == ["answer_too_long"]


def test_a_piece_without_a_label_stays_with_its_document():
    labels, starts = labels_of([[(12, 3)]])
    assert kept(cut(labels, starts, 8, "split"), 0) == 15


def test_a_document_that_trains_nothing_is_dropped_by_name():
    """Also one whose only label is its first, which nothing predicts."""
    labels = np.array([-100, -100, 5, 6, -100, 7], np.int32)
    pieces = cut(labels, np.array([0, 2, 3, 3, 6]), 8, "split")
    assert pieces.drops.rows() == [(0, "no_loss", 2, None), (1, "no_loss", 1, None), (2, "no_loss", 0, None)]
    assert pieces.row.tolist() == [3]


def test_truncating_an_answer_leaves_nothing_to_train_where_it_has_not_begun():
    labels, starts = labels_of([[(12, 3)]])
    drops = cut(labels, starts, 8, "truncate_answer").drops
    assert drops.rows() == [(0, "no_loss", 15, None)]


def test_a_block_of_one_token_is_refused():
    with pytest.raises(ValueError, match="at least 2 tokens"):
        cut(*labels_of([]), 1, "drop")
