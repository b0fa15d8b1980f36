"""Exploration: which two answers to a prompt would teach most (paper, Algorithm 1, in its linear case).

Rewards are taken as linear in features, r(x, a) = <theta, phi(x, a)>; phi is a judge's last hidden state. A
comparison says something of a difference of features, and what all earlier pairs said is in

    Sigma = ridge * I + sum over the history of (phi(x, a1) - phi(x, a2)) (phi(x, a1) - phi(x, a2))^T

So the reward of a1 over a2 may still be wrong by as much as a constant times

    Gamma(x, a1, a2) = || phi(x, a1) - phi(x, a2) ||_{Sigma^-1}

The main agent of Algorithm 1 maximises the fitted reward less eta times its KL from the policy; the enhancer
maximises Gamma among policies whose KL from the main agent is bounded. Of a policy there are only n samples
per prompt, so both are taken over these. On them the main agent is the Gibbs distribution

    w_i = exp(r_i / eta) / sum_j exp(r_j / eta)

and to answer always a_i is KL(delta_i || w) = -log w_i nats away from it. The budget is on this number, the
gap of rewards in units of eta: (max r - r_i) / eta + log sum_j exp((r_j - max r) / eta). The paper's bound
grows with the sum of Gamma and holds for a batch; this one is a number of the recipe, and holds for each
answer, because the KL of the language model itself cannot be computed for a policy that nobody has trained.

Sigma is that of earlier iterations and stays the same within one, as in the paper. So the pair of a prompt
does not depend on which other prompts there are.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Known:
    """What a judge knows of an iteration's answers, and of the pairs before it."""

    features: np.ndarray
    """phi of each candidate, by its row."""
    white: np.ndarray
    """`whitening` of the Sigma of earlier pairs."""


@dataclass(frozen=True)
class Choice:
    """A pair of a prompt's answers, by their places among them."""

    better: int
    """The one of the higher reward; of equal ones the first."""
    worse: int
    uncertainty: float
    """Gamma of the two."""


def covariance(differences: np.ndarray, ridge: float) -> np.ndarray:
    """Sigma of a history of pairs, given as a row phi(x, a1) - phi(x, a2) for each; which of the two stands
    first does not count."""
    assert ridge > 0, f"expected a positive ridge, found {ridge}: without it Sigma may have no inverse"
    rows = np.asarray(differences, np.float64)
    return ridge * np.eye(rows.shape[1]) + rows.T @ rows


def whitening(sigma: np.ndarray) -> np.ndarray:
    """The matrix W by which Gamma is a distance: || phi1 - phi2 ||_{Sigma^-1} = || (phi1 - phi2) W ||."""
    return np.linalg.inv(np.linalg.cholesky(sigma)).T


def uncertainty(first: np.ndarray, second: np.ndarray, white: np.ndarray) -> np.ndarray:
    """Gamma of each row of features in `first` against that in `second`; `white` is `whitening(Sigma)`."""
    return np.linalg.norm((np.asarray(first, np.float64) - second) @ white, axis=-1)


def divergences(rewards: np.ndarray, eta: float) -> np.ndarray:
    """-log w_i of each of a prompt's answers, in nats: the KL of always giving it from the main agent."""
    assert eta > 0, f"expected a positive eta, found {eta}"
    scaled = np.asarray(rewards, np.float64) / eta
    top = scaled.max()
    return top + np.log(np.exp(scaled - top).sum()) - scaled


def most_uncertain(
    features: np.ndarray, rewards: np.ndarray, white: np.ndarray, *, eta: float, budget: float
) -> Choice | None:
    """The two of a prompt's answers with the largest Gamma among those within the budget of KL.

    `features` has a row per answer. Of equal pairs the first counts, in the order of places. None where fewer
    than two answers are within the budget; with one of infinity all are.
    """
    near = np.flatnonzero(divergences(rewards, eta) <= budget)
    if len(near) < 2:
        return None
    one, two = (near[places] for places in np.triu_indices(len(near), 1))
    far = np.asarray(features, np.float64) @ white
    gamma = np.linalg.norm(far[one] - far[two], axis=1)
    best = int(gamma.argmax())
    pair = (int(one[best]), int(two[best]))
    better, worse = pair if rewards[pair[0]] >= rewards[pair[1]] else pair[::-1]
    return Choice(better, worse, float(gamma[best]))
