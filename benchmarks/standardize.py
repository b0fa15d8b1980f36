"""Standardize transcripts in the form of hh-rlhf: our stage against `datasets` with the same rule.

Ours is the whole stage, from the raw file to the Parquet table with ids and a ledger of every dropped
row. The peer loads the file, maps, filters and writes Parquet, with a cold cache and one process; it
keeps no reasons and makes no ids.

    python -m benchmarks.standardize [--rows N] [--repeats N]
"""

import gzip
import json
import random
import re
import tempfile
from pathlib import Path
from typing import Any

import datasets
import polars as pl

from benchmarks.measure import WORDS, Result, flags, medians, tell
from pipeline.source_params import Source
from pipeline.stages.standardize import standardize

ROWS = 40_000
FILE = "train.jsonl.gz"
TURN = re.compile(r"\n\n(Human|Assistant): ?")


def write_input(folder: Path, rows: int) -> int:
    """Pairs of transcripts of 1 to 3 exchanges, one in fifty defective; gives the bytes uncompressed."""
    draw = random.Random(7)

    def text(most: int) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(4, most)))

    size = 0
    with gzip.open(folder / FILE, "wt", encoding="utf-8", compresslevel=1) as file:
        for row in range(rows):
            turns = "".join(
                f"\n\nHuman: {text(40)}\n\nAssistant: {text(80)}" for _ in range(draw.randint(0, 2))
            )
            context = f"{turns}\n\nHuman: {text(40)}\n\nAssistant: "
            chosen, rejected = context + text(120), context + text(120)
            match row % 200:
                case 0:
                    rejected = chosen
                case 50:
                    rejected = "\n\nHuman: Something else?" + rejected
                case 100:
                    rejected = context
                case 150:
                    chosen += "\n\nHuman: And then?"
            line = json.dumps({"chosen": chosen, "rejected": rejected}) + "\n"
            size += len(line)
            file.write(line)
    return size


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


def mapped(row: dict[str, Any], index: int) -> dict[str, Any]:
    """The three columns of a pair, and whether it is one."""
    chosen, rejected = turns_of(row["chosen"]), turns_of(row["rejected"])
    roles = [turn["role"] for turn in chosen]
    good = (
        chosen[:-1] == rejected[:-1]
        and roles == ["user", "assistant"] * (len(roles) // 2)
        and all(turn["content"] for turn in [*chosen, *rejected])
        and chosen[-1] != rejected[-1]
    )
    return {
        "row": index,
        "prompt": chosen[:-1],
        "chosen": chosen[-1:],
        "rejected": rejected[-1:],
        "good": good,
    }


def peer(folder: Path) -> Path:
    """Load, map, filter and write with `datasets`; nothing is cached from run to run."""
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        rows = datasets.load_dataset("json", data_files=str(folder / FILE), split="train", cache_dir=cache)
        assert isinstance(rows, datasets.Dataset)
        done = rows.map(mapped, with_indices=True, remove_columns=rows.column_names).filter(
            lambda row: row["good"]
        )
        done.to_parquet(folder / "peer.parquet")
    return folder / "peer.parquet"


def ours(folder: Path) -> Path:
    """Our stage on the same file."""
    standardize("input", source(), folder, folder / "ours")
    return folder / "ours" / "preferences.parquet"


def compared(folder: Path) -> int:
    """The number of pairs, which both sides must give alike, row by row."""
    columns = ["row", "prompt", "chosen", "rejected"]
    a, b = (pl.read_parquet(path).select(columns).sort("row") for path in (ours(folder), peer(folder)))
    assert a.rows() == b.rows(), "the two sides differ"
    return a.height


def main() -> None:
    """Make the input, compare, time, tell."""
    words = flags(__doc__ or "", rows=ROWS).parse_args()
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        size = write_input(place, words.rows)
        kept = compared(place)
        mine, theirs = medians(words.repeats, lambda: ours(place), lambda: peer(place))
    tell(
        Result(
            name="standardize",
            ours=words.rows / mine,
            peer=words.rows / theirs,
            ratio=theirs / mine,
            unit="rows/s",
            peer_is=f"datasets {datasets.__version__}, map and filter",
            input={"rows": words.rows, "bytes": size},
            equality=f"prompt, chosen and rejected of all {kept} kept rows",
            runs=words.repeats,
        )
    )


if __name__ == "__main__":
    main()
