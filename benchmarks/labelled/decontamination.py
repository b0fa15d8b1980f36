"""The labelled prompts behind the quality figures of `benchmarks.decontaminate`.

Items, and what resembles them without holding them, are our own texts (decontamination_items.jsonl, CC0).
From these a fixed seed plants every item in prompts in several ways. A prompt's `label` is a class of planted
items (`PLANTED`) or a kind of hard negative (`NEGATIVES`); README.md says what each means.

    python -m benchmarks.labelled.decontamination >prompts.jsonl
"""

import json
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import polars as pl

from pipeline.items import Benchmark
from pipeline.questions import multiple_choice
from pipeline.schemas import BENCHMARKS

FOLDER = Path(__file__).parent
HOSTS = Path("data/samples/dibt_10k/data/train-00000-of-00001.parquet")
"""Prompts of the sample data, into which items are embedded."""
SHORT = 13
"""An item of fewer words than this is a short one."""
LONG = 24
"""An item of at least as many words is planted without its last quarter too."""
TEMPLATES = ("tasks", "requests")
"""Benchmarks whose items have a template in common, and their own words at the end."""
CONTENTS = 8
"""Prompts that each boilerplate phrase is put in front of."""

PLANTED = ("verbatim", "case and punctuation", "embedded", "short", "without options", "cut short")
NEGATIVES = ("template", "topic", "boilerplate", "phrase", "quotation", "crowd")

#: Ways to embed: a prompt before and after the item, on the same line or not, as a turn or a quotation.
FRAMES = (
    "{item}\n\n{host}",
    "{host}\n{item}\nPlease keep it brief.",
    "I have two requests. First: {item} Second: {host}",
    "Human: {host}\nAssistant: Gladly.\nHuman: {item}\nAssistant: Here you are.\nHuman: Thank you, go on.",
    'A friend sent me this: "{item}" - and I do not know what to reply.',
    "### Instruction\n{item}\n\n### Response\n",
)


def rows() -> list[dict[str, Any]]:
    """The items: benchmark, texts (one, or the turns), choices, and negatives by their kind."""
    return [
        json.loads(line)
        for line in (FOLDER / "decontamination_items.jsonl").read_text(encoding="utf-8").splitlines()
    ]


def benchmarks() -> pl.DataFrame:
    """The items as the table that sources of kind `benchmarks` become."""
    found = []
    for number, row in enumerate(rows()):
        first, *others = row["texts"]
        labels = ascii_uppercase[: len(row["choices"])]
        items = multiple_choice(first, row["choices"], labels, with_choices=True)
        texts = [*(item.text for item in items if isinstance(item, Benchmark)), *others]
        found += [
            {
                "source": row["benchmark"],
                "file": "decontamination_items.jsonl",
                "row": number,
                "item": i,
                "id": f"{number}.{i}",
            }
            | {"text": text}
            for i, text in enumerate(texts)
        ]
    return pl.DataFrame(found, schema=BENCHMARKS.schema)


def prompts() -> pl.DataFrame:
    """The labelled prompts: id, label, text; none twice."""
    draw = random.Random(5)
    hosts = pl.read_parquet(HOSTS)["prompt"].to_list()
    found = [*planted(draw, hosts), *negatives(draw, hosts)]
    frame = pl.DataFrame(found, schema={"label": pl.String, "text": pl.String}, orient="row")
    frame = frame.unique("text", keep="first", maintain_order=True)
    return frame.select(pl.format("p{}", pl.int_range(pl.len())).alias("id"), "label", "text")


def planted(draw: random.Random, hosts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Every item in every way of its classes."""
    for row in rows():
        for text in row["texts"]:
            options = [
                f"{label}. {choice}" for label, choice in zip(ascii_uppercase, row["choices"], strict=False)
            ]
            whole = "\n".join([text, *options])
            ways = {
                "verbatim": [whole],
                "case and punctuation": restyled(whole),
                "embedded": embedded(whole, draw, hosts),
            }
            if options and row["benchmark"] != "statements":  # whose question is the same in every row
                alone = [text, *restyled(text), *embedded(text, draw, hosts)]
                ways["without options"] = alone
            if not options and len(text.split()) >= LONG and row["benchmark"] not in TEMPLATES:
                ways["cut short"] = [" ".join(text.split()[: -(len(text.split()) // 4)])]
            short = len(whole.split()) < SHORT
            for label, texts in ways.items():
                yield from (("short" if short and not options else label, one) for one in texts)


def restyled(text: str) -> list[str]:
    """The text with its case, punctuation and white space changed."""
    letters = "".join(character if character.isalnum() else " " for character in text)
    return [
        text.upper(),
        " ".join(letters.lower().split()),
        "  ".join(letters.title().split()) + " !",
        text.replace(" ", "\n").replace("'", "\u2019").replace('"', "\u201c"),
        "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text),  # full width
    ]


def embedded(text: str, draw: random.Random, hosts: Sequence[str]) -> list[str]:
    """The text inside longer prompts."""
    return [frame.format(item=text, host=draw.choice(hosts)) for frame in FRAMES]


def negatives(draw: random.Random, hosts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What resembles items, alone and embedded, and common phrases before other contents."""
    for row in rows():
        for kind, texts in row["negatives"].items():
            for text in texts:
                yield kind, text
                yield kind, draw.choice(FRAMES).format(item=text, host=draw.choice(hosts))
    for phrase in json.loads((FOLDER / "decontamination_phrases.json").read_text(encoding="utf-8")):
        yield from (("phrase", f"{phrase} {content}") for content in draw.sample(list(hosts), CONTENTS))


if __name__ == "__main__":
    sys.stdout.write(prompts().write_ndjson())
