"""Choices by hash: even, stable, independent of position."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ids import content_id
from pipeline.splits import Split, borders, deal, hash_order, in_test, rank_within, share

IDS = pl.Series([int(content_id(i), 16) for i in range(4000)], dtype=pl.UInt64)


def test_each_seed_gives_another_order_and_distinct_ids_never_tie():
    one, two = hash_order(IDS, "cap", 1), hash_order(IDS, "cap", 2)
    assert one.n_unique() == two.n_unique() == len(IDS)
    assert one.arg_sort().to_list() != two.arg_sort().to_list()


def test_the_hash_of_an_id_does_not_depend_on_the_others():
    assert hash_order(IDS[7:8], "cap", 1)[0] == hash_order(IDS, "cap", 1)[7]


def test_shares_are_even_and_below_one():
    values = share(IDS, "x")
    assert values.min() >= 0
    assert values.max() < 1
    assert values.mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5])
def test_the_test_split_has_about_its_fraction(fraction):
    chosen = in_test(IDS, Split(test_fraction=fraction, seed=3))
    assert chosen.mean() == pytest.approx(fraction, abs=0.03)


def test_a_larger_test_fraction_only_adds_clusters():
    small, large = (in_test(IDS, Split(test_fraction=f, seed=3)) for f in (0.1, 0.2))
    assert (large | ~small).all()


def test_slices_are_equal_while_they_fit_and_then_take_half_of_what_is_left():
    assert borders(5, 0.3) == pytest.approx([0.3, 0.6, 0.8, 0.9, 0.95])
    assert borders(3, 0.25) == pytest.approx([0.25, 0.5, 0.75])
    assert borders(40, 0.5)[-1] < 1


@given(st.floats(1e-6, 0.5), st.integers(1, 50), st.integers(1, 50))
def test_more_slices_begin_where_the_others_end(share_of_one, few, more):
    ends = borders(few + more, share_of_one)
    assert ends[:few] == borders(few, share_of_one)
    assert sorted(ends) == ends
    assert ends[0] > 0
    assert ends[-1] <= 1


def test_slices_have_their_shares_and_a_larger_validation_moves_no_prompt_between_slices():
    few, many = (
        deal(IDS, ends=[0.3, 0.6, 0.8], validation_share=part, seed=1)["slice"] for part in (0.1, 0.2)
    )
    counts = dict(few.value_counts().iter_rows())
    assert counts[0] == pytest.approx(400, abs=80)
    assert [counts[i] for i in (1, 2, 3, 4)] == pytest.approx([1080, 1080, 720, 720], abs=110)
    moved = few != many
    assert (many.filter(moved) == 0).all()


def test_a_position_tells_the_slice():
    hands = deal(IDS, ends=[0.3, 0.6], validation_share=0.1, seed=1)
    spans = hands.group_by("slice").agg(low=pl.col("position").min(), high=pl.col("position").max())
    low, high = (dict(spans.select("slice", name).iter_rows()) for name in ("low", "high"))
    assert high[1] < 0.3 <= low[2] <= high[2] < 0.6 <= low[3]
    assert low[0] < 0.1
    assert high[0] > 0.9


def test_the_deal_is_independent_of_the_hash_that_fills_a_slice():
    """A slice must not hold the low hashes only: its cap would then be no random choice."""
    frame = deal(IDS, ends=[0.4, 0.7], validation_share=0.2, seed=1).with_columns(h=share(IDS, "fill", 1))
    assert all(
        mean == pytest.approx(0.5, abs=0.05) for mean in frame.group_by("slice").agg(pl.col("h").mean())["h"]
    )


def test_ranks_count_from_one_within_a_group_whatever_the_row_order():
    frame = pl.DataFrame({"id": IDS[:100], "group": ["a", "b"] * 50})
    ranked = rank_within(frame, "id", "group", 5)
    assert sorted(ranked.filter(group="a")["rank"]) == list(range(1, 51))
    shuffled = rank_within(frame.sample(fraction=1, shuffle=True, seed=2), "id", "group", 5)
    assert ranked.sort("id").equals(shuffled.sort("id"))
