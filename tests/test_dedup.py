"""Near-duplicate clusters against a plain, slow definition."""

import random
import time

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dedup import CROWD, SLOTS, NearDedup, band_rows, clusters, similarity_sketch, sketches
from pipeline.ids import content_id

PAIRWISE = NearDedup(threshold=0.7, shingle=2)
TEXT = st.lists(st.sampled_from("abcdef"), max_size=14).map(" ".join)


def shingle_set(text: str, length: int) -> set[tuple[str, ...]]:
    found = text.split()
    if 0 < len(found) < length:
        return {tuple(found)}
    return {tuple(found[i : i + length]) for i in range(len(found) - length + 1)}


def jaccard(one: str, two: str, length: int) -> float:
    a, b = shingle_set(one, length), shingle_set(two, length)
    return len(a & b) / len(a | b) if a | b else 0.0


def cluster_of(texts: list[str], how: NearDedup = PAIRWISE) -> dict[str, str]:
    ids = pl.Series([content_id(text) for text in texts], dtype=pl.String)
    return dict(clusters(ids, pl.Series(texts, dtype=pl.String), how).iter_rows())


def sentence(seed: int, length: int = 60) -> list[str]:
    chooser = random.Random(seed)
    return [f"w{chooser.randrange(5000)}" for _ in range(length)]


def test_a_copy_with_another_case_and_punctuation_and_a_small_edit_join_and_another_text_does_not():
    words = sentence(1)
    text, shouted = " ".join(words), "! ".join(words).upper()
    edited, other = " ".join(["changed", *words[1:]]), " ".join(sentence(2))
    found = cluster_of([text, shouted, edited, other])
    ids = [content_id(t) for t in (text, shouted, edited)]
    assert {found[i] for i in ids} == {min(ids)}
    assert found[content_id(other)] == content_id(other)


def test_a_chain_is_one_cluster_though_its_ends_are_not_near():
    words = sentence(3)
    chain = [" ".join([*words[step:], *sentence(4, step)]) for step in (0, 5, 10, 15)]
    assert jaccard(chain[0], chain[-1], 2) < PAIRWISE.threshold
    assert len(set(cluster_of(chain).values())) == 1


def test_without_settings_every_id_is_its_own_cluster():
    assert clusters(pl.Series(["b", "a"]), pl.Series(["same", "same"]), None).rows() == [
        ("a", "a"),
        ("b", "b"),
    ]


def test_texts_without_words_and_empty_input_have_no_near_duplicates():
    assert len(set(cluster_of(["...", "!!!", ""]).values())) == 3
    assert cluster_of([]) == {}


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXT, unique=True, max_size=12), st.integers(1, 3), st.randoms(use_true_random=False))
def test_clusters_do_not_depend_on_order_and_only_join_what_is_near(texts, shingle, chooser):
    how = NearDedup(threshold=0.6, shingle=shingle)
    found = cluster_of(texts, how)
    shuffled = list(texts)
    chooser.shuffle(shuffled)
    assert cluster_of(shuffled, how) == found
    for text in texts:
        fellows = [t for t in texts if t != text and found[content_id(t)] == found[content_id(text)]]
        assert found[content_id(text)] == min(map(content_id, [text, *fellows]))
        if fellows:
            assert max(jaccard(text, fellow, shingle) for fellow in fellows) >= how.threshold


@pytest.mark.parametrize("length", [3, 20, 200])
def test_slots_of_the_sketch_agree_as_often_as_jaccard(length):
    """Mean over 300 pairs of similarity 1/3."""
    drawn = np.random.default_rng(5).integers(0, 1 << 62, (300, 3 * length)).astype(np.uint64)
    one, two = drawn[:, : 2 * length], np.concatenate([drawn[:, :length], drawn[:, 2 * length :]], axis=1)
    owner = np.repeat(np.arange(300), 2 * length)
    a, b = (similarity_sketch(values.ravel(), owner, 300) for values in (one, two))
    assert a.shape == (300, SLOTS)
    assert (a == b).mean() == pytest.approx(1 / 3, abs=0.02)


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9])
def test_nearly_every_pair_at_the_threshold_is_a_candidate(threshold):
    rows = band_rows(threshold)
    assert (1 - threshold**rows) ** (SLOTS // rows) <= 0.01


def test_recall_on_edited_texts_is_nearly_complete():
    """400 texts of 60 words with four words changed: similarity of word pairs about 0.8."""
    originals = [sentence(seed) for seed in range(400)]
    edited = [[f"new{i}" if i % 17 == 3 else word for i, word in enumerate(words)] for words in originals]
    texts = [" ".join(words) for words in originals + edited]
    found = cluster_of(texts)
    joined = sum(
        found[content_id(a)] == found[content_id(b)] for a, b in zip(texts[:400], texts[400:], strict=True)
    )
    assert joined >= 398
    assert len(set(found.values())) == 800 - joined


def test_a_thousand_copies_cost_no_pairs_and_the_band_keys_are_those_of_the_text_alone():
    texts = pl.Series([" ".join(sentence(1))] * 1000 + [" ".join(sentence(2))])
    whole, bands = sketches(texts, PAIRWISE)
    assert len(set(whole.tolist())) == 2
    assert (bands[0] == bands[999]).all()
    assert (sketches(texts[1000:], PAIRWISE)[1][0] == bands[1000]).all()


@pytest.mark.parametrize("own", [4, 9, 12, 30])
def test_prompts_on_one_template_join_exactly_where_they_are_near(own):
    """More texts than CROWD in a bucket; lengths differ, so some are near and some are not."""
    template = sentence(1, 40)
    texts = [" ".join([*template, *sentence(seed, own + seed % 5)]) for seed in range(100, 260)]
    assert len(texts) > 2 * CROWD
    near = {
        frozenset((a, b))
        for i, a in enumerate(texts)
        for b in texts[:i]
        if jaccard(a, b, 2) >= PAIRWISE.threshold
    }
    parent = {text: text for text in texts}

    def root(text: str) -> str:
        return text if parent[text] == text else root(parent[text])

    for one, two in map(tuple, near):
        parent[root(one)] = root(two)
    found = cluster_of(texts)
    for one in texts:
        assert {t for t in texts if found[content_id(t)] == found[content_id(one)]} == {
            t for t in texts if root(t) == root(one)
        }


def test_thousands_of_prompts_on_one_template_are_not_compared_pair_by_pair():
    """All pairs of 4,000 texts would take minutes; the time limit of a test run would break."""
    template = sentence(1, 40)
    texts = [" ".join([*template, *sentence(seed, 11)]) for seed in range(100, 4100)]
    assert 0.5 < jaccard(texts[0], texts[1], 2) < PAIRWISE.threshold
    before = time.process_time()
    assert len(set(cluster_of(texts).values())) == 4000
    assert time.process_time() - before < 10
