"""The length bias of a judge: Pearson's r within each prompt, and who has none."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.length_bias import FEW, SAME_LENGTH, SAME_SCORE, length_bias, pearson


def answers(**prompts: tuple[list[float | None], list[int]]) -> pl.DataFrame:
    """(scores, tokens) of the answers of each prompt."""
    rows = [
        (name, f"{name} {i}", score, tokens)
        for name, (scores, lengths) in prompts.items()
        for i, (score, tokens) in enumerate(zip(scores, lengths, strict=True))
    ]
    return pl.DataFrame(rows, schema=["prompt_id", "candidate_id", "score", "tokens"], orient="row")


def test_each_prompt_has_a_coefficient_and_the_mean_is_over_prompts():
    found = length_bias(
        answers(
            grows=([1.0, 2.0, 3.0], [10, 20, 30]),
            falls=([3.0, 2.0, 1.0, 0.0], [10, 20, 30, 40]),
            mixed=([1.0, 5.0, 2.0], [10, 20, 30]),
        ),
        "bt",
    )
    # In the order of ids: falls, grows, mixed, whose products sum to 10 and squares to 26 / 3 and 200.
    mixed = 10 / (26 / 3 * 200) ** 0.5
    assert found.coefficients.tolist() == pytest.approx([-1.0, 1.0, mixed])
    assert found.mean_scores.tolist() == pytest.approx([1.5, 2.0, 8 / 3])
    assert found.mean.mean == pytest.approx(mixed / 3)
    assert found.mean.low < found.mean.mean < found.mean.high
    assert found.without == {}


def test_lengths_that_differ_between_prompts_are_no_bias():
    # Within a prompt the longer answer is worse; across prompts longer answers score higher.
    prompts = {
        f"p{i}": ([10.0 * i + 3, 10.0 * i + 2, 10.0 * i], [50 * i, 50 * i + 1, 50 * i + 2]) for i in range(9)
    }
    found = length_bias(answers(**prompts), "bt")
    assert found.mean.high < -0.9


def test_a_prompt_without_a_coefficient_is_counted_by_its_reason():
    found = length_bias(
        answers(
            two=([1.0, 2.0], [10, 20]),
            unscored=([1.0, None, None, 2.0], [10, 20, 30, 40]),
            none=([None, None, None], [1, 2, 3]),
            tied=([1.0, 1.0, 1.0], [10, 20, 30]),
            even=([1.0, 2.0, 3.0], [7, 7, 7]),
        ),
        "bt",
    )
    assert found.without == {FEW: 3, SAME_SCORE: 1, SAME_LENGTH: 1}
    assert found.coefficients.size == 0 and np.isnan(found.mean.mean)


def test_the_order_of_the_answers_changes_no_digit():
    draw = np.random.default_rng(4)
    rows = answers(
        **{f"p{i}": (draw.normal(size=8).tolist(), draw.integers(1, 99, 8).tolist()) for i in range(20)}
    )
    once, again = (
        length_bias(some, "bt") for some in (rows, rows.sample(fraction=1.0, shuffle=True, seed=3))
    )
    assert once.mean == again.mean and once.coefficients.tolist() == again.coefficients.tolist()


@given(
    st.lists(
        st.tuples(st.floats(-1e300, 1e300), st.integers(1, 10**6)),
        min_size=3,
        max_size=12,
        unique_by=(
            lambda row: row[0],
            lambda row: row[1],
        ),
    ),
)
def test_a_coefficient_is_a_number_from_minus_one_to_one_that_ignores_scale(rows):
    score, tokens = np.array(rows, np.float64).T
    span = np.ptp(score)
    if not 1e-290 < span < 1e300:
        return
    found = pearson(score, tokens)
    assert -1 <= found <= 1
    assert pearson(-score, tokens) == pytest.approx(-found, abs=1e-9)
    assert pearson(score, 3 * tokens + 7) == pytest.approx(found, abs=1e-9)
