"""The labelled near-duplicates: their labels by the definition, and what our search makes of them."""

import numpy as np
import polars as pl
import pytest

from benchmarks.dedup import labelled, pairs_of, quality
from benchmarks.labelled import near_duplicates
from benchmarks.near_duplicates.documents import Documents, documents
from pipeline.dedup import NearDedup

SETTINGS = NearDedup(threshold=near_duplicates.THRESHOLD, shingle=near_duplicates.SHINGLE)


def test_labels_follow_from_the_similarity_of_the_texts():
    rows = pl.read_ndjson(near_duplicates.FILE)
    assert near_duplicates.FILE.stat().st_size < 1_000_000
    assert rows["class"].unique(maintain_order=True).to_list() == list(near_duplicates.CLASSES)
    for row in rows.iter_rows(named=True):
        alike = near_duplicates.similarity(row["left"], row["right"], near_duplicates.SHINGLE)
        assert row["similarity"] == pytest.approx(alike, abs=1e-4)
        assert row["near"] == (alike >= near_duplicates.THRESHOLD)


def test_the_search_finds_the_labelled_pairs_and_no_others():
    found = labelled(SETTINGS)
    assert found["recall"] >= 0.98
    assert found["precision"] >= 0.98
    for name, counts in found["classes"].items():
        assert counts["pairs"] == near_duplicates.PAIRS, name
        assert abs(counts["joined"] - counts["near"]) <= 0.02 * counts["pairs"], name


def test_another_threshold_changes_the_numbers():
    low, high = (labelled(NearDedup(threshold=threshold, shingle=3)) for threshold in (0.7, 0.9))
    assert low["precision"] < 0.95
    assert low["recall"] == 1
    assert high["precision"] == 1
    assert high["recall"] < 0.8


def test_quality_counts_missed_and_wrong_pairs():
    near, far = "one two three four five six", "seven eight nine ten"
    made = Documents(pl.Series([near, near, far, near + "!"]), np.array([0, 0]), np.array([1, 3]))
    assert quality(made, 4, np.array([5, 5, 5, 7]), SETTINGS) == {"recall": 0.5, "precision": 0.3333}
    assert pairs_of(np.array([5, 5, 5, 7])).T.tolist() == [[0, 1], [0, 2], [1, 2]]


def test_documents_are_the_same_on_every_run_and_hold_near_copies():
    one, two = documents(500), documents(500)
    assert one.texts.equals(two.texts)
    alike = [
        near_duplicates.similarity(one.texts[left], one.texts[right], 3)
        for left, right in zip(one.originals.tolist(), one.copies.tolist(), strict=True)
    ]
    assert 0.4 < np.mean(np.array(alike) >= 0.8) < 0.9
