"""A mix without its texts: one small row per pair, with the lengths of its three texts.

The mix is read twice, a bounded number of rows at a time: for the ids, and for the texts. An id is a
hash of content, so the first pass knows which texts are new, and each distinct one is measured once.
What grows with the mix are ids and lengths, some 60 bytes a pair.
"""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from pipeline import ab, tables
from pipeline.baselines import TEST, TRAIN
from pipeline.schemas import MIX
from pipeline.token_lengths import lengths_by
from pipeline.tokenizing import plain_tokenizer

TEXTS = ("prompt", "chosen", "rejected")
KEYS = ("source", "prompt_id", "pair_id", "chosen_id", "rejected_id", "chosen_by", "rejected_by")
LENGTHS = pl.Schema({"prompt": pl.Boolean, "id": pl.UInt64, "chars": pl.UInt32, "tokens": pl.UInt32})


def pair_lengths(mix: Path, tokenizer: Path) -> pl.DataFrame:
    """The pairs of both sides of a mix, train first: what `blind_baselines` reads, and `<text>_tokens`.

    Characters and tokens are those of the messages alone, without what a chat template adds; a prompt's are
    the sums over its messages.
    """
    keys = pl.concat([one for side in (TRAIN, TEST) for one in side_keys(mix, side)])
    lengths = pl.concat([pl.DataFrame(schema=LENGTHS), *text_lengths(mix, first_seen(keys), tokenizer)])
    for side in TEXTS:
        own = lengths.filter(pl.col("prompt") == (side == "prompt")).select(
            pl.col("id").alias(f"{side}_id"),
            pl.col("chars").alias(f"{side}_chars"),
            pl.col("tokens").alias(f"{side}_tokens"),
        )
        keys = keys.join(own, on=f"{side}_id", how="left", validate="m:1", maintain_order="left")
    return keys


def side_keys(mix: Path, side: str) -> Iterator[pl.DataFrame]:
    """Ids, source and writers of the pairs of a side, part by part; ids as the numbers they spell."""
    for rows in tables.batches(MIX, mix / f"{side}.parquet", KEYS):
        shown = [not ab.swapped(pair) for pair in rows["pair_id"]]
        yield rows.select(
            pl.lit(side == TEST).alias("test"),
            *(pl.col(f"{name}_id").str.to_integer(base=16, dtype=pl.UInt64) for name in TEXTS),
            *(pl.col(name).cast(pl.Categorical) for name in ("source", "chosen_by", "rejected_by")),
            chosen_first=pl.Series(shown, dtype=pl.Boolean),
        )


def first_seen(keys: pl.DataFrame) -> pl.DataFrame:
    """For each pair and each of its texts, whether this is the first place of its id."""
    answers = pl.concat([keys["chosen_id"], keys["rejected_id"]]).is_first_distinct()
    return pl.DataFrame(
        {
            "prompt": keys["prompt_id"].is_first_distinct(),
            "chosen": answers.head(keys.height),
            "rejected": answers.tail(keys.height),
        }
    )


def text_lengths(mix: Path, first: pl.DataFrame, tokenizer: Path) -> Iterator[pl.DataFrame]:
    """(prompt, id, chars, tokens) of the texts at their first places, part by part.

    `prompt` tells prompts from answers: an answer may quote what gives a prompt its id.
    """
    loaded, at = plain_tokenizer(tokenizer), 0
    for side in (TRAIN, TEST):
        wanted = [name for text in TEXTS for name in (f"{text}_id", text)]
        for rows in tables.batches(MIX, mix / f"{side}.parquet", wanted):
            new = first.slice(at, rows.height)
            at += rows.height
            texts = pl.concat(
                rows.filter(new[text]).select(
                    pl.lit(text == "prompt").alias("prompt"),
                    pl.col(f"{text}_id").alias("id"),
                    pl.col(text).list.eval(pl.element().struct.field("content")).alias("content"),
                )
                for text in TEXTS
            ).explode("content")
            counted = texts.select(
                "prompt",
                pl.col("id").str.to_integer(base=16, dtype=pl.UInt64),
                chars=pl.col("content").str.len_chars(),
                tokens=lengths_by(loaded, texts["content"]),
            )
            yield counted.group_by("prompt", "id").agg(pl.col("chars", "tokens").sum()).cast(LENGTHS)
