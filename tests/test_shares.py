"""How much of a source: calibrated margins and proportions."""

from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.params import parse
from pipeline.shares import calibrated, margin, proportional
from pipeline.stages.mix import MixSource

MARGINS = st.lists(st.integers(-3, 8).map(lambda tenths: tenths / 2), min_size=1, max_size=60)


@pytest.mark.parametrize(
    ("margins", "share", "least"),
    [
        ([0.5] + [1.0] * 9, 0.1, 1.0),  # exactly a tenth lies below 1
        ([1.0] * 4 + [2.0] * 6, 0.1, 1.0),  # dropping 4 of 10 is further from a tenth than none
        ([1.0] * 2 + [2.0] * 8, 0.15, 2.0),  # 0.2 is nearer to 0.15 than 0
        ([3.0, None, None], 0.9, 3.0),
    ],
)
def test_the_threshold_is_the_observed_margin_that_drops_nearest_to_the_share(margins, share, least):
    assert calibrated(pl.Series(margins), share) == least


def test_without_any_margin_there_is_no_threshold():
    assert calibrated(pl.Series([None, None], dtype=pl.Float64), 0.1) is None


@given(MARGINS, st.floats(0.01, 0.99))
def test_no_other_observed_margin_drops_a_share_nearer_to_the_wanted_one(margins, share):
    def distance(least: float) -> float:
        return abs(sum(value < least for value in margins) / len(margins) - share)

    found = calibrated(pl.Series(margins), share)
    assert found in margins
    assert distance(found) == pytest.approx(min(map(distance, margins)))


def test_margins_that_differ_by_rounding_alone_are_one():
    scores = pl.DataFrame({"chosen_score": [0.3, 0.1 + 0.2], "rejected_score": [0.1, 0.1]})
    assert scores.select(margin().n_unique()).item() == 1


@given(
    st.dictionaries(st.sampled_from("abcd"), st.integers(1, 1000), min_size=2),
    st.fixed_dictionaries({name: st.sampled_from([0.1, 0.3, 1.0, 2.5]) for name in "abcd"}),
)
def test_the_scarcest_keeps_all_and_the_others_their_proportion_rounded_down(counts, weights):
    weights = {name: weights[name] for name in counts}
    kept = proportional(counts, weights)
    exact = {name: Fraction(str(weight)) for name, weight in weights.items()}
    full = [name for name in counts if kept[name] == counts[name]]
    assert full
    assert all(kept[name] <= counts[name] for name in counts)
    assert any(
        all(0 <= counts[one] * exact[two] / exact[one] - kept[two] < 1 for two in counts) for one in full
    )


def test_tenths_are_read_as_they_are_written():
    assert proportional({"a": 5, "b": 1000}, {"a": 0.1, "b": 0.3}) == {"a": 5, "b": 15}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"cap": 3, "weight": 1.0}, "a cap or a weight for a, found both"),
        ({"min_margin": -1.0}, "at least 0 for a, found -1.0"),
        ({"weight": 0.0}, "weight"),
        ({"min_margin": {"drop": 1.5}}, "drop"),
    ],
)
def test_amounts_that_make_no_sense_are_told(change, told):
    body = {"name": "a", "cap": None, "weight": None, "min_margin": None}
    with pytest.raises(Exception, match=told):
        parse("mixes.m.sources.0", MixSource, body | change)
