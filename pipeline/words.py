"""Texts as sequences of hashed words: the common ground of near-duplicate search and decontamination.

A word is a run of letters, marks and digits after NFKC and case folding; punctuation, underscores,
white space and invisible format characters are not part of it. Scripts written without spaces (Han, kana,
Thai, Lao, Khmer, Myanmar) give one word per character, so that they too have n-grams.

Everything is numpy over the bytes of many texts at once (no Python per word, no dependency beyond numpy
and Polars), and every hash is our own arithmetic modulo 2**64: it is the same on every machine, version
and run, which neither Python's `hash` nor Polars' `hash` promises.
"""

import hashlib
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
import polars as pl

#: Texts are hashed in blocks of about this many bytes: the arrays of one block fit in a core's cache.
BLOCK_BYTES = 1 << 19

WINDOW_BASE = np.uint64(0xD6E8FEB86659FD93)
"""The odd base of the polynomial over the words of an n-gram."""

WORD_BASE = np.uint64(0x9E3779B97F4A7C15)
"""The odd base of the polynomial over the pieces of a long word."""

INVISIBLE = r"\p{Cf}"
PUNCTUATION = r"[[\p{P}\p{Z}]--[\x00-\x7F]]"
NOT_A_WORD = r"[^\w\x00-\x7F]"
UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"

FOLDED_BYTES = bytes(
    byte if byte >= 0x80 else ord(chr(byte).lower()) if chr(byte).isalnum() else ord(" ")
    for byte in range(256)
)
"""For each byte of UTF-8 its lower case, or a space where it is no part of a word."""
LOAD = 8
"""Bytes of a word hashed at once."""
LOADS = 8
"""From more than this many loads on, a word is hashed by itself: a text can be one word of megabytes."""
LOAD_MASKS = np.array([(1 << (8 * kept)) - 1 for kept in range(LOAD + 1)], dtype=np.uint64)


def blanks(first: int, size: int) -> np.ndarray:
    """For each of `size` characters from `first` on, whether it is punctuation or white space."""
    return np.array([unicodedata.category(chr(first + i))[0] in "PZ" for i in range(size)])


LATIN_BLANKS = np.concatenate([np.zeros(0x80, dtype=bool), blanks(0x80, 0x80)])
"""By code point, which is also the second byte where the first is C2."""
GENERAL_BLANKS = blanks(0x2000, 0x80)
"""By the code point less 0x2000."""
SPACE = ord(" ")

Job = TypeVar("Job")
Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Words:
    """The words of some texts, one after the other."""

    hashes: np.ndarray
    """uint64, one per word."""
    offsets: np.ndarray
    """int64, one more than there are texts: text i has the words offsets[i] to offsets[i + 1]."""
    blob: np.ndarray
    """The folded bytes of all texts: words with spaces between."""
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
        return " ".join(raw.tobytes().decode().split())

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
        inside = np.ones(self.hashes.size, dtype=bool)
        counts = self.counts
        for left in range(1, length):
            # `left` words are left from here to the end of the text: too few.
            inside[self.offsets[1:][counts >= left] - left] = False
        return inside

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


def fold(texts: pl.Series) -> pl.Series:
    """NFKC and case folding; beyond ASCII, anything that is not part of a word becomes a space.

    Upper case and then lower case folds what casefold does for these purposes (sharp s, final sigma).
    """
    return (
        texts.str.replace_all(INVISIBLE, "")
        .str.replace_all(PUNCTUATION, " ")
        .str.normalize("NFKC")
        .str.to_uppercase()
        .str.to_lowercase()
        .str.replace_all(NOT_A_WORD, " ")
        .str.replace_all(UNSPACED, " $0 ")
    )


def words(texts: pl.Series) -> Words:
    """The words of `texts` (no nulls). Memory grows with their bytes: pass them block by block."""
    blob, text_ends = folded_bytes(texts)
    inside = np.concatenate([[False], blob != SPACE])
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    starts, ends = edges[::2], edges[1::2]
    offsets = np.concatenate([[0], np.searchsorted(starts, text_ends)])
    return Words(word_hashes(blob, starts, ends), offsets, blob, starts, ends)


def folded_bytes(texts: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """The folded bytes of all texts, one space at the end of each, and the ends of the texts in them.

    Most texts are ASCII but for quotes and dashes, which are blanked in place: only what is left goes through
    the Unicode rules of `fold`.
    """
    blob, ends = lower_bytes(texts)
    blank_punctuation(blob)
    high = np.flatnonzero(blob >= 0x80)
    if not high.size:
        return blob, ends
    foreign = np.unique(np.searchsorted(ends, high, side="right"))
    folded, folded_ends = lower_bytes(fold(texts.gather(foreign)))
    lengths = np.diff(ends, prepend=0)
    pieces, done, taken = [], 0, 0
    for text, end in zip(foreign.tolist(), folded_ends.tolist(), strict=True):
        pieces += [blob[done : ends[text] - lengths[text]], folded[taken:end]]
        done, taken = ends[text], end
    lengths[foreign] = np.diff(folded_ends, prepend=0)
    return np.concatenate([*pieces, blob[done:]]), np.cumsum(lengths)


def lower_bytes(texts: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of all texts, ASCII folded, one space at the end of each, and the ends of the texts."""
    _, offsets, data = (texts + "\n").to_arrow().buffers()
    blob = np.frombuffer(bytearray(data).translate(FOLDED_BYTES), dtype=np.uint8)
    return blob, np.frombuffer(offsets, dtype=np.int64)[1:]


def blank_punctuation(blob: np.ndarray) -> None:
    """Put spaces over the punctuation and the white space of Latin-1 and of U+2000 to U+206F."""
    if blob.size < 3:
        return
    two = np.flatnonzero(blob[:-1] == 0xC2)
    two = two[LATIN_BLANKS[blob[two + 1]]]
    blob[two] = blob[two + 1] = SPACE
    three = np.flatnonzero((blob[:-2] == 0xE2) & (blob[1:-1] <= 0x81))
    three = three[GENERAL_BLANKS[((blob[three + 1] & 1) << 6) | (blob[three + 2] & 0x3F)]]
    blob[three] = blob[three + 1] = blob[three + 2] = SPACE


def blocks(texts: pl.Series) -> Iterator[tuple[int, pl.Series]]:
    """Consecutive pieces of `texts` of about BLOCK_BYTES, each with the position of its first text."""
    if not len(texts):
        return
    block = np.cumsum(texts.str.len_bytes().to_numpy(), dtype=np.int64) // BLOCK_BYTES
    cuts = [0, *(np.flatnonzero(np.diff(block)) + 1).tolist(), len(texts)]
    for start, stop in pairwise(cuts):
        yield start, texts[start:stop]


def in_threads(work: Callable[[Job], Outcome], jobs: Sequence[Job]) -> list[Outcome]:
    """What `work` gives for each job, in the order of the jobs, on as many threads as Polars has.

    Numpy and Polars let other threads run while they compute, so that threads are enough to use every core;
    POLARS_MAX_THREADS limits them.
    """
    threads = min(pl.thread_pool_size(), len(jobs))
    if threads < 2:
        return [work(job) for job in jobs]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, jobs))


def mix(values: np.ndarray) -> np.ndarray:
    """Spread 64-bit values evenly over all 64 bits (the finaliser of splitmix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def word_hashes(blob: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """A hash per word: its bytes, eight at a time, mixed in turn. No two words of eight bytes share one."""
    padded = np.concatenate([blob, np.zeros(LOAD, dtype=np.uint8)])
    loads = np.ndarray((blob.size,), dtype="<u8", buffer=padded, strides=(1,))
    lengths = ends - starts
    hashes = mix(loads[starts] & LOAD_MASKS.take(lengths, mode="clip"))
    longer = np.flatnonzero(lengths > LOAD)
    for turn in range(1, LOADS):
        rest = loads[starts[longer] + turn * LOAD]
        rest &= LOAD_MASKS.take(lengths[longer] - turn * LOAD, mode="clip")
        hashes[longer] = mix(hashes[longer] * WORD_BASE + rest)
        longer = longer[lengths[longer] > (turn + 1) * LOAD]
        if not longer.size:
            break
    for place in longer:
        digest = hashlib.blake2b(blob[starts[place] : ends[place]].tobytes(), digest_size=8).digest()
        hashes[place] = int.from_bytes(digest, "little")
    return hashes
