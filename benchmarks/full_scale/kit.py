"""What the makers of the ten sets share: prompts, answers and pairs after a plan.

A maker gives (file, row) for its source: the rows that make the pairs of its `Goal` and those that its rules
drop, in a random order. A row given as bytes is a line that no reader can take.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.full_scale.plan import Goal, counts, lengths, ranked_lengths, ranks, scaled
from benchmarks.full_scale.prompts import Prompts
from benchmarks.full_scale.texts import Pool

Rows = Iterator[tuple[str, dict[str, Any] | bytes]]

CHUNK = 4_000
"""Prompts whose answers are made at once."""
BAD_LINES = (
    b'{"prompt": "cut o',
    b'{"prompt": "\xff\xfe"}',
    b"[1, 2]",
    b'{"other": "renamed"}',
    b'{"prompt": 7}',
)


@dataclass
class Kit:
    """What a maker works with."""

    rng: np.random.Generator
    goal: Goal
    pool: Pool
    prompts: Prompts
    fraction: float
    leaves: list[tuple[str, str, str]]
    """Prompts of one turn with two answers that other sources may repeat."""

    def part(self, number: int) -> int:
        """The number of rows that stands for `number` of the whole set."""
        return round(number * self.fraction)

    def plan(self, least: int, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of each prompt, and the bytes of each prompt."""
        per_prompt = counts(self.rng, self.goal.pairs, self.goal.prompts, least, most)
        return per_prompt, scaled(lengths(self.rng, per_prompt.size), per_prompt, self.goal.prompt)

    def answers(self, sizes: np.ndarray) -> list[str]:
        """One answer per size."""
        return self.pool.texts(self.rng, sizes)

    def leave(self, prompt: str, chosen: str, rejected: str) -> None:
        """Offer to later sources, sometimes the other way round: a contradiction between sources."""
        draw = self.rng.random()
        if draw < 0.05:
            self.leaves.append((prompt, rejected, chosen) if draw < 0.005 else (prompt, chosen, rejected))


@dataclass(frozen=True)
class Pair:
    """A prompt of one turn or more, and two answers."""

    turns: list[str]
    chosen: str
    rejected: str


def pairs(kit: Kit, *, most: int, several_turns: float) -> Iterator[Pair]:
    """The pairs of a source whose answers belong to one pair each, in random order.

    `several_turns` is the share of prompts with more than one user turn.
    """
    per_prompt, sizes = kit.plan(1, most)
    long = kit.rng.random(sizes.size) < several_turns
    prompts: list[list[str]] = [[] for _ in range(sizes.size)]
    for place, text in zip(np.flatnonzero(~long), kit.prompts.make(sizes[~long]), strict=True):
        prompts[place] = [text]
    repeated = {int(np.flatnonzero(~long)[i]): both for i, both in kit.prompts.answers.items()}
    for place, turns in zip(np.flatnonzero(long), dialogues(kit, sizes[long]), strict=True):
        prompts[place] = turns
    owner = kit.rng.permutation(np.repeat(np.arange(sizes.size), per_prompt))
    chosen = scaled(lengths(kit.rng, owner.size), 1.0, kit.goal.chosen)
    rejected = scaled(lengths(kit.rng, owner.size), 1.0, kit.goal.rejected)
    for start in range(0, owner.size, CHUNK):
        part = slice(start, start + CHUNK)
        both = zip(owner[part].tolist(), kit.answers(chosen[part]), kit.answers(rejected[part]), strict=True)
        for place, good, bad in both:
            good, bad = repeated.pop(place, (good, bad))
            if len(prompts[place]) == 1:
                kit.leave(prompts[place][0], good, bad)
            yield Pair(prompts[place], good, bad)


def dialogues(kit: Kit, sizes: np.ndarray) -> list[list[str]]:
    """Prompts of 3, 5 or 7 turns, of these bytes in all."""
    turns = kit.rng.choice([3, 5, 7], size=sizes.size, p=[0.6, 0.3, 0.1])
    ends = np.cumsum(turns)
    shares = lengths(kit.rng, int(ends[-1]) if ends.size else 0)
    owner = np.repeat(np.arange(sizes.size), turns)
    shares *= (sizes / np.maximum(np.bincount(owner, shares, sizes.size), 1e-9))[owner]
    texts = kit.answers(shares)
    return [texts[end - number : end] for end, number in zip(ends.tolist(), turns.tolist(), strict=True)]


def iter_texts(kit: Kit, sizes: np.ndarray) -> Iterator[str]:
    """One text per size, some thousands at a time."""
    for start in range(0, sizes.size, CHUNK):
        yield from kit.answers(sizes[start : start + CHUNK])


def ranked(kit: Kit, *, least: int, idle: int, missing: bool) -> Iterator[tuple[str, list[int], list[str]]]:
    """(prompt, rank of each answer, answers) for sets of four rated answers; `idle` prompts make no pair."""
    per_prompt, sizes = kit.plan(least, 6)
    none = kit.part(idle)
    per_prompt = np.concatenate([per_prompt, np.zeros(none, dtype=per_prompt.dtype)])
    sizes = np.concatenate([sizes, kit.rng.choice(sizes, none)])
    order = kit.rng.permutation(sizes.size)
    per_prompt, sizes = per_prompt[order], sizes[order]
    rank = ranks(kit.rng, per_prompt.tolist(), missing=missing)
    answer_sizes = ranked_lengths(kit.rng, rank, kit.goal)
    prompts = kit.prompts.make(sizes)
    for start in range(0, sizes.size, CHUNK):
        part = answer_sizes[start : start + CHUNK]
        texts = kit.answers(part.reshape(-1))
        for i in range(len(part)):
            place, answers = start + i, texts[4 * i : 4 * i + 4]
            mine = rank[place].tolist()
            if per_prompt[place]:
                kit.leave(prompts[place], answers[mine.index(max(mine))], answers[mine.index(min(mine))])
            yield prompts[place], mine, answers


def mixed_in(kit: Kit, good: Iterator[Any], dropped: int) -> Iterator[tuple[Any, bool]]:
    """(item, whether to spoil it): those of `good`, and about `dropped` copies to be made bad rows."""
    share = dropped / kit.goal.pairs
    for item in good:
        yield item, False
        for _ in range(int(kit.rng.poisson(share))):
            yield item, True


def bad_line(kit: Kit) -> bytes | None:
    """A line that cannot be read or has another shape, rarely."""
    draw = kit.rng.random()
    return BAD_LINES[int(draw * 1e6) % len(BAD_LINES)] if draw < 2e-4 else None


def ratings(kit: Kit, *, tie: bool, least: int = 4, most: int = 5) -> tuple[float, float]:
    """Ratings of chosen and rejected."""
    high = float(kit.rng.integers(least, most + 1))
    return high, high if tie else float(kit.rng.integers(1, int(high)))
