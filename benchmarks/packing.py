"""Pack documents into blocks: our best-fit decreasing against TRL's pack_dataset("bfd").

Document lengths are log-normal, as those of chat data; none is over the block, so that both sides must
keep every document whole. `fill` is the part of the blocks' tokens that are not padding.

    python -m benchmarks.packing [--rows N] [--repeats N]
"""

import math
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import datasets
import polars as pl
from trl import pack_dataset

from benchmarks.measure import Result, flags, medians, tell
from pipeline.packing import TOKENS, pack

ROWS = 20_000
BLOCK = 2048


def documents(rows: int) -> pl.DataFrame:
    """`rows` documents: id, input_ids and labels; the first token of each tells it apart."""
    draw = random.Random(11)
    lengths = [min(BLOCK, max(8, int(draw.lognormvariate(5.6, 0.9)))) for _ in range(rows)]
    ids = [[i, *(draw.randrange(50_000) for _ in range(length - 1))] for i, length in enumerate(lengths)]
    return pl.DataFrame(
        {"id": [f"{i:08d}" for i in range(rows)], "input_ids": ids, "labels": ids},
        schema={"id": pl.String, "input_ids": TOKENS, "labels": TOKENS},
    )


def contents(blocks: Iterable[dict[str, Any]]) -> Counter[tuple[int, ...]]:
    """The documents in the blocks, cut at their boundaries."""
    found: Counter[tuple[int, ...]] = Counter()
    for block in blocks:
        at = 0
        for length in block["seq_lengths"]:
            found[tuple(block["input_ids"][at : at + length])] += 1
            at += length
    return found


def fill(lengths: Sequence[int]) -> float:
    """Tokens per token of block."""
    return math.fsum(lengths) / (BLOCK * len(lengths))


def main() -> None:
    """Make documents, compare, time, tell."""
    words = flags(__doc__ or "", rows=ROWS).parse_args()
    datasets.disable_progress_bars()
    datasets.disable_caching()
    rows = documents(words.rows)
    theirs_in = datasets.Dataset.from_dict(rows.select("input_ids", "labels").to_dict(as_series=False))
    theirs_in = theirs_in.with_format("arrow")

    def ours() -> pl.DataFrame:
        return pack(rows, BLOCK, "drop")[0]

    def peer() -> datasets.Dataset:
        # One batch, so that both sides may put any two documents into one block.
        return pack_dataset(theirs_in, BLOCK, "bfd", map_kwargs={"batch_size": words.rows})

    a, b = ours(), pl.from_arrow(peer().data.table)
    assert isinstance(b, pl.DataFrame)
    assert contents(a.iter_rows(named=True)) == contents(b.iter_rows(named=True)), "the two sides differ"
    mine, theirs = medians(words.repeats, ours, peer)
    tokens = int(rows["input_ids"].list.len().sum())
    tell(
        Result(
            name="packing",
            ours=tokens / mine,
            peer=tokens / theirs,
            ratio=theirs / mine,
            unit="tokens/s",
            peer_is="TRL pack_dataset, bfd, one batch",
            input={"rows": words.rows, "bytes": tokens * 4},
            equality=f"all {words.rows} documents whole and once on both sides",
            runs=words.repeats,
            notes={
                "fill": round(fill(a["input_ids"].list.len().to_list()), 5),
                "peer_fill": round(fill(b["input_ids"].list.len().to_list()), 5),
                "blocks": a.height,
                "peer_blocks": b.height,
            },
        )
    )


if __name__ == "__main__":
    main()
