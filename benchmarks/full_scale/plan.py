"""How many pairs, prompts and bytes the input at full scale has: the plan, before any text is made.

Table 5 of arXiv 2405.07863 gives pairs, prompts and mean tokens of each source. A source's plan says which
pairs each prompt has and how long each text is to be, so that counts are met exactly and means on average.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.sources import adapter

BYTES_PER_TOKEN = 4.2
"""English text in the tokenizer of Llama 3; code and mathematics have fewer, so this input is large."""
SPREAD = 0.7
"""Standard deviation of the logarithm of a text's length, as in chat data."""


@dataclass(frozen=True)
class Goal:
    """A row of Table 5."""

    pairs: int
    prompts: int
    prompt: float
    chosen: float
    rejected: float
    """Mean tokens over pairs."""

    def part(self, fraction: float) -> "Goal":
        """The same source with fewer prompts."""
        prompts, pairs = round(self.prompts * fraction), round(self.pairs * fraction)
        return Goal(max(pairs, prompts), prompts, self.prompt, self.chosen, self.rejected)


NAMES = (
    *("hh_rlhf", "shp", "helpsteer", "pku_saferlhf", "ultrafeedback", "ultrainteract"),
    *("codeultrafeedback", "argilla_math", "distilabel_orca", "capybara_preferences"),
)


def goal(name: str) -> Goal:
    """The row of Table 5 that an adapter's set has."""
    paper = next(known.paper for known in adapter(name).SETS if known.paper)
    return Goal(paper.pairs, paper.prompts, paper.prompt_tokens, paper.chosen_tokens, paper.rejected_tokens)


TABLE_5 = {name: goal(name) for name in NAMES}

#: What the input is made for, where recipes/paper.yaml has no rule that gives the counts of Table 5.
RULES: dict[str, dict[str, Any]] = {
    "ultrainteract": {"tasks": ["Coding", "Math_CoT", "Math_PoT"]},
    "distilabel_orca": {"min_chosen_score": 8.0, "drop_gsm8k": True},
    "argilla_math": {"scores_must_agree": True},
    "capybara_preferences": {"scores_must_agree": True},
}


def counts(rng: np.random.Generator, total: int, groups: int, least: int, most: int) -> np.ndarray:
    """A number from `least` to `most` per group, `total` together."""
    assert least * groups <= total <= most * groups, "no such numbers"
    found = np.clip(rng.poisson(total / groups - least, groups) + least, least, most)
    while difference := total - int(found.sum()):
        step = 1 if difference > 0 else -1
        able = np.flatnonzero((found < most) if step > 0 else (found > least))
        found[rng.permutation(able)[: abs(difference)]] += step
    return found


def lengths(rng: np.random.Generator, number: int, spread: float = SPREAD) -> np.ndarray:
    """Relative lengths of texts."""
    return np.exp(rng.normal(0.0, spread, number))


def scaled(relative: np.ndarray, weights: np.ndarray | float, tokens: float) -> np.ndarray:
    """Bytes, so that the weighted mean is that of `tokens`."""
    return relative * (
        tokens * BYTES_PER_TOKEN / np.average(relative, weights=weights * np.ones(relative.size))
    )


#: Ranks of four answers by the number of pairs they make; -1 is an answer without a score.
PATTERNS: dict[int, tuple[tuple[int, int, int, int], ...]] = {
    6: ((0, 1, 2, 3),),
    5: ((0, 0, 1, 2), (0, 1, 1, 2), (0, 1, 2, 2)),
    4: ((0, 0, 1, 1),),
    3: ((0, 1, 1, 1), (0, 0, 0, 1), (-1, 0, 1, 2)),
    2: ((-1, 0, 0, 1), (-1, 0, 1, 1)),
    0: ((0, 0, 0, 0), (-1, 0, 0, 0)),
}


def ranks(rng: np.random.Generator, pairs: Iterable[int], *, missing: bool) -> np.ndarray:
    """The ranks of four answers per prompt, in random order; with answers without a score where allowed."""
    usable = {
        number: [p for p in patterns if missing or -1 not in p] for number, patterns in PATTERNS.items()
    }
    found = [usable[number][rng.integers(len(usable[number]))] for number in pairs]
    return rng.permuted(np.array(found), axis=1)


def ranked_lengths(rng: np.random.Generator, rank: np.ndarray, goal: Goal) -> np.ndarray:
    """Bytes of each answer: the means of preferred and rejected over all pairs are those of `goal`."""
    valid = rank[:, :, None] >= 0
    above = (rank[:, :, None] > rank[:, None, :]) & valid & valid.swapaxes(1, 2)
    wins, losses = above.sum(axis=2), above.sum(axis=1)
    share = np.where(wins + losses > 0, wins / np.maximum(wins + losses, 1), 0.5)
    # Answers of one prompt are alike in length.
    base = lengths(rng, len(rank), 0.6)[:, None] * lengths(rng, rank.size, 0.4).reshape(rank.shape)
    sides = [
        [np.average(base, weights=weight), np.average(base * share, weights=weight)]
        for weight in (wins, losses)
    ]
    level, slope = np.linalg.solve(np.array(sides), np.array([goal.chosen, goal.rejected]) * BYTES_PER_TOKEN)
    return base * np.maximum(level + slope * share, 0.0)
