"""Content-hash identities and the seeds that come from them.

An id names what a row says, never where it stands: it survives reordering, reruns, machines
and worker counts. Seeds come from ids, so that adding a row does not change another's sample.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

CHUNK = 1 << 20


def content_id(*parts: object) -> str:
    """16 hex digits of the canonical JSON of `parts` (strings, numbers, lists, mappings)."""
    canonical = json.dumps(parts, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return hashlib.blake2b(canonical.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def messages_key(messages: Sequence[Mapping[str, str]]) -> list[list[str]]:
    """The part of a conversation that gives it identity: roles and contents, in order."""
    return [[message["role"], message["content"]] for message in messages]


def prompt_id(messages: Sequence[Mapping[str, str]]) -> str:
    """The id of a prompt: of all turns before the answer, system message included."""
    return content_id(messages_key(messages))


def pair_id(
    prompt: Sequence[Mapping[str, str]],
    chosen: Sequence[Mapping[str, str]],
    rejected: Sequence[Mapping[str, str]],
) -> str:
    """The id of a preference: prompt, chosen and rejected, in this order."""
    return content_id(messages_key(prompt), messages_key(chosen), messages_key(rejected))


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


def digest_folder(folder: Path) -> str:
    """sha256 over the relative names and bytes of all files below `folder`, as 64 hex digits."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{digest_file(path)}\n".encode())
    return digest.hexdigest()
