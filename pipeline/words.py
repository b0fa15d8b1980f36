"""Texts as sequences of hashed words: the common ground of near-duplicate search and decontamination.

A word is a run of letters, marks and digits after NFKC and case folding; punctuation, underscores,
white space and invisible format characters are not part of it. Scripts written without spaces (Han, kana,
Thai, Lao, Khmer, Myanmar) give one word per character, so that they too have n-grams.

Everything is numpy over the bytes of many texts at once (no Python per word, no dependency beyond numpy
and Polars), and every hash is our own arithmetic modulo 2**64: it is the same on every machine, version
and run, which neither Python's `hash` nor Polars' `hash` promises.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import polars as pl

#: Texts are hashed in blocks of about this many bytes: the arrays of one block fit in the processor's cache.
BLOCK_BYTES = 1 << 20

BASE = 0x9E3779B97F4A7C15 | 1
"""The odd base of the polynomial over a word's bytes."""
WINDOW_BASE = np.uint64(0xD6E8FEB86659FD93)
"""The odd base of the polynomial over the words of an n-gram."""

TEXT = pl.col("text")
INVISIBLE = r"\p{Cf}"
PUNCTUATION = r"[[\p{P}\p{Z}]--[\x00-\x7F]]"
NOT_A_WORD = r"[^\w\x00-\x7F]"
UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"

WORD_BYTES = np.zeros(256, dtype=bool)
WORD_BYTES[0x80:] = True
WORD_BYTES[np.frombuffer(b"0123456789abcdefghijklmnopqrstuvwxyz", dtype=np.uint8)] = True


@dataclass(frozen=True)
class Words:
    """The words of some texts, one after the other."""

    hashes: np.ndarray
    """uint64, one per word."""
    offsets: np.ndarray
    """int64, one more than there are texts: text i has the words offsets[i] to offsets[i + 1]."""
    blob: np.ndarray
    """The folded bytes of all texts."""
    starts: np.ndarray
    """Where each word starts in `blob`."""
    ends: np.ndarray
    """Where each word ends in `blob`."""

    @property
    def counts(self) -> np.ndarray:
        """Number of words of each text."""
        return np.diff(self.offsets)

    def span(self, first: int, length: int) -> str:
        """The `length` folded words from word `first` on, with one space between."""
        raw = self.blob[self.starts[first] : self.ends[first + length - 1]]
        return " ".join(words_in(raw.tobytes()))

    def lengths(self, longest: int) -> Iterator[tuple[int, np.ndarray]]:
        """For 1, 2, ... `longest`: (length, hash of that many words from each word on, across texts too)."""
        total = self.hashes
        yield 1, total
        for length in range(2, longest + 1):
            total = total * WINDOW_BASE
            total[: 1 - length] += self.hashes[length - 1 :]
            yield length, total

    def complete(self, length: int) -> np.ndarray:
        """For each word, whether the n-gram of `length` words from it on lies in its text."""
        return np.arange(self.hashes.size) + length <= np.repeat(self.offsets[1:], self.counts)

    def windows(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Every n-gram of `length` words that lies in one text: (hash, index of its first word)."""
        *_, (_, hashed) = self.lengths(length)
        first = np.flatnonzero(self.complete(length))
        return hashed[first], first

    def at(self, first: np.ndarray, length: int) -> np.ndarray:
        """The hashes, as `windows` gives them, of the n-grams that start at the words `first`."""
        total = self.hashes[first]
        for step in range(1, length):
            total = total * WINDOW_BASE + self.hashes[first + step]
        return total


def words_in(raw: bytes) -> list[str]:
    """The words of folded bytes, as strings."""
    kept = np.frombuffer(raw, dtype=np.uint8)
    return np.where(WORD_BYTES[kept], kept, ord(" ")).astype(np.uint8).tobytes().decode().split()


def fold(texts: pl.Series) -> pl.Series:
    """NFKC and case folding; beyond ASCII, anything that is not part of a word becomes a space.

    Upper case and then lower case folds what casefold does for these purposes (sharp s, final sigma).
    Most texts are ASCII but for quotes and dashes: only what is left without these is normalised.
    """
    frame = texts.alias("text").to_frame().with_row_index()
    plain, other = by_alphabet(frame)
    quoted, foreign = by_alphabet(
        other.with_columns(TEXT.str.replace_all(INVISIBLE, "").str.replace_all(PUNCTUATION, " "))
    )
    foreign = foreign.with_columns(
        TEXT.str.normalize("NFKC")
        .str.to_uppercase()
        .str.to_lowercase()
        .str.replace_all(NOT_A_WORD, " ")
        .str.replace_all(UNSPACED, " $0 ")
    )
    ascii_texts = pl.concat([plain, quoted]).with_columns(TEXT.str.to_lowercase())
    return pl.concat([ascii_texts, foreign]).sort("index")["text"]


def by_alphabet(frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows whose text is all ASCII, and the others."""
    is_ascii = TEXT.str.len_bytes() == TEXT.str.len_chars()
    return frame.filter(is_ascii), frame.filter(~is_ascii)


def words(texts: pl.Series) -> Words:
    """The words of `texts` (no nulls). Memory grows with their bytes: pass them block by block."""
    folded = fold(texts)
    # A newline between texts is no word byte: no word reaches from one text into the next.
    blob = np.frombuffer(("\n".join(folded.to_list()) + "\n").encode(), dtype=np.uint8)
    inside = np.concatenate([[False], WORD_BYTES[blob]])
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    starts, ends = edges[::2], edges[1::2]
    text_ends = np.cumsum(folded.str.len_bytes().to_numpy().astype(np.int64) + 1)
    offsets = (
        np.concatenate([[0], np.searchsorted(starts, text_ends)]) if len(texts) else np.zeros(1, np.int64)
    )
    return Words(word_hashes(blob, starts, ends), offsets, blob, starts, ends)


def blocks(texts: pl.Series) -> Iterator[tuple[int, pl.Series]]:
    """Consecutive pieces of `texts` of about BLOCK_BYTES, each with the position of its first text."""
    if not len(texts):
        return
    block = np.cumsum(texts.str.len_bytes().to_numpy().astype(np.int64)) // BLOCK_BYTES
    cuts = [0, *(np.flatnonzero(np.diff(block)) + 1).tolist(), len(texts)]
    for start, stop in pairwise(cuts):
        yield start, texts[start:stop]


def mix(values: np.ndarray) -> np.ndarray:
    """Spread 64-bit values evenly over all 64 bits (the finaliser of splitmix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def word_hashes(blob: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """A hash per word: a polynomial of its bytes, by differences of one running sum, then mixed."""
    powers, inverses = power_tables(1 << max(16, int(blob.size - 1).bit_length()))
    running = np.zeros(blob.size + 1, dtype=np.uint64)
    np.cumsum(blob * powers[: blob.size], out=running[1:])
    return mix((running[ends] - running[starts]) * inverses[starts])


@cache
def power_tables(size: int) -> tuple[np.ndarray, np.ndarray]:
    """The powers 0 .. size - 1 of BASE and of its inverse, modulo 2**64."""
    tables = []
    for base in (BASE, pow(BASE, -1, 1 << 64)):
        factors = np.full(size, base, dtype=np.uint64)
        factors[0] = 1
        tables.append(np.multiply.accumulate(factors))
    return tables[0], tables[1]
