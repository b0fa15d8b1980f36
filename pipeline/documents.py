"""Conversations as documents for packing: their tokens, marked where an assistant wrote them.

The tokens are those of `Chat.conversation`, which renders; they are encoded many turns at a time, with the
threads of the execution settings.

A token with a loss stands as itself; one without as its bitwise complement, a negative number. One array
then holds tokens and labels, which halves what is spilled to disk.
"""

from collections.abc import Sequence
from itertools import chain

import numpy as np

from pipeline.chat import Chat, Messages
from pipeline.packing import NO_LOSS
from pipeline.pieces import offsets
from pipeline.tokenizing import batches, encoded, threads


def documents(conversations: Sequence[Messages], chat: Chat) -> tuple[np.ndarray, np.ndarray]:
    """Marked tokens (Int32) of all conversations, and where each starts, with the end of the last.

    A conversation without an answer has no tokens, and one ends with its last answer.
    """
    turns = [list(chat.turns(messages)) for messages in conversations]
    openings, answers = [], []
    for opening, answer in chain.from_iterable(turns):
        openings.append(opening)
        answers.append(answer)
    texts = [len(opening) + len(answer) for opening, answer in zip(openings, answers, strict=True)]
    with threads():
        done = [marked(openings[part], answers[part], chat) for part in batches(texts)]
    tokens = np.concatenate([np.empty(0, np.int32), *(tokens for tokens, _ in done)])
    ends = offsets(np.concatenate([np.empty(0, np.int64), *(sizes for _, sizes in done)]))
    return tokens, ends[offsets(np.array([len(own) for own in turns], np.int64))]


def marked(openings: Sequence[str], answers: Sequence[str], chat: Chat) -> tuple[np.ndarray, np.ndarray]:
    """Marked tokens of some turns, and how many each has."""
    before = encoded(openings, chat, plain=False)
    own = [[*ids, chat.end_of_turn] for ids in encoded(answers, chat, plain=True)]
    parts = list(chain.from_iterable(zip(before, own, strict=True)))
    sizes = np.array([len(part) for part in parts], np.int64)
    tokens = np.fromiter(chain.from_iterable(parts), np.int32, sizes.sum())
    silent = np.repeat(np.arange(len(parts)) % 2 == 0, sizes)
    np.invert(tokens, out=tokens, where=silent)
    return tokens, sizes.reshape(-1, 2).sum(axis=1)


def unmarked(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Token ids and labels (NO_LOSS where there is no loss) of marked tokens."""
    return np.where(tokens < 0, ~tokens, tokens), np.where(tokens < 0, np.int32(NO_LOSS), tokens)
