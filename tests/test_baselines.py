import polars as pl
import pytest

from pipeline.baselines import blind_baselines, source_decides
from pipeline.schemas import MESSAGES


def mix(*rows: tuple[str, str, str | None, str | None]) -> pl.DataFrame:
    """Pairs from (chosen, rejected, chosen_by, rejected_by)."""
    said = [
        ([{"role": "assistant", "content": c}], [{"role": "assistant", "content": r}], a, b)
        for c, r, a, b in rows
    ]
    schema = {"chosen": MESSAGES, "rejected": MESSAGES, "chosen_by": pl.String, "rejected_by": pl.String}
    return pl.DataFrame(said, schema=schema, orient="row")


def test_the_longer_answer_is_right_ties_are_half_right():
    test = mix(
        ("long", "a", None, None),
        ("b", "long", None, None),
        ("cc", "dd", None, None),
        ("four", "x", None, None),
    )
    longer = blind_baselines(mix(), test)[0]
    assert (longer.name, longer.accuracy.mean, longer.decided, longer.pairs) == (
        "longer wins",
        0.625,
        0.75,
        4,
    )


def test_length_is_counted_in_characters_and_not_in_bytes():
    assert blind_baselines(mix(), mix(("\u00e9\u00e9", "abc", None, None)))[0].accuracy.mean == 0.0


def test_the_alphabet_prefers_the_answer_that_sorts_first():
    assert blind_baselines(mix(), mix(("a", "b", None, None), ("z", "b", None, None)))[1].accuracy.mean == 0.5


def test_the_writer_that_won_more_often_in_train_is_expected_to_win():
    train = mix(("x", "y", "gpt", "llama"), ("x", "y", "gpt", "llama"), ("x", "y", "llama", "gpt"))
    test = mix(("x", "y", "gpt", "llama"), ("x", "y", "llama", "gpt"))
    assert source_decides(train, test).to_list() == [1.0, 0.0]


def test_no_opinion_where_writers_are_unknown_equal_new_or_even():
    train = mix(("x", "y", "a", "b"), ("x", "y", "b", "a"))
    test = mix(("x", "y", None, "a"), ("x", "y", "a", "a"), ("x", "y", "a", "new"), ("x", "y", "a", "b"))
    assert source_decides(train, test).to_list() == [0.5] * 4


def test_source_decides_learns_from_train_alone():
    test = mix(*[("x", "y", "a", "b")] * 9)
    assert blind_baselines(mix(("x", "y", "b", "a")), test)[2].accuracy.mean == 0.0


@pytest.mark.parametrize("train", [mix(), mix(("x", "y", "a", "b"))])
def test_a_mix_without_test_pairs_has_no_accuracy(train):
    assert all(b.pairs == 0 and b.accuracy.mean != b.accuracy.mean for b in blind_baselines(train, mix()))
