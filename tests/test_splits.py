"""Choices by hash: even, stable, independent of position."""

import polars as pl
import pytest

from pipeline.ids import content_id
from pipeline.splits import Split, deal, hash_order, in_test, rank_within, share

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


def test_slices_share_evenly_and_the_border_of_validation_moves_no_prompt_between_slices():
    few = deal(IDS, slices=3, validation_share=0.1, seed=1)
    many = deal(IDS, slices=3, validation_share=0.2, seed=1)
    counts = dict(few.value_counts().iter_rows())
    assert counts[0] == pytest.approx(400, abs=80)
    assert all(counts[i] == pytest.approx(1200, abs=130) for i in (1, 2, 3))
    moved = few != many
    assert (many.filter(moved) == 0).all()


def test_the_deal_is_independent_of_the_hash_that_fills_a_slice():
    """A slice must not hold the low hashes only: its cap would then be no random choice."""
    frame = pl.DataFrame(
        {"h": share(IDS, "fill", 1), "slice": deal(IDS, slices=2, validation_share=0.2, seed=1)}
    )
    assert all(
        mean == pytest.approx(0.5, abs=0.05) for mean in frame.group_by("slice").agg(pl.col("h").mean())["h"]
    )


def test_ranks_count_from_one_within_a_group_whatever_the_row_order():
    frame = pl.DataFrame({"id": IDS[:100], "group": ["a", "b"] * 50})
    ranked = rank_within(frame, "id", "group", 5)
    assert sorted(ranked.filter(group="a")["rank"]) == list(range(1, 51))
    shuffled = rank_within(frame.sample(fraction=1, shuffle=True, seed=2), "id", "group", 5)
    assert ranked.sort("id").equals(shuffled.sort("id"))
