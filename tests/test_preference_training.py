"""Margins of the reward loss: score differences of sources that have nothing in common."""

import polars as pl
import pytest

from pipeline.preference_training import margins


def scored(**sources: list[float | None]) -> pl.DataFrame:
    """Pairs whose chosen answers were scored higher by these numbers, as the sources come."""
    rows = [(name, None if gap is None else 2.0 + gap, 2.0) for name, gaps in sources.items() for gap in gaps]
    return pl.DataFrame(rows, ["source", "chosen_score", "rejected_score"], orient="row")


def test_a_margin_is_the_rank_of_the_pair_in_its_own_source():
    pairs = scored(ratings=[0.5, 2.0, 1.0, 1.0], votes=[900.0, 3.0])
    assert margins(pairs, 2.0).to_list() == pytest.approx([0.25, 1.75, 1.0, 1.0, 1.5, 0.5])


def test_stretching_the_scores_of_a_source_changes_no_margin():
    near, far = scored(a=[0.1, 0.2, 0.3], b=[1.0]), scored(a=[10.0, 2000.0, 2001.0], b=[1.0])
    assert margins(near, 1.0).to_list() == margins(far, 1.0).to_list()


def test_pairs_without_scores_or_not_scored_higher_get_none_and_count_for_none():
    pairs = scored(people=[None, None], mixed=[None, 1.0, 0.0, -2.0, 3.0])
    assert margins(pairs, 1.0).to_list() == [0, 0, 0, 0.25, 0, 0, 0.75]


def test_the_order_of_rows_does_not_matter():
    pairs = scored(a=[0.1, 0.4, 0.4, 0.3], b=[5.0, None, 1.0])
    assert margins(pairs.reverse(), 1.0).to_list() == margins(pairs, 1.0).to_list()[::-1]
