"""Pairs that ask a validation prompt: the same, one near it, or one that goes on from it."""

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dedup import NearDedup
from pipeline.held_out import held_out
from pipeline.ids import prompt_id
from tests.stages.preference_rows import assistant, preference, preferences, system, user

NEAR = NearDedup(threshold=0.8, shingle=1)
ASKED = "Which of the many owls that live in the old barn behind our house hunts at night?"
LONG = "Tell me of owls. " * 40
"""Long enough to be the opening of a conversation."""


def validation(*prompts: list[dict[str, str]]) -> pl.DataFrame:
    rows = [{"prompt_id": prompt_id(prompt), "prompt": prompt} for prompt in prompts]
    return pl.DataFrame(
        rows, schema=preferences(preference(0, "?", "a", "b")).select("prompt_id", "prompt").schema
    )


def kept(pairs: pl.DataFrame, measured: pl.DataFrame, near: NearDedup | None = NEAR) -> list[int]:
    """The numbers of the pairs that are left; the others have the reason."""
    left, out = held_out(pairs, measured, near)
    assert out["reason"].to_list() == ["validation prompt"] * out.height
    assert sorted([*left["row"], *out["row"]]) == sorted(pairs["row"])
    return left["row"].to_list()


def test_what_asks_a_validation_prompt_is_left_out_and_all_else_stays_in_its_order() -> None:
    pairs = preferences(
        preference(0, "How tall is an oak?", "good", "bad"),
        preference(1, ASKED, "good", "bad"),
        preference(2, ASKED, "better", "worse"),
        preference(3, ASKED.replace("the old barn", "that old barn"), "good", "bad"),
        preference(4, "Which owls are there?", "good", "bad"),
    )
    assert kept(pairs, validation(user(ASKED), user("What is a wren?"))) == [0, 4]


def test_without_a_rule_for_near_prompts_the_same_one_alone_counts() -> None:
    pairs = preferences(
        preference(1, ASKED, "good", "bad"),
        preference(3, ASKED.replace("the old barn", "that old barn"), "good", "bad"),
    )
    assert kept(pairs, validation(user(ASKED)), near=None) == [3]


def test_a_conversation_that_goes_on_from_a_validation_prompt_is_left_out_and_so_is_the_other_way() -> None:
    longer = [*user(LONG), *assistant("They fly."), *user("And how do they sing, of all that you know?")]
    first, later = preference(1, LONG, "good", "bad"), preference(2, longer, "good", "bad")
    assert kept(preferences(first, later), validation(user(LONG))) == []
    assert kept(preferences(first, later), validation(longer)) == []


def test_pairs_that_are_near_each_other_and_not_validation_stay() -> None:
    pairs = preferences(preference(0, ASKED, "a", "b"), preference(1, ASKED + " Tell!", "a", "b"))
    assert kept(pairs, validation(user("How tall is an oak?"))) == [0, 1]


def test_a_system_prompt_that_all_share_makes_no_family_of_unlike_questions() -> None:
    words = ["oak", "elm", "ash", "fir"]
    asked = [[*system("You answer in one word."), *user(f"{word} " * 3 + f"or {word}s?")] for word in words]
    pairs = preferences(*(preference(i, prompt, "good", "bad") for i, prompt in enumerate(asked)))
    assert kept(pairs, validation(asked[2])) == [0, 1, 3]


def test_what_is_near_to_a_near_prompt_is_of_the_family() -> None:
    words = ASKED.split()
    chain = [" ".join(["oak", "elm", "ash", "fir"][:i] + words[i:]) for i in range(4)]
    pairs = preferences(*(preference(i, prompt, "good", "bad") for i, prompt in enumerate(chain)))
    assert kept(pairs, validation(user(chain[0])), NearDedup(threshold=0.85, shingle=1)) == []


@given(
    pairs=st.lists(st.integers(0, 9), min_size=1, max_size=12),
    measured=st.sets(st.integers(0, 9), min_size=1),
)
def test_of_unlike_prompts_exactly_the_validation_ones_go(pairs: list[int], measured: set[int]) -> None:
    words = ["oak", "elm", "ash", "yew", "fir", "owl", "jay", "kite", "wren", "lark"]
    rows = preferences(*(preference(i, f"{words[n]} " * 5, f"{i}", "bad") for i, n in enumerate(pairs)))
    asked = validation(*(user(f"{words[n]} " * 5) for n in sorted(measured)))
    assert kept(rows, asked) == [i for i, n in enumerate(pairs) if n not in measured]
