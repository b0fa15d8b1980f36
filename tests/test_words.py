"""Words and n-grams: what is folded together, and that hashes are those of the words alone."""

import re

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.words import blocks, fold, in_threads, words


def spans(text: str) -> str:
    found = words(pl.Series([text]))
    return found.span(0, found.hashes.size) if found.hashes.size else ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello,  WORLD!\n", "hello world"),
        ("\u201cStra\u00dfe\u201d \u2014 it\u2019s", "strasse it s"),
        ("\uff37\uff49\uff44\uff45 \ufb01ne", "wide fine"),
        ("zero\u200bwidth snake_case", "zerowidth snake case"),
        ("\u4f60\u597dok", "\u4f60 \u597d ok"),
        ("caf\u00e9 x\u00b2", "caf\u00e9 x2"),
        ("... ?!", ""),
        ("a\u00a0b\u2026c \u00abd\u00bb \u20ace\u2044f", "a b c d e f"),
        ("na\u00efve\u2014\u2019twas", "na\u00efve twas"),
        ("\u2460 \u0130stanbul", "1 i\u0307stanbul"),
    ],
)
def test_punctuation_case_width_and_space_fold_away(text, expected):
    assert spans(text) == expected


def test_composed_and_decomposed_letters_are_one_word():
    found = words(pl.Series(["caf\u00e9", "cafe\u0301", "cafe"]))
    assert found.hashes[0] == found.hashes[1] != found.hashes[2]


@given(
    st.lists(st.lists(st.sampled_from(["a", "b", "ab", "\u00e9"]), max_size=6), max_size=6), st.integers(1, 4)
)
def test_windows_are_the_ngrams_of_each_text_and_equal_exactly_where_the_words_are(texts, length):
    found = words(pl.Series([" ".join(text) for text in texts], dtype=pl.String))
    grams = [tuple(text[i : i + length]) for text in texts for i in range(len(text) - length + 1)]
    hashes, first = found.windows(length)
    assert len(hashes) == len(grams)
    assert len(set(zip(hashes.tolist(), grams, strict=True))) == len(set(grams)) == len(set(hashes.tolist()))
    assert found.at(first, length).tolist() == hashes.tolist()


def test_hashes_do_not_depend_on_the_neighbours_or_on_the_run():
    alone, among = words(pl.Series(["two words"])), words(pl.Series(["before", "two words", "after"]))
    assert among.hashes[1:3].tolist() == alone.hashes.tolist()
    assert alone.hashes.tolist() == GOLDEN


@given(st.lists(st.text(), max_size=8))
def test_texts_folded_together_have_the_words_that_each_has_alone(texts):
    found = words(pl.Series(texts, dtype=pl.String))
    alone = [words(pl.Series([text], dtype=pl.String)) for text in texts]
    assert found.counts.tolist() == [one.hashes.size for one in alone]
    assert found.hashes.tolist() == [value for one in alone for value in one.hashes.tolist()]
    for text, count in zip(texts, found.counts.tolist(), strict=True):
        assert count == len(plain_words(text))


@given(st.text("aB 1-_.\u00a0\u00ab\u00bf\u00b7\u2003\u2013\u2019\u201c\u2026\u2028\u203f\u205f\u207d"))
def test_typographic_marks_blanked_in_place_give_what_the_unicode_rules_give(text):
    quick, slow = words(pl.Series([text])), words(fold(pl.Series([text])))
    assert quick.hashes.tolist() == slow.hashes.tolist()


def plain_words(text: str) -> list[str]:
    """The words by the slow path alone, which knows every letter."""
    folded = re.sub(r"[^a-z0-9\x80-\U0010ffff]", " ", fold(pl.Series([text]))[0].lower())
    return [word for word in folded.split(" ") if word]


@given(st.lists(st.text("ab", min_size=1, max_size=90), min_size=2, max_size=6))
def test_words_of_any_length_have_the_same_hash_exactly_where_they_are_the_same(found):
    hashes = words(pl.Series([" ".join(found)])).hashes.tolist()
    assert len(hashes) == len(found)
    assert len(set(hashes)) == len(set(found))


def test_work_in_threads_comes_back_in_order_and_an_error_comes_through(monkeypatch):
    monkeypatch.setattr(pl, "thread_pool_size", lambda: 4)
    assert in_threads(lambda job: job * job, list(range(100))) == [job * job for job in range(100)]
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda job: 1 / job, [1, 0, 2])


def test_blocks_give_every_text_once_in_order():
    texts = pl.Series(["x" * 400_000] * 7 + [""])
    found = list(blocks(texts))
    assert len(found) > 1
    assert pl.concat([block for _, block in found]).equals(texts)
    assert [start for start, _ in found] == [sum(len(b) for _, b in found[:i]) for i in range(len(found))]


#: Hashes of "two" and "words", written down once: another library version must not change clusters.
GOLDEN = [5394319235754750459, 12319273658839880385]
