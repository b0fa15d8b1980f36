"""A mix in numbers: tokens by a real tokenizer, each text once, and no more of it in memory than a part."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import ab, tables
from pipeline.chat import Chat
from pipeline.ids import prompt_id, text_id
from pipeline.pair_lengths import first_seen, pair_lengths, side_keys, text_lengths
from pipeline.schemas import MIX
from tests.stages.mix_folders import write_mix
from tests.stages.preference_rows import preference, user

words = st.lists(
    st.sampled_from(["owl", "sees", "the", "\u00e9t\u00e9", "<|im_end|>", "12"]), min_size=1, max_size=4
)
texts = words.map(" ".join)
pairs_of_texts = st.lists(
    st.tuples(texts, texts, texts).filter(lambda said: said[1] != said[2]), min_size=1, max_size=12
)


def rows(said: list[tuple[str, str, str]]) -> list[dict]:
    return [preference(i, *three) for i, three in enumerate(said)]


@settings(max_examples=30, deadline=None)
@given(train=pairs_of_texts, test=pairs_of_texts)
def test_lengths_are_those_of_the_renderers_plain_text(tiny_model, tmp_path_factory, train, test):
    mix = write_mix(tmp_path_factory.mktemp("mix"), rows(train), rows(test))
    measured, chat = pair_lengths(mix, tiny_model), Chat.load(tiny_model)
    assert measured["test"].to_list() == [False] * len(train) + [True] * len(test)
    for found, said in zip(measured.iter_rows(named=True), [*train, *test], strict=True):
        for side, text in zip(("prompt", "chosen", "rejected"), said, strict=True):
            assert found[f"{side}_tokens"] == len(chat.encode_plain(text))
            assert found[f"{side}_chars"] == len(text)


def test_a_prompt_is_as_long_as_its_messages_together(tiny_model, tmp_path):
    turns = [{"role": "user", "content": "one two"}, {"role": "assistant", "content": "three"}] * 2
    row = preference(0, "x", "y", "z") | {"prompt": [*turns, {"role": "user", "content": "four"}]}
    measured, chat = pair_lengths(write_mix(tmp_path, [row]), tiny_model), Chat.load(tiny_model)
    expected = 2 * len(chat.encode_plain("one two")) + 2 * len(chat.encode_plain("three"))
    assert measured["prompt_tokens"].item() == expected + len(chat.encode_plain("four"))
    assert measured["prompt_chars"].item() == 2 * 7 + 2 * 5 + 4


@given(pairs_of_texts)
@settings(max_examples=30, deadline=None)
def test_each_distinct_text_is_measured_at_one_place(tmp_path_factory, said):
    mix = write_mix(tmp_path_factory.mktemp("mix"), rows(said), rows(said[:3]))
    keys = pl.concat([part for side in ("train", "test") for part in side_keys(mix, side)])
    first = first_seen(keys)
    assert first["prompt"].sum() == len({prompt for prompt, _, _ in said})
    assert first["chosen"].sum() + first["rejected"].sum() == len(
        {text for _, *both in said for text in both}
    )


def test_each_distinct_text_is_tokenised_once_however_often_it_is_used(tiny_model, tmp_path):
    said = [(f"question {i % 7}", f"answer {i % 5}", f"answer {5 + i % 3}") for i in range(200)]
    mix = write_mix(tmp_path, rows(said[:150]), rows(said[150:]))
    keys = pl.concat([part for side in ("train", "test") for part in side_keys(mix, side)])
    counted = pl.concat(text_lengths(mix, first_seen(keys), tiny_model))
    prompts = {prompt_id(user(prompt)) for prompt, _, _ in said}
    answers = {text_id(text) for _, *both in said for text in both}
    assert sorted(counted["id"]) == sorted(int(identity, 16) for identity in prompts | answers)


def test_parts_of_a_table_give_the_figures_of_the_whole(tiny_model, tmp_path, monkeypatch):
    said = [(f"question {i % 7}", f"answer {i % 5}", f"no {i % 3}") for i in range(60)]
    mix = write_mix(tmp_path, rows(said[:45]), rows(said[45:]))
    whole = pair_lengths(mix, tiny_model)
    batches = tables.batches

    def small(table, path, columns=None):
        for part in batches(table, path, columns):
            yield from part.iter_slices(7)

    monkeypatch.setattr(tables, "batches", small)
    assert pair_lengths(mix, tiny_model).equals(whole)


def test_chosen_is_first_where_the_pairwise_model_reads_it_first(tiny_model, tmp_path):
    mix = write_mix(tmp_path, rows([(f"q{i}", "yes", "no") for i in range(40)]))
    pairs = tables.read(MIX, mix / "train.parquet")["pair_id"]
    first = pair_lengths(mix, tiny_model)["chosen_first"]
    assert first.to_list() == [not ab.swapped(pair) for pair in pairs]
    assert 0 < first.sum() < 40


def test_an_answer_that_quotes_the_canonical_text_of_a_prompt_has_its_own_length(tiny_model, tmp_path):
    quoted = "user 2\nhi\n"
    assert text_id(quoted) == prompt_id(user("hi"))
    measured = pair_lengths(write_mix(tmp_path, rows([("hi", quoted, "no")])), tiny_model)
    assert measured.select("prompt_chars", "chosen_chars").row(0) == (2, len(quoted))


def test_a_mix_without_a_test_side_is_measured(tiny_model, tmp_path):
    assert pair_lengths(write_mix(tmp_path, rows([("q", "a", "b")])), tiny_model).height == 1


@pytest.mark.parametrize("column", ["prompt_tokens", "chosen_chars", "rejected_tokens"])
def test_no_length_is_missing(tiny_model, tmp_path, column):
    mix = write_mix(tmp_path, rows([("q", "a", "b"), ("q", "b", "a")]), rows([("r", "c", "a")]))
    assert pair_lengths(mix, tiny_model)[column].null_count() == 0
