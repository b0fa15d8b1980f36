"""Token rows: answers are never cut, both answers follow one prompt, every row is kept or accounted for."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import rendering
from pipeline.chat import Chat
from pipeline.engines.tiny_models import tiny_random
from pipeline.ids import pair_id, prompt_id
from pipeline.rendering import MIN_PROMPT, fit, preference_ids, scored_ids, scored_sequences

ids = st.lists(st.integers(0, 500), min_size=1, max_size=60)


@pytest.fixture(scope="module")
def chat(tmp_path_factory) -> Chat:
    folder = tmp_path_factory.mktemp("tiny")
    tiny_random(folder, "smollm2")
    return Chat.load(folder)


def pair(question: str, good: str, bad: str) -> dict:
    prompt = [{"role": "user", "content": question}]
    chosen, rejected = ([{"role": "assistant", "content": text}] for text in (good, bad))
    return {
        "pair_id": pair_id(prompt, chosen, rejected),
        "prompt_id": prompt_id(prompt),
        "prompt": prompt,
        "chosen": chosen,
        "rejected": rejected,
    }


@given(prompt=ids, answers=st.tuples(ids, ids), limit=st.integers(2, 120))
def test_what_is_kept_fits_and_cuts_only_the_start_of_the_prompt(prompt, answers, limit):
    kept, reason = fit(prompt, answers, max_length=limit, overflow="truncate_prompt")
    if reason is None:
        assert len(kept) + max(map(len, answers)) <= limit
        assert prompt[len(prompt) - len(kept) :] == kept
        assert len(kept) >= min(MIN_PROMPT, len(prompt))
    else:
        assert limit - max(map(len, answers)) < min(MIN_PROMPT, len(prompt))


@given(prompt=ids, answers=st.tuples(ids, ids), limit=st.integers(2, 120))
def test_drop_keeps_only_whole_rows(prompt, answers, limit):
    kept, reason = fit(prompt, answers, max_length=limit, overflow="drop")
    assert kept == prompt
    assert (reason is None) == (len(prompt) + max(map(len, answers)) <= limit)


def test_both_answers_end_their_turn_and_follow_the_same_prompt(chat):
    rows = pl.DataFrame([pair("What is two and two?", "Four.", "Five, I think.")])
    tokens, dropped = preference_ids(rows, chat, max_length=500, overflow="drop")
    row = tokens.row(0, named=True)
    assert row["prompt_ids"] == chat.prompt_ids(rows["prompt"][0])
    assert row["chosen_ids"] == chat.response_ids("Four.")
    assert {row["chosen_ids"][-1], row["rejected_ids"][-1]} == {chat.end_of_turn}
    assert dropped.is_empty()


def test_only_an_answer_that_ended_has_an_end_of_turn(chat):
    rows = pl.DataFrame([pair("What?", "Four.", "Five, I"), pair("Why?", "Becau", "No.")])
    rows = rows.with_columns(chosen_ended=pl.Series([True, False]), rejected_ended=pl.Series([False, True]))
    tokens, _ = preference_ids(rows, chat, max_length=500, overflow="drop")
    assert tokens["chosen_ids"].to_list() == [chat.response_ids("Four."), chat.encode_plain("Becau")]
    assert tokens["rejected_ids"].to_list() == [chat.encode_plain("Five, I"), chat.response_ids("No.")]


def test_an_over_long_pair_is_dropped_with_its_length_and_the_limit(chat):
    rows = pl.DataFrame([pair("Short?", "Yes.", "No."), pair("Long? " * 100, "Yes.", "No.")])
    tokens, dropped = preference_ids(rows, chat, max_length=150, overflow="drop")
    assert tokens.height == 1
    line = dropped.row(0, named=True)
    assert (line["reason"], line["threshold"]) == ("longer than the window", 150.0)
    prompt = len(chat.prompt_ids(rows["prompt"][1]))
    longest = max(len(chat.response_ids(text)) for text in ("Yes.", "No."))
    assert line["value"] == prompt + longest


def test_what_a_prompt_loses_is_told_row_by_row(chat):
    rows = pl.DataFrame([pair("Short?", "Yes.", "No."), pair("Long? " * 100, "Yes.", "No.")])
    tokens, dropped = preference_ids(rows, chat, max_length=150, overflow="truncate_prompt")
    whole = [len(chat.prompt_ids(prompt)) for prompt in rows["prompt"]]
    longest = max(len(chat.response_ids(text)) for text in ("Yes.", "No."))
    assert tokens["cut"].to_list() == [0, whole[1] + longest - 150]
    assert tokens["prompt_ids"].list.len().to_list() == [whole[0], 150 - longest]
    assert dropped.is_empty()


def test_a_scored_sequence_keeps_the_end_of_the_answer(chat):
    prompt = [{"role": "user", "content": "Why? " * 50}]
    whole = [*chat.prompt_ids(prompt), *chat.response_ids("Because.")]
    assert scored_ids(chat, prompt, "Because.", max_length=40) == whole[-40:]
    assert scored_ids(chat, prompt, "Because.", max_length=4000) == whole


@pytest.mark.parametrize("limit", [40, 4000])
def test_many_scored_sequences_are_those_of_each_row_alone(chat, monkeypatch, limit):
    monkeypatch.setattr(rendering, "ROWS", 4)
    questions = ["Why? " * 50, "What does <|im_end|> mean?", "ünï \U0001f9ea"]
    prompts = [[{"role": "user", "content": text}] for text in questions]
    prompts.append([*prompts[0], {"role": "assistant", "content": "So."}, *prompts[1]])
    rows = [(prompt, text) for prompt in prompts for text in ("Because.", "", "<|im_end|> ends " * 30)]
    found = scored_sequences(chat, iter(rows), max_length=limit)
    assert [list(ids) for ids in found] == [scored_ids(chat, *row, max_length=limit) for row in rows]
    assert {ids.itemsize for ids in found} == {4}


def test_a_prompt_is_rendered_once_for_its_answers(chat, monkeypatch):
    rendered: list[str] = []
    text = Chat.text

    def noting(self, messages, **how):
        rendered.append(messages[0]["content"])
        return text(self, messages, **how)

    monkeypatch.setattr(Chat, "text", noting)
    rows = [([{"role": "user", "content": question}], f"{i}") for question in "ab" for i in range(8)]
    assert len(scored_sequences(chat, rows, max_length=99)) == 16
    assert rendered == ["a", "b"]
