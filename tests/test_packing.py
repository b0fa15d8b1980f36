import random
from itertools import chain

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.packing import NO_LOSS, TOKENS, flat, gather, pack
from pipeline.pieces import cut


def documents(lengths: list[int], first_label: int = 1) -> pl.DataFrame:
    """One document per length, with tokens that occur nowhere else, and labels from `first_label` on."""
    starts = [1000 * i for i in range(len(lengths))]
    ids = [list(range(start, start + n)) for start, n in zip(starts, lengths, strict=True)]
    labels = [[NO_LOSS] * min(first_label, len(row)) + row[first_label:] for row in ids]
    return pl.DataFrame(
        {"id": [f"d{i:03}" for i in range(len(ids))], "input_ids": ids, "labels": labels},
        {"id": pl.String, "input_ids": TOKENS, "labels": TOKENS},
    )


OVERFLOWS = ("drop", "split", "truncate", "truncate_answer")
lengths = st.lists(st.integers(0, 40), max_size=40)


@settings(deadline=None)
@given(lengths=lengths, block=st.integers(2, 30), overflow=st.sampled_from(OVERFLOWS))
def test_every_token_is_in_a_block_unless_it_is_cut_off_or_its_document_is_dropped(lengths, block, overflow):
    blocks, drops = pack(documents(lengths), block, overflow)
    dropped = set(drops["row"].to_list())
    kept = {
        row: min(n, block) if overflow == "truncate_answer" else n
        for row, n in enumerate(lengths)
        if row not in dropped
    }
    expected = [1000 * row + i for row, n in kept.items() for i in range(n)]
    assert sorted(blocks["input_ids"].explode(empty_as_null=False).to_list()) == sorted(expected)
    for row, reason, length, threshold in drops.rows():
        assert length == lengths[row]
        named = {"drop": "too_long", "truncate": "answer_too_long"}.get(overflow)
        assert (reason, threshold) == ((named, block) if named and length > block else ("no_loss", None))


@settings(deadline=None)
@given(lengths=lengths, block=st.integers(2, 30))
def test_no_block_is_over_the_limit_and_its_documents_add_up(lengths, block):
    blocks, _ = pack(documents(lengths), block, "split")
    for ids, labels, sizes in blocks.rows():
        assert len(ids) == len(labels) == sum(sizes) <= block
        assert all(size > 0 for size in sizes)


@settings(deadline=None)
@given(lengths=lengths, block=st.integers(2, 30), seed=st.integers(0, 1000))
def test_blocks_do_not_depend_on_the_order_of_the_rows(lengths, block, seed):
    frame = documents(lengths)
    order = random.Random(seed).sample(range(frame.height), frame.height)
    assert pack(frame, block, "split")[0].equals(pack(frame[order], block, "split")[0])


def test_a_block_may_be_longer_than_sixteen_bits():
    blocks, _ = pack(documents([70_000, 5, 69_990]), 70_000, "drop")
    assert blocks["seq_lengths"].to_list() == [[70_000], [69_990, 5]]


@settings(deadline=None)
@given(lengths=st.lists(st.integers(0, 20), min_size=1, max_size=20), data=st.data())
def test_any_pieces_are_gathered_from_documents_with_gaps(lengths, data):
    frame = documents(lengths)
    tokens, starts = flat(frame["input_ids"])
    pieces = cut(flat(frame["labels"])[0], starts, 8, "truncate_answer")
    count = len(pieces.first)
    chosen = data.draw(st.lists(st.integers(0, count - 1), max_size=10)) if count else []
    expected = [tokens[pieces.first[i] : pieces.first[i] + pieces.length[i]].tolist() for i in chosen]
    assert gather(tokens, pieces, np.array(chosen, np.int64)).tolist() == list(chain.from_iterable(expected))


def test_documents_that_are_part_of_a_larger_frame_are_packed_alike():
    frame = documents([5, 3, 6, 2])
    assert pack(frame[1:3], 8, "drop")[0].equals(pack(frame[1:3].rechunk().clone(), 8, "drop")[0])
    assert pack(frame[1:3], 8, "drop")[0]["seq_lengths"].to_list() == [[3], [6]]


@settings(deadline=None)
@given(lengths=st.lists(st.integers(2, 30), min_size=1, max_size=40))
def test_two_blocks_never_fit_into_one(lengths):
    blocks, _ = pack(documents(lengths), 30, "drop")
    sizes = sorted(blocks["input_ids"].list.len().to_list())
    assert len(sizes) == 1 or sizes[0] + sizes[1] > 30


def test_labels_stay_beside_their_tokens():
    blocks, _ = pack(documents([5, 3], first_label=2), 8, "drop")
    assert blocks.rows() == [
        ([0, 1, 2, 3, 4, 1000, 1001, 1002], [-100, -100, 2, 3, 4, -100, -100, 1002], [5, 3])
    ]


def test_the_tightest_space_is_taken():
    blocks, _ = pack(documents([6, 7, 3, 4]), 10, "drop")
    assert sorted(blocks["seq_lengths"].to_list()) == [[6, 4], [7, 3]]


def test_a_document_whose_labels_are_all_cut_off_is_dropped_as_no_loss():
    _, drops = pack(documents([12], first_label=9), 8, "truncate_answer")
    assert drops.rows() == [(0, "no_loss", 12, None)]


def test_a_split_document_keeps_the_piece_without_labels():
    blocks, drops = pack(documents([12], first_label=9), 8, "split")
    assert blocks["input_ids"].list.len().sum() == 12
    assert drops.is_empty()


def test_repeated_ids_are_refused():
    frame = documents([3, 4]).with_columns(id=pl.lit("same"))
    with pytest.raises(ValueError, match="one document per id"):
        pack(frame, 8, "drop")
