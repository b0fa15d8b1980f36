"""Shingle sets and their exact similarity against the definition."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.shingles import similarity
from tests.test_dedup import TEXT, jaccard


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXT, min_size=2, max_size=8), st.integers(1, 4))
def test_similarity_is_the_jaccard_of_the_shingle_sets(texts, shingle):
    left, right = np.triu_indices(len(texts), 1)
    expected = [jaccard(texts[i], texts[j], shingle) for i, j in zip(left, right, strict=True)]
    assert similarity(pl.Series(texts), left, right, shingle).tolist() == pytest.approx(expected)
