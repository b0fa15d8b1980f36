"""The gain at equal length: least squares on pairs, and an interval that knows what it cannot know."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.length_control import gain_at_equal_length

DRAWN = np.random.default_rng(7)
LONGER = DRAWN.integers(-200, 300, 60).astype(float)


@given(st.floats(-3, 3), st.floats(-0.05, 0.05))
def test_a_line_is_found_with_its_gain_and_its_slope(gain, slope):
    found, per_character = gain_at_equal_length(gain + slope * LONGER, LONGER, seed=1, n=50)
    assert found == pytest.approx((gain, gain, gain), abs=1e-9)
    assert per_character == pytest.approx(slope, abs=1e-9)


def test_it_is_the_intercept_of_least_squares():
    gains = 0.4 + 0.01 * LONGER + DRAWN.normal(size=60)
    slope, intercept = np.polyfit(LONGER, gains, 1)
    found, per_character = gain_at_equal_length(gains, LONGER, seed=1)
    assert (found.mean, per_character) == pytest.approx((intercept, slope))
    assert found.low < intercept < found.high
    assert found == gain_at_equal_length(gains, LONGER, seed=1)[0]


def test_the_interval_is_wider_where_equal_lengths_were_not_seen():
    gains = 0.01 * LONGER + DRAWN.normal(size=60)
    near, _ = gain_at_equal_length(gains, LONGER, seed=1)
    far, _ = gain_at_equal_length(gains, LONGER + 2000, seed=1)
    assert far.high - far.low > 3 * (near.high - near.low)


def test_where_all_lengths_differ_alike_there_is_no_slope_and_the_gain_is_the_mean():
    gains = DRAWN.normal(size=60)
    found, slope = gain_at_equal_length(gains, np.full(60, 12.0), seed=1)
    assert (found.mean, slope) == (pytest.approx(gains.mean()), 0.0)


def test_two_prompts_are_too_few():
    with pytest.raises(
        UserError, match=r"at least 3 judged validation prompts for length: {rule: regression}, found 2"
    ):
        gain_at_equal_length([1.0, 2.0], [1.0, 5.0], seed=1)
