"""What can be guessed without reading: each baseline on pairs whose answer is known by hand."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.baselines import FIRST, LENGTH_HABIT, LONGER, WRITER, Baseline, blind_baselines

SCHEMA = {
    "test": pl.Boolean,
    "source": pl.Categorical,
    "prompt_id": pl.UInt64,
    "chosen_chars": pl.UInt32,
    "rejected_chars": pl.UInt32,
    "chosen_first": pl.Boolean,
    "chosen_by": pl.Categorical,
    "rejected_by": pl.Categorical,
}


def pair(
    prompt: int, chosen: int = 5, rejected: int = 5, *, test=False, source="s", first=True, by=(None, None)
):
    return (test, source, prompt, chosen, rejected, first, *by)


def table(*rows: tuple) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def found(rows: list[tuple], name: str, side: str = "train", source: str | None = None) -> Baseline:
    every = blind_baselines(table(*rows))
    (one,) = [one for one in every if (one.name, one.side, one.source) == (name, side, source)]
    return one


def test_the_longer_answer_is_right_and_equal_lengths_are_half_right():
    one = found([pair(0, 4, 1), pair(1, 1, 4), pair(2, 2, 2), pair(3, 4, 1)], LONGER)
    assert (one.accuracy.mean, one.decided, one.pairs) == (0.625, 0.75, 4)


def test_first_is_where_the_pairwise_model_is_shown_the_chosen_answer():
    assert found([pair(i, first=i < 3) for i in range(4)], FIRST).accuracy.mean == 0.75


def test_the_writer_that_won_more_often_in_train_is_expected_to_win_in_test():
    train = [pair(i, by=by) for i, by in enumerate([("gpt", "llama")] * 2 + [("llama", "gpt")])]
    test = [pair(9, by=("gpt", "llama"), test=True), pair(10, by=("llama", "gpt"), test=True)]
    assert found([*train, test[0]], WRITER, "test").accuracy.mean == 1.0
    assert found([*train, test[1]], WRITER, "test").accuracy.mean == 0.0


def test_a_writer_may_win_in_one_source_and_lose_in_another():
    sides = {"a": ("gpt", "llama"), "b": ("llama", "gpt")}
    rows = [pair(i, by=by, source=source, test=i > 5) for source, by in sides.items() for i in range(8)]
    assert found(rows, WRITER, "test").accuracy.mean == 1.0


def test_no_opinion_where_writers_are_unknown_equal_new_or_even():
    train = [pair(0, by=("a", "b")), pair(1, by=("b", "a"))]
    test = [pair(2, by=by, test=True) for by in ((None, "a"), ("a", "a"), ("a", "new"), ("a", "b"))]
    one = found([*train, *test], WRITER, "test")
    assert (one.accuracy.mean, one.decided) == (0.5, 0.0)


def test_what_is_learned_from_train_is_not_judged_on_the_pairs_it_was_learned_from():
    # Each prompt has writers of its own: whoever learns and is judged on the same pairs is always right.
    rows = [pair(i, by=(f"good{i}", f"bad{i}")) for i in range(20)]
    one = found(rows, WRITER)
    assert (one.accuracy.mean, one.decided) == (0.5, 0.0)
    assert found([pair(i, by=("good", "bad")) for i in range(20)], WRITER).accuracy.mean == 1.0


def test_pairs_of_one_prompt_do_not_tell_each_other():
    one = found([pair(7, by=("good", "bad"))] * 5 + [pair(9, by=("good", "bad"))], WRITER)
    assert one.decided == 0.0  # both prompts are odd: no other half to learn from


def test_sources_of_opposite_habits_do_not_hide_each_other():
    rows = [pair(i, 9, 1, source="long") for i in range(10)] + [
        pair(i, 1, 9, source="short") for i in range(10)
    ]
    assert found(rows, LONGER).accuracy.mean == 0.5
    assert found(rows, LENGTH_HABIT).accuracy.mean == 1.0
    assert found(rows, LONGER, source="short").accuracy.mean == 0.0
    assert found(rows, LENGTH_HABIT, source="short").accuracy.mean == 1.0


def test_a_baseline_that_is_always_wrong_is_as_certain_as_one_that_is_always_right():
    right = found([pair(i, 9, 1) for i in range(50)], LONGER)
    wrong = found([pair(i, 1, 9) for i in range(50)], LONGER)
    assert right.certain == pytest.approx(wrong.certain)
    assert right.certain > 0.9


def test_many_pairs_of_a_prompt_count_little_more_than_one():
    few = found([pair(i, 9, 1) if i % 4 else pair(i, 1, 9) for i in range(40)], LONGER)
    same = [pair(i, 9, 1) if i % 4 else pair(i, 1, 9) for i in range(40) for _ in range(10)]
    many = found(same, LONGER)
    assert many.accuracy.mean == few.accuracy.mean
    assert many.accuracy.high - many.accuracy.low == pytest.approx(
        few.accuracy.high - few.accuracy.low, rel=0.05
    )


def test_a_side_without_pairs_has_no_baselines():
    assert {one.side for one in blind_baselines(table(pair(0), pair(1)))} == {"train"}


rows_of_a_mix = st.lists(
    st.builds(
        pair,
        st.integers(0, 5),
        st.integers(1, 4),
        st.integers(1, 4),
        test=st.booleans(),
        source=st.sampled_from("ab"),
        first=st.booleans(),
        by=st.tuples(*[st.sampled_from(["x", "y", None])] * 2),
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(rows=rows_of_a_mix, random=st.randoms(use_true_random=False))
def test_figures_do_not_depend_on_the_order_of_the_pairs_and_sources_add_up(rows, random):
    every = blind_baselines(table(*rows))
    shuffled = rows.copy()
    random.shuffle(shuffled)
    assert blind_baselines(table(*shuffled)) == every
    for whole in (one for one in every if one.source is None):
        parts = [one for one in every if one.source and (one.name, one.side) == (whole.name, whole.side)]
        assert sum(one.pairs for one in parts) == whole.pairs
        right = sum(one.accuracy.mean * one.pairs for one in parts)
        assert right == pytest.approx(whole.accuracy.mean * whole.pairs, abs=1e-3)
        assert whole.accuracy.low <= whole.accuracy.mean <= whole.accuracy.high
