"""Exploration in the linear case: Gamma and the budget as defined, and fewer labels than at random."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.exploration import Choice, covariance, divergences, most_uncertain, uncertainty, whitening
from tests.linear_rewards import World, labels_needed

NOTHING = np.zeros((0, 2))
MATRIX = arrays(np.float64, st.tuples(st.integers(2, 7), st.just(3)), elements=st.floats(-5, 5))


def chosen(features, rewards, history=NOTHING, *, eta=1.0, budget=np.inf) -> Choice | None:
    white = whitening(covariance(history, 1.0))
    return most_uncertain(np.array(features), np.array(rewards), white, eta=eta, budget=budget)


def test_gamma_is_the_norm_of_the_difference_by_the_inverse_covariance():
    history = np.array([[1.0, 2.0], [0.0, 3.0]])
    sigma = covariance(history, 0.5)
    assert sigma.tolist() == [[1.5, 2.0], [2.0, 13.5]]
    one, two = np.array([[1.0, 0.0], [4.0, 4.0]]), np.array([[0.0, 1.0], [4.0, 4.0]])
    expected = [np.sqrt(d @ np.linalg.inv(sigma) @ d) for d in one - two]
    assert uncertainty(one, two, whitening(sigma)) == pytest.approx(expected)
    assert expected[1] == 0


@given(MATRIX, arrays(np.float64, st.tuples(st.integers(1, 4), st.just(3)), elements=st.floats(-5, 5)))
def test_a_pair_that_was_seen_never_makes_another_less_certain(features, history):
    before, after = (whitening(covariance(rows, 1.0)) for rows in (history[:-1], history))
    one, two = features[:-1], features[1:]
    assert (uncertainty(one, two, after) <= uncertainty(one, two, before) + 1e-9).all()


def test_the_order_of_a_pair_in_the_history_does_not_count():
    rows = np.array([[1.0, 2.0], [0.0, 3.0]])
    assert np.array_equal(covariance(rows, 1.0), covariance(-rows[::-1], 1.0))


def test_a_direction_that_was_compared_is_left_for_one_that_was_not():
    features, rewards = [[0.0, 0.0], [2.0, 0.0], [1.0, 1.2]], [0.0, 1.0, 0.5]
    assert chosen(features, rewards) == Choice(1, 0, 2.0)
    found = chosen(features, rewards, np.array([[2.0, 0.0]]))
    assert found is not None
    assert found.uncertainty == pytest.approx(np.sqrt(1 / 5 + 1.2**2))
    assert 2 in (found.better, found.worse)


def test_the_higher_reward_is_the_better_answer_and_of_equal_ones_the_first():
    features = [[0.0, 0.0], [2.0, 0.0]]
    assert chosen(features, [0.0, 1.0]) == Choice(1, 0, 2.0)
    assert chosen(features, [1.0, 1.0]) == Choice(0, 1, 2.0)


@given(arrays(np.float64, st.integers(1, 8), elements=st.floats(-50, 50)), st.floats(0.05, 5))
def test_a_divergence_is_the_kl_of_one_answer_from_the_gibbs_distribution(rewards, eta):
    found = divergences(rewards, eta)
    assert np.exp(-found).sum() == pytest.approx(1)
    # Of that distribution from itself, KL is 0: its entropy is the mean of what single answers cost.
    assert np.exp(-found) @ found == pytest.approx(
        np.log(len(rewards)) - kl_to_even(np.exp(-found)), abs=1e-6
    )
    assert found == pytest.approx(divergences(rewards + 7.0, eta))


def kl_to_even(weights: np.ndarray) -> float:
    """KL from the even distribution."""
    some = weights[weights > 0]
    return float(some @ np.log(some * len(weights)))


def test_an_answer_beyond_the_budget_is_on_neither_side():
    features, rewards = [[0.0, 0.0], [1.0, 0.0], [9.0, 9.0]], [1.0, 0.5, -3.0]
    far = divergences(np.array(rewards), 0.5)
    inside = chosen(features, rewards, eta=0.5, budget=far[2])
    outside = chosen(features, rewards, eta=0.5, budget=np.nextafter(far[2], 0))
    assert inside is not None
    assert outside is not None
    assert (inside.worse, outside.worse) == (2, 1)
    assert chosen(features, rewards, eta=0.5, budget=far[0]) is None
    # What a reward gap costs goes by eta.
    assert chosen(features, rewards, eta=50.0, budget=far[2]).worse == 2


@settings(max_examples=50)
@given(MATRIX, st.randoms(use_true_random=False))
def test_no_pair_within_the_budget_is_less_certain_than_the_one_chosen(features, chooser):
    rewards, history = (
        features.sum(1),
        np.array([[chooser.uniform(-3, 3) for _ in range(3)] for _ in range(4)]),
    )
    white = whitening(covariance(history, 0.5))
    found = most_uncertain(features, rewards, white, eta=2.0, budget=3.0)
    near = [i for i in range(len(rewards)) if divergences(rewards, 2.0)[i] <= 3.0]
    pairs = [(i, j) for i in near for j in near if i < j]
    if found is None:
        assert not pairs
        return
    assert {found.better, found.worse} <= set(near)
    assert rewards[found.better] >= rewards[found.worse]
    every = [uncertainty(features[i], features[j], white) for i, j in pairs]
    assert found.uncertainty == pytest.approx(max(every))


@cache
def labels(strategy: str, seed: int) -> int:
    """Labels until the best answers are found but for a twentieth of the reward; 10 new pairs a turn."""
    world = World(np.random.default_rng(100 + seed).normal(size=8), others=0.1)
    draws = np.random.default_rng(200 + seed)

    def uncertain(features, rewards, history):
        budget = 4.0 if strategy == "within 4 nats" else np.inf
        white = whitening(covariance(history, 1.0))
        found = most_uncertain(features, rewards, white, eta=1.0, budget=budget)
        return (found.better, found.worse) if found else (0, 1)

    def random(features, rewards, history):
        return tuple(draws.choice(len(features), 2, replace=False))

    pick = random if strategy == "random" else uncertain
    return labels_needed(world, pick, seed, target=0.05, batch=10, most=1000)


@pytest.mark.parametrize("strategy", ["uncertain", "within 4 nats"])
def test_the_optimum_is_found_with_half_the_labels_of_random_pairs(strategy):
    found = [(labels(strategy, seed), labels("random", seed)) for seed in range(8)]
    assert sum(own < random for own, random in found) >= 7, found
    assert 2 * sum(own for own, _ in found) < sum(random for _, random in found) < 8 * 1000, found
