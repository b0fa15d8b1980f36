"""A model folder's tokenizer.json as the `tokenizers` library reads it: many texts at a time, no torch.

The same Rust code that transformers calls for each text, without its Python around it. Names of special
tokens inside a text are plain text, as in `Chat.encode_plain`; nothing is added before or after a text.
"""

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tokenizers import Tokenizer

from pipeline.chat import GUARD, Chat
from pipeline.errors import UserError
from pipeline.execution import execution

#: Characters given to the tokenizer at once: enough to keep its threads busy, and what bounds the memory
#: (an encoding costs about 100 bytes a token until it is read).
BATCH_CHARACTERS = 1 << 21


def plain_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a model folder, for text that users wrote; UserError where there is none."""
    path = folder / "tokenizer.json"
    if not path.exists():
        raise UserError(f"{folder}: expected a tokenizer (tokenizer.json), found none; make it: dvc repro")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise UserError(
            f"{path}: expected a tokenizer of the tokenizers library, found: {error}; mend: dvc repro"
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def batches(sizes: Sequence[int], limit: int | None = None) -> Iterator[slice]:
    """Slices of texts of these `sizes` with at most `limit` characters each; a longer text stands alone."""
    limit = limit or BATCH_CHARACTERS
    first, characters = 0, 0
    for at, size in enumerate(sizes):
        if at > first and characters + size > limit:
            yield slice(first, at)
            first, characters = at, 0
        characters += size
    if first < len(sizes):
        yield slice(first, len(sizes))


def encode(tokenizer: Tokenizer, texts: Sequence[str], *, plain: bool) -> list[list[int]]:
    """Token ids of each text alone; `plain`: names of special tokens are text in it."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = plain
    return [encoded.ids for encoded in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]


def encoded(texts: Sequence[str], chat: Chat, *, plain: bool) -> list[list[int]]:
    """`Chat.encode` of each text, or `Chat.encode_plain`."""
    one = chat.encode_plain if plain else chat.encode
    backend = getattr(chat.tokenizer, "backend_tokenizer", None)
    if backend is None:
        return [one(text) for text in texts]
    found = iter(encode(backend, [text for text in texts if plain or GUARD not in text], plain=plain))
    return [next(found) if plain or GUARD not in text else one(text) for text in texts]


@contextmanager
def threads() -> Generator[None]:
    """Let the tokenizer use the threads of the execution settings (0: all cores) in this block.

    Its pool has as many threads as at its first use. Outside, it stays with one: it warns at every fork.
    """
    count = execution().threads
    wanted = {"TOKENIZERS_PARALLELISM": "false" if count == 1 else "true"}
    if count:
        wanted["RAYON_NUM_THREADS"] = str(count)
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
