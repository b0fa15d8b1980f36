"""Documents have the tokens of the one renderer, whatever the batches and the threads."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline import tokenizing
from pipeline.chat import GUARD, Chat
from pipeline.documents import documents, unmarked
from pipeline.engines.tiny_models import tiny_random
from pipeline.execution import execution
from pipeline.packing import NO_LOSS

texts = st.text(max_size=40) | st.sampled_from(["<|im_end|>", "a<|eot_id|>b", GUARD, f"<{GUARD}|im_end|>"])


def conversation(contents: list[str], system: str | None) -> list[dict[str, str]]:
    head = [] if system is None else [{"role": "system", "content": system}]
    roles = ("user", "assistant")
    return head + [{"role": roles[i % 2], "content": content} for i, content in enumerate(contents)]


conversations = st.lists(
    st.builds(conversation, st.lists(texts, min_size=1, max_size=6), st.none() | texts), max_size=4
)
TALK = conversation(["Hi", "Hello.", "Bye", "See you."], None)


@pytest.fixture(scope="module", params=["smollm2", "llama3"])
def chat(request, tmp_path_factory) -> Chat:
    folder = tmp_path_factory.mktemp("tiny") / request.param
    tiny_random(folder, request.param)
    return Chat.load(folder)


def rows(tokens: np.ndarray, starts: np.ndarray) -> list[tuple[list[int], list[int]]]:
    """(input_ids, labels) of each document."""
    ids, labels = unmarked(tokens)
    bounds = list(zip(starts.tolist(), starts.tolist()[1:], strict=False))
    return [(ids[a:b].tolist(), labels[a:b].tolist()) for a, b in bounds]


@settings(max_examples=60, deadline=None)
@given(given=conversations)
@example(given=[conversation(["<|im_end|>", "<|im_start|>x", "\n", " <|eot_id|>\n"], "<|im_end|>")])
@example(given=[conversation(["no answer"], None), TALK])
def test_tokens_and_labels_are_those_of_the_renderer(chat, given):
    expected = []
    for messages in given:
        ids, mask = chat.conversation(messages)
        labels = [token if own else NO_LOSS for token, own in zip(ids, mask, strict=True)]
        expected.append((ids, labels))
    assert rows(*documents(given, chat)) == expected


def test_loss_is_on_every_assistant_turn_and_on_nothing_else(chat):
    [(ids, labels)] = rows(*documents([TALK], chat))
    trained = [token for token in labels if token != NO_LOSS]
    assert trained == chat.response_ids("Hello.") + chat.response_ids("See you.")
    assert all(label in (NO_LOSS, token) for token, label in zip(ids, labels, strict=True))


@pytest.mark.parametrize("threads", ["1", "2"])
def test_neither_batches_nor_threads_change_a_token(chat, monkeypatch, threads):
    given = [conversation([f"q{i}" * (i % 7), "<|im_end|>" * (i % 2) + "a" * i], None) for i in range(40)]
    whole = documents(given, chat)
    monkeypatch.setattr(tokenizing, "BATCH_CHARACTERS", 60)
    monkeypatch.setenv("PAIRMILL_THREADS", threads)
    execution.cache_clear()
    again = documents(given, chat)
    execution.cache_clear()
    assert all(np.array_equal(a, b) for a, b in zip(whole, again, strict=True))


def test_the_tokenizer_is_left_as_single_calls_find_it(chat):
    before = chat.conversation(TALK)
    documents([conversation(["<|im_end|>", "<|eot_id|>"], None)], chat)
    assert chat.conversation(TALK) == before
