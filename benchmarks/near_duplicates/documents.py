"""The documents that are timed: lengths as in real prompts and answers, a tenth of them near-copies.

Words per document are log-normal; mean and deviation of the logarithm are those measured on 29,062 distinct
texts, a third of them prompts and the others answers, of HH-RLHF, UltraFeedback, Orca DPO pairs and ShareGPT.
There the median was 52 and the mean 94 words, a tenth had fewer than 9 and a tenth more than 236. Words are
drawn as often as they stand in the labelled set, so no two documents are near by themselves; as in the texts
measured, four in ten have typographic marks and one in thirty a letter beyond ASCII.
"""

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
import polars as pl

from benchmarks.labelled import near_duplicates

LOG_WORDS, LOG_DEVIATION = 3.85, 1.28
"""Of the prompts and answers measured."""
LOG_SHORT, LOG_SHORT_DEVIATION = 2.5, 0.7
"""Of short prompts: median 12 words."""
MOST_WORDS = 2300
COPIES = 0.1
"""Part of the documents that are an edited copy of another."""
SEED = 17


@dataclass(frozen=True)
class Documents:
    """Texts and the pairs planted among them."""

    texts: pl.Series
    originals: np.ndarray
    """Position of the original of each planted copy."""
    copies: np.ndarray
    """Position of the copy."""


def vocabulary() -> tuple[list[str], np.ndarray]:
    """The words of the labelled set and how often each is drawn."""
    texts = pl.read_ndjson(near_duplicates.FILE)["left"].to_list()
    counted = Counter(word for text in texts for word in re.findall(r"[a-z]+", text.lower()))
    words = sorted(counted)
    weights = np.array([counted[word] for word in words], dtype=np.float64)
    return words, weights / weights.sum()


def documents(rows: int, *, short: bool = False) -> Documents:
    """`rows` documents; up to 6 in 100 words of a copy are changed, so that about two in three are near."""
    draw = np.random.default_rng(SEED)
    copies = int(rows * COPIES)
    mean, deviation = (LOG_SHORT, LOG_SHORT_DEVIATION) if short else (LOG_WORDS, LOG_DEVIATION)
    lengths = np.clip(draw.lognormal(mean, deviation, rows - copies), 3, MOST_WORDS).astype(np.int64)
    words, weights = vocabulary()
    tokens = draw.choice(len(words), int(lengths.sum()), p=weights)
    copied = draw.choice(rows - copies, copies, replace=False)
    ends = np.cumsum(lengths)
    edited = np.concatenate([tokens[ends[text] - lengths[text] : ends[text]] for text in copied])
    part = np.repeat(draw.uniform(0, 0.06, copies), lengths[copied])
    changed = np.flatnonzero(draw.random(edited.size) < part)
    edited[changed] = draw.choice(len(words), changed.size, p=weights)
    foreign = draw.random(rows - copies) < 1 / 30
    source = np.concatenate([np.arange(rows - copies), copied])
    texts = written(np.concatenate([tokens, edited]), lengths[source], foreign[source], words, draw)
    order = draw.permutation(rows)
    place = np.argsort(order)
    return Documents(texts.gather(order), place[copied], place[rows - copies :])


def written(
    tokens: np.ndarray, lengths: np.ndarray, foreign: np.ndarray, words: list[str], draw: np.random.Generator
) -> pl.Series:
    """The texts of token after token, with marks between; the foreign ones end in a letter beyond ASCII."""
    owner = np.repeat(np.arange(lengths.size), lengths)
    ending = draw.choice([" ", ", ", ". ", ".\n\n"], tokens.size, p=[0.88, 0.06, 0.05, 0.01])
    quoted = draw.random(lengths.size) < 0.4
    ending = np.where(quoted[owner] & (draw.random(tokens.size) < 0.03), " \u2013 \u201c", ending)
    frame = pl.DataFrame({"text": owner, "word": pl.Series(words).gather(tokens), "ending": ending})
    joined = frame.group_by("text", maintain_order=True).agg(pl.concat_str("word", "ending").str.join(""))
    return joined["word"].alias("text") + pl.Series(np.where(foreign, "caf\u00e9", "end"))
