"""Words and n-grams: what is folded together, and that hashes are those of the words alone."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.words import blocks, words


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


def test_blocks_give_every_text_once_in_order():
    texts = pl.Series(["x" * 400_000] * 7 + [""])
    found = list(blocks(texts))
    assert len(found) > 1
    assert pl.concat([block for _, block in found]).equals(texts)
    assert [start for start, _ in found] == [sum(len(b) for _, b in found[:i]) for i in range(len(found))]


#: Hashes of "two" and "words", written down once: another library version must not change clusters.
GOLDEN = [16386054958063321873, 13929083227029822410]
