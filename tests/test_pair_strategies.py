"""Each strategy against its definition in plain Python, and what tells it from its neighbours."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.answer_pool import answer_pool
from pipeline.errors import UserError
from pipeline.pair_rules import PairParams
from pipeline.pair_strategies import strategy
from pipeline.pairing import paired
from pipeline.params import parse
from tests.pair_rules import PAPER, pair_params
from tests.stages.answer_pools import Row, pool, texts_of

ALL = {
    "best_worst": {},
    "best_random": {},
    "best_second": {},
    "random": {},
    "margin_band": {"low": 0.5, "high": 2.0},
    "top_k_pairs": {"k": 3},
    "length_matched": {"max_ratio": 1.5},
}
#: best 9, then 8, 4, 1; lengths 10, 30, 12, 31.
FOUR: tuple[Row, ...] = (
    ("p", "a" * 10, 9.0),
    ("p", "b" * 30, 8.0),
    ("p", "c" * 12, 4.0),
    ("p", "d" * 31, 1.0),
)


def pairs(rows: tuple[Row, ...] | list[Row], name: str, **keys: object) -> list[tuple[str, str]]:
    """First letters of chosen and rejected, the largest margin first."""
    candidates, judgments = pool(*rows)
    made = paired(candidates, judgments, "t1", pair_params(name, **keys)).pairs
    ordered = made.sort(
        ["prompt_id", "margin", "chosen_id", "rejected_id"], descending=[False, True, False, False]
    )
    return [(chosen[0], rejected[0]) for chosen, rejected in texts_of(ordered, candidates)]


@pytest.mark.parametrize(
    ("name", "keys", "expected"),
    [
        ("best_worst", {}, [("a", "d")]),
        ("best_second", {}, [("a", "b")]),
        ("margin_band", {"low": 2.0, "high": 6.0}, [("a", "c")]),
        ("margin_band", {"low": 6.5, "high": 7.5}, [("b", "d")]),
        ("margin_band", {"low": 2.0, "high": 8.0}, [("a", "d")]),
        ("top_k_pairs", {"k": 1}, [("a", "d")]),
        ("top_k_pairs", {"k": 3}, [("a", "d"), ("b", "d"), ("a", "c")]),
        ("top_k_pairs", {"k": 9}, [("a", "d"), ("b", "d"), ("a", "c"), ("b", "c"), ("c", "d"), ("a", "b")]),
        ("length_matched", {"max_ratio": 1.05}, [("b", "d")]),
        ("length_matched", {"max_ratio": 2.7}, [("b", "d")]),
        ("length_matched", {"max_ratio": 3.1}, [("a", "d")]),
    ],
)
def test_a_strategy_takes_the_pairs_of_its_definition(name, keys, expected):
    assert pairs(FOUR, name, **keys) == expected
    assert pairs(FOUR[::-1], name, **keys) == expected, "the order of rows tells nothing"


def many(prompts: int) -> list[Row]:
    return [
        (f"p{i:03d}", text, score)
        for i in range(prompts)
        for text, score in zip("abc", (3.0, 2.0, 1.0), strict=True)
    ]


def test_best_random_keeps_the_best_and_takes_any_other():
    made = pairs(many(60), "best_random")
    assert {chosen for chosen, _ in made} == {"a"}
    assert 15 < sum(rejected == "b" for _, rejected in made) < 45


def test_random_takes_any_two_and_orders_them_by_score():
    made = pairs(many(90), "random")
    assert set(made) == {("a", "b"), ("a", "c"), ("b", "c")}
    assert min(made.count(two) for two in set(made)) > 15


@pytest.mark.parametrize("name", ["random", "best_random"])
def test_what_is_drawn_for_a_prompt_follows_from_its_id_and_the_seed_alone(name):
    rows = many(40)
    whole, part = pairs(rows, name), pairs(rows[30:60], name)
    assert whole[10:20] == part
    assert pairs(rows, name, seed=2) != whole


def test_a_band_without_a_pair_and_lengths_too_far_apart_are_dropped_with_the_nearest():
    for name, keys, found in (
        ("margin_band", {"low": 20.0, "high": 30.0}, ("margin outside the band", 8.0, 20.0)),
        ("margin_band", {"low": 0.1, "high": 0.5}, ("margin outside the band", 1.0, 0.5)),
        ("length_matched", {"max_ratio": 1.01}, ("lengths too far apart", 31 / 30, 1.01)),
    ):
        made = paired(*pool(*FOUR), "t1", pair_params(name, **keys))
        assert made.pairs.is_empty()
        (line,) = made.dropped.select("reason", "value", "threshold").rows()
        assert line == pytest.approx(found)


rows = st.lists(
    st.tuples(
        st.sampled_from("pqr"),
        st.sampled_from(["a", "bb", "cccc", "dddd", "eeeeeeee", ""]),
        st.sampled_from([0.0, 0.25, 1.0, 2.5]),
    ),
    min_size=1,
    max_size=18,
)


@given(rows, st.sampled_from(sorted(ALL)))
@settings(deadline=None, max_examples=120)
def test_a_strategy_proposes_what_a_loop_over_prompts_would(rows, name):
    params = pair_params(name, **ALL[name])
    found = answer_pool(*pool(*rows), params)
    proposed = strategy(params.strategy, params.seed)(found)
    ours: dict[int, list[tuple[int, int]]] = {}
    for chosen, rejected in zip(proposed.chosen.tolist(), proposed.rejected.tolist(), strict=True):
        prompt = int(np.searchsorted(found.starts, chosen, side="right")) - 1
        ours.setdefault(prompt, []).append((chosen, rejected))
    assert sorted(ours) == list(range(len(found.starts) - 1)), "each prompt has a proposal"
    for prompt, own in ours.items():
        places = range(found.starts[prompt], found.starts[prompt + 1])
        every = list(combinations(places, 2))
        assert set(own) <= set(every)
        margin = {two: found.score[two[0]] - found.score[two[1]] for two in every}
        assert all(value >= 0 for value in margin.values())
        ratio = {
            (a, b): max(found.characters[a], found.characters[b])
            / max(1, min(found.characters[a], found.characters[b]))
            for a, b in every
        }
        match name:
            case "best_worst":
                assert own == [(places[0], places[-1])]
            case "best_second":
                assert own == [(places[0], places[1])]
            case "best_random":
                assert own[0][0] == places[0]
            case "top_k_pairs":
                assert own == sorted(every, key=lambda two: -margin[two])[:3]
            case "margin_band":
                inside = [two for two in every if 0.5 <= margin[two] <= 2.0]
                assert own == [max(inside, key=margin.__getitem__)] if inside else True
            case "length_matched":
                near = [two for two in every if ratio[two] <= 1.5]
                assert (
                    own == [max(near, key=margin.__getitem__)]
                    if near
                    else [min(every, key=ratio.__getitem__)]
                )


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        ({"name": "best_worst", "k": 2}, "unknown key pair.strategy.k"),
        ({"name": "margin_band", "k": 2, "low": 0.0, "high": 1.0}, "unknown key pair.strategy.k"),
        ({"name": "margin_band", "low": 1.0}, "pair.strategy.high is missing"),
        ({"name": "margin_band", "low": 1.0, "high": 1.0}, "expected low below high, found 1.0 and 1.0"),
        ({"name": "top_k_pairs", "k": 0}, "pair.strategy.k"),
        ({"name": "length_matched", "max_ratio": 0.9}, "pair.strategy.max_ratio"),
        ({"name": "best"}, "pair.strategy.name: expected one of 'best_worst', 'best_random'"),
        ("best_worst", "pair.strategy: "),
    ],
)
def test_a_parameter_of_another_strategy_is_an_error(strategy, said):
    with pytest.raises(UserError) as told:
        parse("pair", PairParams, PAPER | {"strategy": strategy})
    assert said in str(told.value) and "\n" not in str(told.value)
