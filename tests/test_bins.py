"""Bin packing by counting: every piece once, no block too full, never more blocks than the textbook's way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.bins import Move, arrange, best_fit, exact_fit, used

WAYS = (best_fit, exact_fit)


@st.composite
def cases(draw) -> tuple[list[int], int]:
    """Lengths, often of a few kinds, and the block."""
    block = draw(st.integers(2, 60))
    kinds = draw(st.lists(st.integers(1, block), min_size=1, max_size=8))
    return draw(st.lists(st.sampled_from(kinds) | st.integers(1, block), max_size=80)), block


def counted(lengths: list[int], block: int) -> np.ndarray:
    return np.bincount(np.array(lengths, np.int64), minlength=block + 1)


def contents(moves: list[Move]) -> list[list[int]]:
    """The lengths in each block."""
    blocks: list[list[int]] = [[] for _ in range(used(moves))]
    for size, first, count, each in moves:
        for place in range(first, first + count):
            blocks[place] += [size] * each
    return blocks


def one_by_one(lengths: list[int], block: int) -> list[int]:
    """Tokens in each block, by best-fit decreasing as the textbook has it."""
    free: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [space for space in free if space >= length]
        space = min(fitting, default=block)
        if fitting:
            free.remove(space)
        free.append(space - length)
    return sorted(block - space for space in free)


@settings(deadline=None, max_examples=200)
@given(case=cases(), way=st.sampled_from(WAYS))
def test_every_piece_is_placed_once_and_no_block_is_too_full(case, way):
    lengths, block = case
    blocks = contents(way(counted(lengths, block), block))
    assert sorted(size for own in blocks for size in own) == sorted(lengths)
    assert all(0 < sum(own) <= block for own in blocks)


@settings(deadline=None, max_examples=200)
@given(case=cases())
def test_best_fit_fills_blocks_as_one_piece_at_a_time_does(case):
    lengths, block = case
    blocks = contents(best_fit(counted(lengths, block), block))
    assert sorted(map(sum, blocks)) == one_by_one(lengths, block)


@settings(deadline=None, max_examples=200)
@given(case=cases())
def test_pieces_are_arranged_in_as_few_blocks_as_the_better_way_needs_and_in_order(case):
    lengths, block = case
    bins = arrange(np.array(lengths, np.int64), block)
    assert sorted(bins.order.tolist()) == list(range(len(lengths)))
    blocks = np.split(bins.order, bins.ends[:-1]) if lengths else []
    assert len(blocks) == min(used(way(counted(lengths, block), block)) for way in WAYS)
    leaders = [own.min() for own in blocks]
    assert leaders == sorted(leaders)
    for own in blocks:
        assert own.tolist() == sorted(own, key=lambda i: (-lengths[i], i))
        assert sum(lengths[i] for i in own) <= block


@pytest.mark.parametrize(
    ("lengths", "block", "ways"),
    [
        ([8, 7, 3, 2, 2, 2], 12, (3, 2)),
        ([23, 21, 19, 18, 14, 13, 13, 13, 9], 50, (3, 4)),
        ([5], 10, (1, 1)),
        ([], 10, (0, 0)),
    ],
)
def test_neither_way_is_always_ahead(lengths, block, ways):
    assert tuple(used(way(counted(lengths, block), block)) for way in WAYS) == ways


def test_chat_like_lengths_need_no_more_blocks_than_their_tokens():
    """Where best-fit decreasing, TRL's way, leaves more than a thousandth empty."""
    draw = np.random.default_rng(5)
    lengths = np.clip(draw.lognormal(5, 0.35, 60_000), 55, 466).astype(np.int64)
    fewest = -(-int(lengths.sum()) // 8192)
    assert len(arrange(lengths, 8192).ends) == fewest
    assert used(best_fit(np.bincount(lengths, minlength=8193), 8192)) > fewest


def test_more_blocks_than_sixteen_bits_count_are_arranged_the_same_way():
    bins = arrange(np.full(70_000, 3), 4)
    assert np.array_equal(bins.order, np.arange(70_000))
    assert len(bins.ends) == 70_000
