"""Pack documents into blocks of 8192: ours against TRL's pack_dataset("bfd").

Documents have input_ids and labels, as those of supervised fine-tuning have. Their lengths are drawn from
`sft_lengths.json`: quantiles (0 to 100%) of the tokens of ShareGPT, Alpaca, GPTeacher, Evol-Instruct-Code and
Capybara conversations under the chat template of SmolLM2, of which each set has its share of the rows. None
is over the block, so both sides must keep every document whole. `fill` is the part of the blocks that is not
padding. Timed is `packing.pack`, in memory: not the stage, which also spills tokens to disk and writes.
`--set sharegpt` takes one set alone.

    python -m benchmarks.packing [--rows N] [--repeats N] [--set NAME]
"""

import json
from pathlib import Path

import datasets
import numpy as np
import polars as pl
import pyarrow as pa
from trl import pack_dataset

from benchmarks.measure import Result, flags, medians, tell
from pipeline.packing import NO_LOSS, flat, frame, pack
from pipeline.pieces import offsets

ROWS = 100_000
BLOCK = 8192
SETS = json.loads(Path(__file__).with_name("sft_lengths.json").read_text(encoding="utf-8"))


def documents(rows: int, sets: list[str]) -> pl.DataFrame:
    """`rows` documents: id, input_ids and labels; the first token of each is its number."""
    draw = np.random.default_rng(11)
    shares = np.array([SETS[name]["rows"] for name in sets], float)
    own = draw.choice(len(sets), rows, p=shares / shares.sum())
    quantiles = np.array([SETS[name]["quantiles"] for name in sets], float)
    place = draw.random(rows) * 100
    low = np.minimum(place.astype(int), 99)
    lengths = quantiles[own, low] + (place - low) * (quantiles[own, low + 1] - quantiles[own, low])
    sizes = lengths.astype(np.int64)
    starts = offsets(sizes)
    tokens = draw.integers(0, 49_152, starts[-1], np.int32)
    tokens[starts[:-1]] = np.arange(rows)
    trained = np.array([SETS[name]["trained"] for name in sets])[own]
    silent = np.clip((sizes * (1 - trained)).astype(np.int64), 1, sizes - 1)
    labels = tokens.copy()
    for first, count in zip(starts.tolist(), silent.tolist(), strict=False):
        labels[first : first + count] = NO_LOSS
    whole = frame(tokens, labels, sizes, np.arange(1, rows + 1)).drop("seq_lengths")
    return whole.insert_column(0, pl.Series("id", [f"{i:016x}" for i in range(rows)]))


def same_documents(blocks: pl.DataFrame, rows: pl.DataFrame) -> bool:
    """Whether the blocks, cut at their boundaries, hold every document once, with its labels."""
    (tokens, starts), (labels, _) = flat(rows["input_ids"]), flat(rows["labels"])
    (packed, _), (packed_labels, _) = flat(blocks["input_ids"]), flat(blocks["labels"])
    bounds = offsets(flat(blocks["seq_lengths"])[0])
    number = packed[bounds[:-1]]
    if len(packed) != len(tokens) or not np.array_equal(np.sort(number), np.arange(rows.height)):
        return False
    place = np.arange(len(packed)) + np.repeat(starts[number] - bounds[:-1], np.diff(bounds))
    whole = np.array_equal(np.diff(bounds), np.diff(starts)[number])
    return whole and np.array_equal(tokens[place], packed) and np.array_equal(labels[place], packed_labels)


def main() -> None:
    """Make documents, compare, time, tell."""
    parser = flags(__doc__ or "", rows=ROWS)
    parser.add_argument("--set", choices=list(SETS), help="draw the lengths of this set alone")
    parser.set_defaults(repeats=5)  # now and then a run waits for fresh memory, on either side
    words = parser.parse_args()
    datasets.disable_progress_bars()
    datasets.disable_caching()
    rows = documents(words.rows, [words.set] if words.set else list(SETS))
    columns = rows.select("input_ids", "labels").to_arrow(compat_level=pl.CompatLevel.oldest())
    short = pa.schema([(name, pa.list_(pa.int32())) for name in columns.column_names])
    theirs_in = datasets.Dataset(columns.cast(short))

    def ours() -> pl.DataFrame:
        return pack(rows, BLOCK, "drop")[0]

    def peer() -> datasets.Dataset:
        # One batch, so that both sides may put any two documents into one block.
        return pack_dataset(theirs_in, BLOCK, "bfd", map_kwargs={"batch_size": words.rows})

    a, b = ours(), pl.from_arrow(peer().data.table)
    assert isinstance(b, pl.DataFrame)
    assert same_documents(a, rows), "our blocks are not the documents"
    assert same_documents(b, rows), "TRL's blocks are not the documents"
    sizes = rows["input_ids"].list.len()
    tokens, heights = int(sizes.sum()), (a.height, b.height)
    lost = tokens - int(a["input_ids"].list.len().sum())
    del a, b
    mine, theirs = medians(words.repeats, ours, peer)
    tell(
        Result(
            name="packing",
            ours=words.rows / mine,
            peer=words.rows / theirs,
            ratio=theirs / mine,
            unit="rows/s",
            peer_is="TRL pack_dataset, bfd, one batch",
            input={"rows": words.rows, "bytes": tokens * 8},
            equality=f"all {words.rows} documents whole and once on both sides, tokens and labels",
            runs=words.repeats,
            notes={
                "fill": round(tokens / (BLOCK * heights[0]), 5),
                "peer_fill": round(tokens / (BLOCK * heights[1]), 5),
                "tokens_lost": lost,
                "blocks": heights[0],
                "fewest_blocks_possible": -(-tokens // BLOCK),
                "tokens_per_document": round(tokens / words.rows, 1),
                "median_tokens": int(sizes.median()),  # ty: ignore[invalid-argument-type]
                "longest": int(sizes.max()),  # ty: ignore[invalid-argument-type]
            },
        )
    )


if __name__ == "__main__":
    main()
