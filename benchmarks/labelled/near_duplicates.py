"""Make the labelled set of near-duplicates, near_duplicates.jsonl: the same bytes on every run.

    python -m benchmarks.labelled.near_duplicates

Documents are drawn from the sentences of data/samples. Every class plants one kind of copy, or one kind of
text that only looks like one; see README.md. Similarity is counted here with Python sets of words, without
any code of the pipeline.
"""

import gzip
import json
import random
import re
import unicodedata
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import polars as pl

SAMPLES = Path("data/samples")
FILE = Path(__file__).with_suffix(".jsonl")
SEED = 20_240_801
PAIRS = 50
"""Pairs per class."""
THRESHOLD, SHINGLE = 0.8, 3
"""What the labels are made for: a pair is near from this similarity of its sets of 3 words on."""

SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+|(?:Human|Assistant):")
WORD = re.compile(r"[^\W_]+")

Draw = Callable[["Writer"], tuple[str, str]]


def similarity(left: str, right: str, shingle: int) -> float:
    """The Jaccard similarity of the sets of `shingle` words; a shorter text is one shingle."""
    one, two = (shingle_set(text, shingle) for text in (left, right))
    return len(one & two) / len(one | two) if one | two else 0.0


def shingle_set(text: str, shingle: int) -> set[tuple[str, ...]]:
    """The runs of `shingle` words of a text, without case, punctuation and invisible characters."""
    visible = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    found = WORD.findall(unicodedata.normalize("NFKC", visible).casefold())
    if len(found) < shingle:
        return {tuple(found)} if found else set()
    return {tuple(found[at : at + shingle]) for at in range(len(found) - shingle + 1)}


def strings(value: Any) -> Iterator[str]:
    """Every string in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings(part)


def sample_sentences() -> list[str]:
    """The distinct sentences of 6 to 40 words in data/samples, without its benchmark items, sorted."""
    found: set[str] = set()
    for path in sorted(SAMPLES.rglob("*")):
        if "benchmarks" in path.parts:
            continue
        if path.suffix == ".parquet":
            values: list[Any] = pl.read_parquet(path).to_dicts()
        elif ".json" in path.name:
            raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            values = [json.loads(text) for text in ([raw] if raw[:1] == b"[" else raw.splitlines())]
        else:
            continue
        for text in strings(values):
            found |= {part.strip() for part in SENTENCE_END.split(text)}
    return sorted(text for text in found if 6 <= len(text.split()) <= 40)


class Writer:
    """Draws documents and their copies."""

    def __init__(self, sentences: list[str], seed: int) -> None:
        self.sentences = sentences
        self.draw = random.Random(seed)
        self.words = sorted({word for text in sentences for word in WORD.findall(text.lower())})
        self.template: list[str] = []

    def some(self, least: int, most: int) -> list[str]:
        """So many different sentences."""
        return self.draw.sample(self.sentences, self.draw.randint(least, most))

    def edited(self, text: str, part: float) -> str:
        """`text` with about this part of its words replaced, dropped or doubled."""
        kept = []
        for word in text.split(" "):
            kind = self.draw.choice(("replace", "drop", "insert")) if self.draw.random() < part else "keep"
            if kind in ("keep", "insert"):
                kept.append(word)
            if kind in ("replace", "insert"):
                kept.append(self.draw.choice(self.words))
        return " ".join(kept)


def case_and_punctuation(writer: Writer) -> tuple[str, str]:
    """The same words in another case, with other punctuation and white space."""
    text = " ".join(writer.some(2, 12))
    marks = [
        word.strip(".,;:!?") + writer.draw.choice(("", "", ",", " -", "!", "\n")) for word in text.split()
    ]
    return text, writer.draw.choice((str.upper, str.lower, str.title))(" ".join(marks))


def typography(writer: Writer) -> tuple[str, str]:
    """The same words with typographic quotes and dashes, no-break and invisible characters, full width."""
    text = " ".join(writer.some(2, 12)) + ' They called it "the plan" - and that was all.'
    other = text.replace('"', "\u201d").replace("'", "\u2019").replace(" - ", "\u2014").replace(".", "\u2026")
    words = other.split(" ")
    for at in writer.draw.sample(range(len(words)), 3):
        words[at] = "".join(chr(ord(c) + 0xFEE0) if c.isascii() and c.isalnum() else c for c in words[at])
    for at in writer.draw.sample(range(len(words)), 3):
        words[at] = words[at][:1] + "\u200b" + words[at][1:]
    return text, "\u00a0".join(words)


def word_edits(writer: Writer) -> tuple[str, str]:
    """Some words replaced, dropped or added."""
    text = " ".join(writer.some(3, 16))
    return text, writer.edited(text, writer.draw.uniform(0.005, 0.04))


def prefix(writer: Writer) -> tuple[str, str]:
    """A few sentences put before the text."""
    text = " ".join(writer.some(6, 18))
    return text, " ".join([*writer.some(1, 2), text])


def suffix(writer: Writer) -> tuple[str, str]:
    """A few sentences put after the text."""
    text = " ".join(writer.some(6, 18))
    return text, " ".join([text, *writer.some(1, 2)])


def truncated(writer: Writer) -> tuple[str, str]:
    """The text cut off before its end."""
    words = " ".join(writer.some(4, 18)).split()
    return " ".join(words), " ".join(words[: int(len(words) * writer.draw.uniform(0.82, 0.98))])


def shuffled(writer: Writer) -> tuple[str, str]:
    """The same paragraphs in another order."""
    sentences = writer.some(12, 18)
    paragraphs = [" ".join(sentences[at : at + 4]) for at in range(0, len(sentences), 4)]
    return "\n\n".join(paragraphs), "\n\n".join(writer.draw.sample(paragraphs, len(paragraphs)))


def greeting(writer: Writer) -> tuple[str, str]:
    """A short prompt asked again with another greeting: few words, so that each weighs much."""
    text = " ".join(writer.some(2, 3))
    return text, f"{text} {writer.draw.choice(('Thanks', 'Please', 'Thank you', 'Go'))}!"


def template(writer: Writer) -> tuple[str, str]:
    """One instruction about two different things; ten texts share it, no two of which are near."""
    while not writer.template:
        head = writer.some(2, 4)
        texts = [" ".join([*head, *writer.some(1, 2)]) for _ in range(10)]
        if max(similarity(*pair, SHINGLE) for pair in combinations(texts, 2)) < THRESHOLD:
            writer.template = texts
    return writer.template.pop(), writer.template.pop()


def shared_context(writer: Writer) -> tuple[str, str]:
    """One conversation with two different last questions."""
    context = " ".join(writer.some(5, 10))
    return f"{context}\n{' '.join(writer.some(1, 2))}", f"{context}\n{' '.join(writer.some(1, 2))}"


def same_source(writer: Writer) -> tuple[str, str]:
    """Two texts that quote the same few sentences."""
    quoted = writer.some(2, 4)
    one, two = [*quoted, *writer.some(3, 6)], [*quoted, *writer.some(3, 6)]
    writer.draw.shuffle(two)
    return " ".join(one), " ".join(two)


def unrelated(writer: Writer) -> tuple[str, str]:
    """Two texts that have nothing to do with each other."""
    return " ".join(writer.some(3, 12)), " ".join(writer.some(3, 12))


CLASSES: dict[str, tuple[Draw, float, float]] = {
    "case and punctuation": (case_and_punctuation, 1.0, 1.0),
    "typography": (typography, 1.0, 1.0),
    "word edits": (word_edits, 0.8, 0.99),
    "added before": (prefix, 0.8, 0.99),
    "added after": (suffix, 0.8, 0.99),
    "cut off": (truncated, 0.8, 0.99),
    "shuffled paragraphs": (shuffled, 0.8, 0.99),
    "short prompt": (greeting, 0.8, 0.99),
    "just above the threshold": (word_edits, 0.8, 0.82),
    "just below the threshold": (word_edits, 0.75, 0.7999),
    "one template": (template, 0.2, 0.7999),
    "shared context": (shared_context, 0.5, 0.7999),
    "shared sentences": (same_source, 0.1, 0.7),
    "unrelated": (unrelated, 0.0, 0.2),
}
"""Each class: how to draw a pair, and the lowest and the highest similarity of those that are kept."""


def rows() -> Iterator[dict[str, Any]]:
    """The labelled pairs, class by class."""
    for place, (name, (draw, lowest, highest)) in enumerate(CLASSES.items()):
        writer = Writer(sample_sentences(), SEED + place)
        kept = 0
        while kept < PAIRS:
            left, right = draw(writer)
            alike = similarity(left, right, SHINGLE)
            if lowest <= alike <= highest:
                kept += 1
                yield {
                    "class": name,
                    "near": alike >= THRESHOLD,
                    "similarity": round(alike, 4),
                    "left": left,
                    "right": right,
                }


def main() -> None:
    """Write the file."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows()]
    FILE.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
