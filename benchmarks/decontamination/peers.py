"""The rules that others use to find benchmark items: any n-gram in common, word by word in Python.

Each gives, for some texts and items, the positions of the texts that it flags. Items of fewer than `ngram`
words have no n-gram: these rules cannot find them (GPT-3, arXiv 2005.14165, appendix C, ignores them too).
"""

import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from unicodedata import normalize

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.decont.n_grams import NGramsDecontConfig, NGramsDecontFilter
from datatrove.utils.hashing import HashConfig
from datatrove.utils.logging import logger
from datatrove.utils.text import ngrams, simplify_text
from datatrove.utils.word_tokenizers import WordTokenizer

WORD = re.compile(r"[^\W_]+")

Peer = Callable[[Sequence[str], Sequence[str], int], set[int]]


def words(text: str) -> list[str]:
    """The lower-cased words of a text, its characters in their plain forms."""
    return WORD.findall(normalize("NFKC", text).lower())


def grams(text: str, ngram: int) -> set[str]:
    """The n-grams of a text."""
    found = words(text)
    return {" ".join(found[i : i + ngram]) for i in range(len(found) - ngram + 1)}


class Spaces(WordTokenizer):
    """Words between spaces; datatrove's own tokenizer of English needs spaCy."""

    def word_tokenize(self, text: str) -> list[str]:
        """The words."""
        return text.split()

    def sent_tokenize(self, text: str) -> list[str]:
        """The text as one sentence."""
        return [text]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """The text as one span."""
        return [(0, len(text))]


def plain_set(texts: Sequence[str], items: Sequence[str], ngram: int) -> set[int]:
    """A Python set of n-grams, as in lm-evaluation-harness and its many copies."""
    known: set[str] = set().union(*(grams(item, ngram) for item in items))
    return {i for i, text in enumerate(texts) if not known.isdisjoint(grams(text, ngram))}


def datatrove(texts: Sequence[str], items: Sequence[str], ngram: int) -> set[int]:
    """datatrove's NGramsDecontFilter.

    Its indexer reads lighteval tasks only, so the index file is written here as it writes it, by its own
    hash; its texts are simplified to words first, so that splitting at white space serves as its tokenizer.
    Its other hash, xxhash, does not run with the release of that library that is installed.
    """
    logger.disable("datatrove")
    config = NGramsDecontConfig(ngram, find_query_ngrams=True, hash_config=HashConfig(hash_fc="sha1"))
    with tempfile.TemporaryDirectory() as folder:
        step = NGramsDecontFilter(folder, config, language=Spaces())  # ty: ignore[invalid-argument-type]
        hashes = {
            step.hash_func(" ".join(gram))
            for item in items
            for gram in ngrams(simplify_text(item, config.norm_config).split(), ngram)
        }
        array = np.array(sorted(hashes), dtype=config.hash_config.np_descr)
        array.tofile(Path(folder) / "items.index.hashes")
        return {i for i, text in enumerate(texts) if step.filter(Document(text=text, id=str(i))) is not True}


PEERS: dict[str, tuple[Peer, int]] = {"plain set": (plain_set, 50_000), "datatrove": (datatrove, 5_000)}
"""Each with the most texts that it is timed on: its time grows in proportion to them."""
