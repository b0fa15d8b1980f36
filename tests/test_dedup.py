"""Near-duplicate clusters against a plain, slow definition."""

import random

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.buckets import CROWD
from pipeline.dedup import NearDedup, clusters
from pipeline.ids import content_id
from pipeline.shingles import similarity
from pipeline.sketches import (
    EMPTY,
    FEW,
    MISS,
    SLOTS,
    band_rows,
    filled_by_asking,
    filled_by_offers,
    sketch,
    sketches,
)
from pipeline.words import mix

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
        ("b", "b"),
        ("a", "a"),
    ]


def test_rows_stay_in_their_order_and_the_lowest_id_names_the_cluster():
    found = clusters(pl.Series(["c", "x", "b"]), pl.Series(["same text", "other", "Same text!"]), PAIRWISE)
    assert found.rows() == [("c", "b"), ("x", "x"), ("b", "b")]


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


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), TEXT), max_size=14), st.integers(1, 3))
def test_within_groups_the_clusters_are_those_of_each_group_alone(rows, shingle):
    how = NearDedup(threshold=0.6, shingle=shingle)
    frame = pl.DataFrame(rows, schema={"group": pl.Int64, "text": pl.String}, orient="row").with_columns(
        id=pl.int_range(pl.len()).cast(pl.String).str.zfill(3), group=pl.format("g{}", "group")
    )
    found = clusters(frame["id"], frame["text"], how, within=frame["group"])
    expected = [
        clusters(group["id"], group["text"], how)
        for group in frame.partition_by("group", maintain_order=True)
    ]
    assert found["id"].equals(frame["id"])
    assert found.sort("id").equals(pl.concat([found.clear(), *expected]).sort("id"))


def test_equal_answers_to_thousands_of_prompts_join_within_a_prompt_only():
    """So many that keys of 32 bits are the same by chance."""
    groups = [f"p{i // 2}" for i in range(100_000)]
    ids = pl.Series([f"{i:06d}" for i in range(len(groups))])
    texts = pl.Series(["Sure, here is one."] * len(groups))
    found = clusters(ids, texts, PAIRWISE, within=pl.Series(groups))
    assert found["cluster_id"].equals(ids.gather_every(2).repeat_by(2).explode().rename("cluster_id"))


def test_a_crowd_within_groups_joins_in_its_group_only():
    template = sentence(1, 40)
    texts = [" ".join([*template, *sentence(seed, 10)]) for seed in range(100, 260)]
    texts += [" ".join([*template, *sentence(seed, 10), "more"]) for seed in range(100, 260)]
    ids = pl.Series([f"{i:03d}" for i in range(320)])
    apart = clusters(ids, pl.Series(texts), PAIRWISE, within=pl.Series(["a"] * 160 + ["b"] * 160))
    assert apart["cluster_id"].equals(ids.rename("cluster_id"))
    together = clusters(ids, pl.Series(texts), PAIRWISE, within=pl.Series(["a"] * 320))
    assert together["cluster_id"].to_list() == ids[:160].to_list() * 2


@pytest.mark.parametrize("threads", [1, 4])
def test_neither_threads_nor_blocks_nor_batches_change_the_clusters(monkeypatch, threads):
    template = sentence(1, 30)
    texts = [" ".join([*template, *sentence(1000 + seed // 3, 14 + seed % 3)]) for seed in range(300)]
    before = cluster_of(texts)
    assert 50 < len(set(before.values())) < 250
    monkeypatch.setattr(pl, "thread_pool_size", lambda: threads)
    monkeypatch.setattr("pipeline.words.BLOCK_BYTES", 2000)
    monkeypatch.setattr("pipeline.shingles.BATCH_BYTES", 5000)
    monkeypatch.setattr("pipeline.buckets.FIRST_PAIRS", 5)
    monkeypatch.setattr("pipeline.buckets.PENDING_PAIRS", 50)
    assert cluster_of(texts) == before


@pytest.mark.parametrize("length", [3, 20, 200])
def test_slots_of_the_sketch_agree_as_often_as_jaccard(length):
    """Mean over 300 pairs of similarity 1/3."""
    drawn = np.random.default_rng(5).integers(0, 1 << 62, (300, 3 * length)).astype(np.uint64)
    one, two = drawn[:, : 2 * length], np.concatenate([drawn[:, :length], drawn[:, 2 * length :]], axis=1)
    counts = np.full(300, 2 * length)
    a, b = (sketch(mix(values.ravel()), counts) for values in (one, two))
    assert a.shape == (300, SLOTS)
    assert (a == b).mean() == pytest.approx(1 / 3, abs=0.02)


@pytest.mark.parametrize("length", [1, FEW // 2, FEW, 2 * FEW, 100])
def test_both_ways_to_fill_a_sketch_give_the_same(length):
    drawn = mix(np.arange(50 * length, dtype=np.uint64))
    minima = np.full((50, SLOTS), EMPTY)
    minima[np.repeat(np.arange(50), length), (drawn >> np.uint64(58)).astype(np.int64)] = drawn
    dense = filled_by_offers(minima)
    assert (dense == filled_by_asking(minima)).all()
    assert (dense != EMPTY).all()


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9])
def test_nearly_every_pair_at_the_threshold_is_a_candidate(threshold):
    rows = band_rows(threshold)
    assert (1 - threshold**rows) ** (SLOTS // rows) <= MISS


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
    found = sketches(texts, 2, 0.7)
    assert len(set(found.whole.tolist())) == 2
    assert (found.bands[:, 0] == found.bands[:, 999]).all()
    assert (sketches(texts[1000:], 2, 0.7).bands[:, 0] == found.bands[:, 1000]).all()


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


@pytest.mark.parametrize("spread", [1, 4])
def test_thousands_of_prompts_on_one_template_are_not_compared_pair_by_pair(monkeypatch, spread):
    """Their own parts have 11 words, or 11 to 14: then their similarities lie on both sides of a bound."""
    compared = []

    def counted(texts, left, right, shingle):
        compared.append(left.size)
        return similarity(texts, left, right, shingle)

    monkeypatch.setattr("pipeline.buckets.similarity", counted)
    template = sentence(1, 40)
    texts = [" ".join([*template, *sentence(seed, 11 + seed % spread)]) for seed in range(100, 4100)]
    assert 0.5 < jaccard(texts[0], texts[1], 2) < PAIRWISE.threshold
    assert len(set(cluster_of(texts).values())) == 4000
    assert sum(compared) < 50 * 4000


def test_many_copies_empty_texts_and_one_very_long_text_take_linear_time():
    """Squared they would take hours, and the long word a step per byte; the run's time limit would break."""
    long = "0123456789abcdef" * 100_000
    texts = pl.concat(
        [
            pl.Series([" ".join(sentence(1))]).extend_constant(" ".join(sentence(1)), 100_000),
            pl.Series([""]).extend_constant("", 100_000),
            pl.Series([long, long + "f", "again " + " ".join(sentence(2, 100_000))]),
        ]
    )
    ids = pl.Series([f"{i:06d}" for i in range(len(texts))])
    found = clusters(ids, texts, PAIRWISE)["cluster_id"]
    assert found[:100_001].n_unique() == 1
    assert found[100_001:].n_unique() == 100_004
