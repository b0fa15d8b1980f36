"""Distinct prompts of one source, of which some repeat another source's or hold a benchmark's item."""

from dataclasses import dataclass

import numpy as np

from benchmarks.full_scale.texts import Pool


@dataclass
class Shared:
    """What a source leaves for later ones to repeat: prompts of one turn with two answers each."""

    sizes: np.ndarray
    rows: list[tuple[str, str, str]]

    def near(self, rng: np.random.Generator, size: float) -> tuple[str, str, str]:
        """One about as long."""
        place = int(np.searchsorted(self.sizes, size)) + int(rng.integers(-8, 9))
        return self.rows[min(max(place, 0), len(self.rows) - 1)]


def changed(rng: np.random.Generator, text: str) -> str:
    """The text with one word changed: a near copy where it is long, another text where it is short."""
    found = text.split(" ")
    found[int(rng.integers(len(found)))] = f"x{int(rng.integers(1_000))}"
    return " ".join(found)


class Prompts:
    """Distinct prompts of one source, some of them repeated from others or from a benchmark."""

    REPEATED = 0.02
    """Share of prompts that an earlier source has too, half of them with a word changed."""
    CONTAMINATED = 0.003
    """Share of prompts that hold a benchmark's item: as it is, in capitals, or inside a longer prompt."""

    def __init__(self, rng: np.random.Generator, pool: Pool, items: list[str], shared: Shared | None) -> None:
        self.rng, self.pool, self.items, self.shared = rng, pool, items, shared
        self.seen: set[int] = set()
        self.answers: dict[int, tuple[str, str]] = {}
        """The answers of prompts repeated word by word or nearly, by the prompt's place."""

    def make(self, sizes: np.ndarray) -> list[str]:
        """One prompt of one turn per size."""
        made = self.pool.texts(self.rng, sizes)
        draw = self.rng.random(sizes.size)
        if self.shared is not None:
            for place in np.flatnonzero(draw < self.REPEATED):
                text, chosen, rejected = self.shared.near(self.rng, sizes[place])
                made[place] = changed(self.rng, text) if draw[place] < self.REPEATED / 2 else text
                self.answers[int(place)] = (chosen, rejected)
        for place in np.flatnonzero(draw > 1 - self.CONTAMINATED):
            made[place] = self.contaminated(made[place])
        return [self.distinct(place, text) for place, text in enumerate(made)]

    def contaminated(self, text: str) -> str:
        """A benchmark's item in one of three forms."""
        item = self.items[int(self.rng.integers(len(self.items)))]
        match int(self.rng.integers(3)):
            case 0:
                return item
            case 1:
                return item.upper()
            case _:
                return f"{text[: len(text) // 2]}\n\n{item}\n\n{text[len(text) // 2 :]}"

    def distinct(self, place: int, text: str) -> str:
        """The text, longer where this source has it already."""
        while hash(text) in self.seen:
            self.answers.pop(place, None)
            text = f"{text} {self.pool.texts(self.rng, np.array([40.0]))[0]}"
        self.seen.add(hash(text))
        return text
