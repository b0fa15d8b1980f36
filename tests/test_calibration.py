"""Confidence beside accuracy: the error by its definition, and what a probability is for each judge."""

import numpy as np
import pytest

from pipeline import calibration as calibrations
from pipeline.calibration import Calibration, probabilities


def calibration(chosen_better: np.ndarray) -> Calibration:
    """With the verdicts that follow."""
    return calibrations.calibration(chosen_better, 0.5 + 0.5 * np.sign(chosen_better - 0.5))


def test_the_error_is_the_weighted_gap_of_the_bins():
    # 4 pairs at 0.9, of which 2 are right; 6 pairs at 0.62, of which 3 are right and one is a near miss.
    found = calibration(np.array([0.9, 0.9, 0.1, 0.1, 0.62, 0.62, 0.62, 0.38, 0.38, 0.38]))
    assert found.error == pytest.approx(0.4 * abs(0.5 - 0.9) + 0.6 * abs(0.5 - 0.62))
    assert [(round(one.low, 2), round(one.high, 2), one.pairs) for one in found.bins] == [
        (0.6, 0.65, 6),
        (0.9, 0.95, 4),
    ]
    assert found.confidence == pytest.approx(0.4 * 0.9 + 0.6 * 0.62)


def test_a_judge_that_is_right_as_often_as_it_says_has_no_error():
    sure = np.array([0.75, 0.75, 0.75, 0.25])
    assert calibration(sure).error == pytest.approx(0.0)
    assert calibration(np.array([0.5, 0.5])).error == 0.0, "a tie is half right"
    assert calibration(np.array([1.0, 1.0])).error == 0.0
    assert calibration(np.array([0.0, 0.0])).error == 1.0, "sure and wrong"


def test_full_confidence_is_in_the_last_bin_and_none_in_the_first():
    assert [round(one.low, 2) for one in calibration(np.array([1.0, 0.5, 0.0])).bins] == [0.5, 0.95]


def test_nothing_has_no_error():
    found = calibration(np.array([]))
    assert np.isnan(found.error) and found.bins == ()


def test_a_reward_margin_goes_through_the_sigmoid_and_a_probability_does_not():
    margins = np.array([0.0, np.log(3.0), -np.log(3.0), 1e6])
    assert probabilities("bt", margins).tolist() == pytest.approx([0.5, 0.75, 0.25, 1.0])
    assert probabilities("pairwise", np.array([0.0, 0.25])).tolist() == [0.5, 0.75]
