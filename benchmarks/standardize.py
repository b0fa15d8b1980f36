"""Standardize transcripts in the form of hh-rlhf: our rules against `datasets` with the same rule.

The claim is about the step: rows that are loaded, as two columns of text, become rows of the standard form
with ids, and those that are no pair are left out; ours names a reason for each. Where the notes say "whole",
both sides start from the gzipped raw file and end with the Parquet table; ours writes the ledger too. The
peer's cache is off. Rows have the lengths of the helpful test files of the released data.

    python -m benchmarks.standardize [--rows N] [--repeats N]
"""

import gzip
import hashlib
import json
import random
import re
import shutil
import tempfile
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import datasets
import polars as pl

from benchmarks.measure import Result, flags, medians, tell
from pipeline.portions import CHUNK_ITEMS, THREADS, Portion, RowMapper, in_turn
from pipeline.raw import RawRow
from pipeline.source_params import Source
from pipeline.sources import hh_rlhf
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


def loaded(folder: Path) -> datasets.Dataset:
    """The raw rows with their number, as `datasets` loads them."""
    rows = datasets.load_dataset(
        "json", data_files=str(folder / FILE), split="train", cache_dir=str(folder / "cache")
    )
    assert isinstance(rows, datasets.Dataset)
    return rows.add_column("row", list(range(len(rows))))


def peer(rows: datasets.Dataset, processes: int | None = None) -> datasets.Dataset:
    """Filter and map of loaded rows; `processes` is num_proc."""
    kept = rows.filter(valid, num_proc=processes, load_from_cache_file=False)
    return kept.map(standard, num_proc=processes, load_from_cache_file=False)


def peer_whole(folder: Path) -> None:
    """From raw file to Parquet, with a cold cache."""
    shutil.rmtree(folder / "cache", ignore_errors=True)
    peer(loaded(folder)).to_parquet(folder / "peer.parquet")


def ours(texts: pl.DataFrame) -> list[Portion]:
    """The portions of loaded rows, `row` and the two texts."""
    mapper = RowMapper("input", "preferences", hh_rlhf, hh_rlhf.Rules())
    return list(in_turn(partial(portion, mapper), texts.iter_slices(CHUNK_ITEMS), THREADS))


def portion(mapper: RowMapper, texts: pl.DataFrame) -> Portion:
    """One slice: the rows that are certain together, the others one by one."""
    sure = mapper.surely(texts, FILE)
    others = texts.join(sure, on="row", how="anti", maintain_order="left").rows(named=True)
    return mapper.with_others(sure, [RawRow(FILE, row.pop("row"), row) for row in others])


def ours_whole(folder: Path) -> Path:
    """Our stage on the raw file."""
    standardize("input", source(), folder, folder / "ours")
    return folder / "ours" / "preferences.parquet"


def compared(folder: Path, rows: datasets.Dataset, texts: pl.DataFrame) -> int:
    """The number of pairs, which all sides must give alike, in every column and row by row."""
    whole, step = pl.read_parquet(ours_whole(folder)), pl.concat(portion.kept for portion in ours(texts))
    theirs = pl.DataFrame(peer(rows).data.table.to_pydict(), infer_schema_length=None, strict=False)
    theirs = theirs.select(pl.col(name).cast(kind) for name, kind in whole.schema.items())
    assert whole.equals(theirs.sort("row")), "the two sides differ"
    assert whole.equals(step), "the step and the stage differ"
    return whole.height


def main() -> None:
    """Make the input, compare, time, tell."""
    words = flags(__doc__ or "", rows=ROWS).parse_args()
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = write_input(folder, words.rows)
        rows = loaded(folder)
        texts = pl.DataFrame(pl.from_arrow(rows.data.table)).select("row", *hh_rlhf.COLUMNS)
        kept = compared(folder, rows, texts)
        mine, theirs, two = medians(
            words.repeats, lambda: ours(texts), lambda: peer(rows), lambda: peer(rows, 2)
        )
        stage, script = medians(words.repeats, lambda: ours_whole(folder), lambda: peer_whole(folder))
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
                "ratio to num_proc=2": round(two / mine, 1),
                "whole, ours rows/s": round(words.rows / stage),
                "whole, peer rows/s": round(words.rows / script),
                "whole, ratio": round(script / stage, 1),
            },
        )
    )


if __name__ == "__main__":
    main()
