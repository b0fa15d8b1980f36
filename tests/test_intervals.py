import numpy as np
import pytest

from pipeline.intervals import (
    accuracy_interval,
    bootstrap_mean,
    bootstrap_ratio,
    clustered_accuracy,
    paired_difference,
    resamples,
)


def test_the_wilson_interval_matches_a_published_value():
    # 8 of 10: 0.4902 to 0.9433, the textbook value of the score interval without continuity correction.
    share, low, high = accuracy_interval(8, 10)
    assert (share, round(low, 4), round(high, 4)) == (0.8, 0.4902, 0.9433)


def test_the_wilson_interval_stays_between_0_and_1_and_is_open_where_all_are_right():
    share, low, high = accuracy_interval(20, 20)
    assert share == high == 1.0
    assert 0.8 < low < 0.9


def test_nothing_measured_is_nan_and_not_an_error():
    assert np.isnan(accuracy_interval(0, 0)).all()
    assert np.isnan(bootstrap_mean([], 1)).all()


def test_the_bootstrap_of_a_mean_is_as_wide_as_its_standard_error_says():
    values = np.random.default_rng(0).normal(5.0, 2.0, 400)
    mean, low, high = bootstrap_mean(values, 3)
    expected = 2 * 1.96 * values.std() / np.sqrt(400)
    assert mean == pytest.approx(values.mean())
    assert high - low == pytest.approx(expected, rel=0.08)


def test_few_different_values_give_the_interval_that_drawing_rows_gives():
    wins = np.repeat([0.0, 0.5, 1.0], [30, 10, 60])
    _, low, high = bootstrap_mean(wins, 1)
    drawn = np.random.default_rng(9).choice(wins, (20_000, 100)).mean(axis=1)
    assert (low, high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.01)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    values = np.random.default_rng(1).normal(size=50)
    assert bootstrap_mean(values, 7) == bootstrap_mean(values, 7)
    assert bootstrap_mean(values, 7) != bootstrap_mean(values, 8)


def test_a_paired_difference_cancels_what_the_items_share():
    items = np.random.default_rng(2).normal(0.0, 100.0, 60)
    mean, low, high = paired_difference(items + 1.0, items, 1)
    assert (mean, low, high) == pytest.approx((1.0, 1.0, 1.0))


def test_a_pairing_of_unequal_lengths_is_our_mistake():
    with pytest.raises(AssertionError, match="expected the same items"):
        paired_difference([1.0], [1.0, 2.0], 1)


def test_clusters_of_one_row_have_the_interval_of_rows():
    outcomes = np.repeat([0.0, 1.0], [12, 28])
    clustered = clustered_accuracy(outcomes, np.ones(40))
    assert clustered == pytest.approx(accuracy_interval(28, 40), rel=0.01)


def test_the_interval_of_clusters_holds_the_truth_nineteen_times_in_twenty():
    # Prompts of 1 to 10 pairs that agree within a prompt: rows as independent evidence would fail here.
    draw = np.random.default_rng(5)
    held = rows_held = 0
    for _ in range(400):
        sizes = draw.integers(1, 11, 150)
        successes = sizes * (draw.random(150) < 0.7)
        low, high = clustered_accuracy(successes, sizes)[1:]
        held += low <= 0.7 <= high
        low, high = accuracy_interval(successes.sum(), sizes.sum())[1:]
        rows_held += low <= 0.7 <= high
    assert 0.92 <= held / 400 <= 0.98
    assert rows_held / 400 < 0.8


def test_where_all_rows_agree_a_cluster_counts_once():
    assert clustered_accuracy([5.0, 5.0], [5, 5]) == accuracy_interval(2, 2)
    assert clustered_accuracy([3.0], [4]) == accuracy_interval(0.75, 1)
    assert np.isnan(clustered_accuracy([], [])).all()


def test_a_ratio_weighs_items_by_their_size_and_an_item_keeps_its_parts():
    parts, wholes = np.array([1.0, 9.0, 4.0]), np.array([10.0, 10.0, 40.0])
    found = bootstrap_ratio(parts, wholes, seed=1)
    assert found.mean == pytest.approx(14 / 60)
    assert 0.1 <= found.low < found.mean < found.high <= 0.9
    # Where each item has the same ratio, no resample has another: parts and wholes go together.
    assert bootstrap_ratio(wholes / 4, wholes, seed=1) == pytest.approx((0.25, 0.25, 0.25))
    assert np.isnan(bootstrap_ratio([], [], seed=1).mean)


def test_resamples_are_of_the_size_and_number_asked_and_follow_from_the_seed():
    draws = np.concatenate(list(resamples(7, 3, 50)))
    assert draws.shape == (50, 7)
    assert set(np.unique(draws)) == set(range(7))
    assert np.array_equal(draws, np.concatenate(list(resamples(7, 3, 50))))
