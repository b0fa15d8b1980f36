"""A world with rewards that are linear in features: answers, Bradley-Terry labels and what they teach."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Pick = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[int, int]]
"""From a prompt's features, the rewards that are believed and the history to two of its answers."""


@dataclass(frozen=True)
class World:
    """Most answers to a prompt say nearly the same, as samples of a policy do; a few say something else."""

    theta: np.ndarray
    """What a feature is worth; labels follow it."""
    others: float
    """How often an answer says something else."""

    def answers(self, rng: np.random.Generator, prompts: int, each: int) -> np.ndarray:
        """Features of `each` answers to `prompts` prompts."""
        usual = rng.normal(size=(prompts, 1, len(self.theta)))
        far = np.where(rng.random((prompts, each, 1)) < self.others, 1.0, 0.1)
        return usual + far * rng.normal(size=(prompts, each, len(self.theta)))

    def label(self, rng: np.random.Generator, difference: np.ndarray) -> float:
        """1 where the first answer is preferred (Bradley-Terry), else 0."""
        return float(rng.random() < 1 / (1 + np.exp(-difference @ self.theta)))

    def regret(self, believed: np.ndarray, answers: np.ndarray) -> float:
        """How much reward the answers that seem best lack, as a share of what choosing blindly lacks."""
        rewards = answers @ self.theta
        taken = np.take_along_axis(rewards, (answers @ believed).argmax(1)[:, None], 1)[:, 0]
        best = rewards.max(1)
        return float((best - taken).mean() / (best - rewards.mean(1)).mean())


def fitted(differences: np.ndarray, labels: np.ndarray, ridge: float) -> np.ndarray:
    """theta by maximum likelihood of Bradley-Terry labels, with ridge / 2 |theta|^2 taken off (Newton)."""
    theta = np.zeros(differences.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(-np.clip(differences @ theta, -30, 30)))
        slope = differences.T @ (labels - p) - ridge * theta
        curve = (differences * (p * (1 - p))[:, None]).T @ differences + ridge * np.eye(len(theta))
        step = np.linalg.solve(curve, slope)
        theta = theta + step
        if np.abs(step).max() < 1e-8:
            break
    return theta


def labels_needed(world: World, pick: Pick, seed: int, *, target: float, batch: int, most: int) -> int:
    """Labels until the answers that seem best lack less than `target` of reward; `most` if never.

    Each turn asks for a label of a pair of each of `batch` new prompts, picked by what earlier turns taught.
    """
    rng, held_out = np.random.default_rng(seed), world.answers(np.random.default_rng(seed + 999), 400, 8)
    differences, labels = np.zeros((0, len(world.theta))), np.zeros(0)
    theta = np.zeros(len(world.theta))
    while len(labels) < most:
        new = []
        for features in world.answers(rng, batch, 8):
            one, two = pick(features, features @ theta, differences)
            new.append(features[one] - features[two])
        labels = np.append(labels, [world.label(rng, row) for row in new])
        differences = np.vstack([differences, new])
        theta = fitted(differences, labels, 1.0)
        if world.regret(theta, held_out) < target:
            break
    return len(labels)
