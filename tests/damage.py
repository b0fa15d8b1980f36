"""What can be wrong with raw rows and raw files, as seeded changes.

A damaged row is a JSON value, or a `str` that already is its JSON text (for what `json.dumps` cannot say).
"""

import copy
import json
import random
from collections.abc import Callable
from typing import Any

WRONG = (
    None,
    True,
    0,
    -1,
    7,
    10**30,
    1e308,
    float("nan"),
    float("inf"),
    "",
    " \n\t",
    "N/A",
    "nan",
    "1e999",
    "\x00",
    "a\x00b",
    "\ufeff",
    "\u200b",
    "user",
    "system",
    [],
    {},
    [None],
    [[]],
    {"": None},
    {"role": "user"},
    [{"role": "user", "content": None}],
    [{"from": "human"}],
    "\n\nHuman:",
    "\n\nAssistant: \n\nAssistant: ",
    "<extra_id_1>Assistant\n",
)


def damaged_rows(rows: list[Any], rng: random.Random) -> tuple[list[Any], list[str]]:
    """The rows with one to three kinds of damage, and their names."""
    rows, names = copy.deepcopy(rows), []
    for damage in rng.sample(ROW_DAMAGE, rng.randint(1, 3)):
        place = rng.randrange(len(rows)) if rows else 0
        targets = range(len(rows)) if rng.random() < 0.3 else range(place, min(place + 1, len(rows)))
        for index in targets:
            if not isinstance(rows[index], str):
                rows[index] = damage(rows[index], rng)
        names.append(damage.__name__)
    return rows, names


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every part of a JSON value but the whole."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, part in inner for place in ((*path, key), *places(part, (*path, key)))]


def changed(row: Any, rng: random.Random, change: Callable[[Any, Any], None]) -> Any:
    """The row after `change(container, key)` at one place."""
    if found := places(row):
        *way, key = rng.choice(found)
        part = row
        for step in way:
            part = part[step]
        change(part, key)
    return row


def set_to(new: Any) -> Callable[[Any, Any], None]:
    """A change that puts `new` at the place."""
    return lambda part, key: part.__setitem__(key, copy.deepcopy(new))


def wrong_value(row: Any, rng: random.Random) -> Any:
    return changed(row, rng, set_to(rng.choice(WRONG)))


def missing_part(row: Any, rng: random.Random) -> Any:
    return changed(row, rng, lambda part, key: part.pop(key))


def renamed_key(row: Any, rng: random.Random) -> Any:
    def rename(part: Any, key: Any) -> None:
        if isinstance(part, dict):
            part[rng.choice([f"{key}_", str(key).upper(), "", "\x00", "role", "from"])] = part.pop(key)

    return changed(row, rng, rename)


def repeated_part(row: Any, rng: random.Random) -> Any:
    def repeat(part: Any, key: Any) -> None:
        if isinstance(part, list):
            part.insert(key, copy.deepcopy(part[key]))

    return changed(row, rng, repeat)


def repeated_column(row: Any, rng: random.Random) -> Any:
    """A key that stands twice, which JSON allows and no two readers take alike."""
    if not isinstance(row, dict) or not row:
        return row
    key = rng.choice(list(row))
    text = json.dumps(row)
    return f"{text[:-1]}, {json.dumps(key)}: {json.dumps(rng.choice(WRONG))}}}"


def swapped_roles(row: Any, rng: random.Random) -> Any:
    swap = {"user": "assistant", "assistant": "user", "human": "gpt", "gpt": "human", "system": "user"}
    for *way, key in places(row):
        part = row
        for step in way:
            part = part[step]
        if key in ("role", "from") and isinstance(part[key], str):
            part[key] = swap.get(part[key], "tool")
        elif isinstance(part[key], str):
            part[key] = (
                part[key].replace("Human:", "\0").replace("Assistant:", "Human:").replace("\0", "Assistant:")
            )
    return row


def turn_without_role(row: Any, rng: random.Random) -> Any:
    for *way, key in places(row):
        if key in ("role", "from"):
            part = row
            for step in way:
                part = part[step]
            del part[key]
            return row
    return row


def long_text(row: Any, rng: random.Random) -> Any:
    return changed(row, rng, set_to("long " * 20_000))


def deep_nesting(row: Any, rng: random.Random) -> Any:
    """Deeper than Python's stack: JSON text, for json.dumps gives up first."""
    depth = rng.choice([50, 990, 20_000])
    return '{"prompt": ' + "[" * depth + "]" * depth + "}"


def bare_numbers(row: Any, rng: random.Random) -> Any:
    """Numbers that JSON text can say and Python's types cannot, or only as infinity."""
    text = json.dumps(row)
    number = rng.choice(["NaN", "-Infinity", "1e999", "1" * 5000, "-0", "1E+400"])
    return text[:-1] + f', "score_ratio": {number}, "rating": {number}}}' if isinstance(row, dict) else text


def half_surrogate(row: Any, rng: random.Random) -> Any:
    text = json.dumps(row)
    middle = text.find(rng.choice(["e", "a", " "]))
    return text[:middle] + "\\ud83d" + text[middle:] if middle > 0 else text


def other_value(row: Any, rng: random.Random) -> Any:
    return copy.deepcopy(rng.choice(WRONG))


ROW_DAMAGE = (
    wrong_value,
    wrong_value,
    missing_part,
    renamed_key,
    repeated_part,
    repeated_column,
    swapped_roles,
    turn_without_role,
    long_text,
    deep_nesting,
    bare_numbers,
    half_surrogate,
    other_value,
)


def damaged_bytes(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """The bytes with one kind of damage, and its name."""
    damage = rng.choice(BYTE_DAMAGE)
    return damage(content, rng), damage.__name__


def flipped_bits(content: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(rng.choice([1, 1, 3, 20])):
        if damaged:
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def cut_off(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def cut_out(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    return content[:start] + content[start + rng.randrange(200) :]


def repeated_bytes(content: bytes, rng: random.Random) -> bytes:
    start, end = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    return content[:end] + content[start:]


def inserted_bytes(content: bytes, rng: random.Random) -> bytes:
    middle = rng.randrange(len(content) + 1)
    insert = rng.choice(
        [b"\xff", b"\xc3\x28", b"\x00", b"\n\n", b"\r", b'"', b"\xef\xbb\xbf", b"{", b"\xed\xa0\x80"]
    )
    return content[:middle] + insert + content[middle:]


def wrong_beginning(content: bytes, rng: random.Random) -> bytes:
    return (
        rng.choice([b"\xef\xbb\xbf", b"PAR1", b"\x1f\x8b", b"<html>", b"PK\x03\x04", b"\n", b"["]) + content
    )


def nothing(content: bytes, rng: random.Random) -> bytes:
    return rng.choice([b"", b"\n", b"[]", b"{}", b"null", b"\x00"])


BYTE_DAMAGE = (
    flipped_bits,
    flipped_bits,
    cut_off,
    cut_off,
    cut_out,
    repeated_bytes,
    inserted_bytes,
    wrong_beginning,
    nothing,
)
