"""Content-hash identities and the seeds that come from them.

An id names what a row says, never where it stands: it survives reordering, reruns, machines
and worker counts. Seeds come from ids, so that adding a row does not change another's sample.
`id_columns` makes the same ids of texts, conversations and pairs for whole columns.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

CHUNK = 1 << 20
#: Hex digits of an id: 64 bits, so that among ten million texts two share one with a chance of 3e-6.
DIGITS = 16


def content_id(*parts: object) -> str:
    """16 hex digits of the canonical JSON of `parts` (strings, numbers, lists, mappings)."""
    canonical = json.dumps(parts, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return hashlib.blake2b(canonical.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def text_id(text: str) -> str:
    """The id of a text, such as an answer: the first 16 hex digits of its sha256."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS]


def conversation_id(messages: Sequence[Mapping[str, str]]) -> str:
    """The id of a conversation: of its roles and contents, in order, each with its length in bytes."""
    turns = [f"{m['role']} {byte_length(m['content'])}\n{m['content']}\n" for m in messages]
    return text_id("".join(turns))


def byte_length(text: str) -> int:
    """The length of a text in UTF-8."""
    return len(text.encode("utf-8", "surrogatepass"))


def prompt_id(messages: Sequence[Mapping[str, str]]) -> str:
    """The id of a prompt: of all turns before the answer, system message included."""
    return conversation_id(messages)


def answer_id(messages: Sequence[Mapping[str, str]]) -> str:
    """The id of an answer, which is one assistant message: of its text."""
    (message,) = messages
    return text_id(message["content"])


def pair_id(
    prompt: Sequence[Mapping[str, str]],
    chosen: Sequence[Mapping[str, str]],
    rejected: Sequence[Mapping[str, str]],
) -> str:
    """The id of a preference: of the ids of prompt, chosen and rejected, in this order."""
    return text_id(prompt_id(prompt) + answer_id(chosen) + answer_id(rejected))


def seed_for(*parts: object) -> int:
    """A seed in [0, 2**31) that depends on `parts` alone."""
    return int(content_id("seed", *parts), 16) % (1 << 31)


def digest_file(path: Path) -> str:
    """sha256 of a file, as 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def digest_folder(folder: Path, file_digest: Callable[[Path], str] = digest_file) -> str:
    """sha256 over the relative names and bytes of all files below `folder`, as 64 hex digits."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{file_digest(path)}\n".encode())
    return digest.hexdigest()
