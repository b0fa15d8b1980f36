"""Finding n-grams by their hashes, against plain Python."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.grams import Filter, Grams, covered, repeats, rows_of_equal

HASHES = st.lists(st.integers(0, 2**64 - 1), max_size=50)


@given(HASHES, HASHES)
def test_all_that_a_filter_was_made_of_passes_it(inside, others):
    made_of = np.array(inside, dtype=np.uint64)
    asked = np.array(inside + others, dtype=np.uint64)
    assert set(range(len(inside))) <= set(Filter.of(made_of).passing(asked).tolist())


@given(st.lists(st.integers(0, 5), max_size=30), st.lists(st.integers(0, 5), max_size=10))
def test_grams_are_found_at_every_place_and_others_nowhere(known, asked):
    hashes = np.array(known, dtype=np.uint64)
    grams = Grams.of(hashes, np.arange(len(known)), np.arange(len(known)) * 2)
    which, item, position = grams.find(np.array(asked, dtype=np.uint64))
    expected = [
        (i, j, 2 * j) for i, wanted in enumerate(asked) for j, have in enumerate(known) if have == wanted
    ]
    assert sorted(zip(which.tolist(), item.tolist(), position.tolist(), strict=True)) == expected


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=30))
def test_rows_of_equal_values_are_counted_once(pairs):
    pairs = sorted(pairs, key=lambda pair: pair[1])
    values, rows = np.array([p[0] for p in pairs], np.uint64), np.array([p[1] for p in pairs], np.int64)
    expected = [len({row for other, row in pairs if other == value}) for value, _ in pairs]
    assert rows_of_equal(values, rows).tolist() == expected


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 6)), max_size=8))
def test_words_are_covered_where_a_stretch_holds_them(stretches):
    first, size = (np.array([pair[i] for pair in stretches], dtype=np.int64) for i in (0, 1))
    inside = {word for start, length in stretches for word in range(start, start + length)}
    assert np.flatnonzero(covered(first, size, 26)).tolist() == sorted(inside)


def test_a_gram_repeats_one_of_the_four_before_it_in_its_own_text():
    grams = np.array([5, 5, 1, 2, 3, 4, 1, 1, 9], dtype=np.uint64)
    starts = np.array([0, 0, 0, 0, 0, 0, 0, 7, 7])
    again = repeats(grams, np.arange(9), starts)
    assert np.flatnonzero(again).tolist() == [1, 6]
