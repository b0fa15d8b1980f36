"""The shared validity rules: each names its own defect, and leaves valid rows alone."""

import pytest

from pipeline import tables
from pipeline.item_tables import Entry, items_frame
from pipeline.items import Benchmark, Conversation, Demonstration, Item, Preference, Prompt
from pipeline.validity import REASONS


def turns(*roles: str, content: str = "x") -> Conversation:
    return [{"role": role, "content": content} for role in roles]


def reason(kind: str, item: Item) -> str | None:
    frame = items_frame(kind, [Entry(("s", "f", 0, 0), item)])
    kept, dropped = tables.sift(frame, REASONS[kind])
    assert kept.height + dropped.height == 1
    return dropped["reason"][0] if dropped.height else None


PROMPTS = [
    (turns("user"), None),
    (turns("system", "user"), None),
    (turns("system", "user", "assistant", "user"), None),
    ([], "no prompt"),
    (turns("tool", "user"), "unknown role"),
    (turns("user,assistant", "user"), "unknown role"),
    (turns("user", "assistant", "user", content=" \n"), "empty turn"),
    (turns("system"), "prompt does not end with a user turn"),
    (turns("user", "assistant"), "prompt does not end with a user turn"),
    (turns("user", "user"), "turns do not alternate"),
    (turns("assistant", "user"), "turns do not alternate"),
    (turns("user", "system", "user"), "turns do not alternate"),
]


@pytest.mark.parametrize(("prompt", "expected"), PROMPTS)
def test_a_defect_of_a_prompt_has_its_name_in_every_kind(prompt, expected):
    assert reason("prompts", Prompt(prompt)) == expected
    assert reason("preferences", Preference(prompt, "a", "b")) == expected
    assert reason("judge_sets", Preference(prompt, "a", "b", subset="s")) == expected


@pytest.mark.parametrize(
    ("chosen", "rejected", "expected"),
    [
        ("a", "b", None),
        (" ", "b", "empty chosen answer"),
        ("a", "", "empty rejected answer"),
        ("a", "a", "identical answers"),
        ("a", "a ", None),
    ],
)
def test_a_defect_of_an_answer_has_its_name(chosen, rejected, expected):
    assert reason("preferences", Preference(turns("user"), chosen, rejected)) == expected


def test_a_judge_set_may_hold_identical_answers_but_no_empty_ones():
    assert reason("judge_sets", Preference(turns("user"), "a", "a", subset="s")) is None
    assert reason("judge_sets", Preference(turns("user"), "", "a", subset="s")) == "empty chosen answer"


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        (turns("user", "assistant"), None),
        (turns("system", "user", "assistant", "user", "assistant"), None),
        ([], "no turns"),
        (turns("tool"), "unknown role"),
        (turns("user", "assistant", content=""), "empty turn"),
        (turns("assistant", "user", "assistant"), "does not start with a user turn"),
        (turns("user", "assistant", "user"), "does not end with an assistant turn"),
        (turns("user", "user", "assistant"), "turns do not alternate"),
    ],
)
def test_a_defect_of_a_demonstration_has_its_name(messages, expected):
    assert reason("demonstrations", Demonstration(messages)) == expected


def test_a_benchmark_text_is_not_blank():
    assert reason("benchmarks", Benchmark("x")) is None
    assert reason("benchmarks", Benchmark(" \n")) == "empty text"
