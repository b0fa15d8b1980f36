"""Conversations as upstream writes them, brought to lists of {role, content}.

Three forms: message lists (`role`, `content`), ShareGPT's (`from`, `value`) and Anthropic's
transcripts. None of these functions judges a conversation: that is the work of the validity rules.
"""

import re

import polars as pl
from pydantic import Field

from pipeline.items import Conversation, Drop, Shape

#: Names of speakers in ShareGPT-like data (roles seen in ShareGPT, WizardLM, SlimOrca, UltraInteract).
ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "assistant": "assistant",
    "system": "system",
}

#: What `str.strip` takes away; Polars' own default leaves four control characters. None is beyond U+3000.
WHITE_SPACE = "".join(filter(str.isspace, map(chr, range(0x3001))))

TRANSCRIPT_TURN = re.compile(r"\n\n(Human|Assistant):")
NEMO_TURN = re.compile(r"\n?<extra_id_1>(User|Assistant)\n")


class Message(Shape):
    """A turn in the form that chat templates take."""

    role: str
    content: str


class Turn(Shape):
    """A turn in ShareGPT's form."""

    speaker: str = Field(alias="from")
    value: str


def from_messages(messages: list[Message]) -> Conversation:
    """A message list, without other columns."""
    return [{"role": message.role, "content": message.content} for message in messages]


def from_turns(turns: list[Turn]) -> Conversation:
    """ShareGPT turns; a speaker that is not known keeps its name, which the validity rules then name."""
    return [
        {"role": ROLES.get(turn.speaker.lower(), turn.speaker), "content": turn.value}
        for turn in turns
        if turn.speaker != "system" or turn.value.strip()
    ]


def from_transcript(text: str) -> Conversation | None:
    """A transcript "\\n\\nHuman: ...\\n\\nAssistant: ..."; None where text stands before the first turn."""
    before, *parts = TRANSCRIPT_TURN.split(text)
    if before.strip() or not parts:
        return None
    return turns_of(parts)


def from_nemo(text: str) -> Conversation:
    """A HelpSteer2 prompt: a user turn; later ones follow `<extra_id_1>User` or `Assistant` lines."""
    return turns_of(["User", *NEMO_TURN.split(text)])


def turns_of(parts: list[str]) -> Conversation:
    """Turns of alternating speakers and texts."""
    speakers, texts = parts[::2], parts[1::2]
    return [
        {"role": ROLES[name.lower()], "content": text.strip()}
        for name, text in zip(speakers, texts, strict=True)
    ]


def split_pair(chosen: Conversation, rejected: Conversation) -> tuple[Conversation, str, str] | Drop:
    """The shared prompt and the two last turns, or why two conversations are no pair."""
    if not chosen or not rejected or chosen[-1]["role"] != "assistant" or rejected[-1]["role"] != "assistant":
        return Drop("no answer", detail="a conversation does not end with an assistant turn")
    if chosen[:-1] != rejected[:-1]:
        return Drop("contexts differ")
    return chosen[:-1], chosen[-1]["content"], rejected[-1]["content"]


def one_message(role: str, content: pl.Expr) -> pl.Expr:
    """A conversation of one message per text."""
    message = pl.struct(role=pl.lit(role), content=content)
    return message.reshape((-1, 1)).arr.to_list()
