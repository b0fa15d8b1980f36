"""Texts of any length, put together from the sentences of real rows, for inputs at full scale.

The sentences come from the folder that PAIRMILL_DATA names, or from data/samples. A text begins with halves
of two sentences, so that short texts are distinct too, and goes on with sentences drawn at random, each with
the white space that follows it in its row. Sentences that hold a benchmark's words are left out, so that the
only contaminated texts are those that were made so.
"""

import csv
import gzip
import io
import json
import os
import re
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

SAMPLES = Path("data/samples")
#: Folders whose rows are benchmarks, judge sets or notes: no text is taken from them.
NOT_TEXT = {
    *("alpaca-eval", "arc", "arena-hard", "mmlu", "humaneval", "mbpp", "truthfulqa", "mt-bench", "ifeval"),
    *("safety-prompts", "llmbar", "rm-bench", "decontamination-refs", "cards", "benchmarks"),
}
CODE = {"evol-code", "gpteacher", "codeultrafeedback", "magicoder_evol"}
MATH = {"gsm8k", "argilla_math", "mathinstruct", "orcamath", "ultrainteract", "ultrainteract_sft"}
SENTENCE = re.compile(r"\S.*?(?:[.!?:]\s+|\n+|\Z)", re.DOTALL)
BLOCK = re.compile(r"\S.*?(?:\n\s*\n|\Z)", re.DOTALL)
#: Marks of a transcript or a template: a sentence that holds one would change the form of its row.
MARK = re.compile(r"Human:|Assistant:|<extra_id|<\|")
WORD = re.compile(r"\w+")
GRAM = 8
"""A sentence with as many of a benchmark item's words in a row is left out."""
MOST_PIECES = 200_000
SHORTEST = 30
"""Bytes of the shortest text."""


@dataclass(frozen=True)
class Pool:
    """Sentences of one kind of text."""

    pieces: np.ndarray
    sizes: np.ndarray
    heads: np.ndarray
    """First halves, shortest first; with their sizes, as the second halves."""
    head_sizes: np.ndarray
    tails: np.ndarray
    tail_sizes: np.ndarray

    @classmethod
    def of(cls, pieces: list[str]) -> Self:
        """The pool of distinct `pieces`."""
        halves = [half(piece) for piece in pieces]
        heads = sorted({head for head, _ in halves}, key=lambda text: (size(text), text))
        tails = sorted({tail for _, tail in halves}, key=lambda text: (size(text), text))
        return cls(
            np.array(pieces, dtype=object),
            np.array([size(piece) for piece in pieces]),
            np.array(heads, dtype=object),
            np.array([size(text) for text in heads]),
            np.array(tails, dtype=object),
            np.array([size(text) for text in tails]),
        )

    def texts(self, rng: np.random.Generator, sizes: np.ndarray) -> list[str]:
        """One text per size in bytes; their mean size is that of `sizes`, but for a white space each."""
        if not sizes.size:
            return []
        wanted = np.maximum(sizes, SHORTEST)
        head = up_to(rng, self.head_sizes, wanted / 2)
        tail = up_to(rng, self.tail_sizes, wanted / 2)
        left = np.maximum(wanted - self.head_sizes[head] - self.tail_sizes[tail], 0)
        # The texts lie one after the other on a line of drawn sentences; each has those that start in it.
        ends = np.cumsum(left)
        total = float(ends[-1])
        drawn = rng.integers(self.pieces.size, size=int(total / self.sizes.mean() * 1.2) + 50)
        starts = np.concatenate([[rng.uniform(-self.sizes.mean(), 0)], self.sizes[drawn]]).cumsum()[:-1]
        assert starts[-1] > total, "too few sentences drawn"
        cut = np.searchsorted(starts, ends).tolist()
        pieces = self.pieces[drawn].tolist()
        first, second = self.heads[head].tolist(), self.tails[tail].tolist()
        begin = [int(np.searchsorted(starts, 0.0)), *cut[:-1]]
        return [
            (a + b + "".join(pieces[i:j])).strip()
            for a, b, i, j in zip(first, second, begin, cut, strict=True)
        ]


def size(text: str) -> int:
    """Bytes in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def half(piece: str) -> tuple[str, str]:
    """A piece in two, at the white space nearest before its middle."""
    at = piece.rfind(" ", 0, len(piece) // 2 + 1) + 1 or len(piece) // 2
    return piece[:at], piece[at:]


def up_to(rng: np.random.Generator, sizes: np.ndarray, most: np.ndarray) -> np.ndarray:
    """A random place in the rising `sizes` that is at most `most`, or the first."""
    return (rng.random(most.size) * np.maximum(np.searchsorted(sizes, most, side="right"), 1)).astype(int)


def data_folder() -> tuple[Path, str]:
    """Where real rows are, and how to name that place in a result."""
    found = os.environ.get("PAIRMILL_DATA")
    return (Path(found), "PAIRMILL_DATA") if found else (SAMPLES, str(SAMPLES))


def pools(folder: Path, avoid: Iterable[str]) -> dict[str, Pool]:
    """The sentences below `folder` that are not from the texts to `avoid`, by kind: chat, code, math."""
    found: dict[str, dict[str, None]] = {"chat": {}, "code": {}, "math": {}}
    for place in sorted(path for path in folder.iterdir() if path.is_dir() and path.name not in NOT_TEXT):
        kind = "code" if place.name in CODE else "math" if place.name in MATH else "chat"
        pattern = BLOCK if kind == "code" else SENTENCE
        for text in (text for path in files(place) for text in strings(rows(path))):
            found[kind].update(dict.fromkeys(filter(usable, pattern.findall(text))))
    taken = grams(avoid)
    rng = np.random.default_rng(5)
    return {kind: Pool.of(clean(sampled(rng, list(pieces)), taken)) for kind, pieces in found.items()}


def sampled(rng: np.random.Generator, pieces: list[str]) -> list[str]:
    """At most MOST_PIECES of them."""
    chosen = rng.permutation(len(pieces))[:MOST_PIECES]
    return [pieces[i] for i in np.sort(chosen)]


def files(folder: Path) -> list[Path]:
    """The data files below a folder, but a benchmark's test split."""
    named = (path for path in folder.rglob("*") if re.search(r"\.(jsonl?(\.gz)?|parquet)$", path.name))
    return sorted(path for path in named if not (folder.name == "gsm8k" and path.name.startswith("test")))


def rows(path: Path) -> list[Any]:
    """The rows of a file, whatever its form."""
    if path.suffix == ".parquet":
        return pl.read_parquet(path).to_dicts()
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if path.name.removesuffix(".gz").endswith(".csv"):
        return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))
    text = content.decode("utf-8", errors="replace")
    try:
        whole = json.loads(text)
    except ValueError:
        return [json.loads(line) for line in text.split("\n") if readable(line)]
    return whole if isinstance(whole, list) else [whole]


def readable(line: str) -> bool:
    """False for a line that is blank or no JSON."""
    try:
        return bool(line.strip()) and json.loads(line) is not None
    except ValueError:
        return False


def strings(value: Any) -> Iterator[str]:
    """Every text inside a value; a transcript turn by turn."""
    if isinstance(value, str):
        yield from re.split(r"\n\n(?:Human|Assistant): ?", value)
    elif isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def usable(piece: str) -> bool:
    """True for a piece of running text or code, neither a word nor a page."""
    return (
        25 <= len(piece) <= 400
        and piece.count(" ") >= 3
        and not MARK.search(piece)
        and "\0" not in piece
        and piece.encode(errors="ignore").decode() == piece
    )


def grams(texts: Iterable[str]) -> dict[int, set[tuple[str, ...]]]:
    """Every run of GRAM words of the texts, and shorter texts whole, by length."""
    found: dict[int, set[tuple[str, ...]]] = {}
    for text in texts:
        found_words = WORD.findall(text.lower())
        length = min(GRAM, len(found_words))
        if length >= 3:
            found.setdefault(length, set()).update(windows(found_words, length))
    return found


def windows(found: list[str], length: int) -> Iterator[tuple[str, ...]]:
    """Every run of `length` words."""
    return zip(*(found[start:] for start in range(length)), strict=False)


def clean(pieces: list[str], taken: dict[int, set[tuple[str, ...]]]) -> list[str]:
    """The pieces without any of these runs of words."""
    kept = []
    for piece in pieces:
        found = WORD.findall(piece.lower())
        if not any(not known.isdisjoint(windows(found, length)) for length, known in taken.items()):
            kept.append(piece)
    return kept


def members(path: Path) -> list[list[str]]:
    """The records of the test files of MMLU's archive."""
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith("_test.csv"))
        return [row for name in names for row in csv.reader(io.StringIO(archive.read(name).decode("utf-8")))]
