"""A key says what is asked, a set says what computes, and nothing else is part of either."""

import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cells import VALUES, Cells, sample_key, sequence_key, tokens_digest

TOKENS = st.lists(st.integers(0, 2**32 - 1), max_size=8)
IDENTITY = (("weights", "w1"), ("tokenizer", "t1"), ("engine", "fake"), ("dtype", "float32"))


def test_a_key_keeps_its_value_for_ever():
    # A change of these would make every stored row unknown.
    prompt = tokens_digest([1, 2, 3])
    assert sample_key(prompt, 0.7, 11) == "11422beec322e97944b075f8acac9d01"
    assert sequence_key([1, 2, 3]) == "737f56efe890f149e5df01844ff913f3"
    assert sequence_key([1, 2], [3]) == "ae29163e3452303d55f0df7b040106f1"
    assert Cells("score", IDENTITY).name == "score/cef5b219fd48c3e98f589e29da88cb57"


@given(st.lists(st.tuples(TOKENS, st.floats(0, 4), st.integers(0, 2**62)), min_size=2, max_size=6))
def test_two_samples_share_a_key_only_if_they_are_the_same_ask(asks):
    keys = {sample_key(tokens_digest(ids), temperature, seed) for ids, temperature, seed in asks}
    assert len(keys) == len({(tuple(ids), temperature, seed) for ids, temperature, seed in asks})


@given(st.lists(st.lists(TOKENS, min_size=1, max_size=3), min_size=2, max_size=6))
def test_token_sequences_share_a_key_only_if_they_are_cut_at_the_same_places(asks):
    keys = {sequence_key(*sequences) for sequences in asks}
    assert len(keys) == len({tuple(map(tuple, sequences)) for sequences in asks})


@pytest.mark.parametrize("place", range(len(IDENTITY)))
def test_whatever_computes_differently_has_a_set_of_its_own(place):
    name, _ = IDENTITY[place]
    other = (*IDENTITY[:place], (name, "another"), *IDENTITY[place + 1 :])
    assert Cells("score", other).name != Cells("score", IDENTITY).name


def test_the_order_in_which_an_identity_is_told_is_no_part_of_it():
    assert Cells("score", IDENTITY[::-1]).name == Cells("score", IDENTITY).name


def test_sets_of_two_kinds_lie_in_two_folders_though_one_model_computes_them():
    kinds = {Cells(kind, IDENTITY).name.partition("/")[0] for kind in VALUES}
    assert kinds == set(VALUES)
    assert len({Cells(kind, IDENTITY).name.partition("/")[2] for kind in VALUES}) == len(VALUES)


def test_the_description_says_all_that_the_name_is_made_of():
    described = json.loads(Cells("prefer", (*IDENTITY, ("label_a", 32))).description)
    assert described == {"kind": "prefer", "label_a": 32, **dict(IDENTITY)}


@pytest.mark.parametrize("kind", VALUES)
def test_a_shard_has_the_key_and_the_value_columns_of_its_kind(kind):
    assert Cells(kind, ()).schema == pl.Schema({"key": pl.String, **VALUES[kind]})
