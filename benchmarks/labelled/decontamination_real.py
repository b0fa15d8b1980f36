"""The same planted classes on real benchmark items and real prompts, where these are at hand.

$PAIRMILL_DATA is the folder of upstream files that recipes/local.yaml reads. Items of the ten benchmarks are
planted in prompts of HH-RLHF. Hard negatives are what is most like an item without being one: questions of
GSM8K's training split and of MMLU's development and validation splits. Those below a passage that a test
question has too are told apart ("shared passage"): they hold most of an item, and ask something else. `known`
are prompts of sets that are known to repeat benchmark items, word for word.
"""

import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.labelled.decontamination import FRAMES, SHORT, restyled
from pipeline import sources
from pipeline.items import Benchmark
from pipeline.raw import read
from pipeline.schemas import BENCHMARKS

ITEMS = 1500
"""Items that are planted, by a fixed seed, out of some 24,000 rows."""
CHOICES = {"with_choices": True}

#: name: (adapter, folder, file, rules)
SETS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "alpaca_eval": ("benchmark", "alpaca-eval", "alpaca_eval.jsonl.gz", {"columns": ("instruction",)}),
    "mt_bench": ("mt_bench", "mt-bench", "question.jsonl", {}),
    "arena_hard": ("mt_bench", "arena-hard", "v0.1/question.jsonl.gz", {}),
    "gsm8k": ("benchmark", "gsm8k", "test.jsonl.gz", {"columns": ("question",)}),
    "mmlu": ("mmlu", "mmlu", "mmlu_csv.zip", CHOICES),
    "humaneval": ("benchmark", "humaneval", "HumanEval.jsonl.gz", {"columns": ("prompt",)}),
    "truthfulqa": ("benchmark", "truthfulqa", "TruthfulQA.csv.gz", {"columns": ("Question",)}),
    "arc": ("arc", "arc", "ai2arc.jsonl.gz", CHOICES),
    "mbpp": ("benchmark", "mbpp", "mbpp.jsonl.gz", {"columns": ("text",)}),
    "xstest": ("benchmark", "safety-prompts", "xstest_prompts.csv", {"columns": ("prompt",)}),
    "gsm8k_train": ("benchmark", "gsm8k", "train.jsonl.gz", {"columns": ("question",)}),
    "rm_bench": ("benchmark", "rm-bench", "*_filtered.json.gz", {"columns": ("prompt",)}),
    "llmbar": ("benchmark", "llmbar", "*.json*", {"columns": ("input",)}),
}
INDEXED = tuple(SETS)[:10]
"""Nine benchmarks of the paper, and XSTest, which is a part of RewardBench."""
KNOWN = ("rm_bench", "llmbar")
TRAINING = r"/(dev|val)/"
PASSAGE = "question refers to the following information"
"""Several questions of MMLU, in test and in training splits, stand below one and the same passage."""


def texts(folder: Path, name: str) -> pl.DataFrame:
    """The items of one set, as the table that sources of kind `benchmarks` become."""
    adapter, place, pattern, rules = SETS[name]
    module: Any = sources.adapter(adapter)
    files = sorted(path.relative_to(folder / place).as_posix() for path in (folder / place).glob(pattern))
    columns = getattr(module, "CSV_COLUMNS", None)
    found = [
        (name, row.file, row.row, i, f"{row.file}:{row.row}.{i}", item.text)
        for row, items in module.items(read(folder / place, files, columns), module.Rules(**rules))
        for i, item in enumerate(items)
        if isinstance(item, Benchmark)
    ]
    return pl.DataFrame(found, schema=BENCHMARKS.schema, orient="row").sort("file", "row", "item")


def is_evaluated() -> pl.Expr:
    """False for the development and validation splits of MMLU."""
    return ~pl.col("file").str.contains(TRAINING)


def benchmarks(folder: Path) -> pl.DataFrame:
    """The items to keep out."""
    return pl.concat([texts(folder, name).filter(is_evaluated()) for name in INDEXED])


def chats(folder: Path) -> list[str]:
    """The prompts of HH-RLHF, all turns."""
    found = set()
    for path in sorted((folder / "hh-rlhf").glob("*/test.jsonl.gz")):
        for row in read(path.parent, [path.name]):
            turns = re.split(r"\n\n(?:Human|Assistant): ?", row.value["chosen"])[1:-1]
            found.add("\n".join(turns))
    return sorted(found)


def prompts(folder: Path, items: pl.DataFrame, hosts: Sequence[str]) -> pl.DataFrame:
    """Labelled prompts: id, label, text."""
    draw = random.Random(6)
    found = [*planted(items, draw, [host for host in hosts if len(host) < 600])]
    found += [("training split", text) for text in texts(folder, "gsm8k_train")["text"]]
    other = texts(folder, "mmlu").filter(~is_evaluated(), pl.col("item") == 0)
    passage = pl.col("text").str.contains(PASSAGE, literal=True)
    # Some questions stand in two splits: these are no negatives.
    same = {words_of(text) for text in items["text"]}
    for label, chosen in (("shared passage", passage), ("training split", ~passage)):
        found += [(label, text) for text in other.filter(chosen)["text"] if words_of(text) not in same]
    for name in KNOWN:
        found += [("known", text) for text in texts(folder, name)["text"] if words_of(text) in same]
    found += [("known", text) for text in hosts if words_of(text) in same]
    frame = pl.DataFrame(found, schema={"label": pl.String, "text": pl.String}, orient="row")
    return frame.select(pl.format("p{}", pl.int_range(pl.len())).alias("id"), "label", "text")


def words_of(text: str) -> str:
    """The lower-cased words, one space between, by the plainest reading."""
    return " ".join(re.findall(r"\w+", text.lower()))


def planted(items: pl.DataFrame, draw: random.Random, hosts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Sampled items, each in one way of each of its classes."""
    for row in items.filter(pl.col("item") == 0).sample(ITEMS, seed=6).iter_rows(named=True):
        text, choice = row["text"], row["source"] in ("mmlu", "arc")
        short = "short" if len(text.split()) < SHORT else None
        frame = draw.choice(FRAMES).format(item=text, host=draw.choice(hosts))
        ways = {"verbatim": text, "case and punctuation": draw.choice(restyled(text)), "embedded": frame}
        for label, one in ways.items():
            yield ("without options" if choice else short or label), one
