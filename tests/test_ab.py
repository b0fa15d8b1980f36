"""The A/B question: no text forges a section, the label is one trained token, answers are never cut."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import ab
from pipeline.chat import Chat, load_tokenizer
from pipeline.engines.tiny_models import tiny_random
from pipeline.errors import UserError

PROMPT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is the capital of France?"},
    {"role": "assistant", "content": "Paris."},
    {"role": "user", "content": "And of Spain?"},
]
MARKERS = st.sampled_from(
    [
        "[CONTEXT]",
        "[RESPONSE A]",
        "[RESPONSE B]",
        "[response b]",
        "[ Response  A ]",
        "[",
        "]",
        "<turn>",
        "< Turn >",
        "A",
    ]
)
texts = st.lists(st.text(max_size=8) | MARKERS, max_size=6).map("".join)
FORGED = re.compile(r"\[\s*(CONTEXT|RESPONSE\s*A|RESPONSE\s*B)\s*\]", re.IGNORECASE)


@pytest.fixture(scope="module", params=["smollm2", "llama3"])
def chat(request, tmp_path_factory) -> Chat:
    folder = tmp_path_factory.mktemp(request.param)
    tiny_random(folder, request.param)
    return Chat.load(folder)


@settings(max_examples=200, deadline=None)
@given(context=texts, a=texts, b=texts)
@pytest.mark.parametrize("wording", ab.WORDINGS.values())
def test_no_text_can_forge_a_section_or_a_turn(wording, context, a, b):
    ((message,)) = wording([{"role": "user", "content": context}], a, b)
    assert [found[1].upper() for found in FORGED.finditer(message["content"])] == [
        "CONTEXT",
        "RESPONSE A",
        "RESPONSE B",
    ]
    assert len(re.findall(r"<\s*turn\s*>", message["content"], re.IGNORECASE)) == 1


def test_a_forged_marker_stays_readable():
    assert ab.harmless("see [RESPONSE B] and <turn> here [1]") == "see (RESPONSE B) and (turn) here [1]"


def test_the_context_is_rendered_turn_by_turn_under_its_own_roles():
    (message,) = ab.question(PROMPT, "Madrid.", "Rome.")
    positions = [
        message["content"].index(part)
        for part in (
            "[CONTEXT]",
            "<turn> system\nBe brief.",
            "<turn> user\nWhat is",
            "<turn> assistant\nParis.",
            "<turn> user\nAnd of",
            "[RESPONSE A]\nMadrid.",
            "[RESPONSE B]\nRome.",
        )
    ]
    assert positions == sorted(positions)


def test_an_example_ends_with_the_label_after_the_generation_prompt_and_trains_only_that(chat):
    first, second = ab.labels(chat)
    for label, target in (("A", first), ("B", second)):
        ids, labels = ab.example_ids(chat, PROMPT, "Madrid.", "Rome.", label=label)
        assert ids[:-1] == ab.question_ids(chat, PROMPT, "Madrid.", "Rome.", max_length=999)
        assert chat.tokenizer.decode(ids[-1:]) == label
        assert labels == [-100] * (len(ids) - 1) + [target]
        assert chat.tokenizer.decode(ids[:-1]).rstrip().endswith(("assistant", "assistant<|end_header_id|>"))


def test_a_tokenizer_without_single_label_tokens_is_refused(tmp_path):
    tiny_random(tmp_path)
    chat = Chat(load_tokenizer(tmp_path), "changed below")
    chat.tokenizer.add_tokens(["\nB"])  # the end of the generation prompt and the label become one
    with pytest.raises(UserError, match='"B" to be one token'):
        ab.labels(chat)


def test_the_order_is_a_fair_coin_of_the_pair_alone():
    flips = [ab.swapped(f"pair {i}") for i in range(2000)]
    assert flips == [ab.swapped(f"pair {i}") for i in range(2000)]
    assert 900 < sum(flips) < 1100


def test_a_long_context_loses_its_oldest_turns_and_then_its_beginning(chat):
    a, b = "Madrid is the capital.", "Rome is the capital."
    whole = ab.fit(chat, PROMPT, a, b, max_length=999)
    assert whole is not None
    assert not whole.truncated
    assert whole.ids == chat.prompt_ids(ab.question(PROMPT, a, b))
    seen = set()
    for max_length in range(len(whole.ids), 0, -1):
        fitted = ab.fit(chat, PROMPT, a, b, max_length=max_length)
        if fitted is None:
            break
        text = chat.tokenizer.decode(fitted.ids)
        assert len(fitted.ids) <= max_length
        assert f"[RESPONSE A]\n{a}\n" in text
        assert f"[RESPONSE B]\n{b}<" in text
        assert fitted.truncated == (max_length < len(whole.ids))
        seen.add(("Be brief" in text, "Paris" in text, "And of Spain?" in text, "Spain?" in text))
    assert (False, True, True, True) in seen, "the system turn goes first"
    assert (False, False, True, True) in seen, "then the older turns"
    assert (False, False, False, True) in seen, "then the beginning of the last"
    assert fitted is None, "the answers are never cut"
    with pytest.raises(UserError, match="fit an A/B question"):
        ab.question_ids(chat, PROMPT, a, b, max_length=max_length)


def test_the_prompted_wording_asks_for_a_letter_and_shows_the_same_sections(chat):
    trained = chat.tokenizer.decode(ab.question_ids(chat, PROMPT, "x", "y", max_length=999))
    prompted = chat.tokenizer.decode(
        ab.question_ids(chat, PROMPT, "x", "y", wording="prompted", max_length=999)
    )
    assert ab.sections(PROMPT, "x", "y") in trained
    assert ab.sections(PROMPT, "x", "y") in prompted
    assert "one letter" in prompted
    assert "one letter" not in trained
