"""Standardize transcripts in the form of hh-rlhf: our stage against `datasets` with the same rule.

Both sides start from the gzipped raw file and end with the Parquet table of all columns, ids included.
The peer loads the file with a cold cache, filters, maps and writes; it gives no reasons. Ours also writes
the ledger of every dropped row. Rows have the lengths of the helpful test files of the released data.

    python -m benchmarks.standardize [--rows N] [--repeats N]
"""

import gzip
import hashlib
import json
import random
import re
import tempfile
import time
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any

import datasets
import polars as pl

from benchmarks.measure import Result, flags, medians, tell
from pipeline.source_params import Source
from pipeline.stages.standardize import standardize

ROWS = 40_000
FILE = "train.jsonl.gz"
TURN = re.compile(r"\n\n(Human|Assistant): ?")

#: Measured in helpful-base, -online and -rejection-sampled (4,996 rows): the number of exchanges in a row,
#: and the deciles of the characters in a human turn, in an assistant turn before the last, and in an answer.
EXCHANGES = (0.318, 0.282, 0.239, 0.122, 0.021, 0.018)
HUMAN = (1, 23, 31, 37, 43, 49, 58, 69, 86, 122, 600)
ASSISTANT = (1, 58, 101, 151, 206, 269, 339, 434, 566, 797, 1600)
ANSWER = (1, 47, 87, 135, 189, 254, 332, 434, 567, 818, 1600)
#: One row in a hundred is defective; in the released files it is one in 115.
DEFECT_EVERY = 100


def prose(draw: random.Random, characters: int) -> str:
    """Text of made-up words as frequent as words are (Zipf), with apostrophes that are not ASCII."""
    syllables = ["".join(draw.choices("bcdfghklmnprstvw")) + draw.choice("aeiou") for _ in range(400)]
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(6000)]
    words[40::300] = [f"{word}\u2019s" for word in words[40::300]]
    weights = list(accumulate(1 / rank for rank in range(1, len(words) + 1)))
    return " ".join(draw.choices(words, cum_weights=weights, k=characters // 5))[:characters]


def write_input(folder: Path, rows: int) -> int:
    """Pairs of transcripts; gives the bytes uncompressed."""
    draw = random.Random(7)
    pool = prose(draw, 4_000_000)

    def text(deciles: tuple[int, ...]) -> str:
        place = draw.randrange(10)
        length = draw.randint(deciles[place], deciles[place + 1])
        start = draw.randrange(len(pool) - length)
        return pool[start : start + length].strip() or "Yes"

    size = 0
    with gzip.open(folder / FILE, "wt", encoding="utf-8", compresslevel=6) as file:
        for row in range(rows):
            (exchanges,) = draw.choices(range(len(EXCHANGES)), EXCHANGES)
            turns = "".join(
                f"\n\nHuman: {text(HUMAN)}\n\nAssistant: {text(ASSISTANT)}" for _ in range(exchanges)
            )
            context = f"{turns}\n\nHuman: {text(HUMAN)}\n\nAssistant: "
            chosen, rejected = defective(row, context, context + text(ANSWER), context + text(ANSWER))
            line = json.dumps({"chosen": chosen, "rejected": rejected}, ensure_ascii=False) + "\n"
            size += len(line.encode())
            file.write(line)
    return size


def defective(row: int, context: str, chosen: str, rejected: str) -> tuple[str, str]:
    """The two transcripts, with a defect in every DEFECT_EVERY-th row, of four kinds in turn."""
    number, rest = divmod(row, DEFECT_EVERY)
    if rest:
        return chosen, rejected
    return (
        (chosen, chosen),
        (chosen, "\n\nHuman: Something else?" + rejected),
        (chosen, context),
        (chosen + "\n\nHuman: And then?", rejected),
    )[number % 4]


def source() -> Source:
    """The params section of the input."""
    return Source(
        adapter="hh_rlhf",
        kind="preferences",
        origin="path:input",
        files=({"path": FILE, "sha256": "0" * 64},),  # ty: ignore[invalid-argument-type]
        licence="CC0-1.0",
        redistributable=True,
        rules={},
        max_bad_fraction=0.5,
    )


def turns_of(transcript: str) -> list[dict[str, str]]:
    """The turns of a transcript, as a user of `datasets` would write it."""
    parts = TURN.split(transcript)[1:]
    roles = {"Human": "user", "Assistant": "assistant"}
    return [
        {"role": roles[name], "content": text.strip()}
        for name, text in zip(parts[::2], parts[1::2], strict=True)
    ]


def valid(row: dict[str, Any]) -> bool:
    """Whether a row is a pair."""
    chosen, rejected = turns_of(row["chosen"]), turns_of(row["rejected"])
    roles = [turn["role"] for turn in chosen]
    return (
        chosen[:-1] == rejected[:-1]
        and roles == ["user", "assistant"] * (len(roles) // 2)
        and all(turn["content"] for turn in [*chosen, *rejected])
        and chosen[-1] != rejected[-1]
    )


def sha(text: str) -> str:
    """The id of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def standard(row: dict[str, Any]) -> dict[str, Any]:
    """A pair in the standard form."""
    chosen, rejected = turns_of(row["chosen"]), turns_of(row["rejected"])
    turns = [f"{m['role']} {len(m['content'].encode())}\n{m['content']}\n" for m in chosen[:-1]]
    ids = [sha("".join(turns)), sha(chosen[-1]["content"]), sha(rejected[-1]["content"])]
    return {
        "source": "input",
        "file": FILE,
        "item": 0,
        "prompt_id": ids[0],
        "pair_id": sha("".join(ids)),
        "chosen_id": ids[1],
        "rejected_id": ids[2],
        "prompt": chosen[:-1],
        "chosen": chosen[-1:],
        "rejected": rejected[-1:],
        **dict.fromkeys(("chosen_score", "rejected_score", "chosen_by", "rejected_by")),
    }


def peer(folder: Path, processes: int | None = None, passes: list[float] | None = None) -> Path:
    """Load, filter, map and write with `datasets`; nothing is cached from run to run.

    `processes` is its num_proc; `passes` takes the seconds of filter and map alone.
    """
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        rows = datasets.load_dataset("json", data_files=str(folder / FILE), split="train", cache_dir=cache)
        assert isinstance(rows, datasets.Dataset)
        rows = rows.add_column("row", list(range(len(rows))))
        started = time.perf_counter()
        done = rows.filter(valid, num_proc=processes).map(standard, num_proc=processes)
        if passes is not None:
            passes.append(time.perf_counter() - started)
        done.to_parquet(folder / "peer.parquet")
    return folder / "peer.parquet"


def ours(folder: Path) -> Path:
    """Our stage on the same file."""
    standardize("input", source(), folder, folder / "ours")
    return folder / "ours" / "preferences.parquet"


def compared(folder: Path) -> int:
    """The number of pairs, which both sides must give alike, in every column and row by row."""
    a, b = pl.read_parquet(ours(folder)), pl.read_parquet(peer(folder))
    b = b.select(pl.col(name).cast(kind) for name, kind in a.schema.items())
    assert a.equals(b.sort("row")), "the two sides differ"
    return a.height


def main() -> None:
    """Make the input, compare, time, tell."""
    words = flags(__doc__ or "", rows=ROWS).parse_args()
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        place, passes = Path(folder), []
        size = write_input(place, words.rows)
        kept = compared(place)
        mine, theirs, one, two = medians(
            words.repeats,
            lambda: ours(place),
            lambda: peer(place, passes=passes),
            lambda: peer(place, 1),
            lambda: peer(place, 2),
        )
    tell(
        Result(
            name="standardize",
            ours=words.rows / mine,
            peer=words.rows / theirs,
            ratio=theirs / mine,
            unit="rows/s",
            peer_is=f"datasets {datasets.__version__}, filter and map, in one process",
            input={"rows": words.rows, "bytes": size},
            equality=f"every column of all {kept} kept rows",
            runs=words.repeats,
            notes={
                "ratio to its filter and map alone": round(median(passes) / mine, 1),
                "ratio to num_proc=1": round(one / mine, 1),
                "ratio to num_proc=2": round(two / mine, 1),
            },
        )
    )


if __name__ == "__main__":
    main()
