"""Near-duplicate texts by MinHash, LSH and an exact check.

A text is the set of its word n-grams (`shingle` words each; a shorter text is one shingle). Two texts are
near-duplicates where the Jaccard similarity of their sets reaches `threshold`; clusters are the connected
components of that relation. Candidates come from MinHash sketches cut into LSH bands (`sketches.py`,
`buckets.py`), and every candidate is checked by its exact similarity (of 40-bit shingle hashes), so the
result has no false positive; a pair exactly at the threshold is missed with a probability of about
sketches.MISS.

In numpy, not datasketch: that library hashes text by text and shingle by shingle in Python, and takes its
permutations from a random generator of another library. All hashing is our own arithmetic (`words.py`):
clusters depend on nothing but the texts, not on row order, number of threads, version or machine.
"""

import numpy as np
import polars as pl
from pydantic import Field

from pipeline.buckets import Search
from pipeline.params import Params
from pipeline.sketches import sketches


class NearDedup(Params):
    """When two texts count as the same."""

    threshold: float = Field(gt=0, le=1)
    """Jaccard similarity of the shingle sets from which on two texts are near-duplicates."""
    shingle: int = Field(ge=1, le=32)
    """Words per shingle: 1 compares vocabularies, 3 or more compares wording."""


def clusters(
    ids: pl.Series, texts: pl.Series, settings: NearDedup | None, *, within: pl.Series | None = None
) -> pl.DataFrame:
    """(id, cluster_id), one row per id in the order of `ids`; cluster_id is the lowest id of the component.

    `ids` are distinct, of any type with an order, and go with `texts` row by row. With `within`, a value per
    row (a prompt's cluster, say), only texts of one value can be near: groups may be many and tiny, and a
    text alone in its group is not even read. Without `settings` every id is its own cluster. A text without
    any word has no near-duplicate.

    `texts` may be a memory-mapped column larger than memory: it is read once from front to back, block by
    block, and again only where rows have candidates; it is never copied, sorted or gathered as a whole. Held
    are 200 to 300 bytes per text. The result depends neither on the order of the rows nor on the number of
    threads.
    """
    if settings is None or not len(ids):
        return pl.DataFrame({"id": ids, "cluster_id": ids})
    label = pl.Series(components_of(texts, settings, within))
    rows = pl.DataFrame({"id": ids, "label": label})
    return rows.select("id", cluster_id=pl.col("id").min().over("label"))


def components_of(texts: pl.Series, settings: NearDedup, within: pl.Series | None = None) -> np.ndarray:
    """For each text the position of one text of its component: the same one for all texts of a component."""
    texts = texts.rechunk()  # Of the references to the bytes, not of the bytes.
    label = np.arange(len(texts))
    rows, groups = label, None
    if within is not None:
        groups = within.rank("dense").to_numpy()
        rows = np.flatnonzero(np.bincount(groups)[groups] > 1)
        texts, groups = texts.gather(rows), groups[rows]
    found = sketches(texts, settings.shingle, settings.threshold, groups)
    # Texts with the same shingles are one: a million copies must not give a million squared pairs. And in the
    # order of `whole`, which is that of the contents, nothing can depend on the order of the rows.
    whole, first, same_as = np.unique(found.whole, return_index=True, return_inverse=True)
    wordless = int((whole[:1] == 0).sum())
    first = first[wordless:]
    search = Search(
        texts.gather(first), None if groups is None else groups[first], settings.shingle, settings.threshold
    )
    representative = first[search.components(found.bands[:, first])]
    read = found.whole != 0
    joined = label.copy()
    joined[rows[read]] = rows[representative[same_as[read] - wordless]]
    return joined
