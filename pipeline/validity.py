"""What makes a conversation unusable, by name: the rules that every source shares.

They follow the filter of RLHFlow's standard sets (same context, strict alternation, no empty turn,
answers differ), except that system messages and multi-turn prompts are kept.
"""

from collections.abc import Mapping

import polars as pl

#: Roles of a prompt and of a conversation, joined by commas.
PROMPT_ROLES = r"^(system,)?user(,assistant,user)*$"
CONVERSATION_ROLES = r"^(system,)?user,assistant(,user,assistant)*$"


def field(column: str, name: str) -> pl.Expr:
    """One field of every message."""
    return pl.col(column).list.eval(pl.element().struct.field(name))


def blank_turn(column: str) -> pl.Expr:
    """True where a message is empty or white space."""
    return field(column, "content").list.eval(pl.element().str.strip_chars() == "").list.any()


def unknown_role(column: str) -> pl.Expr:
    """True where a message is not by system, user or assistant."""
    return (
        field(column, "role").list.eval(pl.element().is_in(["system", "user", "assistant"]).not_()).list.any()
    )


def roles(column: str) -> pl.Expr:
    """The roles of a conversation as text, such as "system,user"."""
    return field(column, "role").list.join(",")


def prompt_reasons(column: str) -> Mapping[str, pl.Expr]:
    """Why a prompt is not one."""
    return {
        "no prompt": pl.col(column).list.len() == 0,
        "unknown role": unknown_role(column),
        "empty turn": blank_turn(column),
        "prompt does not end with a user turn": roles(column).str.contains(r"(^|,)user$").not_(),
        "turns do not alternate": roles(column).str.contains(PROMPT_ROLES).not_(),
    }


ANSWER_REASONS = {
    "empty chosen answer": blank_turn("chosen"),
    "empty rejected answer": blank_turn("rejected"),
}

#: Reasons per kind of table, in the order in which the first one that holds is named.
REASONS: Mapping[str, Mapping[str, pl.Expr]] = {
    "preferences": {
        **prompt_reasons("prompt"),
        **ANSWER_REASONS,
        "identical answers": pl.col("chosen") == pl.col("rejected"),
    },
    "judge_sets": {**prompt_reasons("prompt"), **ANSWER_REASONS},
    "prompts": prompt_reasons("prompt"),
    "demonstrations": {
        "no turns": pl.col("messages").list.len() == 0,
        "unknown role": unknown_role("messages"),
        "empty turn": blank_turn("messages"),
        "does not start with a user turn": roles("messages").str.contains(r"^(system,)?user").not_(),
        "does not end with an assistant turn": roles("messages").str.contains(r"(^|,)assistant$").not_(),
        "turns do not alternate": roles("messages").str.contains(CONVERSATION_ROLES).not_(),
    },
    "benchmarks": {"empty text": pl.col("text").str.strip_chars() == ""},
}
